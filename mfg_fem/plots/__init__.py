"""Figures and films of a solution; matplotlib is imported when one is drawn.

`STYLE` is their style, for figures of your own beside them: `with matplotlib.rc_context(STYLE)`.
`WIDTH` is the width of a page in inches.
"""

from mfg_fem.plots.figures import plot_density, plot_difference, plot_exits, plot_value
from mfg_fem.plots.film import animate
from mfg_fem.plots.fluid import plot_fluid
from mfg_fem.plots.service import plot_service, plot_time_above
from mfg_fem.plots.style import STYLE, WIDTH
from mfg_fem.plots.waves import plot_wave

__all__ = [
    "STYLE",
    "WIDTH",
    "animate",
    "plot_density",
    "plot_difference",
    "plot_exits",
    "plot_fluid",
    "plot_service",
    "plot_time_above",
    "plot_value",
    "plot_wave",
]
