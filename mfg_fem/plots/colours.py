"""What the colours of a picture show, and which they are."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mfg_fem.plots.scene import Snapshot
from mfg_fem.plots.style import EXIT, LINE, TEXT, Units


@dataclass(frozen=True)
class Quantity:
    """What the colours of a picture show.

    Attributes:
        of: the values in a Snapshot.
        label: for the colour bar.
        colours: matplotlib's name of a colour map that is also ordered in grey.
        signed: whether zero is in the middle of the colours.
        from_zero: whether the colours begin at zero.
        isolines: None, or their spacing, 0 for a round one.
        streamlines: whether to draw where people walk.
    """

    of: Callable[[Snapshot], np.ndarray]
    label: str
    colours: str
    signed: bool = False
    from_zero: bool = False
    isolines: float | None = None
    streamlines: bool = False


def density(units: Units, streamlines: bool) -> Quantity:
    """The density, dark where it is crowded."""
    label = f"density [{units.density}]"
    return Quantity(lambda s: s.density, label, "magma_r", from_zero=True, streamlines=streamlines)


def value(label: str, spacing: float | None) -> Quantity:
    """The value function with isolines."""
    return Quantity(lambda s: s.value, label, "viridis", isolines=spacing or 0.0)


def signed(label: str) -> Quantity:
    """A difference of densities."""
    return Quantity(lambda s: s.density, label, "RdBu_r", signed=True)


def difference(one: Snapshot | None, other: Snapshot | None) -> Snapshot | None:
    """The density of one minus that of the other."""
    return one and other and replace(one, density=one.density - other.density)


def limits(shots: list[Snapshot], quantity: Quantity, top=None) -> tuple[float, float]:
    """The ends of the scale; `top` instead of the largest value that is shown."""
    values = [quantity.of(shot) for shot in shots]
    high = max(v.max() for v in values) if top is None else top
    low = 0.0 if quantity.from_zero else min(v.min() for v in values)
    if quantity.signed:
        high = max(high, -low) or 1.0  # colours need a range, if values have none
        return -high, high
    return low, high if high > low else low + (1e-9 * abs(low) or 1.0)


def colour_bar(axes: list, quantity: Quantity, ends: tuple[float, float], inset: bool):
    """Beside all axes; or an inset of the last ones, outside their frame, which moves nothing."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    shown = ScalarMappable(Normalize(*ends), colour_map(quantity.colours))
    place = {"ax": axes, "aspect": 30, "pad": 0.015}
    if inset:
        place = {"cax": axes[-1].inset_axes((1.02, 0.0, 0.03, 1.0))}
    bar = axes[0].figure.colorbar(shown, label=quantity.label, **place)
    bar.outline.set_linewidth(LINE)
    if not inset:
        bar.ax.tick_params(labelsize=TEXT, width=LINE)


def colour_map(name: str):
    """Matplotlib's colours by that name; those of the density begin white where nobody is."""
    import matplotlib
    from matplotlib.colors import ListedColormap

    colours = matplotlib.colormaps[name](np.linspace(0, 1, 256))
    if name == "magma_r":
        fade = np.clip(1 - np.arange(256) / 40, 0, 1)[:, None]
        colours = fade + (1 - fade) * colours
    return ListedColormap(colours)


def palette(quantity: Quantity) -> list[int]:
    """256 colours of a film of this quantity, as red, green, blue one after the other."""
    from matplotlib.colors import to_rgb

    colours = colour_map(quantity.colours)(np.linspace(0, 1, 216))[:, :3]
    colours[colours.min(axis=1) > 0.97] = 1.0  # Pillow may take a near white for white
    greys = np.repeat(np.linspace(0, 1, 32)[:, None], 3, axis=1)
    exits = 1 - np.linspace(1, 0.125, 8)[:, None] * (1 - np.array(to_rgb(EXIT)))
    return np.rint(255 * np.vstack([colours, greys, exits])).astype(int).ravel().tolist()
