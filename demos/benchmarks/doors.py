# # Doors of limited capacity, beside a standard case and an experiment
#
# With the model of `crowd_evacuation.py`, whose doors let at most so many persons per metre and
# second through:
#
# * **room**: test 9 of the guideline RiMEA. 1,000 persons, evenly spread, leave a room of
#   30 m x 20 m by four doors of 1 m, two in each long wall, then by those of one wall. The time is
#   to be about twice as long; JuPedSim's test takes a ratio of 1.6 to 2.4.
# * **queue**: 75 persons before a door of 0.5 m (Adrian, Seyfried, Sieben 2020). People stand at
#   t = 0 where they stood, each smoothed over 0.3 m. The door is where the throat has its full
#   narrowness, 0.15 m behind the line at which people were counted: half a person stands between.
#   One number is taken from the experiment, the capacity.
#
#       docker/run python3 demos/benchmarks/doors.py
#       docker/run python3 demos/benchmarks/doors.py --only queue --data FOLDER
#
# FOLDER has a file `*positions*.csv` with a line "id,x,y" of each person, x from the middle of the
# door and y from the line, and a file `*crossing*.csv` of the times at which they crossed it.
#
# The flow over the capacity is at most 1. The density has no such limit: all who stand at a door
# are as likely to be the next who leaves, there is no order in the queue, so that being there is
# worth as much as the queue is long. Players pay for it in a crowd denser than people can be. How
# many leave hardly depends on that. Time steps grow: this crowd gathers in the first second.

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from mpi4py import MPI

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from tables import table

import mfg_fem as mfg

sys.path.append(str(Path(__file__).parents[1]))  # the demos
from crowd_evacuation import CAPACITY, MESH, evacuation, numbers

MESHES, WIDTH, SMOOTHED = MESH.parent, 0.5, 0.3  # of the door of the queue, of a person, m
SLACK = 15.0  # s to reach the doors, beside a quarter more than the time by their capacity


def crowd(mesh, people, q, closed="none", groups=(), steps=80):
    """The solution with the doors open whose names do not begin with `closed`; its figures."""
    room = mfg.read_mesh(MESHES / mesh, MPI.COMM_WORLD)
    game = evacuation(mfg.MeanFieldGame, room, people, groups=groups, q=q)
    doors = {k: door for k, door in game.boundary.items() if not k.startswith(closed)}
    shortest = people / (q * sum(map(room.measure, doors)))
    game = replace(game, boundary=doors, horizon=1.25 * shortest + SLACK)
    solution = mfg.solve(game, game.horizon * np.linspace(0, 1, steps + 1) ** 1.5)
    found, gone = numbers(solution), sum(solution.gone.values())
    parts = {"95 % [s]": 0.95 * people, "99 % [s]": 0.99 * people, "all but 1 [s]": people - 1}
    row = {"doors": len(doors), "by capacity [s]": shortest}
    row |= {name: float(np.interp(part, gone, solution.times)) for name, part in parts.items()}
    row |= {"flow / capacity": max(found["largest flow [1/(m s)]"].values()) / q}
    row |= {"density [1/m2]": solution.max_density, "Newton": solution.iterations}
    row |= {"balance": float(abs(solution.balance).max())}
    return solution, gone, row | {"converged": "yes" if solution.converged else "NO"}


def room(o, ax):
    """Test 9 of RiMEA."""
    rows = []
    for closed in ("none", "north"):
        solution, gone, row = crowd("rimea9.geo", o.people, CAPACITY, closed, steps=o.steps)
        rows.append(row)
        ax.plot(solution.times, gone, label=f"{row['doors']} doors")
        ax.plot([0, row["by capacity [s]"]], [0, o.people], "k--", lw=0.7)
    ratios = [rows[1][name] / rows[0][name] for name in rows[0] if "[s]" in name]
    rows.append({"doors": "ratio"} | dict(zip(list(rows[0])[1:5], ratios, strict=True)))
    ax.set(xlim=(0, None), title="room of RiMEA's test 9; dashed: capacity alone")
    return rows


def queue(o, ax):
    """The experiment: how far the number of people who have left is from the counted one."""
    places, times = (next(Path(o.data).glob(f"*{name}*.csv")) for name in ("positions", "crossing"))
    places, times = np.loadtxt(places, delimiter=","), np.sort(np.loadtxt(times))
    groups, people = [(x, y, SMOOTHED, SMOOTHED**2) for _, x, y in places], len(places)
    solution, gone, row = crowd("crowd_queue.geo", people, o.capacity, groups=groups, steps=o.steps)
    rate = (len(times) - 1) / (times[-1] - times[0])
    counted = np.arange(len(times))
    model = np.interp(times, solution.times, gone)
    largest = max(abs(model - counted).max(), abs(model - counted - 1).max())
    t = np.linspace(0, times[-1], 4001)
    mean = abs(np.interp(t, solution.times, gone) - np.searchsorted(times, t, "right")).mean()
    row |= {"measured [1/(m s)]": rate / WIDTH}
    row |= {"N off by [%]": 100 * largest / people, "mean [%]": 100 * mean / people}
    ax.plot(solution.times, gone, label="model")
    ax.step([0, *times], [0, *(counted + 1)], "k", lw=0.7, where="post", label="counted")
    ax.set(xlim=(0, 1.1 * times[-1]), title=f"{people} persons before a door of {WIDTH:g} m")
    return [row]


def main():
    """Run, print, draw."""
    parser = argparse.ArgumentParser(description="Doors beside a standard case and an experiment.")
    parser.add_argument("--only", choices=("room", "queue"))
    parser.add_argument("--data", help="folder of an experiment, for the queue")
    parser.add_argument("--capacity", type=float, default=2.3, help="of the queue's door, 1/(m s)")
    parser.add_argument("--people", type=float, default=1000.0, help="in the room")
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--out", default="results/doors", type=Path)
    o, _ = parser.parse_known_args()
    chosen = [run for run in (room, queue) if o.only in (None, run.__name__)]
    chosen = [run for run in chosen if run is room or o.data]
    matplotlib.rcParams.update(mfg.plots.STYLE)
    figure = Figure((3.5 * len(chosen), 2.6), layout="constrained")
    found = {}
    for run, ax in zip(chosen, figure.subplots(1, len(chosen), squeeze=False).flat, strict=True):
        found[run.__name__] = rows = run(o, ax)
        ax.set(xlabel="t [s]", ylabel="people gone", ylim=(0, None))
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False)
        if MPI.COMM_WORLD.rank == 0:
            table(f"{run.__name__}: {run.__doc__}", rows)
    if MPI.COMM_WORLD.rank == 0:
        o.out.mkdir(parents=True, exist_ok=True)
        figure.savefig(o.out / "doors.png", dpi=200)
        (o.out / "doors.json").write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
