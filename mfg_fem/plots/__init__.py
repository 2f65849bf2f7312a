"""Figures and animations of a solution; matplotlib is imported when one is drawn."""

from mfg_fem.plots.figures import (
    animate,
    plot_density,
    plot_difference,
    plot_exits,
    plot_value,
)

__all__ = ["animate", "plot_density", "plot_difference", "plot_exits", "plot_value"]
