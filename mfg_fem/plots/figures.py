"""Figures and animations of a solution, by matplotlib. Every function is collective.

Rank 0 draws and writes; an error there is raised on every rank. The suffix of the path chooses the
format: .png, .pdf, .svg. Units are words for the axes: nothing is converted.
"""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from mpi4py import MPI

import numpy as np

from mfg_fem.errors import FileError, ProblemError, alike, together
from mfg_fem.io.files import file_path, on_root, replacing
from mfg_fem.io.paraview import chosen_levels
from mfg_fem.plots import curves, drawing
from mfg_fem.plots.film import Film
from mfg_fem.plots.scene import Scene
from mfg_fem.plots.style import Units, styled
from mfg_fem.solution.solution import Solution
from mfg_fem.validate import array, flag, moment, number, text


def plot_density(
    solution: Solution,
    path: str | Path,
    *,
    t: float | Sequence[float] | None = None,
    streamlines: bool = True,
    length: str = "m",
    time: str = "s",
    height: float | None = None,
    dpi: int = 200,
) -> None:
    """Draw the density at several times, one panel each with one scale of colours.

    Args:
        solution: what to draw.
        path: the picture file.
        t: the time or times to show (the nearest levels); by default six, up to the time at which
            99 % have left.
        streamlines: draw where people walk, where there are any (2D, and cuts through 3D).
        length: unit of length.
        time: unit of time.
        height: where to cut a 3D domain, half way up by default.
        dpi: dots per inch of a .png.

    In 1D the times are lines over x in one panel.
    """
    units = _checked([solution], length, time, height=height, dpi=dpi, streamlines=streamlines)
    levels = _levels(solution, t)
    quantity = drawing.density(units, streamlines)
    _draw(solution, path, levels, height, dpi, quantity, units)


def plot_value(
    solution: Solution,
    path: str | Path,
    *,
    t: float | Sequence[float] = 0.0,
    label: str = "value function: cost still to come",
    spacing: float | None = None,
    length: str = "m",
    time: str = "s",
    height: float | None = None,
    dpi: int = 200,
) -> None:
    """Draw the value function with its isolines, on which the cost still to come is the same.

    Args:
        solution: what to draw.
        path: the picture file.
        t: the time or times to show.
        label: what the value function means, with its unit, for the colour bar.
        spacing: difference between isolines, a round number by default.
        length: unit of length.
        time: unit of time.
        height: where to cut a 3D domain, half way up by default.
        dpi: dots per inch of a .png.
    """
    units = _checked([solution], length, time, height=height, dpi=dpi, label=label, spacing=spacing)
    levels = _levels(solution, t)
    quantity = drawing.value(label, spacing)
    _draw(solution, path, levels, height, dpi, quantity, units)


def plot_difference(
    one: Solution,
    other: Solution,
    path: str | Path,
    *,
    t: float | Sequence[float] | None = None,
    label: str = "difference of the densities",
    length: str = "m",
    time: str = "s",
    height: float | None = None,
    dpi: int = 200,
) -> None:
    """Draw the density of `one` minus that of `other`, on the same mesh and the same times.

    Args:
        one: a solution.
        other: another one.
        path: the picture file.
        t: the time or times to show, by default as for plot_density of `one`.
        label: the names of the two, for the colour bar; the unit is added.
        length: unit of length.
        time: unit of time.
        height: where to cut a 3D domain, half way up by default.
        dpi: dots per inch of a .png.
    """
    units = _checked([one, other], length, time, height=height, dpi=dpi, label=label)
    if one.problem.domain is not other.problem.domain or not np.array_equal(one.times, other.times):
        raise ProblemError("plot_difference takes two solutions on one Domain and the same times.")
    levels = _levels(one, t)
    quantity = drawing.signed(f"{label} [{units.density}]")
    _draw(one, path, levels, height, dpi, quantity, units, minus=other)


def plot_exits(
    solution: Solution,
    path: str | Path,
    *,
    capacity: float | None = None,
    length: str = "m",
    time: str = "s",
    dpi: int = 200,
) -> None:
    """Draw the people who have left through each exit, and how many leave per unit of time.

    Args:
        solution: what to draw.
        path: the picture file.
        capacity: people that a door passes per unit of its width and of time, drawn for each
            exit beside what the solution passes.
        length: unit of length.
        time: unit of time.
        dpi: dots per inch of a .png.
    """
    units = _checked([solution], length, time, dpi=dpi, capacity=capacity)
    if not solution.gone:
        raise ProblemError("plot_exits: the problem has no exits.")
    domain = solution.problem.domain
    limits = {}
    if capacity is not None:
        limits = {name: capacity * domain.measure(name) for name in solution.gone}
    draw = partial(curves.exits, solution.times, solution.gone, limits, units)
    _write(domain.comm, path, draw, dpi)


