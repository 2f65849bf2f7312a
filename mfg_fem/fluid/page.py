"""A fluid on a page."""

import numpy as np

ALONG = ("energy", "modified_energy", "kinetic", "osmotic", "moving_cost", "fisher", "entropy")


def page(fluid) -> str:
    """Numbers along time, and why some are missing."""
    lines = [f"Fluid of {fluid.solution.report.splitlines()[0]}"]
    for name in ALONG:
        y = getattr(fluid, name)
        if y is not None:
            ends = f"{y[0]:.6g} -> {y[-1]:.6g}"
            lines.append(f"  {name.replace('_', ' '):<22} {ends}, spread {np.ptp(y):.1e}")
    first, last = (np.array2string(y, precision=4) for y in fluid.total_momentum[[0, -1]])
    lines.append(f"  {'total momentum':<22} {first} -> {last}")
    return "\n".join([*lines, *explained(fluid.reasons)])


def explained(reasons: dict[str, str]) -> list[str]:
    """A line for each reason, with the names of all quantities it is for."""
    lines = []
    for why in dict.fromkeys(reasons.values()):
        names = [name.replace("_", " ") for name, reason in reasons.items() if reason == why]
        lines.append(f"  {', '.join(names)}: {why}")
    return lines
