"""Integrals of a density over a part of the domain, as weights of its nodal values.

`weights @ m` with the nodal values of this rank is this rank's part of the integral, so that all
time levels take one product of matrices.
"""

from collections.abc import Callable

import numpy as np

import basix
import ufl
from dolfinx import fem, la

from mfg_fem._compat import evaluate
from mfg_fem.compilation import compiled, pointwise
from mfg_fem.errors import together
from mfg_fem.mesh.values import volumes_of

CELLS = 1000  # evaluated at a time, to save memory
DEGREE = 20  # of the rule in cells, some of which a region cuts


def of_region(V: fem.FunctionSpace, contains: Callable) -> np.ndarray:
    """Weights of the integral over the points x, shape (d, n), where contains(x) is True.

    Collective. They are exact in cells that lie wholly inside or outside.
    """
    mesh = V.mesh
    volumes, d = volumes_of(mesh), mesh.geometry.dim
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
    return owned(total)


def of_boundary(domain, V: fem.FunctionSpace, name: str) -> np.ndarray:
    """Weights of the integral over the named boundary. Collective."""
    form = compiled(ufl.TestFunction(V) * domain.ds(domain.facets(name)))
    return owned(fem.assemble_vector(form))


def _cell(mesh) -> basix.CellType:
    return getattr(basix.CellType, mesh.topology.cell_name())


def owned(total: la.Vector) -> np.ndarray:
    """The owned entries, with what other ranks have added to them. Collective."""
    total.scatter_reverse(la.InsertMode.add)
    return total.array[: total.index_map.size_local].copy()
