"""What differs between DOLFINx 0.9 and 0.11, and the PETSc beneath them, and nothing else."""

import math

from petsc4py import PETSc

import numpy as np

import dolfinx
import ufl
from dolfinx import fem

try:  # 0.10 and later
    from dolfinx.io.gmsh import cell_perm_array
except ImportError:  # 0.9
    from dolfinx.io.gmshio import cell_perm_array

__all__ = [
    "LONGEST_STEP",
    "cell_perm_array",
    "evaluate",
    "geometry_dofmap",
    "interpolation_points",
    "with_corners",
]

# The option of the largest norm that a line search leaves a step; PETSc 3.24 bounds it relatively.
LONGEST_STEP = "snes_linesearch_max" + ("lambda" if PETSc.Sys.getVersion() >= (3, 24) else "step")


def interpolation_points(V) -> np.ndarray:
    """Reference points at which an Expression must be given to be interpolated into V."""
    points = V.element.interpolation_points
    return points() if callable(points) else points


def evaluate(expression: fem.Expression, mesh, cells: np.ndarray) -> np.ndarray:
    """Values of an Expression on cells, shape (cells, points, value size)."""
    points = expression.X() if callable(expression.X) else expression.X
    size = math.prod(expression.ufl_expression.ufl_shape)  # not -1: a rank may have no cells
    return np.asarray(expression.eval(mesh, cells)).reshape(len(cells), len(points), size)


def geometry_dofmap(mesh) -> np.ndarray:
    """Geometry node numbers of each cell."""
    if hasattr(mesh.geometry, "dofmaps") and not callable(mesh.geometry.dofmaps):
        return np.asarray(mesh.geometry.dofmaps[0])
    return np.asarray(mesh.geometry.dofmap)


def with_corners(mesh, points: np.ndarray, corners: np.ndarray, element) -> dolfinx.mesh.Mesh:
    """A mesh of the same topology with other places of the corners of each cell of this rank.

    The points of each rank are its own, shared with no other.
    """
    comm, topology = mesh.comm, mesh.topology._cpp_object
    geometry = dolfinx.cpp.mesh.Geometry_float64(
        dolfinx.cpp.common.IndexMap(comm, len(points)),
        corners.astype(np.int32),
        fem.coordinate_element(element.basix_element)._cpp_object,
        points,
        np.arange(len(points), dtype=np.int64),
    )
    return dolfinx.mesh.Mesh(
        dolfinx.cpp.mesh.Mesh_float64(comm, topology, geometry), ufl.Mesh(element)
    )
