# # Speed and flow in a crowd of given density: RiMEA's test 4, the tables of IMO
#
# Into a corridor come so many people per metre of its width and second, and leave at its other end:
# a stationary crowd, the same across, so that one dimension will do. The flow over the density in
# the first half is the speed; towards the end people spread out. The flow is raised until the
# crowd is denser than asked, and speeds between are interpolated. What should come out is known:
# the speed v(m) in the docstring of `mfg.crowd.evacuation`.

from dataclasses import replace

from mpi4py import MPI

import numpy as np
from case import IMO, RIMEA, Case, Found, draw_gone, solved

import mfg_fem as mfg

LENGTH = 10.0  # m
EXACT = mfg.Newton(rtol=1e-12)
RAISED = 0.1  # of what is missing to the largest flow, from one flow to the next
LARGEST = 1.04  # people/m^2, the largest flow m v(m) over the free speed
DENSITIES = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0)  # people/m^2
NEAR = 0.1  # m/s: how far from the one expected a speed may be
# Table 1.1 of the circular: density, specific flow, speed.
TABLE = ((0.5, 0.65, 1.2), (1.9, 1.3, 0.67), (3.2, 0.65, 0.20), (3.5, 0.32, 0.10))
MOST = 1.3  # people/(m s), its table 1.2: corridors and doors


def weidmann(m, free_speed=1.34):
    """The speed in a crowd by Weidmann (1993), zero from 5.4 people/m^2 on."""
    return free_speed * np.maximum(0.0, 1 - np.exp(-1.913 * (1 / m - 1 / 5.4)))


def speeds(densities, coarser, free_speed=mfg.crowd.FREE_SPEED):
    """The solutions, the speed in crowds of these densities and the specific flow there."""
    corridor = mfg.box((LENGTH,), (round(40 / coarser),), comm=MPI.COMM_SELF)
    game = mfg.crowd.evacuation(
        corridor, 1.0, ["right"], horizon=1.0, capacity=None, free_speed=free_speed
    )
    steady = {"horizon": None, "initial_density": None, "terminal_cost": None}
    state, solutions, flows, found = None, [], [0.0], [0.0]
    while found[-1] < max(densities):
        flows.append(flows[-1] + RAISED * (LARGEST * free_speed - flows[-1]))
        entering = game.boundary | {"left": mfg.Entry(flows[-1])}
        state = mfg.solve(replace(game, boundary=entering, **steady), method=EXACT, guess=state)
        x, m = state.coordinates[:, 0], state.nodal_densities
        found.append(m[(x > 0.25 * LENGTH) & (x < 0.5 * LENGTH)].mean())
        solutions.append(state)
    speed = np.interp(densities, found[1:], np.divide(flows[1:], found[1:]))
    return solutions, speed, speed * densities


def draw(ax, densities, speed, curve, label):
    """Speeds found beside a curve."""
    ax.plot(*curve, "k-", lw=0.8, label=label)
    ax.plot(densities, speed, "o", ms=4, label="found")
    ax.set(xlabel="density [1/m$^2$]", ylabel="speed [m/s]", ylim=(0, None))


def diagram(ax, coarser):
    """Speed against density."""
    densities = np.array(DENSITIES)
    solutions, speed, flow = speeds(densities, coarser)
    wanted = weidmann(densities)
    m = np.linspace(0.05, 6, 200)
    draw(ax, densities, speed, (m, weidmann(m)), "Weidmann")
    near = abs(speed - wanted) <= NEAR
    rows = zip(densities, speed, wanted, flow, strict=True)
    text = "; ".join(f"{m:g} /m2: {v:.2f} ({w:.2f}) m/s, {q:.2f} /(m s)" for m, v, w, q in rows)
    return Found(text, bool(near.all()), solutions, dense(densities[near]))


def dense(near):
    """Why speeds are near those expected at these densities only."""
    return (
        f"near at {', '.join(f'{m:g}' for m in near) or 'none'} of these: thin crowds are slower, "
        "and the flow of dense ones does not fall; if it did the game could have several solutions "
        "(Lions' condition)"
    )


def table(ax, coarser):
    """The flows of the circular at its densities, and the largest."""
    densities, flows, wanted = np.array(TABLE).T
    solutions, speed, flow = speeds(densities, coarser, free_speed=1.2)
    draw(ax, densities, speed, (densities, wanted), "IMO")
    rows = zip(densities, speed, wanted, flow, flows, strict=True)
    text = "; ".join(
        f"{m:g} /m2: {v:.2f} ({w:.2f}) m/s, {q:.2f} ({z:.2f}) /(m s)" for m, v, w, q, z in rows
    )
    near = abs(speed - wanted) <= NEAR
    return Found(text, bool(near.all() and flow.max() <= MOST), solutions, dense(densities[near]))


def room(ax, coarser):
    """100 people leave a room by a door of 1 m."""
    plan = mfg.read_plan("POLYGON ((0 0, 8 0, 8 5, 0 5, 0 0))", DOOR, 0.5 * coarser)
    game = mfg.crowd.evacuation(plan, 100.0, ["exit"], horizon=120.0)
    solution = solved(game, 60 / coarser, 1.5)
    door = mfg.crowd.doors(solution)["exit"]
    draw_gone(ax, solution, "model")
    ax.plot([0, 100 / 1.33], [0, 100], "k--", lw=0.8, label="1.33 /s")
    most = door.flow.max()
    text = f"at most {most:.3f} /s; 99 % out after {mfg.crowd.exit_times(solution, [99])[99]:.0f} s"
    return Found(text, bool(most <= 1.33), [solution])


DOOR = {"exit": ((8, 2), (8, 3))}
CASES = [
    Case(
        "RiMEA 4",
        f"{RIMEA} 4; Weidmann 1993",
        "a stream of people in a corridor at .5 to 6 /m2: speed and specific flow",
        f"Weidmann's curve (in brackets) to {NEAR:g} m/s",
        diagram,
    ),
    Case(
        "IMO flows",
        f"{IMO}, annex 2, tables 1.1 and 1.2",
        "the same at its densities with its free speed of 1.2 m/s: speed, specific flow",
        f"the table (in brackets) to {NEAR:g} m/s, and a flow of at most {MOST:g} /(m s)",
        table,
    ),
    Case(
        "IMO 4",
        f"{IMO}, annex 3, test 4",
        "100 people in a room of 8 m x 5 m leave by an exit of 1 m",
        "a flow of at most 1.33 /s",
        room,
    ),
]
