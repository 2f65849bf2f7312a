"""Figures of a solution, by matplotlib. Every function is collective.

Rank 0 draws: a function returns the matplotlib Figure there and None on other ranks, where an error
of rank 0 is raised too. With a path the figure is also written, whole or not at all; the suffix
chooses the format: .png, .pdf, .svg. Units are words for the axes: nothing is converted.

In a notebook, `%matplotlib inline` shows the figure that is the last value of a cell. Figures have
no window, and pyplot knows nothing of them. With `ax` the picture goes into axes of yours: their
limits and labels are set, the colour bar is an inset beside them, and nothing is laid out anew;
fonts are as you have set them.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mfg_fem.crowd.parts import gone
from mfg_fem.errors import ProblemError
from mfg_fem.plots import colours, curves, drawing
from mfg_fem.plots.request import ALL, checked, given_axes, levels_near, parts_of, picture, target
from mfg_fem.plots.scene import Scene
from mfg_fem.solution.populations import PopulationsSolution
from mfg_fem.solution.solution import Solution
from mfg_fem.solution.stationary import StationarySolution


def plot_density(
    solution,
    path: str | Path | None = None,
    *,
    ax=None,
    t: float | Sequence[float] | None = None,
    streamlines: bool = True,
    length: str = "m",
    time: str = "s",
    height: float | None = None,
    dpi: int = 200,
):
    """Draw the density at several times, one panel each with one scale of colours.

    Args:
        solution: what to draw, of a game, a control or a wave; a stationary one has one panel.
        path: the picture file; by default nothing is written.
        ax: Axes to draw into (rank 0), or a list of them, one for each time; in 1D one for all.
        t: the time or times to show (the nearest levels); by default six, up to the time at which
            99 % have left.
        streamlines: draw where people walk, where there are any (2D, and cuts through 3D); of a
            wave, its current.
        length: unit of length.
        time: unit of time.
        height: where to cut a 3D domain, half way up by default.
        dpi: dots per inch of a .png.

    In 1D the times are lines over x in one panel. Of a PopulationsSolution each crowd has panels of
    its own, of three times by default, with the same scale.

    Returns:
        The Figure on rank 0, None on other ranks.
    """
    settings = {"height": height, "dpi": dpi, "streamlines": streamlines}
    units = checked([solution], length, time, ALL, **settings)
    levels = levels_near(solution, t)
    quantity = colours.density(units, streamlines)
    return _panels(solution, path, ax, levels, height, dpi, quantity, units)


def plot_value(
    solution,
    path: str | Path | None = None,
    *,
    ax=None,
    t: float | Sequence[float] = 0.0,
    label: str = "value function: cost still to come",
    spacing: float | None = None,
    length: str = "m",
    time: str = "s",
    height: float | None = None,
    dpi: int = 200,
):
    """Draw the value function with its isolines, on which the cost still to come is the same.

    Args:
        solution: what to draw.
        path: the picture file; by default nothing is written.
        ax: Axes to draw into (rank 0), or a list of them, one for each time; in 1D one for all.
        t: the time or times to show.
        label: what the value function means, with its unit, for the colour bar.
        spacing: difference between isolines, a round number by default.
        length: unit of length.
        time: unit of time.
        height: where to cut a 3D domain, half way up by default.
        dpi: dots per inch of a .png.

    Returns:
        The Figure on rank 0, None on other ranks.
    """
    settings = {"height": height, "dpi": dpi, "label": label, "spacing": spacing}
    kinds = Solution, StationarySolution, PopulationsSolution
    units = checked([solution], length, time, kinds, **settings)
    levels = levels_near(solution, t)
    quantity = colours.value(label, spacing)
    return _panels(solution, path, ax, levels, height, dpi, quantity, units)


def plot_difference(
    one,
    other,
    path: str | Path | None = None,
    *,
    ax=None,
    t: float | Sequence[float] | None = None,
    label: str = "difference of the densities",
    length: str = "m",
    time: str = "s",
    height: float | None = None,
    dpi: int = 200,
):
    """Draw the density of `one` minus that of `other`, on the same mesh and the same times.

    Args:
        one: a solution.
        other: another one.
        path: the picture file; by default nothing is written.
        ax: Axes to draw into (rank 0), or a list of them, one for each time; in 1D one for all.
        t: the time or times to show, by default as for plot_density of `one`.
        label: the names of the two, for the colour bar; the unit is added.
        length: unit of length.
        time: unit of time.
        height: where to cut a 3D domain, half way up by default.
        dpi: dots per inch of a .png.

    Returns:
        The Figure on rank 0, None on other ranks.
    """
    units = checked([one, other], length, time, height=height, dpi=dpi, label=label)
    if one.problem.domain is not other.problem.domain or not np.array_equal(one.times, other.times):
        raise ProblemError("plot_difference takes two solutions on one Domain and the same times.")
    levels = levels_near(one, t)
    quantity = colours.signed(f"{label} [{units.density}]")
    return _panels(one, path, ax, levels, height, dpi, quantity, units, minus=other)


def plot_exits(
    solution,
    path: str | Path | None = None,
    *,
    ax=None,
    capacity: float | None = None,
    length: str = "m",
    time: str = "s",
    dpi: int = 200,
):
    """Draw the people who have left through each exit, and how many leave per unit of time.

    Args:
        solution: what to draw; of several crowds all together.
        path: the picture file; by default nothing is written.
        ax: Axes for the people who have left (rank 0), or two, the second for the rate.
        capacity: people that a door passes per unit of its width and of time, drawn for each
            exit beside what the solution passes.
        length: unit of length.
        time: unit of time.
        dpi: dots per inch of a .png.

    Returns:
        The Figure on rank 0, None on other ranks.
    """
    kinds = Solution, PopulationsSolution
    units = checked([solution], length, time, kinds, dpi=dpi, capacity=capacity)
    people = gone(solution)
    if not people:
        raise ProblemError("plot_exits: the problem has no exits.")
    domain = solution.problem.domain
    path = target(domain.comm, path)
    hint = "one is for the people who have left, a second one for the rate and the capacity"
    axes = given_axes(domain.comm, ax, (1, 2) if capacity is None else (2,), hint)
    limits = {}
    if capacity is not None:
        limits = {name: capacity * domain.measure(name) for name in people}

    def draw():
        return curves.exits(solution.times, people, limits, units, axes)

    return picture(domain.comm, path, draw, axes, dpi)


def _panels(solution, path, ax, levels, height, dpi, quantity, units, minus=None):
    """A picture with a panel for each crowd and level; in 1D a level is a line. Collective."""
    domain, parts = solution.problem.domain, parts_of(solution)
    path, crowds = target(domain.comm, path), len(parts)
    each = "" if crowds == 1 else f" of each of {crowds} crowds"
    count = crowds * len(levels)
    hint = f"each of {len(levels)} times{each} takes one; t=... chooses the times"
    if domain.dim == 1:
        count, hint = crowds, f"in 1D one takes all times{each}"
    axes = given_axes(domain.comm, ax, (count,), hint)
    scenes = [Scene(part, height, name) for name, part in parts.items()]
    rows = [(scene.plan, [scene.at(n) for n in levels]) for scene in scenes]
    if minus is not None:
        ((plan, shots),), others = rows, Scene(minus, height)
        pairs = zip(shots, levels, strict=True)
        rows = [(plan, [colours.difference(one, others.at(n)) for one, n in pairs])]

    def draw():
        return drawing.panels(rows, quantity, units, axes)

    return picture(domain.comm, path, draw, axes, dpi)
