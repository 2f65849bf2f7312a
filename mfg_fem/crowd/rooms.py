"""How many people are in parts of a domain."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from mpi4py import MPI

import numpy as np

from mfg_fem.crowd.parts import crowds_of, densities
from mfg_fem.crowd.weights import of_region
from mfg_fem.errors import ProblemError, together
from mfg_fem.validate import polygon


def rooms(solution: Any, places: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """People in each named room at each time level. Collective.

    Args:
        solution: of one crowd, or of several, who are counted together.
        places: name -> a polygon (2D), its corners in order or one of shapely, or a function of
            points x of the shape (d, n) that says which of them are inside: `lambda x: x[0] < 5`.
    """
    crowds = crowds_of(solution, "rooms")
    m, discrete, found = densities(crowds), crowds[0].discrete, {}
    with together(discrete.comm):
        if not isinstance(places, Mapping):
            raise ProblemError('rooms must be a dict such as {"hall": lambda x: x[0] < 5}.')
        inside = {name: _contains(name, place, discrete) for name, place in places.items()}
    for name, contains in inside.items():
        weights = of_region(discrete.V, contains)
        found[name] = discrete.comm.allreduce(m @ weights, MPI.SUM)
    return found


def _contains(name: str, place: Any, discrete) -> Callable[[np.ndarray], np.ndarray]:
    """Which points are in a room."""
    if not callable(place):
        return partial(_in_polygon, polygon(f"rooms[{name!r}]", place, discrete.problem.domain.dim))

    def contains(x: np.ndarray) -> np.ndarray:
        found = np.asarray(place(x))
        if found.shape != x.shape[1:] or found.dtype != bool:
            raise ProblemError(
                f"rooms[{name!r}] must return an array with one truth value for each of the points "
                f"x, whose shape is (d, n), such as x[0] < 5; not one of {found.dtype}."
            )
        return found

    return contains


def _in_polygon(corners: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Whether a ray to the right of each point crosses the polygon an odd number of times."""
    x, y = points
    inside = np.zeros(len(x), dtype=bool)
    for (a, b), (c, d) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if b != d:
            inside ^= ((b > y) != (d > y)) & (x < a + (c - a) * (y - b) / (d - b))
    return inside
