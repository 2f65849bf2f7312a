# # Crowds before a door of 0.5 m: experiments of Forschungszentrum Juelich
#
# People in a pen of some width w before an entrance (Adrian, Seyfried, Sieben 2020,
# doi 10.1098/rsif.2019.0871; trajectories: data archive of the Institute for Advanced Simulation 7,
# ped.2018.1, doi 10.34735/ped.2018.1). People stand at t = 0 where they stood, each smoothed over
# 0.3 m. The door is where the throat has its full narrowness, 0.15 m behind the line at which
# people were counted: half a person stands between.
#
# One number is taken from one of the experiments, which is kept in `crowd_queue`: the capacity of
# the door. `--calibrate` finds it by least squares of N(t); it is the same for all others.
#
# An experiment is a folder with a file `*positions*.csv` with a line "id,x,y" of each person, x
# from the middle of the door and y from the line, and a file `*crossing*.csv` of the times at which
# they crossed it. The pen is the narrowest of the series that has room for all of them, unless its
# width is given.

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from case import Case, Found, draw_gone, solved

import ufl

import mfg_fem as mfg

HERE = Path(__file__).parent / "crowd_queue"
CAPACITY = 2.47  # people per metre of door and second, by --calibrate
PENS = (1.2, 2.3, 3.4, 4.5, 5.6)  # m, the widths of the series
DOOR, SMOOTHED = 0.5, 0.3  # m: width of the door, of a person
DEEPER = 0.7  # m, the pen behind the last person


@dataclass(frozen=True)
class Experiment:
    """Where people stood, shape (n, 2), when they crossed the line, and the width of the pen."""

    name: str
    places: np.ndarray
    times: np.ndarray
    width: float


def read(folder, width=None):
    """The experiment in a folder."""
    files = {}
    for word in ("positions", "crossing"):
        found = sorted(Path(folder).glob(f"*{word}*.csv"))
        if len(found) != 1:
            raise mfg.FileError(
                f"{folder} has {len(found)} files *{word}*.csv and not one: the folder of an "
                "experiment has one of positions, of lines id,x,y, and one of times of crossing."
            )
        files[word] = found[0]
    places = np.loadtxt(files["positions"], delimiter=",", ndmin=2)[:, 1:3]
    times = np.sort(np.loadtxt(files["crossing"], ndmin=1))
    needed = 2 * abs(places[:, 0]).max()
    if width is None:
        width = min((w for w in PENS if w >= needed), default=needed + SMOOTHED)
    elif width < needed:
        raise mfg.FileError(
            f"the pen of {folder} is {width:g} m wide, and people stand {needed:.2f} m apart. "
            "Give a larger --width."
        )
    return Experiment(Path(folder).name, places, times, float(width))


def crowd(experiment, capacity, coarser=1.0):
    """The solution with this capacity of the door."""
    half, deep = experiment.width / 2, experiment.places[:, 1].max() + DEEPER
    corners = [(-0.25, -0.15), (0.25, -0.15), (0.4, 0), (half, 0), (half, deep), (-half, deep)]
    corners += [(-half, 0), (-0.4, 0), (-0.25, -0.15)]
    text = ", ".join(f"{x} {y}" for x, y in corners)
    door = {"exit": ((-0.25, -0.15), (0.25, -0.15))}
    size = {"size": 0.4 * coarser, "size_at_doors": 0.08 * coarser}
    pen = mfg.read_plan(f"POLYGON (({text}))", door, **size)

    def standing(x):
        squares = [(x[0] - a) ** 2 + (x[1] - b) ** 2 for a, b in experiment.places]
        return sum(ufl.exp(-s / (2 * SMOOTHED**2)) for s in squares)

    people = len(experiment.places)
    game = mfg.crowd.evacuation(
        pen,
        people,
        ["exit"],
        initial_density=standing,
        horizon=1.25 * people / (capacity * DOOR) + 15,
        capacity=capacity,
    )
    return solved(game, 80 / coarser, 1.5)


def errors(experiment, solution):
    """The largest and the mean error of the number of people gone, as parts of all of them."""
    times, gone = experiment.times, sum(solution.gone.values())
    counted = np.arange(len(times))
    model = np.interp(times, solution.times, gone)
    largest = max(abs(model - counted).max(), abs(model - counted - 1).max())
    t = np.linspace(0, times[-1], 4001)
    mean = abs(np.interp(t, solution.times, gone) - np.searchsorted(times, t, "right")).mean()
    return largest / len(experiment.places), mean / len(experiment.places)


def calibrated(experiment, first=CAPACITY, coarser=1.0, rounds=3):
    """The capacity with the least squares of N(t) - counted, by Gauss and Newton."""
    q, d = first, 0.02 * first
    t = np.linspace(0, experiment.times[-1], 2001)
    counted = np.searchsorted(experiment.times, t, "right")

    def off(capacity):
        solution = crowd(experiment, capacity, coarser)
        return np.interp(t, solution.times, sum(solution.gone.values())) - counted

    for _ in range(rounds):
        here = off(q)
        slope = (off(q + d) - here) / d
        change = float(slope @ here / (slope @ slope))
        q -= change
        if abs(change) < 1e-3 * q:
            break
    return q


def queue(experiment, capacity, ax, coarser):
    """How far the number of people who have left is from the counted one."""
    solution = crowd(experiment, capacity, coarser)
    largest, mean = errors(experiment, solution)
    times = experiment.times
    draw_gone(ax, solution, "model")
    ax.step([0, *times], np.arange(len(times) + 1), "k", lw=0.7, where="post", label="counted")
    ax.set(xlim=(0, 1.1 * times[-1]))
    rate = (len(times) - 1) / (times[-1] - times[0]) / DOOR
    text = f"off by {100 * largest:.1f} % of all at most, {100 * mean:.1f} % on average; counted "
    text += f"{rate:.2f}, capacity {capacity:.2f} per m s"
    why = "its door let more or fewer people pass than the one of the calibration"
    return Found(text, bool(largest < 0.1), [solution], why)


def case(folder, width=None, capacity=CAPACITY):
    """The case of an experiment in a folder."""
    experiment = read(folder, width)
    own = Path(folder) == HERE
    return Case(
        "Juelich" if own else f"Juelich {experiment.name}",
        "Adrian, Seyfried, Sieben 2020; data ped.2018.1",
        f"{len(experiment.places)} people in a pen of {experiment.width:g} m before a door of "
        f"{DOOR:g} m" + ("; its capacity is fitted" if own else "; nothing is fitted"),
        "N(t) within 10 % of all",
        partial(queue, experiment, capacity),
    )
