"""The density on a regular grid of points."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dolfinx import fem

from mfg_fem.crowd.parts import crowds_of, densities
from mfg_fem.errors import ProblemError, together
from mfg_fem.mesh.locate import Replica
from mfg_fem.validate import array, moment, number

MOST = 10**7  # points of a grid


@dataclass(frozen=True)
class Grid:
    """Densities at points of equal distances.

    Attributes:
        times: of the densities.
        points: shape (points, d), those outside the domain too; the last coordinate runs fastest.
        shape: number of points along each axis.
        density: shape (times, points), NaN outside the domain.
    """

    times: np.ndarray
    points: np.ndarray
    shape: tuple[int, ...]
    density: np.ndarray


def on_grid(solution: Any, spacing: float, times: float | Sequence[float]) -> Grid:
    """The density at the middles of squares of this size at these times. Collective.

    Times between two levels are interpolated. The grid begins at the lower left end of the box
    around the domain. Every rank has the result.
    """
    crowds = crowds_of(solution, "on_grid")
    domain, discrete = solution.problem.domain, crowds[0].discrete
    with together(domain.comm):
        wanted = array("times", np.atleast_1d(times), ("times",))
        wanted = np.array([moment("times", t, solution.times[-1]) for t in wanted])
        spacing = number("spacing", spacing, above=True)
    low, high = discrete.bounding_box
    with together(domain.comm):
        shape = np.maximum(np.ceil((high - low) / spacing - 1e-9), 1)
        if not np.prod(shape) <= MOST:
            raise ProblemError(
                f"spacing = {spacing:g} makes {np.prod(shape):.3g} points, and {MOST:g} is the "
                "most. Take a larger one."
            )
    axes = [a + spacing * (np.arange(n) + 0.5) for a, n in zip(low, shape, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, domain.dim)
    P1 = fem.functionspace(domain.mesh, ("Lagrange", 1))
    replica, here = Replica(P1), fem.Function(discrete.V)
    cell, weights, inside = replica.locate(points)
    m, found = densities(crowds), []
    for t in wanted:
        n = int(np.clip(np.searchsorted(solution.times, t) - 1, 0, solution.steps - 1))
        share = (t - solution.times[n]) / (solution.times[n + 1] - solution.times[n])
        here.x.array[: m.shape[1]] = (1 - share) * m[n] + share * m[n + 1]
        here.x.scatter_forward()
        at_vertices = fem.Function(P1)
        at_vertices.interpolate(here)
        nodal = replica.gather(at_vertices.x.array[: P1.dofmap.index_map.size_local])
        values = np.einsum("ni,ni->n", weights, nodal[replica.cells[cell]])
        found.append(np.where(inside, values, np.nan))
    return Grid(wanted, points, tuple(map(int, shape)), np.array(found))
