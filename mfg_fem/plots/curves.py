"""Curves over time, drawn by matplotlib on one rank."""

import numpy as np

from mfg_fem.plots.style import WIDTH


def exits(times: np.ndarray, gone: dict, limits: dict, units):
    """Two panels: people gone through each exit, and people who leave per unit of time."""
    import matplotlib
    from matplotlib.figure import Figure

    figure = Figure((WIDTH, 2.6), layout="constrained")
    total, rate = figure.subplots(1, 2)
    colours = matplotlib.colormaps["viridis"](np.linspace(0.05, 0.7, len(gone)))
    for k, (name, people) in enumerate(gone.items()):
        line = {"color": colours[k], "linestyle": ("-", "--", "-.", ":")[k % 4]}
        total.plot(times, people, label=name, **line)
        rate.stairs(np.diff(people) / np.diff(times), times, baseline=None, **line)
        if name in limits:
            rate.axhline(limits[name], linewidth=0.7, **line)
            rate.text(
                1.02,
                limits[name],
                f"published capacity,\n{name}",
                transform=rate.get_yaxis_transform(),
                va="center",
            )
    together = sum(gone.values())
    if len(gone) > 1:
        total.plot(times, together, color="black", linewidth=0.8, label="together")
    total.set(ylabel="people gone")
    rate.set(ylabel=f"people per {units.time}")
    last = times[np.searchsorted(together, 0.999 * together[-1])]
    for ax in (total, rate):
        ax.set(xlabel=f"t [{units.time}]", xlim=(times[0], min(1.1 * last, times[-1])))
        ax.set_ylim(bottom=0.0, top=1.04 * ax.get_ylim()[1])
        ax.spines[["top", "right"]].set_visible(False)
    total.legend(frameon=False)
    return figure
