"""Maps that engineers read: levels of service, and for how long a place is crowded."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mfg_fem.crowd.parts import crowds_of
from mfg_fem.crowd.times import time_above
from mfg_fem.errors import ProblemError, together
from mfg_fem.plots import drawing
from mfg_fem.plots.request import checked, given_axes, levels_near, picture, target
from mfg_fem.plots.scene import Plan, Scene, Snapshot
from mfg_fem.plots.style import LINE, Units
from mfg_fem.solution.populations import PopulationsSolution
from mfg_fem.solution.solution import Solution
from mfg_fem.validate import array, number

# Fruin, Pedestrian Planning and Design (1971): square metres per person between A and B to E and F.
AREAS = {"walkway": (3.25, 2.32, 1.39, 0.93, 0.46), "queue": (1.21, 0.93, 0.65, 0.28, 0.19)}
LETTERS = "ABCDEFGHI"
COLOURS = "RdYlGn_r"
KINDS = Solution, PopulationsSolution


def plot_service(
    solution,
    path: str | Path | None = None,
    *,
    ax=None,
    t: float | Sequence[float] | None = None,
    service: str | Sequence[float] = "walkway",
    length: str = "m",
    time: str = "s",
    height: float | None = None,
    dpi: int = 200,
):
    """Draw the level of service, A to F, at several times; of several crowds that of all together.

    Args:
        solution: what to draw.
        path: the picture file; by default nothing is written.
        ax: Axes to draw into (rank 0), or a list of them, one for each time.
        t: the time or times to show (the nearest levels); by default as for plot_density.
        service: "walkway" or "queue", Fruin's levels for who walks and who waits, in persons/m^2;
            or the densities at which the level changes, increasing, 8 at most.
        length: unit of length.
        time: unit of time.
        height: where to cut a 3D domain, half way up by default.
        dpi: dots per inch of a .png.

    Returns:
        The Figure on rank 0, None on other ranks.
    """
    units = checked([solution], length, time, KINDS, height=height, dpi=dpi)
    crowds, domain = crowds_of(solution, "plot_service"), solution.problem.domain
    with together(domain.comm):
        limits, name = _limits(service, units)
    levels = levels_near(solution, t)
    path = target(domain.comm, path)
    hint = f"each of {len(levels)} times takes one; t=... chooses the times"
    axes = given_axes(domain.comm, ax, (len(levels),), hint)
    scenes = [Scene(part, height) for part in _most_exits_first(crowds)]
    shots: list[list[Any]] = [[scene.at(n) for scene in scenes] for n in levels]

    def draw():
        everybody = [replace(s[0], crowd="", density=sum(y.density for y in s)) for s in shots]
        return _map(scenes[0].plan, everybody, limits, name, units, axes)

    return picture(domain.comm, path, draw, axes, dpi)


def _limits(service, units: Units) -> tuple[np.ndarray, str]:
    """The densities between levels, and what the legend calls them."""
    if units.dim == 1:
        raise ProblemError("plot_service draws maps, and the domain is a line.")
    if not isinstance(service, str):
        limits = array("service", service, ("limits",))
        good = 0 < len(limits) < len(LETTERS) and limits[0] > 0 and (np.diff(limits) > 0).all()
        if not good:
            raise ProblemError("service must be 1 to 8 densities > 0 that increase.")
        return limits, "level of service"
    if service not in AREAS:
        raise ProblemError(f"service must be 'walkway', 'queue' or densities, not {service!r}.")
    if units.length != "m":
        raise ProblemError(
            f"The levels of a {service} are of persons/m^2, and lengths are in {units.length}: "
            "give the densities themselves, service=[...]."
        )
    return 1 / np.array(AREAS[service]), f"level of service, {service}"


def _map(plan: Plan, shots: list[Snapshot], limits: np.ndarray, name: str, units: Units, axes):
    import matplotlib
    from matplotlib.patches import Patch
    from matplotlib.tri import Triangulation

    own = axes is None
    grid = drawing.lay_out(plan, len(shots)) if own else drawing.take(axes, plan)
    mesh, axes = Triangulation(*plan.x.T, plan.cells), [*grid.flat]
    colours = matplotlib.colormaps[COLOURS](np.linspace(0.05, 0.95, len(limits) + 1))
    ends = [-np.inf, *limits, np.inf]
    for k, (ax, shot) in enumerate(zip(axes, shots, strict=False)):
        below, above = min(shot.density.min(), 0.0) - 1, max(shot.density.max(), limits[-1]) + 1
        levels = [below, *limits, above]
        ax.tricontourf(mesh, shot.density, levels, colors=colours, antialiased=False, zorder=1)
        ax.set_rasterization_zorder(1.5)
        drawing.frame(ax, plan, mesh, shot, units, names=k == 0)
    if own:
        drawing.outer_labels(grid, len(shots))
    words = [
        f"{letter}: {'up to' if high < np.inf else 'above'} {high if high < np.inf else low:.2f}"
        for letter, low, high in zip(LETTERS, ends, ends[1:], strict=False)
    ]
    patches = [Patch(facecolor=c, edgecolor="black", lw=LINE) for c in colours]
    where = axes[0].figure.figure if own else axes[-1]
    place: dict[str, Any] = {"loc": "outside right center"} if own else {"bbox_to_anchor": (1, 1)}
    where.legend(patches, words, title=f"{name}\n[{units.density}]", frameon=False, **place)
    return axes[0].figure.figure


def plot_time_above(
    solution,
    density: float,
    path: str | Path | None = None,
    *,
    ax=None,
    length: str = "m",
    time: str = "s",
    height: float | None = None,
    dpi: int = 200,
):
    """Draw for how long the density of all crowds is above this one, from start to horizon.

    Args:
        solution: what to draw.
        density: the density, in the units of the problem.
        path: the picture file; by default nothing is written.
        ax: Axes to draw into (rank 0).
        length: unit of length.
        time: unit of time.
        height: where to cut a 3D domain, half way up by default.
        dpi: dots per inch of a .png.

    Returns:
        The Figure on rank 0, None on other ranks.
    """
    units = checked([solution], length, time, KINDS, height=height, dpi=dpi)
    seconds, domain = time_above(solution, density), solution.problem.domain
    density = number("density", density)
    path = target(domain.comm, path)
    axes = given_axes(domain.comm, ax, (1,), "it is one picture")
    scene = Scene(_most_exits_first(crowds_of(solution, "plot_time_above"))[0], height)
    values: Any = scene.of(seconds)
    label = f"time above a density of {density:g} {units.density} [{units.time}]"
    quantity = drawing.Quantity(lambda _: values, label, "magma_r", from_zero=True)
    shot = scene.at(0)

    def draw():
        figure = drawing.panels([(scene.plan, [shot])], quantity, units, axes)
        (axes or figure.axes)[0].set_title("", loc="left")
        return figure

    return picture(domain.comm, path, draw, axes, dpi)


def _most_exits_first(crowds: list[Solution]) -> list[Solution]:
    """The crowds, first one for the floor plan: those who wait have no exits."""
    return sorted(crowds, key=lambda part: -len(part.problem.boundary))
