# # Speed and flow in a crowd of given density: RiMEA's test 4, the tables of IMO
#
# A corridor of 20 m x 2 m is full of people at one density, who leave by its end. A wave of lower
# density starts at its beginning, where nobody follows, and comes no faster than people walk: until
# then density and speed in the middle are what they were. The flow through the line in the middle
# over the density there is the speed.

import numpy as np
from cases import IMO, RIMEA, Case, Found, draw_gone, solved

import mfg_fem as mfg

LENGTH, WIDTH = 20.0, 2.0  # m
DENSITIES = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)  # people/m^2
WEIDMANN = 0.1  # m/s: how far from his curve a speed may be
# Table 1.1 of the circular: density, specific flow, speed.
TABLE = ((0.5, 0.65, 1.2), (1.9, 1.3, 0.67), (3.2, 0.65, 0.20), (3.5, 0.32, 0.10))
MOST = 1.3  # people/(m s), its table 1.2: corridors and doors


def weidmann(m, free_speed=1.34):
    """The speed in a crowd by Weidmann (1993), zero from 5.4 people/m^2 on."""
    return free_speed * np.maximum(0.0, 1 - np.exp(-1.913 * (1 / m - 1 / 5.4)))


def speeds(densities, coarser, **data):
    """The solutions, the speed in the middle and the specific flow there."""
    corridor = mfg.box((LENGTH, WIDTH), (round(40 / coarser), 2))
    solutions, speed, flow = [], [], []
    for m in densities:
        rough = max(weidmann(m), 0.25)  # m/s
        game = mfg.crowd.evacuation(
            corridor,
            m * LENGTH * WIDTH,
            ["right"],
            horizon=2 * LENGTH / rough,
            capacity=None,
            **data,
        )
        solution = solved(game, 40 / coarser)
        line = mfg.crowd.lines(solution, {"": ((LENGTH / 2, WIDTH), (LENGTH / 2, 0))})[""]
        first = solution.times[1:] <= max(0.3 * LENGTH / rough, solution.times[1])
        solutions.append(solution)
        flow.append(line.specific_flow[first].mean())
        speed.append((line.specific_flow[first] / line.density[1:][first]).mean())
    return solutions, np.array(speed), np.array(flow)


def draw(ax, densities, speed, curve, label, name):
    """Speeds found beside a curve."""
    ax.plot(*curve, "k-", lw=0.8, label=label)
    ax.plot(densities, speed, "o", ms=4, label="found")
    ax.set(xlabel="density [1/m$^2$]", ylabel="speed [m/s]", title=name, ylim=(0, None))


def diagram(ax, coarser):
    """Speed against density."""
    solutions, speed, flow = speeds(DENSITIES, coarser)
    wanted = weidmann(np.array(DENSITIES))
    m = np.linspace(0.05, 6, 200)
    draw(ax, DENSITIES, speed, (m, weidmann(m)), "Weidmann", "RiMEA 4: speed by density")
    off = abs(speed - wanted)
    rows = zip(DENSITIES, speed, wanted, flow, strict=True)
    text = ", ".join(f"{m:g}: {v:.2f} ({w:.2f}), flow {q:.2f}" for m, v, w, q in rows)
    below = [m for m, error in zip(DENSITIES, off, strict=True) if error <= WEIDMANN]
    why = f"held at {', '.join(f'{m:g}' for m in below)} /m2 only: in dense crowds the flow of the "
    why += "model does not fall, which a game with one solution cannot have (Lions' condition)"
    return Found(text, bool((off <= WEIDMANN).all()), solutions, why)


def table(ax, coarser):
    """The flows of the circular at its densities, and the largest."""
    densities, flows, wanted = np.array(TABLE).T
    solutions, speed, flow = speeds(densities, coarser, free_speed=1.2)
    draw(ax, densities, speed, (densities, wanted), "IMO", "IMO: speed by density")
    rows = zip(densities, speed, wanted, flow, flows, strict=True)
    text = ", ".join(f"{m:g}: {v:.2f} ({w:.2f}), {q:.2f} ({z:.2f})" for m, v, w, q, z in rows)
    held = (abs(speed - wanted) <= WEIDMANN).all() and flow.max() <= MOST
    why = "dense crowds go faster than in the table, as in RiMEA 4; the largest flow is "
    why += f"{flow.max():.2f} per m s"
    return Found(text, bool(held), solutions, why)


def room(ax, coarser):
    """100 people leave a room by a door of 1 m."""
    plan = mfg.read_plan("POLYGON ((0 0, 8 0, 8 5, 0 5, 0 0))", DOOR, 0.5 * coarser)
    game = mfg.crowd.evacuation(plan, 100.0, ["exit"], horizon=120.0)
    solution = solved(game, 60 / coarser, 1.5)
    door = mfg.crowd.doors(solution)["exit"]
    draw_gone(ax, solution, "model")
    ax.plot([0, 100 / 1.33], [0, 100], "k--", lw=0.8, label="1.33 /s")
    ax.set(title="IMO 4: exit flow")
    most = door.flow.max()
    text = f"at most {most:.3f} /s; 99 % out after {mfg.crowd.exit_times(solution, [99])[99]:.0f} s"
    return Found(text, bool(most <= 1.33), [solution])


DOOR = {"exit": ((8, 2), (8, 3))}
CASES = [
    Case(
        "RiMEA 4",
        f"{RIMEA} 4; Weidmann 1993",
        "a corridor full of people at .5 to 6 /m2: their speed and specific flow",
        f"Weidmann's curve (in brackets) to {WEIDMANN:g} m/s",
        diagram,
    ),
    Case(
        "IMO flows",
        f"{IMO}, annex 2, tables 1.1 and 1.2",
        "the same at its densities with its free speed of 1.2 m/s: speed, specific flow",
        f"the table (in brackets) to {WEIDMANN:g} m/s, flow at most {MOST:g} per m s",
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
