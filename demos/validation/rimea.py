# # Tests of the guideline RiMEA that a continuum can be asked
#
# Geometries as in the guideline and in the files that JuPedSim and Vadere keep for it. The
# fundamental diagram, test 4, is in `flows.py`.

from dataclasses import fields

import numpy as np
from case import RIMEA, Case, Found, box, draw_density, draw_gone, out, solved

import ufl

import mfg_fem as mfg

evacuation = mfg.crowd.evacuation


def corridor(ax, coarser):
    """Test 1: one walker among nobody, a hundredth of a person, who is not in his own way."""
    game = evacuation(
        mfg.box((40.0,), (round(320 / coarser),)),
        0.01,
        ["right"],
        initial_density=lambda x: ufl.conditional(ufl.le(x[0], 1.0), 1.0, 0.0),
        horizon=45.0,
        capacity=None,
        free_speed=1.33,
    )
    solution = solved(game, 360 / coarser)
    early, middle, late = (out(solution, percent) for percent in (5, 50, 95))
    ax.axvspan(26, 34, color="0.9", label="26 to 34 s")
    ax.plot(solution.times, solution.gone["right"] / 0.01, label="model")
    ax.set(xlabel="t [s]", ylabel="probability of being there")
    text = f"{middle:.1f} s; in nine of ten times between {early:.1f} and {late:.1f} s"
    return Found(text, bool(26 <= early and late <= 34), [solution])


def premovement(ax, coarser):
    """Test 5."""
    plan = mfg.read_plan("POLYGON ((0 0, 8 0, 8 5, 0 5, 0 0))", {"exit": ((8, 2), (8, 3))}, coarser)
    game = evacuation(plan, 10.0, ["exit"], horizon=130.0)
    crowds = mfg.crowd.with_premovement(game, mfg.crowd.UniformDelay(10.0, 100.0))
    solution = solved(crowds, 65 / coarser)
    gone = sum(mfg.crowd.gone(solution).values())
    before, mean = np.interp(10.0, solution.times, gone), mfg.crowd.mean_exit_time(solution)
    draw_gone(ax, solution, "model")
    ax.plot([10, 100], [0, 10], "k--", lw=0.8, label="who has begun to walk")
    text = (
        f"{before:.2g} gone after 10 s, mean {mean:.1f} s, 99 % out after {out(solution, 99):.0f} s"
    )
    return Found(text, bool(before < 0.05 and 55 < mean < 55 + 8), [solution])


def corner(ax, coarser):
    """Test 6."""
    plan = mfg.read_plan(
        "POLYGON ((0 0, 12 0, 12 12, 10 12, 10 2, 0 2, 0 0))",
        {"exit": ((10, 12), (12, 12))},
        0.5 * coarser,
    )
    game = evacuation(
        plan,
        20.0,
        ["exit"],
        initial_density=box((0, 0), (6, 2)),
        horizon=60.0,
        capacity=None,
    )
    solution = solved(game, 60 / coarser)
    walkers = solution.players(20, seed=0)
    arrived = 20 - float(solution.masses[-1])
    draw_density(ax, solution, 8.0)
    text = f"{arrived:.3f} of 20 arrive, 99 % in {out(solution, 99):.1f} s; of 20 single players "
    text += f"drawn from it {20 - walkers.inside[-1] * 20 / walkers.inside[0]:.0f}"
    return Found(text, bool(arrived > 19.9), [solution])


