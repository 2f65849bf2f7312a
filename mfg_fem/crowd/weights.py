"""Integrals of a density over a part of the domain, as weights of its nodal values.

`weights @ m` with the nodal values of this rank is this rank's part of the integral, so that all
time levels take one product of matrices.
"""

from collections.abc import Callable

from mpi4py import MPI

import numpy as np

import basix
import ufl
from dolfinx import fem, la

from mfg_fem._compat import evaluate, geometry_dofmap
from mfg_fem.compilation import compiled, pointwise
from mfg_fem.errors import together
from mfg_fem.mesh.locate import gradients_of

CELLS = 1000  # evaluated at a time, to save memory
DEGREE = 20  # of the rule in cells, some of which a region cuts
GAUSS = np.array([-1.0, 1.0]) / np.sqrt(3)  # exact for the cubics on a line
ASIDE = 1e-9  # a line along edges of cells is moved by this part of its length


def of_region(V: fem.FunctionSpace, contains: Callable) -> np.ndarray:
    """Weights of the integral over the points x, shape (d, n), where contains(x) is True.

    Collective. They are exact in cells that lie wholly inside or outside.
    """
    mesh = V.mesh
    volumes, d = _volumes(mesh), mesh.geometry.dim
    points, rule = basix.make_quadrature(_cell(mesh), DEGREE)
    share = rule[:, None] / rule.sum() * V.ufl_element().tabulate(0, points)[0]
    where = pointwise(ufl.SpatialCoordinate(mesh), points)
    total = la.vector(V.dofmap.index_map)
    with together(mesh.comm):
        cells = np.arange(len(volumes), dtype=np.int32)
        for some in np.array_split(cells, len(cells) // CELLS + 1):
            x = evaluate(where, mesh, some).reshape(-1, d)
            inside = contains(x.T).reshape(len(some), len(points))
            local = volumes[some, None] * (inside @ share)
            np.add.at(total.array, V.dofmap.list[some], local)
    return _owned(total)


def of_boundary(domain, V: fem.FunctionSpace, name: str) -> np.ndarray:
    """Weights of the integral over the named boundary. Collective."""
    form = compiled(ufl.TestFunction(V) * domain.ds(domain.facets(name)))
    return _owned(fem.assemble_vector(form))


def of_segment(V: fem.FunctionSpace, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights of the integral along a line from ends[0] to ends[1] in 2D. Collective.

    Returns:
        The weights; the lengths of the line in cells on its left and on its right, which differ
        only on the boundary of the domain; and the cells of this rank that it crosses. The weights
        add up to the sum of both lengths.
    """
    corners = corners_of(V.mesh)
    gradients, length = gradients_of(corners), np.linalg.norm(ends[1] - ends[0])
    total, lengths, crossed = la.vector(V.dofmap.index_map), np.zeros(2), np.array([], dtype=int)
    for side, aside in enumerate((-ASIDE, ASIDE)):
        moved = ends + aside * (right_of(ends) * length)
        offset = moved[:, None] - corners[:, 0]
        first, last = np.einsum("cid,ecd->eci", gradients, offset) + np.eye(3)[0]
        with np.errstate(divide="ignore", invalid="ignore"):
            reached = first / (first - last)  # where each barycentric coordinate vanishes
        rising, falling = last > first, last < first
        start = np.where(rising, reached, 0.0).max(axis=1, initial=0.0)
        end = np.where(falling, reached, 1.0).min(axis=1, initial=1.0)
        end[((first < 0) & ~rising).any(axis=1)] = 0.0
        cells = np.flatnonzero(end > start)
        crossed = np.union1d(crossed, cells)
        start, end, first, last = start[cells], end[cells], first[cells], last[cells]
        lengths[side] = length * (end - start).sum()
        for point in GAUSS if len(cells) else ():
            s = (start + end)[:, None] / 2 + point * (end - start)[:, None] / 2
            reference = ((1 - s) * first + s * last)[:, 1:]
            values = V.ufl_element().tabulate(0, reference)[0]
            local = length * (end - start)[:, None] / 2 * values
            np.add.at(total.array, V.dofmap.list[cells], local)
    V.mesh.comm.Allreduce(MPI.IN_PLACE, lengths)
    return _owned(total), lengths, crossed


def right_of(ends: np.ndarray) -> np.ndarray:
    """The unit normal on the right of a line."""
    along = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
    return np.array([along[1], -along[0]])


def corners_of(mesh) -> np.ndarray:
    """The vertices of this rank's cells, shape (cells, d + 1, d)."""
    d = mesh.geometry.dim
    cells = geometry_dofmap(mesh)[: mesh.topology.index_map(d).size_local, : d + 1]
    return mesh.geometry.x[cells, :d]


def _cell(mesh) -> basix.CellType:
    return getattr(basix.CellType, mesh.topology.cell_name())


def _volumes(mesh) -> np.ndarray:
    one = ufl.TestFunction(fem.functionspace(mesh, ("DG", 0)))
    cells = mesh.topology.index_map(mesh.topology.dim).size_local
    return fem.assemble_vector(compiled(one * ufl.dx)).array[:cells]


def _owned(total: la.Vector) -> np.ndarray:
    """The owned entries, with what other ranks have added to them. Collective."""
    total.scatter_reverse(la.InsertMode.add)
    return total.array[: total.index_map.size_local].copy()
