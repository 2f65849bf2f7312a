"""Nodal P1 velocities of the solutions of the package."""

from mpi4py import MPI

import numpy as np

import ufl
from dolfinx import fem

from mfg_fem._compat import interpolation_points
from mfg_fem.assembly import pointwise
from mfg_fem.functional import drift
from mfg_fem.points import Replica
from mfg_fem.shared_control import SharedSolution
from mfg_fem.solution import Solution

EMPTY = 1e-4  # a density below this share of its maximum is nobody


def of_solution(solution: Solution, current: bool) -> dict:
    """Drift of a game or a control, averaged to the nodes step by step. Collective.

    Args:
        solution: what was solved.
        current: whether to subtract D grad log m.

    Returns:
        The arguments of VelocityField.
    """
    problem, mesh = solution.problem, solution.problem.domain.mesh
    d, tdim = problem.domain.dim, mesh.topology.dim
    V = fem.functionspace(mesh, ("Lagrange", 1))
    W = fem.functionspace(mesh, ("DG", 1, (d,)))
    replica = Replica(V)
    owned_cells = W.dofmap.list[: mesh.topology.index_map(tdim).size_local]
    volumes, weight = _volumes(replica)

    u, m = solution.value(0).copy(), solution.density(1).copy()
    log_m, at_corners = fem.Function(V), fem.Function(W)
    v = drift(problem, u, m)
    if current:
        v -= ufl.dot(problem.D(problem.x), ufl.grad(log_m))
    expression = pointwise(v, interpolation_points(W))
    nodal = np.zeros((solution.steps, len(replica.x), d))
    for k in range(solution.steps):
        value = solution.value(k), solution.value(k + 1)
        density = solution.density(k), solution.density(k + 1)
        share = 0.5 if solution.scheme.midpoint else 1.0  # as the scheme pairs the two levels
        u.x.array[:] = share * value[0].x.array + (1 - share) * value[1].x.array
        m.x.array[:] = (1 - share) * density[0].x.array + share * density[1].x.array
        if current:
            log_m.x.array[:] = (_log(density[0], V) + _log(density[1], V)) / 2
        at_corners.interpolate(expression)
        local = at_corners.x.array.reshape(-1, d)[owned_cells]
        corners = np.concatenate(mesh.comm.allgather(local))  # as the cells of the replica
        np.add.at(nodal[k], replica.cells, volumes[:, None, None] * corners)
    start = fem.Function(V)
    start.interpolate(solution.density(0))
    start = replica.gather(start.x.array[: V.dofmap.index_map.size_local])
    nodal /= weight[:, None]
    return {"replica": replica, "times": solution.times, "nodal": nodal, "start": start}


def of_shared(solution: SharedSolution) -> dict:
    """The nodal field of a shared control, and the density of all classes. Collective."""
    replica = solution.replica
    nodal_masses = replica.gather(solution.masses[0].sum(axis=0))
    start = nodal_masses / _volumes(replica)[1]
    facts = {"times": solution.times, "nodal": solution.nodal, "discrete": True}
    return {"replica": replica, "start": start, **facts}


def _volumes(replica: Replica) -> tuple[np.ndarray, np.ndarray]:
    """Volumes of the cells, and around each node, both up to the same constant."""
    volumes = 1 / abs(np.linalg.det(replica.gradients[:, 1:]))
    around = np.zeros(len(replica.x))
    np.add.at(around, replica.cells, volumes[:, None])
    return volumes, around


def _log(density: fem.Function, V: fem.FunctionSpace) -> np.ndarray:
    """Log(m) at the nodes of V, m cut off below where there is nobody. Collective."""
    m = fem.Function(V)
    m.interpolate(density)
    highest = V.mesh.comm.allreduce(m.x.array.max(initial=0.0), MPI.MAX)
    return np.log(np.maximum(m.x.array, EMPTY * highest))