def public_space(ax, coarser):
    """Test 9."""
    doors = {
        f"{side} {place}": ((x - 0.5, y), (x + 0.5, y))
        for side, y in (("south", 0), ("north", 20))
        for place, x in (("west", 7.5), ("east", 22.5))
    }
    solutions, times, largest = [], [], 0.0
    for names in (list(doors), [name for name in doors if "south" in name]):
        ends = {name: doors[name] for name in names}
        plan = mfg.read_plan("POLYGON ((0 0, 30 0, 30 20, 0 20, 0 0))", ends, 2 * coarser)
        horizon = 1.25 * PEOPLE / (mfg.crowd.CAPACITY * len(names)) + 15
        solution = solved(evacuation(plan, PEOPLE, names, horizon=horizon), 50 / coarser, 1.5)
        flows = [door.specific_flow.max() for door in mfg.crowd.doors(solution).values()]
        solutions.append(solution)
        times.append(out(solution, 99))
        largest = max(largest, *flows)
        draw_gone(ax, solution, f"{len(names)} doors")
        ax.plot([0, PEOPLE / (mfg.crowd.CAPACITY * len(names))], [0, PEOPLE], "k--", lw=0.7)
    ax.plot([], [], "k--", lw=0.7, label="by capacity alone")
    ax.set(xlim=(0, solutions[-1].times[-1]))
    ratio = times[1] / times[0]
    text = f"99 % out in {times[0]:.0f} s and {times[1]:.0f} s, ratio {ratio:.2f}; "
    text += f"largest flow {largest:.3f} per m s"
    return Found(text, bool(1.6 <= ratio <= 2.4), solutions)


def cabins(ax, coarser):
    """Test 10: everybody in a cabin goes to the exit that the plan of the ship says."""
    walls = []
    for y, ends, doors in (
        (6, (0, 6), (1.5, 4.5)),
        (6, (7.2, 18), (8.1, 10.5, 13.5, 16.5)),  # the way to the main exit is between them
        (5, (0, 18), (1.5, 4.5, 7.5, 10.5, 13.5, 16.5)),
    ):
        x = [ends[0], *(middle + half for middle in doors for half in (-0.45, 0.45)), ends[1]]
        walls += [((start, y), (end, y)) for start, end in zip(x[::2], x[1::2], strict=True)]
    walls += [((x, 6), (x, 11)) for x in (3, 6, 7.2, 9, 12, 15)]
    walls += [((x, 0), (x, 5)) for x in (3, 6, 9, 12, 15)]
    text = ", ".join(f"LINESTRING ({a} {b}, {c} {d})" for (a, b), (c, d) in walls)
    ship = mfg.read_plan(
        f"GEOMETRYCOLLECTION (POLYGON ((0 0, 18 0, 18 11, 0 11, 0 0)), {text})",
        {"main": ((6, 11), (7.2, 11)), "secondary": ((18, 5), (18, 6))},
        coarser,
    )
    # Cabins 1 to 6 are above, 7 to 12 below; two people in each, one in the narrow third.
    rooms = {"main": [((0, 6), (6, 11), 4), ((7.2, 6), (9, 11), 1), ((9, 6), (12, 11), 2)]}
    rooms["main"] += [((0, 0), (12, 5), 8)]
    rooms["secondary"] = [((12, 6), (18, 11), 4), ((12, 0), (18, 5), 4)]
    crowds, wanted = {}, {}
    for name, places in rooms.items():
        wanted[name] = float(sum(people for *_, people in places))
        game = evacuation(
            ship, wanted[name], [name], initial_density=in_rooms(places), horizon=60.0
        )
        data = {y.name: getattr(game, y.name) for y in fields(mfg.Crowd)}
        crowds[name] = mfg.Crowd(
            **data
            | {"hamiltonian": of_all(game.hamiltonian)}
            | {"running_cost": of_all(game.running_cost)}
        )
    solution = solved(mfg.Populations(ship, horizon=60.0, crowds=crowds), 30 / coarser)
    went = {name: float(door[-1]) for name, door in mfg.crowd.gone(solution).items()}
    draw_density(ax, solution["main"], 3.0)
    text = ", ".join(f"{went[name]:.2f} of {wanted[name]:g} by the {name} exit" for name in wanted)
    held = all(abs(went[name] - wanted[name]) < 0.1 for name in wanted)
    return Found(f"{text}; 99 % out in {out(solution, 99):.1f} s", held, [solution])


def in_rooms(places):
    """So many people in each rectangle, evenly spread."""

    def density(x):
        areas = [(b[0] - a[0]) * (b[1] - a[1]) for a, b, _ in places]
        parts = zip(places, areas, strict=True)
        return sum(people / area * box(a, b)(x) for (a, b, people), area in parts)

    return density


