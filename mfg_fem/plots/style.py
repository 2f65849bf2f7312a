"""The style of all pictures: sizes, colours, units."""

from collections.abc import Callable
from dataclasses import dataclass

TEXT = 8  # points: what a journal prints in a figure of the width of a page
WIDTH = 7.0  # inches
NAME_SPACE = 0.22  # inches around a plan, for the names of exits
SHADES = 200
LETTERS = 20  # of a title, to an inch
LINE = 0.6  # points: of axes and ticks
WALL, FILL, EXIT, FLOW = "black", "0.55", "#00a0b0", "0.25"
STYLE = {
    "font.size": TEXT,
    "axes.titlesize": TEXT,
    "axes.linewidth": LINE,
    "xtick.major.width": LINE,
    "ytick.major.width": LINE,
    "mathtext.default": "regular",
    "pdf.fonttype": 42,
}


def new_axes(size: tuple[float, float], layout: str, rows: int = 1, columns: int = 1, **shared):
    """The axes of a new figure, shape (rows, columns). It has no window that pyplot would keep."""
    from matplotlib.figure import Figure

    axes = Figure(size, layout=layout).subplots(rows, columns, squeeze=False, **shared)
    for ax in axes.flat:  # ticks are made when the figure is shown, by then without STYLE
        ax.tick_params(labelsize=TEXT, width=LINE)
    return axes


def styled(draw: Callable) -> Callable:
    """The same function under STYLE, whatever style the user has set."""

    def inner():
        import matplotlib

        with matplotlib.rc_context(STYLE):
            return draw()

    return inner


@dataclass(frozen=True)
class Units:
    """The names of the units, and of the density's, on a domain of this dimension."""

    length: str
    time: str
    dim: int

    @property
    def density(self) -> str:
        """Players per length, area or volume."""
        return f"1/{self.length}" + ("" if self.dim == 1 else f"$^{self.dim}$")


def title(ax, *words: str) -> str:
    """What there is of these words; the first on a line of its own if they are too long for one."""
    first, *others = filter(None, words)
    line = ",  ".join([first, *others])
    fits = len(line) <= LETTERS * ax.bbox.width / ax.figure.figure.dpi
    return line if fits else f"{first}\n" + ",  ".join(others)
