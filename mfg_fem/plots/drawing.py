"""How fields are drawn, by matplotlib on one rank: floor plans and what happens on them."""

import numpy as np

from mfg_fem.plots.colours import Quantity, colour_bar, colour_map, limits
from mfg_fem.plots.scene import Plan, Snapshot
from mfg_fem.plots.style import (
    EXIT,
    FILL,
    NAME_SPACE,
    SHADES,
    TEXT,
    WALL,
    WIDTH,
    Units,
    new_axes,
    title,
)
from mfg_fem.plots.triangles import draw_streamlines, finder


def panels(rows: list[tuple[Plan, list]], quantity: Quantity, units: Units, axes=None):
    """One panel for each crowd and time, one scale of colours; 1D: lines in a panel for each crowd.

    Args:
        rows: of each crowd where, and what, in the order of time.
        quantity: which field, and how.
        units: for the axes.
        axes: the panels, by default those of a new figure.

    Returns:
        The figure.
    """
    own, ends = axes is None, limits([shot for _, shots in rows for shot in shots], quantity)
    plan, shots = rows[0]
    flat = plan.x.shape[1] > 1
    each = len(shots) if flat else 1
    count = each * len(rows)
    columns = each if len(rows) > 1 and 1 < each <= 4 else None
    grid = lay_out(plan, count, columns) if own else take(axes, plan)
    axes = [*grid.flat]
    for k, (plan, shots) in enumerate(rows):
        draw(axes[k * each : (k + 1) * each], plan, shots, quantity, units, ends)
    if flat:
        colour_bar(axes, quantity, ends, inset=not own)
    if own and count > 1:
        outer_labels(grid, count)
    return axes[0].figure.figure


