"""One level of a solution as a grid of PyVista, to be looked at in a notebook."""

import numpy as np

import dolfinx.plot

from mfg_fem.errors import needs, together
from mfg_fem.io.frames import Frames


def grid(solution, n: int):
    """This rank's cells, with the fields of level n at their points. Collective.

    A P2 scheme has quadratic cells. In a periodic domain each cell has points of its own, or those
    at a seam would be drawn across the whole domain.

    Args:
        solution: what to look at.
        n: the level.

    Returns:
        A pyvista.UnstructuredGrid with the point data "density", "value" and "velocity", the last
        with three components and averaged to the nodes: see Frames. On several ranks each has its
        part; without cells it is empty and has no data either.

    Raises:
        MissingPackage: PyVista is not installed.
    """
    domain = solution.problem.domain
    with together(domain.comm):
        pyvista = needs("pyvista", "pyvista")
    frames = Frames(solution, solution.scheme.degree, "DG" if domain.seams else "Lagrange").show(n)
    nodes, types, x, used = piece(frames.value.function_space)
    cells = np.insert(nodes, 0, nodes.shape[1], axis=1)
    found = pyvista.UnstructuredGrid(cells.ravel(), types, x)
    if found.n_cells:  # PyVista refuses empty vectors
        for function in (frames.density, frames.value, frames.velocity):
            found.point_data[function.name] = at_points(function, used)
    return found


def piece(V):
    """This rank's cells as VTK has them, without the points that only cells of other ranks have.

    Returns:
        The points of each cell, its type, the coordinates of the points, and their nodes in V.
    """
    cells, types, x = dolfinx.plot.vtk_mesh(V)
    nodes = cells.reshape(-1, 1 + V.dofmap.dof_layout.num_dofs)[:, 1:]
    used, points = np.unique(nodes, return_inverse=True)
    return points.reshape(nodes.shape), types, x[used], used


def at_points(function, used: np.ndarray) -> np.ndarray:
    """The values of a nodal Function at points of a piece; vectors have three components."""
    if not function.ufl_shape:
        return function.x.array[used]
    (width,) = function.ufl_shape
    return np.pad(function.x.array.reshape(-1, width)[used], ((0, 0), (0, 3 - width)))
