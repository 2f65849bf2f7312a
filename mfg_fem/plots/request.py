"""What a picture was asked to be, checked alike on every rank, and where it goes."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

from mfg_fem.errors import FileError, ProblemError, alike, together
from mfg_fem.io.files import file_path, on_root, replacing
from mfg_fem.plots.style import Units, styled
from mfg_fem.schroedinger.solution import WaveSolution
from mfg_fem.solution.populations import PopulationsSolution
from mfg_fem.solution.solution import Solution
from mfg_fem.solution.stationary import StationarySolution
from mfg_fem.validate import array, flag, moment, number, text

TIMED = (Solution, WaveSolution)
ALL = (*TIMED, StationarySolution, PopulationsSolution)


def checked(solutions: list, length, time, kinds=TIMED, **settings) -> Units:
    """The units, if all that pictures are made of makes sense. Collective."""
    for solution in solutions:
        if not isinstance(solution, kinds):
            wanted = " or a ".join(kind.__name__ for kind in kinds)
            hint = ""
            if isinstance(solution, PopulationsSolution):
                hint = f" Take one of its crowds: solution[{next(iter(solution))!r}]."
            what = type(solution).__name__
            raise ProblemError(f"Pictures are of a {wanted}, not of {what}.{hint}")
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


def parts_of(solution) -> dict[str, Any]:
    """The solutions of several crowds by name, or the one solution, without a name."""
    return dict(solution) if isinstance(solution, PopulationsSolution) else {"": solution}


def levels_near(solution, t) -> list[int]:
    """Levels nearest to the times t; by default six until 99 % have left. Collective.

    Of several crowds there are three by default.
    """
    parts = parts_of(solution)
    if any(isinstance(part, StationarySolution) for part in parts.values()):
        return [0]
    if t is None:
        left = np.zeros(solution.steps + 1)
        left += sum(sum(part.gone.values()) for part in parts.values())
        end = solution.times[-1]
        if left[-1] > 0:
            end = np.interp(0.99 * left[-1], left, solution.times)
        t = np.linspace(0.0, end, 6 if len(parts) == 1 else 3)
    with together(solution.problem.domain.comm):
        times = array("t", [t] if np.ndim(t) == 0 else t, ("times",))
        if not times.size:
            raise ProblemError(f"t must be a time or a list of times, not {t!r}.")
        levels = list(dict.fromkeys(nearest(solution, moment) for moment in times))
    alike(solution.problem.domain.comm, levels=levels)
    return levels


def nearest(solution, t: float) -> int:
    """The level nearest to the time t."""
    return int(np.abs(solution.times - moment("t", t, solution.times[-1])).argmin())


def target(comm, path: str | Path | None) -> Path | None:
    """The file to write, None if none was asked for. Collective."""
    with together(comm):
        path = None if path is None else file_path(path)
    alike(comm, path="None" if path is None else "a file")
    return path


def given_axes(comm, ax, counts: tuple[int, ...], hint: str) -> list | None:
    """The user's axes on rank 0, None if there are none, and elsewhere. Collective.

    Args:
        comm: the ranks.
        ax: Axes of matplotlib or a list of them; what stands on other ranks does not matter.
        counts: how many there may be.
        hint: why, for the message.
    """
    with together(comm, FileError, 'Pictures need matplotlib (the extra "plot")'):
        import matplotlib.axes
    axes = None
    with together(comm):
        if comm.rank == 0 and ax is not None:
            axes = [*np.ravel(np.asarray(ax, dtype=object))]
            wrong = [a for a in axes if not isinstance(a, matplotlib.axes.Axes)]
            if wrong or not axes:
                what = type(wrong[0]).__name__ if wrong else "an empty list"
                raise ProblemError(f"ax takes Axes of matplotlib or a list of them, not {what}.")
            if len({a.figure.figure for a in axes}) > 1:
                raise ProblemError("ax: all Axes must belong to one Figure.")
            if len(axes) not in counts:
                raise ProblemError(f"ax has {len(axes)} Axes: {hint}.")
    return axes


def picture(comm, path: Path | None, draw, axes: list | None, dpi: float):
    """The figure that draw() makes on rank 0, None elsewhere; written if there is a path.

    Collective. A figure of the user's has the user's style.
    """
    with nullcontext() if path is None else replacing(comm, path) as temporary:

        def action():
            figure = draw()
            if path is not None:
                figure.savefig(temporary, dpi=dpi)
            return figure

        context = f"{path or 'The picture'} cannot be drawn"
        return on_root(comm, context, action if axes else styled(action))
