"""The density at given points, and on a regular grid."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpi4py import MPI

import numpy as np

from dolfinx import fem

from mfg_fem.crowd.parts import crowds_of, densities
from mfg_fem.crowd.tables import as_csv
from mfg_fem.errors import ProblemError, alike, together
from mfg_fem.io.files import file_path, on_root, replacing
from mfg_fem.mesh.locate import Replica, as_points
from mfg_fem.validate import array, moment, number

MOST = 10**7  # points of a grid


@dataclass(frozen=True)
class Grid:
    """Densities at the middles of squares (in 3D cubes) of one size. Every rank has all.

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
    comm: MPI.Comm = field(repr=False)

    def write(self, path: str | Path, *, length: str = "m", time: str = "s") -> None:
        """Write a CSV file with a line for each point, a column for each time. Collective."""
        with together(self.comm):
            path = file_path(path)
        dim = self.points.shape[1]
        columns = {f"{axis} [{length}]": x for axis, x in zip("xyz", self.points.T, strict=False)}
        unit = f"persons/{length}" + ("" if dim == 1 else f"^{dim}")
        for t, values in zip(self.times, self.density, strict=True):
            columns[f"density at {t:g} {time} [{unit}]"] = values
        with replacing(self.comm, path) as temporary:
            on_root(
                self.comm,
                f"{path} cannot be written",
                lambda: temporary.write_text(as_csv(columns)),
            )


def density_at(solution: Any, points: np.ndarray, times: float | Sequence[float]) -> np.ndarray:
    """The density at points of shape (n, d) and at times, which are interpolated. Collective.

    Of several crowds it is that of all together. The points must be the same on every rank, and so
    is the result, of shape (times, n): NaN where a point is outside the domain.
    """
    crowds = crowds_of(solution, "density_at")
    domain, V = solution.problem.domain, crowds[0].discrete.V
    with together(domain.comm):
        points, wanted = as_points(points, domain.dim), _moments(solution, times)
    alike(domain.comm, points=points.shape, times=wanted)
    P1 = fem.functionspace(domain.mesh, ("Lagrange", 1))
    replica, here, at_vertices = Replica(P1), fem.Function(V), fem.Function(P1)
    cell, weights, inside = replica.locate(points)
    m, found = densities(crowds), np.full((len(wanted), len(points)), np.nan)
    for k, t in enumerate(wanted):
        n = int(np.clip(np.searchsorted(solution.times, t) - 1, 0, solution.steps - 1))
        share = (t - solution.times[n]) / (solution.times[n + 1] - solution.times[n])
        here.x.array[: m.shape[1]] = (1 - share) * m[n] + share * m[n + 1]
        here.x.scatter_forward()
        at_vertices.interpolate(here)
        nodal = replica.gather(at_vertices.x.array[: P1.dofmap.index_map.size_local])
        values = np.einsum("ni,ni->n", weights, nodal[replica.cells[cell]])
        found[k, inside] = values[inside]
    return found


def on_grid(solution: Any, spacing: float, times: float | Sequence[float]) -> Grid:
    """The `density_at` the middles of squares of this size in the box around the domain.

    Collective.
    """
    crowds = crowds_of(solution, "on_grid")
    domain, (low, high) = solution.problem.domain, crowds[0].discrete.bounding_box
    with together(domain.comm):
        spacing, wanted = number("spacing", spacing, above=True), _moments(solution, times)
        shape = np.maximum(np.ceil((high - low) / spacing - 1e-9), 1)
        if not np.prod(shape) <= MOST:
            raise ProblemError(
                f"spacing = {spacing:g} makes {np.prod(shape):.3g} points, and {MOST:g} is the "
                "most. Take a larger one."
            )
    axes = [a + spacing * (np.arange(n) + 0.5) for a, n in zip(low, shape, strict=True)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, domain.dim)
    density = density_at(solution, points, wanted.tolist())
    return Grid(wanted, points, tuple(map(int, shape)), density, domain.comm)


def _moments(solution: Any, times: float | Sequence[float]) -> np.ndarray:
    wanted = array("times", np.atleast_1d(times), ("times",))
    last = solution.times[-1]
    return np.clip([moment("times", float(t), last) for t in wanted], 0.0, last)
