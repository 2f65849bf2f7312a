# # Floor plans of others, from the file to the film in five lines
#
# Three plans that the pedestrian simulator [JuPedSim](https://www.jupedsim.org) has as examples,
# where each person is a disk, redrawn here as `meshes/*.wkt` from their coordinates: two rooms with
# a corridor of 1 m between them and another one before the exit; a room with a short way around
# its walls and a long one; six rooms along a corridor with two exits. The five lines are
#
#     import mfg_fem as mfg
#     plan = mfg.read_plan("meshes/six_rooms.wkt", {"west": ((0, 3.5), (0, 4.5))})
#     solution = mfg.solve(mfg.crowd.evacuation(plan, people=60, doors="west"), steps=60)
#     mfg.write_report(solution, "results/six_rooms")
#     mfg.plots.animate(solution, "results/six_rooms/crowd.gif")
#
# in metres and seconds: the file and the ends of its doors; how many people leave by which doors,
# for as long as it takes; a page with numbers, tables and pictures; a film. Or in one line:
#
#     python3 -m mfg_fem evacuate meshes/six_rooms.wkt --door west 0 3.5 0 4.5 --people 60

import argparse
import sys
from pathlib import Path

import mfg_fem as mfg

PLANS = ("two_bottlenecks", "two_ways", "six_rooms")
MESHES = Path(globals().get("__file__", "notebook")).resolve().parents[1] / "meshes"
WEST = [(0, 0), (5, 0), (5, 10), (0, 10)]

parser = argparse.ArgumentParser(description="Floor plans from the file to the film.")
parser.add_argument("--only", nargs="+", choices=PLANS, default=PLANS)
parser.add_argument("--steps", type=int, default=60)
parser.add_argument("--size", type=float, default=0.6, help="longest edge of the mesh, m")
parser.add_argument("--out", type=Path, default=Path("results/floor_plans"))
o = parser.parse_args([] if "ipykernel" in sys.argv[0] else None)
solutions = {}

# Two bottlenecks. 150 people start in the western half of the first room. The corridors have the
# width of the exit, and the line between the rooms counts who has passed the first of them.

if "two_bottlenecks" in o.only:
    plan = mfg.read_plan(MESHES / "two_bottlenecks.wkt", {"exit": ((28, 4.5), (28, 5.5))}, o.size)
    game = mfg.crowd.evacuation(plan, 150, "exit", initial_density=WEST)
    solution = solutions["two_bottlenecks"] = mfg.solve(game, o.steps)
    lines = {"first": ((15, 4.5), (15, 5.5))}
    mfg.write_report(solution, o.out / "two_bottlenecks", title="Two bottlenecks", lines=lines)
    mfg.plots.animate(solution, o.out / "two_bottlenecks" / "crowd.gif")

# Two ways. To the exit at the top right people pass a gap of 1 m above the second wall, or walk
# around it below, which is longer and wide. The lines count both.

if "two_ways" in o.only:
    plan = mfg.read_plan(MESHES / "two_ways.wkt", {"exit": ((20, 19), (20, 20))}, o.size)
    game = mfg.crowd.evacuation(plan, 100, "exit", initial_density=WEST)
    solution = solutions["two_ways"] = mfg.solve(game, o.steps)
    lines = {"above": ((15.1, 19), (15.1, 20)), "below": ((15.1, 0), (15.1, 4.9))}
    mfg.write_report(solution, o.out / "two_ways", title="Two ways", lines=lines)
    mfg.plots.animate(solution, o.out / "two_ways" / "crowd.gif")

# Six rooms, two exits at the ends of their corridor, and everybody anywhere.

if "six_rooms" in o.only:
    doors = {"west": ((0, 3.5), (0, 4.5)), "east": ((9, 3.5), (9, 4.5))}
    plan = mfg.read_plan(MESHES / "six_rooms.wkt", doors, o.size)
    solution = solutions["six_rooms"] = mfg.solve(mfg.crowd.evacuation(plan, 60, doors), o.steps)
    mfg.write_report(solution, o.out / "six_rooms", title="Six rooms")
    mfg.plots.animate(solution, o.out / "six_rooms" / "crowd.gif")

# What came out, and a picture of each.

for name, solution in solutions.items():
    times = mfg.crowd.exit_times(solution, (50, 99))
    mfg.plots.plot_density(solution, o.out / f"{name}.png", t=list(times.values()))
    if solution.problem.domain.comm.rank == 0:
        half, most = times.values()
        print(f"{name}: half are out after {half:.1f} s and 99 % after {most:.1f} s; ", end="")
        print(f"{solution.seconds:.1f} s, balance {abs(solution.balance).max():.1e} people")