def animate(
    solution: Solution,
    path: str | Path,
    *,
    every: int = 1,
    fps: float = 10.0,
    until: float | None = None,
    streamlines: bool = False,
    length: str = "m",
    time: str = "s",
    height: float | None = None,
    dpi: int = 110,
) -> None:
    """Film the density: a .gif (by Pillow) or an .mp4 (by ffmpeg, which must be on PATH).

    Args:
        solution: what to film.
        path: the film.
        every: show every so many levels.
        fps: frames per second.
        until: last time to show, by default the horizon.
        streamlines: draw where people walk.
        length: unit of length.
        time: unit of time.
        height: where to cut a 3D domain, half way up by default.
        dpi: dots per inch.
    """
    settings = {"height": height, "dpi": dpi, "streamlines": streamlines, "fps": fps}
    units = _checked([solution], length, time, **settings)
    comm = solution.problem.domain.comm
    with together(comm):
        path = file_path(path)
        if path.suffix not in (".gif", ".mp4"):
            raise FileError(f"{path}: films end in .gif or .mp4, not {path.suffix!r}.")
        last = solution.steps if until is None else _nearest(solution, "until", until)
        levels = [n for n in chosen_levels(solution.steps, every) if n <= last]
    alike(comm, levels=levels)
    _require_matplotlib(comm)
    quantity = drawing.density(units, streamlines)
    top = comm.allreduce(float(solution.levels.m[levels].max(initial=0.0)), MPI.MAX)
    scene, context = Scene(solution, height), f"{path} cannot be filmed"

    def draw(film, shot):
        film.add(drawing.panels(scene.plan, [shot], quantity, units, top), dpi)

    with replacing(comm, path) as temporary:
        film = on_root(comm, context, lambda: Film(temporary, fps, drawing.palette(quantity)))
        try:
            for count, n in enumerate(levels, start=1):
                shot = scene.at(n)
                on_root(comm, context, styled(lambda s=shot: draw(film, s)))
                if comm.rank == 0 and sys.stderr.isatty():
                    end = "\n" if count == len(levels) else ""
                    print(f"\r{path}: frame {count} of {len(levels)}", end=end, file=sys.stderr)
            on_root(comm, context, lambda: film.close())
        finally:
            if film is not None:
                film.stop()


def _draw(solution, path, levels, height, dpi, quantity, units, minus=None):
    """Write a picture of the quantity at these levels. Collective."""
    scene = Scene(solution, height)
    shots: list = [scene.at(n) for n in levels]
    if minus is not None:
        others = Scene(minus, height)
        shots = [drawing.difference(a, others.at(n)) for a, n in zip(shots, levels, strict=True)]
    draw = partial(drawing.panels, scene.plan, shots, quantity, units)
    _write(solution.problem.domain.comm, path, draw, dpi)


def _write(comm, path: str | Path, draw, dpi: int):
    """Write the figure that draw() returns on rank 0. Collective."""
    _require_matplotlib(comm)
    with together(comm):
        path = file_path(path)
    with replacing(comm, path) as temporary:
        picture = styled(lambda: draw().savefig(temporary, dpi=dpi))
        on_root(comm, f"{path} cannot be drawn", picture)


def _require_matplotlib(comm):
    with together(comm, FileError, 'Pictures need matplotlib (the extra "plot")'):
        import matplotlib  # noqa: F401


def _checked(solutions: list, length, time, **settings) -> Units:
    """The units, if all that pictures are made of makes sense. Collective."""
    for solution in solutions:
        if not isinstance(solution, Solution):
            raise ProblemError(f"Pictures are of a Solution, not of {type(solution).__name__}.")
    domain = solutions[0].problem.domain
    with together(domain.comm):
        units = Units(text("length", length), text("time", time), domain.dim)
        for name, value in settings.items():
            if name in ("streamlines", "label"):
                {"streamlines": flag, "label": text}[name](name, value)
            elif name == "height" and value is not None:
                number(name, value, -np.inf)
            elif name in ("dpi", "fps") or value is not None:
                number(name, value, above=True)
    return units


def _levels(solution, t) -> list[int]:
    """Levels nearest to the times t; by default six until 99 % have left. Collective."""
    if t is None:
        left = sum(solution.gone.values()) if solution.gone else np.zeros(solution.steps + 1)
        end = solution.times[-1]
        if left[-1] > 0:
            end = np.interp(0.99 * left[-1], left, solution.times)
        t = np.linspace(0.0, end, 6)
    with together(solution.problem.domain.comm):
        times = array("t", np.atleast_1d(t), ("times",))
        if not len(times):
            raise ProblemError("t must be a time or a list of times, not an empty list.")
        levels = list(dict.fromkeys(_nearest(solution, "t", some) for some in times))
    alike(solution.problem.domain.comm, levels=levels)
    return levels


def _nearest(solution, name: str, t: float) -> int:
    t = moment(name, t, float(solution.times[-1]))
    return int(np.abs(solution.times - t).argmin())