def of_all(term):
    """The same term with the density of all crowds together as its last argument."""
    return lambda x, p, m: term(x, p, m.all)


def exit_choice(ax, coarser):
    """Test 11."""
    doors = {"near": ((21, 20), (22, 20)), "far": ((27, 20), (28, 20))}
    plan = mfg.read_plan("POLYGON ((0 0, 30 0, 30 20, 0 20, 0 0))", doors, 2 * coarser)
    horizon = 1.25 * PEOPLE / (2 * mfg.crowd.CAPACITY) + 15
    game = evacuation(
        plan, PEOPLE, list(doors), initial_density=box((2, 2.5), (14.5, 17.5)), horizon=horizon
    )
    solution = solved(game, 50 / coarser, 1.5)
    for name, people in solution.gone.items():
        ax.plot(solution.times, people, label=name)
    ax.set(xlabel="t [s]", ylabel="people gone")
    near, far = (float(solution.gone[name][-1]) for name in doors)
    first = {}  # who are there before the nearest of them can have walked there
    for name, (corner, _) in doors.items():
        walk = np.hypot(corner[0] - 14.5, corner[1] - 17.5) / HURRIED
        first[name] = float(np.interp(walk, solution.times, solution.gone[name]))
    text = f"{near:.0f} by the near, {far:.0f} by the far exit; before one can walk there "
    text += " and ".join(f"{people:.1f}" for people in first.values())
    held = near > far > 0.05 * PEOPLE and max(first.values()) < 0.01 * PEOPLE
    return Found(text, bool(held), [solution])


def bottlenecks(ax, coarser):
    """Test 12 (12c of version 4): two bottlenecks of 1 m in series."""
    plan = mfg.read_plan(
        "POLYGON ((0 0, 10 0, 10 4.5, 15 4.5, 15 0, 25 0, 25 4.5, 26 4.5, 26 0, 31 0, 31 10, 26 10,"
        "26 5.5, 25 5.5, 25 10, 15 10, 15 5.5, 10 5.5, 10 10, 0 10, 0 0))",
        {"exit": ((31, 0), (31, 10))},
        0.6 * coarser,
    )
    game = evacuation(
        plan,
        150.0,
        ["exit"],
        initial_density=box((0, 0), (5, 10)),
        horizon=200.0,
        capacity=None,
    )
    solution = solved(game, 50 / coarser, 1.3)
    places = {"first": ((12.5, 4.5), (12.5, 5.5)), "second": ((25.5, 4.5), (25.5, 5.5))}
    lines = mfg.crowd.lines(solution, places)
    areas = {"first": 10, "second": 25}
    before = mfg.crowd.rooms(
        solution,
        {k: [(x - 2, 3.5), (x, 3.5), (x, 6.5), (x - 2, 6.5)] for k, x in areas.items()},
    )
    dense = {name: people.max() / 6 for name, people in before.items()}
    flow = {name: line.flow.max() for name, line in lines.items()}
    draw_density(ax, solution, 25.0)
    text = f"{dense['first']:.2f} /m2 before the first at most, {dense['second']:.2f} before the "
    text += f"second; flows of {flow['first']:.2f} and {flow['second']:.2f} /s at most"
    queues = dense["second"] < 1.75 < dense["first"]
    held = queues and max(flow.values()) <= mfg.crowd.CAPACITY
    why = "the queues are where they should be, " if queues else "the queues are elsewhere, "
    why += "and an opening inside, unlike a door, has no capacity of its own"
    return Found(text, bool(held), [solution], why)


