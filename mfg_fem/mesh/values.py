"""Values of UFL expressions at the vertices of every cell: their extremes and their integral."""

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import chain

from mpi4py import MPI

import numpy as np

import basix
import ufl
from dolfinx import fem

from mfg_fem._compat import evaluate
from mfg_fem.compilation import compiled, pointwise
from mfg_fem.errors import ProblemError

CELLS = 8192  # evaluated at a time, to save memory


class VertexValues:
    """Values of scalars, vectors or tensors, the terms, at the vertices of each cell.

    A vertex has one value in each of its cells, as data may jump. Other points of the reference
    cell may be given instead of the vertices.
    """

    def __init__(self, mesh, *terms, points: np.ndarray | None = None):
        tdim = mesh.topology.dim
        self.mesh, self.cells = mesh, mesh.topology.index_map(tdim).size_local
        if points is None:
            points = basix.geometry(getattr(basix.CellType, mesh.topology.cell_name()))
        components = [_components(e) for e in terms]
        self.ends = np.cumsum([len(c) for c in components])
        # The coordinate gives FFCx a mesh where all terms are plain numbers.
        flat = [*chain(*components), ufl.SpatialCoordinate(mesh)[0]]
        self.expression = pointwise(ufl.as_vector(flat), points)

    def _parts(self) -> Iterator[list[np.ndarray]]:
        """The values of each term in some cells of this rank, shape (cells, vertices, size)."""
        for first in range(0, max(self.cells, 1), CELLS):
            cells = np.arange(first, min(first + CELLS, self.cells), dtype=np.int32)
            yield np.split(evaluate(self.expression, self.mesh, cells), self.ends, axis=2)[:-1]

    def extremes(self, of: Callable = lambda *values: values) -> np.ndarray:
        """The least and the largest number in each array that `of` makes of the values. Collective.

        Shape (arrays, 2); not finite where one of the numbers is not.
        """
        parts = [[_ends(values) for values in of(*part)] for part in self._parts()]
        ends = np.min(parts, axis=0)
        self.mesh.comm.Allreduce(MPI.IN_PLACE, ends, MPI.MIN)
        return ends * [1, -1]

    def integral(self, of: Callable = lambda first, *_: first) -> float:
        """The integral of what `of` makes of the values, by the trapezoidal rule. Collective.

        Its shape is (cells, vertices) or (cells, vertices, 1); by default it is the first term.
        """
        parts = [of(*part) for part in self._parts()]
        means = [values.reshape(values.shape[:2]).mean(axis=1) for values in parts]
        local = self._volumes @ np.concatenate(means)
        return self.mesh.comm.allreduce(float(local), MPI.SUM)

    def mean(self, of: Callable) -> float:
        """The `integral` divided by the volume. Collective."""
        return self.integral(of) / self.mesh.comm.allreduce(float(self._volumes.sum()), MPI.SUM)

    @cached_property
    def _volumes(self) -> np.ndarray:
        return volumes_of(self.mesh)


def volumes_of(mesh) -> np.ndarray:
    """The volumes of this rank's cells. Collective."""
    one = ufl.TestFunction(fem.functionspace(mesh, ("DG", 0)))
    cells = mesh.topology.index_map(mesh.topology.dim).size_local
    return fem.assemble_vector(compiled(one * ufl.dx)).array[:cells]


def _components(expression) -> list:
    shape = expression.ufl_shape
    return [expression[i] for i in np.ndindex(*shape)] if shape else [expression]


def _ends(values: np.ndarray) -> tuple[float, float]:
    """The least number, and minus the largest."""
    if not np.isfinite(values).all():
        return -np.inf, -np.inf
    return values.min(initial=np.inf), -values.max(initial=-np.inf)


def check_finite(ends, name: str, where: str = "", advice: str = ""):
    """Raise unless the extremes, and so all values, are finite."""
    if not np.isfinite(ends).all():
        raise ProblemError(
            f"{name} is not finite (NaN or infinite) somewhere on the mesh{where}. "
            f"Look for a division by zero, a logarithm or a root of zero.{advice}"
        )


def matrices(values: np.ndarray) -> np.ndarray:
    """Values of square tensors, (..., size * size), as matrices."""
    size = round(values.shape[-1] ** 0.5)
    return values.reshape(-1, size, size)


def eigenvalues(values: np.ndarray) -> np.ndarray:
    """Eigenvalues of the symmetric part of matrices."""
    M = matrices(values)
    M = (M + M.transpose(0, 2, 1)) / 2
    diagonal = M[:, np.eye(M.shape[1], dtype=bool)]
    if np.isfinite(M).all() and np.count_nonzero(M) > np.count_nonzero(diagonal):
        return np.linalg.eigvalsh(M)
    return diagonal
