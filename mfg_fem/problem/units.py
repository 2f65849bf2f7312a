"""The units in which the numbers of a problem are of order one.

With lengths in L, times in T, costs in U and densities in M, a problem in metres, seconds, euros
and persons is the same as one in millimetres, hours, cents and thousands: tolerances, norms and
thresholds that are taken in these units make the same decisions in both.

L is the size of the domain, T the horizon, M the uniform density. U is the difference of costs for
which players cross the domain within the horizon: L p, where p is the size of the gradient of the
value function at which their speed |H_p(p) - H_p(0)| is L / T. For a quadratic H that is
L^2 / (T H_pp). Where all costs differ by less, nobody goes far, and U is the difference of the
costs, so that a small value function is as accurate for its size.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

SMALLEST = 1e-6  # of L p: U is no smaller, however little the costs differ
EXACT = 1e-4  # relative accuracy of the speed, which is enough for a unit
MOST_EVALUATIONS = 60
FACTOR = 100.0  # from one size to the next while one bound is missing
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
        """The units of a problem.

        Args:
            length: size of the domain.
            time: the horizon.
            density: the uniform density.
            gradient: the size from `gradient_for`, or None.
            spread: by how much costs differ.
        """
        crossing = None if gradient is None else gradient * length
        if crossing is None:
            cost = spread or 1.0  # no gradient makes players move
        else:
            cost = min(max(spread, SMALLEST * crossing), crossing) if spread else crossing
        return cls(length, time, cost, density)


def gradient_for(wanted: float, speed: Callable[[float], float], guess: float) -> float | None:
    """The size of a gradient for which players have the wanted speed; None if nothing moves them.

    Where their largest speed is less than wanted, it is the size for half that largest speed.

    Args:
        wanted: a positive speed.
        speed: the speed for a positive size of the gradient, not decreasing.
        guess: of the size.
    """
    low = high = None  # bounds: logarithms of a size, and of its speed over the wanted one
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


def _between(low, high) -> float:
    """The next logarithm of a size to try: by a power law through both, not too near to either."""
    if not (low and high):
        return low[0] + np.log(FACTOR) if low else high[0] - np.log(FACTOR)
    rise = high[1] - low[1]
    share = -low[1] / rise if np.isfinite(rise) else 0.5
    return low[0] + min(max(share, 0.05), 0.95) * (high[0] - low[0])
