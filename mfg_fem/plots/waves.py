"""Density and phase of a wave."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mfg_fem.plots import colours, drawing
from mfg_fem.plots.request import checked, given_axes, levels_near, picture, target
from mfg_fem.plots.scene import Plan, Scene, Snapshot
from mfg_fem.plots.style import LINE, TEXT, WIDTH, Units, new_axes
from mfg_fem.schroedinger.solution import WaveSolution

FAINT = 0.02  # of the largest density: the phase fades below
PHASES = "twilight_shifted"
MOST_TIMES = 400  # levels in a picture over time


def plot_wave(
    solution: WaveSolution,
    path: str | Path | None = None,
    *,
    ax=None,
    t: float | Sequence[float] | None = None,
    length: str = "",
    time: str = "",
    height: float | None = None,
    dpi: int = 200,
):
    """Draw the density of a wave and its phase, which fades where the density is small.

    In 1D both are drawn over x and t; else above each other, a column for each time. A vortex is a
    point where the density vanishes, and around which the phase takes all values.

    Args:
        solution: a WaveSolution.
        path: the picture file; by default nothing is written.
        ax: Axes to draw into (rank 0), two in 1D, else those of all densities and then of all
            phases.
        t: the time or times to show (the nearest levels), six by default; in 1D all are.
        length: unit of length, none by default.
        time: unit of time, none by default.
        height: where to cut a 3D domain, half way up by default.
        dpi: dots per inch of a .png.

    Returns:
        The Figure on rank 0, None on other ranks.
    """
    units = checked([solution], length, time, (WaveSolution,), height=height, dpi=dpi)
    domain = solution.problem.domain
    path = target(domain.comm, path)
    if domain.dim == 1:
        step = max(1, len(solution.times) // MOST_TIMES)
        levels, panels = [*range(0, len(solution.times), step)], 2
    else:
        levels = levels_near(solution, t)
        panels = 2 * len(levels)
    hint = "density and phase take one each" + (", at each time" if domain.dim > 1 else "")
    axes = given_axes(domain.comm, ax, (panels,), hint)
    scene = Scene(solution, height)
    shots: list = [scene.at(n) for n in levels]

    def draw():
        if domain.dim == 1:
            grid = np.array(axes) if axes else new_axes((WIDTH, 2.6), "constrained", 1, 2)
            return _over_time(grid.ravel(), scene.plan, shots, units)
        grid = _lay_out(scene.plan, len(shots)) if axes is None else np.array(axes)
        return _columns(grid.reshape(2, -1), scene.plan, shots, units)

    return picture(domain.comm, path, draw, axes, dpi)


def _named(name: str, unit: str) -> str:
    return f"{name} [{unit}]" if unit else name


def _over_time(axes: np.ndarray, plan: Plan, shots: list[Snapshot], units: Units):
    """Density and phase over x and t."""
    order = np.argsort(plan.x[:, 0])
    x, t = plan.x[order, 0], [shot.time for shot in shots]
    density, phase = (
        np.array([field[order] for field in fields])
        for fields in zip(*((shot.density, shot.value) for shot in shots), strict=True)
    )
    quantity = colours.density(units, False)
    shown = axes[0].pcolormesh(
        x, t, density, cmap=colours.colour_map(quantity.colours), vmin=0.0, shading="gouraud"
    )
    angles = axes[1].pcolormesh(
        x, t, phase, cmap=PHASES, vmin=-np.pi, vmax=np.pi, shading="nearest",
        alpha=_visible(density, density.max()),
    )  # fmt: skip
    for ax, drawn, label in zip(axes, (shown, angles), ("density", "phase"), strict=True):
        ax.set(xlabel=_named("x", units.length), ylabel=_named("t", units.time))
        ax.set(ylim=(t[0], t[-1]), xlim=(x[0], x[-1]))
        ax.set_title(label, loc="left", pad=3)
        ax.set_rasterization_zorder(1.5)
        _bar(ax, drawn, "", label == "phase")
    return axes[0].figure.figure


def _columns(grid: np.ndarray, plan: Plan, shots: list[Snapshot], units: Units):
    """Density above phase, a column for each time."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.tri import Triangulation

    mesh = Triangulation(*plan.x.T, plan.cells)
    low, high = plan.x.min(axis=0), plan.x.max(axis=0)
    top = max(shot.density.max() for shot in shots)
    shades = colours.colour_map(colours.density(units, False).colours)
    for column, shot in zip(grid.T, shots, strict=True):
        shown = column[0].tripcolor(
            mesh, shot.density, cmap=shades, vmin=0.0, vmax=top, shading="gouraud"
        )
        corners = np.exp(1j * shot.value)[plan.cells]
        phase, density = np.angle(corners.mean(axis=1)), shot.density[plan.cells].mean(axis=1)
        angles = column[1].tripcolor(
            mesh, facecolors=phase, cmap=PHASES, vmin=-np.pi, vmax=np.pi, antialiased=False
        )
        faded = angles.to_rgba(phase)[:, :3]
        faded += (1 - _visible(density, top))[:, None] * (1 - faded)
        angles.set(array=None, facecolors=faded)
        column[0].set_title(f"t = {shot.time:.3g} {units.time}", loc="left", pad=3)
        for ax in column:
            ax.set(aspect="equal", xlim=(low[0], high[0]), ylim=(low[1], high[1]))
            ax.set_rasterization_zorder(1.5)
            drawing.draw_plan(ax, plan, mesh, names=False)
    for ax in grid[:, 0]:
        ax.set_ylabel(_named("y", units.length))
    for ax in grid[1]:
        ax.set_xlabel(_named("x", units.length))
    _bar(grid[0, -1], shown, "density", False)
    _bar(grid[1, -1], ScalarMappable(Normalize(-np.pi, np.pi), PHASES), "phase", True)
    return grid[0, 0].figure.figure


def _visible(density: np.ndarray, top: float) -> np.ndarray:
    return np.clip(density / (FAINT * top), 0.0, 1.0)


def _lay_out(plan: Plan, count: int) -> np.ndarray:
    width, height = np.ptp(plan.x, axis=0)
    panel = min((WIDTH - 1.2) / count, 2.6)
    size = panel * count + 1.2, 2 * (panel * height / width + 0.1) + 0.5
    return new_axes(size, "constrained", 2, count, sharex=True, sharey=True)


def _bar(ax, shown, label: str, angular: bool):
    """A colour bar in an inset beside the axes, which moves nothing."""
    bar = ax.figure.colorbar(shown, cax=ax.inset_axes((1.03, 0.0, 0.04, 1.0)), label=label)
    bar.outline.set_linewidth(LINE)
    bar.solids.set_alpha(1.0)
    bar.ax.tick_params(labelsize=TEXT, width=LINE)
    if angular:
        bar.set_ticks([-np.pi, 0, np.pi], labels=[r"$-\pi$", "0", r"$\pi$"])
