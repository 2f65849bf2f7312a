"""The curves of a fluid over time."""

from pathlib import Path

import numpy as np

from mfg_fem.errors import ProblemError
from mfg_fem.fluid.hydrodynamics import Fluid
from mfg_fem.plots.request import checked, given_axes, picture, target
from mfg_fem.plots.style import WIDTH, new_axes

ENERGY, TERMS = ("energy", "modified_energy"), ("moving_cost", "kinetic", "osmotic")
PANELS = (ENERGY, TERMS, ("fisher",), ("entropy",))
TITLES = ("energy", "cost of moving", "Fisher information", "entropy")
LINES = (("black", "-"), ("#00708a", "--"), ("#c05020", "-."))


def plot_fluid(
    fluid: Fluid,
    path: str | Path | None = None,
    *,
    ax=None,
    time: str = "s",
    dpi: int = 200,
):
    """Draw energies, Fisher information and entropy of a fluid along time.

    Args:
        fluid: what `mfg_fem.hydrodynamics` returns.
        path: the picture file; by default nothing is written.
        ax: four Axes to draw into (rank 0): energies, the cost of moving, Fisher information,
            entropy.
        time: unit of time, "" if there is none.
        dpi: dots per inch of a .png.

    What the problem has not is left out; the modified energy is that of the steps.

    Returns:
        The Figure on rank 0, None on other ranks.
    """
    if not isinstance(fluid, Fluid):
        raise ProblemError(f"plot_fluid takes a Fluid, not {type(fluid).__name__}.")
    comm = fluid.solution.problem.domain.comm
    units, path = checked([fluid.solution], "m", time, dpi=dpi), target(comm, path)
    axes = given_axes(comm, ax, (4,), "energies, costs, information and entropy take four")

    def draw():
        panels = axes or [*new_axes((WIDTH, 4.0), "constrained", 2, 2).flat]
        for panel, names, title in zip(panels, PANELS, TITLES, strict=True):
            for name, (colour, style) in zip(names, LINES[: len(names)], strict=True):
                y = getattr(fluid, name)
                if y is not None:
                    label = name.replace("_", " ")
                    panel.plot(_times(fluid, len(y)), y, style, color=colour, label=label)
            panel.set(xlabel=f"t [{units.time}]" if units.time else "t", ylabel=title)
            panel.set_xlim(fluid.times[0], fluid.times[-1])
            panel.spines[["top", "right"]].set_visible(False)
            if len(names) > 1 and panel.lines:
                panel.legend(frameon=False)
        return panels[0].figure.figure

    return picture(comm, path, draw, axes, dpi)


def _times(fluid: Fluid, size: int) -> np.ndarray:
    """The levels, those inside, or the middles of the steps: as many as there are numbers."""
    t = fluid.times
    return {len(t): t, len(t) - 1: (t[1:] + t[:-1]) / 2, len(t) - 2: t[1:-1]}[size]
