"""When people are out, and for how long a place is crowded."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dolfinx import fem

from mfg_fem.crowd.parts import crowds_of, densities, entered, gone, inside
from mfg_fem.errors import ProblemError, together
from mfg_fem.validate import array, number

SAME = 1e-200  # a difference between densities that are the same
PERCENT = (50.0, 95.0, 98.0, 99.0)


def exit_times(solution: Any, percent: Sequence[float] = PERCENT) -> dict[float, float | None]:
    """The time at which so many percent of all people are out, None if not before the horizon.

    All are those who were there at the start and those who have entered. Times between two levels
    are interpolated.
    """
    crowds_of(solution, "exit_times")
    with together(solution.problem.domain.comm):
        wanted = array("percent", percent, ("n",))
        if not ((wanted > 0) & (wanted <= 100)).all():
            raise ProblemError(f"percent must be above 0 and at most 100, not {percent!r}.")
    out, all_people = _out(solution), inside(solution)[0] + entered(solution)[-1]
    return {float(q): _reached(out, solution.times, q / 100 * all_people) for q in wanted}


def _out(solution: Any) -> np.ndarray:
    return sum(gone(solution).values(), np.zeros(len(solution.times)))


def _reached(out: np.ndarray, times: np.ndarray, people: float) -> float | None:
    """The first time at which so many people are out."""
    if out.max() < people:
        return None
    n = int(np.argmax(out >= people))
    if n == 0:
        return float(times[0])
    return float(np.interp(people, out[n - 1 : n + 1], times[n - 1 : n + 1]))


def mean_exit_time(solution: Any) -> float | None:
    """The mean time at which people leave, of those who are out in the end; None if nobody is."""
    crowds_of(solution, "mean_exit_time")
    out, middles = _out(solution), (solution.times[:-1] + solution.times[1:]) / 2
    return float(np.diff(out) @ middles / out[-1]) if out[-1] > 0 else None


def time_above(solution: Any, density: float) -> fem.Function:
    """For how long the density at each node is above this one. Collective.

    Densities between two levels are interpolated.
    """
    crowds = crowds_of(solution, "time_above")
    discrete = crowds[0].discrete
    with together(discrete.comm):
        least = number("density", density)
    over = densities(crowds) - least
    low, high = np.minimum(over[:-1], over[1:]), np.maximum(over[:-1], over[1:])
    share = np.clip(high / np.maximum(high - low, SAME), 0.0, 1.0)  # of each step
    found = fem.Function(discrete.V, name="time above")
    found.x.array[: share.shape[1]] = np.diff(solution.times) @ share
    found.x.scatter_forward()
    return found