def large_corner(ax, coarser):
    """Test 15: 500 people go 20 m abreast, straight on for 50 or 81 m or around a corner."""
    shapes = {
        "short": ("POLYGON ((0 0, 50 0, 50 20, 0 20, 0 0))", ((50, 0), (50, 20))),
        "corner": (
            "POLYGON ((0 0, 50 0, 60 10, 60 30, 40 30, 40 20, 0 20, 0 0))",
            ((40, 30), (60, 30)),
        ),
        "long": ("POLYGON ((0 0, 81 0, 81 20, 0 20, 0 0))", ((81, 0), (81, 20))),
    }
    times, solutions = {}, []
    for name, (shape, door) in shapes.items():
        plan = mfg.read_plan(shape, {"exit": door}, 3 * coarser, size_at_doors=3 * coarser)
        game = evacuation(
            plan,
            500.0,
            ["exit"],
            initial_density=box((0, 0), (6, 20)),
            horizon=160.0,
            capacity=None,
        )
        solutions.append(solved(game, 50 / coarser))
        times[name] = out(solutions[-1], 95)
    draw_density(ax, solutions[1], 30.0)
    text = "95 % out in " + ", ".join(f"{t:.1f} s ({name})" for name, t in times.items())
    return Found(text, times["short"] < times["corner"] < times["long"], solutions)


PEOPLE = 1000.0
HURRIED = 2 / 3**0.5 * mfg.crowd.FREE_SPEED  # m/s, the largest speed
STAIRS = "stairs are not in the model of `crowd.evacuation`, which has one law of walking"
CASES = [
    Case(
        "RiMEA 1",
        f"{RIMEA} 1",
        "one person walks 40 m in a corridor of 2 m at 1.33 m/s",
        "26 to 34 s",
        corridor,
    ),
    Case("RiMEA 2", f"{RIMEA} 2", "speed up stairs", "", why=STAIRS),
    Case("RiMEA 3", f"{RIMEA} 3", "speed down stairs", "", why=STAIRS),
    Case(
        "RiMEA 5",
        f"{RIMEA} 5",
        "10 people in a room of 8 m x 5 m begin to walk after 10 to 100 s",
        "nobody leaves before 10 s; on average they do 55 s plus at most 8 s of walking later",
        premovement,
    ),
    Case(
        "RiMEA 6",
        f"{RIMEA} 6",
        "20 people go around a corner in a corridor of 2 m",
        "all arrive, nobody through a wall",
        corner,
    ),
    Case(
        "RiMEA 7",
        f"{RIMEA} 7",
        "speeds of people by age",
        "",
        why="a crowd has one free speed; people differ only from crowd to crowd",
    ),
    Case(
        "RiMEA 8",
        f"{RIMEA} 8",
        "parameters in a building of three storeys",
        "",
        why="a plan is one floor",
    ),
    Case(
        "RiMEA 9",
        f"{RIMEA} 9; JuPedSim takes 1.6 to 2.4",
        "1,000 people leave a room of 30 m x 20 m by four doors of 1 m, then by two",
        "twice the time: a ratio of 1.6 to 2.4",
        public_space,
    ),
    Case(
        "RiMEA 10",
        f"{RIMEA} 10",
        "23 people in 12 cabins, of whom 15 are assigned the main exit and 8 the secondary one",
        "they leave by these",
        cabins,
    ),
    Case(
        "RiMEA 11",
        f"{RIMEA} 11",
        "1,000 people on the left of a room of 30 m x 20 m, two exits of 1 m on the right",
        "most by the near one, some by the other; under 1 % sooner than at 1.55 m/s",
        exit_choice,
    ),
    Case(
        "RiMEA 12",
        f"{RIMEA} 12c",
        "150 people pass two bottlenecks of 1 m in series",
        "a queue before the first, none (under 1.75 /m2) before the second, flows up to 1.3 /s",
        bottlenecks,
    ),
    Case("RiMEA 13", f"{RIMEA} 13", "fundamental diagram on stairs", "", why=STAIRS),
    Case(
        "RiMEA 14",
        f"{RIMEA} 14",
        "a short way by stairs or a long one",
        "",
        why="it takes two floors",
    ),
    Case(
        "RiMEA 15",
        f"{RIMEA} 15; lengths of JuPedSim",
        "500 people go 20 m abreast: 50 m straight on, around a corner, 81 m straight on",
        "the time around the corner is between the others",
        large_corner,
    ),
]