def lay_out(plan: Plan, count: int, columns: int | None = None) -> np.ndarray:
    """The axes of a new figure with so many panels, shape (rows, columns)."""
    if plan.x.shape[1] == 1:
        columns = min(count, 2)
        rows, width = -(-count // columns), 0.6 if count == 1 else 1.0
        size, shared = (WIDTH * width, rows * WIDTH * 0.4), {"sharex": True, "sharey": True}
        return new_axes(size, "constrained", rows, columns, **shared)
    width, height = np.ptp(plan.x, axis=0)
    columns = columns or min(count, 1 if height < 0.3 * width else 2 if height < 0.8 * width else 3)
    rows = -(-count // columns)
    panel = (WIDTH - 1.3) / columns
    width, height = np.ptp(_frame(plan, panel), axis=0)
    size = WIDTH, rows * (panel * height / width + 0.25) + 0.4
    axes = new_axes(size, "compressed", rows, columns, sharex=True, sharey=True)
    for ax in axes.flat:
        _show(ax, *_frame(plan, panel))
    return axes


def take(axes: list, plan: Plan) -> np.ndarray:
    """Axes of the user's, made to show the whole plan."""
    if plan.x.shape[1] > 1:
        for ax in axes:
            _show(ax, *_frame(plan, ax.bbox.width / ax.figure.figure.dpi))
    return np.array(axes, dtype=object)


def _show(ax, low: np.ndarray, high: np.ndarray):
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")


def _frame(plan: Plan, panel: float) -> tuple[np.ndarray, np.ndarray]:
    """Lower left and upper right of a panel that is so many inches wide, with room for names."""
    low, high = plan.x.min(axis=0), plan.x.max(axis=0)
    margin = NAME_SPACE / max(panel - 2 * NAME_SPACE, NAME_SPACE) * (high - low)[0]
    return low - margin, high + margin


def outer_labels(grid: np.ndarray, count: int):
    """What the axes are, once for each row and column; nothing where no panel is."""
    columns = grid.shape[1]
    for k, ax in enumerate(grid.flat):
        if k >= count:
            ax.set_axis_off()
        elif k + columns < count:
            ax.set_xlabel("")
        else:
            ax.tick_params(labelbottom=True)
        if k % columns:
            ax.set_ylabel("")


def draw(axes: list, plan: Plan, shots: list[Snapshot], quantity: Quantity, units: Units, ends):
    """Each time in axes of its own, 1D: all in the first ones; between the ends of a scale."""
    if plan.x.shape[1] == 1:
        _lines(axes[0], plan, shots, quantity, units, ends)
        return
    from matplotlib.tri import Triangulation

    mesh = Triangulation(*plan.x.T, plan.cells)
    for k, (ax, shot) in enumerate(zip(axes, shots, strict=False)):
        _panel(ax, plan, mesh, shot, quantity, ends)
        frame(ax, plan, mesh, shot, units, names=k == 0)


def frame(ax, plan: Plan, mesh, shot: Snapshot, units: Units, names: bool):
    """What is around the colours of a panel: the floor plan, a title, labels of the axes."""
    draw_plan(ax, plan, mesh, names)
    height = "" if plan.height is None else f"z = {plan.height:g} {units.length}"
    ax.set_title(title(ax, shot.crowd, _when(shot, units), height), loc="left", pad=3)
    ax.set(xlabel=f"x [{units.length}]", ylabel=f"y [{units.length}]")
    ax.spines[["top", "right"]].set_visible(False)


def _panel(ax, plan: Plan, mesh, shot: Snapshot, quantity: Quantity, ends):
    """The colours, and the lines on them."""
    from matplotlib.colors import Normalize

    field, scale = quantity.of(shot), Normalize(*ends)
    # Exact for P1, where shading would blend colours instead of values.
    ax.tricontourf(
        mesh,
        field,
        np.linspace(ends[0], ends[1], SHADES + 1),
        cmap=colour_map(quantity.colours),
        norm=scale,
        extend="both",
        antialiased=False,
        zorder=1,
    )
    ax.set_rasterization_zorder(1.5)
    if quantity.signed:  # dashed below zero: the sign must survive printing in grey
        levels = ends[1] * np.array([-0.8, -0.4, -0.1, 0.1, 0.4, 0.8])
        ax.tricontour(mesh, field, levels, colors="black", linewidths=0.4, zorder=2)
    if quantity.isolines is not None:
        _isolines(ax, mesh, field, quantity.isolines)
    if quantity.streamlines:
        draw_streamlines(ax, mesh, shot)


def draw_plan(ax, plan: Plan, mesh, names: bool):
    """Walls thick, what stands in the way filled, exits in a colour of their own with names."""
    from matplotlib.collections import LineCollection, PolyCollection

    ax.add_collection(PolyCollection(plan.outline(), facecolors=FILL, edgecolors="none", zorder=0))
    style = {"capstyle": "projecting", "zorder": 4}
    walls = plan.chains(plan.walls)
    ax.add_collection(LineCollection(walls, colors=WALL, linewidths=1.4, **style))
    style = {"capstyle": "butt", "zorder": 5}
    inside = finder(mesh)
    for name, pieces in plan.exits.items():
        if not len(pieces):
            continue
        ends = plan.x[pieces]
        ax.add_collection(LineCollection(plan.chains(pieces), colors=EXIT, linewidths=3.0, **style))
        if names:
            tangent = ends[0, 1] - ends[0, 0]
            normal = np.array([tangent[1], -tangent[0]]) / np.linalg.norm(tangent)
            probe = ends[0].mean(axis=0) + 0.01 * np.linalg.norm(tangent) * normal
            outward = -normal if inside(*probe) >= 0 else normal
            _name_exit(ax, name, ends.mean(axis=(0, 1)), outward)


def _name_exit(ax, name: str, at: np.ndarray, outward: np.ndarray):
    """Write the name outside along the exit; a rim keeps it readable over whatever is there."""
    from matplotlib.patheffects import withStroke

    sideways = abs(outward[0]) > abs(outward[1])
    ax.annotate(
        name,
        at,
        xytext=3 * outward,
        textcoords="offset points",
        rotation=90 if sideways else 0,
        ha=("left" if outward[0] > 0 else "right") if sideways else "center",
        va="center" if sideways else ("bottom" if outward[1] > 0 else "top"),
        path_effects=[withStroke(linewidth=2, foreground="white")],
        zorder=6,
    )


def _isolines(ax, mesh, field: np.ndarray, spacing: float):
    from matplotlib.ticker import MaxNLocator

    if spacing:
        levels = np.arange(np.ceil(field.min() / spacing), field.max() / spacing + 1) * spacing
    else:
        levels = MaxNLocator(10).tick_values(field.min(), field.max())
    inner = [level for level in levels if field.min() < level < field.max()]
    if inner:
        lines = ax.tricontour(mesh, field, inner, colors="white", linewidths=0.7, zorder=2)
        ax.clabel(lines, fmt="%g", fontsize=TEXT - 1, inline_spacing=2)


def _when(shot: Snapshot, units: Units) -> str:
    return "stationary" if np.isinf(shot.time) else f"t = {shot.time:.3g} {units.time}"


def _lines(ax, plan: Plan, shots: list[Snapshot], quantity: Quantity, units: Units, ends):
    """A field on an interval: one line for each time, early ones dark."""
    import matplotlib

    order = np.argsort(plan.x[:, 0])
    colours = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.85, len(shots)))
    styles = ("-", "--", "-.", ":")
    for k, (shot, colour) in enumerate(zip(shots, colours, strict=True)):
        label = _when(shot, units)
        line = {"color": colour, "linestyle": styles[k % 4], "label": label}
        ax.plot(plan.x[order, 0], quantity.of(shot)[order], **line)
    for name, points in plan.exits.items():
        for position in plan.x[points.ravel(), 0]:
            ax.axvline(position, color=EXIT, linewidth=3.0, zorder=0)
            middle = plan.x[:, 0].mean()
            ax.annotate(
                name,
                (position, 0.95),
                xycoords=("data", "axes fraction"),
                xytext=(5 if position < middle else -5, 0),
                textcoords="offset points",
                ha="left" if position < middle else "right",
                va="top",
            )
    low, high = ends
    if shots[0].crowd:
        ax.set_title(shots[0].crowd, loc="left", pad=3)
    ax.set(xlabel=f"x [{units.length}]", ylabel=quantity.label)
    ax.set_ylim(low - 0.03 * (high - low), high + 0.05 * (high - low))
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
