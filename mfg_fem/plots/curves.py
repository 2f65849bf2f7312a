"""Curves over time, drawn by matplotlib on one rank."""

import numpy as np

from mfg_fem.plots.style import WIDTH, new_axes


def exits(times: np.ndarray, gone: dict, limits: dict, units, axes: list | None = None):
    """Two panels: people gone through each exit, and people who leave per unit of time.

    Args:
        times: levels.
        gone: exit name -> people who have left through it by each of them.
        limits: exit name -> people that it passes per unit of time, to be drawn beside.
        units: for the axes.
        axes: the panels, or the first of them alone; by default those of a new figure.

    Returns:
        The figure.
    """
    import matplotlib

    axes = axes or [*new_axes((WIDTH, 2.6), "constrained", 1, 2).flat]
    total, rate = axes if len(axes) > 1 else (*axes, None)
    colours = matplotlib.colormaps["viridis"](np.linspace(0.05, 0.7, len(gone)))
    for k, (name, people) in enumerate(gone.items()):
        line = {"color": colours[k], "linestyle": ("-", "--", "-.", ":")[k % 4]}
        total.plot(times, people, label=name, **line)
        if rate is None:
            continue
        rate.stairs(np.diff(people) / np.diff(times), times, baseline=None, **line)
        if name in limits:
            rate.axhline(limits[name], linewidth=0.7, **line)
            rate.text(
                1.02,
                limits[name],
                f"capacity,\n{name}",
                transform=rate.get_yaxis_transform(),
                va="center",
            )
    together = sum(gone.values())
    if len(gone) > 1:
        total.plot(times, together, color="black", linewidth=0.8, label="together")
    total.set(ylabel="people gone")
    if rate is not None:
        rate.set(ylabel=f"people per {units.time}")
    last = times[np.searchsorted(together, 0.999 * together[-1])]
    for ax in axes:
        ax.set(xlabel=f"t [{units.time}]", xlim=(times[0], min(1.1 * last, times[-1])))
        ax.set_ylim(bottom=0.0, top=1.04 * ax.get_ylim()[1])
        ax.spines[["top", "right"]].set_visible(False)
    total.legend(frameon=False)
    return axes[0].figure.figure
