"""The units in which the numbers of a problem are of order one.

With lengths in L, times in T, costs in U and densities in M, a problem in metres, seconds, euros
and persons is the same as one in millimetres, hours, cents and thousands: tolerances, norms and
thresholds that are taken in these units make the same decisions in both.

L is the size of the domain, T the horizon, M the uniform density. U follows from how players move:
with p the size of the gradient of the value function for which their speed |H_p(p) - H_p(0)| is
L / T, it is L p; for a quadratic H that is L^2 / (T H_pp). It is the difference of costs for which
players cross the domain within the horizon. Where all costs differ by less, nobody goes far, and U
is the difference of the costs, so that a small value function is as accurate for its size.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SMALLEST = 1e-6  # of the first U: smaller differences of the costs do not count
EXACT = 1e-4  # of the speed: nothing depends on more
MOST_EVALUATIONS = 60
FACTOR = 100.0  # from size to size, while there is no bound on one side
SATURATED = 1e-3  # a relative growth of the speed from one such size to the next


@dataclass(frozen=True)
class Units:
    """Length, time, cost (of one player) and density in which a problem is of order one."""

    length: float
    time: float
    cost: float
    density: float

    @classmethod
    def of(
        cls, length: float, time: float, density: float, gradient: float | None, spread: float
    ) -> "Units":
        """From what is known of a problem.

        Args:
            length: size of the domain.
            time: the horizon.
            density: the uniform density.
            gradient: that of `gradient_for`, or None.
            spread: by how much costs differ.
        """
        crossing = None if gradient is None else gradient * length
        if crossing is None:
            cost = spread or 1.0  # nobody moves by himself
        else:
            cost = min(max(spread, SMALLEST * crossing), crossing) if spread else crossing
        return cls(length, time, cost, density)


def gradient_for(wanted: float, speed: Callable[[float], float], guess: float) -> float | None:
    """The size of a gradient for which players have the wanted speed; None if nothing moves them.

    Where their largest speed is less than wanted, the size for half of it.

    Args:
        wanted: positive.
        speed: of a positive size of the gradient; not decreasing.
        guess: of the size.
    """
    low = high = None  # logarithms of a size, and of its speed in what is wanted
    size = guess
    for _ in range(MOST_EVALUATIONS):
        found = speed(size)
        here = np.log(size), np.log(found / wanted) if found > 0 else -np.inf
        if abs(here[1]) <= EXACT:
            return size
        if low and not high and 0 <= here[1] - low[1] < SATURATED:
            wanted, low, high = found / 2, None, (here[0], np.log(2))
        elif here[1] < 0:
            low = here
        else:  # too fast, or not a number
            high = here
        size = float(np.exp(_between(low, high)))
        if not 1e-200 < size < 1e200:
            return None
    return size if low and high else None


def _between(low: tuple | None, high: tuple | None) -> float:
    """The next logarithm of a size to try: by a power law through both, not too near to either."""
    if not (low and high):
        return low[0] + np.log(FACTOR) if low else high[0] - np.log(FACTOR)
    rise = high[1] - low[1]
    share = -low[1] / rise if np.isfinite(rise) else 0.5
    return low[0] + min(max(share, 0.05), 0.95) * (high[0] - low[0])
