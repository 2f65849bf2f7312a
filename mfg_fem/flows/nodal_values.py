"""Nodal P1 velocities of the solutions of the package."""

import numpy as np

import ufl
from dolfinx import fem

from mfg_fem._compat import interpolation_points
from mfg_fem.compilation import pointwise
from mfg_fem.errors import ProblemError
from mfg_fem.forms.cell import at_vertices
from mfg_fem.forms.drift import drift
from mfg_fem.mesh.locate import Replica
from mfg_fem.problem.boundary import Entry
from mfg_fem.solution.shared import SharedSolution
from mfg_fem.solution.solution import Solution

EMPTY = 1e-4  # a density below this share of its maximum counts as zero
CURVED = 0.1  # a direction with less than this share of the walls' normals is along the walls


def of_solution(solution: Solution, current: bool, ignore_exits: bool) -> dict:
    """Drift of a game or a control, or its current velocity, step by step. Collective.

    Args:
        solution: what was solved.
        current: whether to take the current velocity: the scheme's own flux, averaged to the
            nodes, over the density in the middle of the step; along the walls at their nodes.
        ignore_exits: whether to take a solution with exits.

    Returns:
        The arguments of VelocityField.
    """
    problem, scheme, mesh = solution.problem, solution.scheme, solution.problem.domain.mesh
    _check(problem, current, ignore_exits)
    shape = (problem.domain.dim,)
    V = fem.functionspace(mesh, ("Lagrange", 1))
    replica = Replica(V)
    u, m = solution.value(0).copy(), solution.density(1).copy()
    state = solution.discrete.state
    v = drift(problem, state.t, u, m)
    velocity = _Averages(replica, v, fem.functionspace(mesh, ("DG", 1, shape)))
    if current:
        corners = at_vertices(m, mesh)
        frozen = problem, state, u, list(corners), corners
        diffused = [
            scheme.diffusion(*frozen, e, ufl.grad(m))
            for e in map(ufl.as_vector, np.eye(*shape).tolist())
        ]
        W = fem.functionspace(mesh, ("DG", scheme.degree - 1, shape))
        flux = _Averages(replica, m * v - ufl.as_vector(diffused), W)
    nodal = np.empty((solution.steps, *replica.x.shape))
    for n in range(solution.steps):
        state.at(solution.times[n : n + 2].mean())
        for function, values in zip((u, m), solution.levels.of_step(n), strict=True):
            function.x.array[: len(values)] = values
            function.x.scatter_forward()
        nodal[n] = velocity()
        if current:
            moved = flux()
            m.x.array[:] = (solution.density(n).x.array + solution.density(n + 1).x.array) / 2
            middle = _at_nodes(replica, V, m)
            there = middle > EMPTY * middle.max()
            nodal[n, there] = moved[there] / middle[there, None]
    if current and not problem.boundary:
        nodal = np.einsum("xij,nxj->nxi", along_walls(replica), nodal)
    start = _at_nodes(replica, V, solution.density(0))
    return {"replica": replica, "times": solution.times, "nodal": nodal, "start": start}


def _check(problem, current: bool, ignore_exits: bool):
    """Refuse problems whose players no flow of points can follow."""
    if problem.domain.seams:
        raise ProblemError(
            "A flow of points knows no periodic domain: who crosses a seam would go on outside of "
            "the mesh. State the problem on a box with walls that is wide enough, or wrap a "
            "formula of yours by VelocityField.from_callable, with x taken modulo the period."
        )
    if problem.boundary and not ignore_exits:
        raise ProblemError(
            f"People come or go by {', '.join(map(repr, problem.boundary))}, and a flow of points "
            "knows no exits: they would go on outside of the mesh. The field as it is inside is "
            "VelocityField.of(solution, ignore_exits=True)."
        )
    if current and (problem.source is not None or problem.named(Entry)):
        raise ProblemError(
            "current=True: no flow carries a density that people enter. Take the drift, "
            "current=False, for the players of the initial density."
        )


class _Averages:
    """An expression averaged to the nodes: its L2 projection on P1, lumped. Collective.

    Args:
        replica: the mesh, whole on every rank.
        expression: a vector, discontinuous across cells.
        W: the space of its values on each cell.
    """

    def __init__(self, replica: Replica, expression, W: fem.FunctionSpace):
        self.replica, self.values = replica, fem.Function(W)
        self.expression = pointwise(expression, interpolation_points(W))
        topology = W.mesh.topology
        self.dofs = W.dofmap.list[: topology.index_map(topology.dim).size_local]
        self.volumes, self.around = _volumes(replica)

    def __call__(self) -> np.ndarray:
        """At all nodes, shape (nodes, d)."""
        self.values.interpolate(self.expression)
        d = self.replica.x.shape[1]
        local = self.values.x.array.reshape(-1, d)[self.dofs]  # (cells, dofs of a cell, d)
        of_cells = np.concatenate(self.replica.comm.allgather(local))  # as those of the replica
        sums = np.zeros(self.replica.x.shape)
        np.add.at(sums, self.replica.cells, self.volumes[:, None, None] * of_cells)
        return sums / self.around[:, None]


def of_shared(solution: SharedSolution) -> dict:
    """The nodal field of a shared control, and the density of all classes. Collective."""
    replica = solution.replica
    nodal_masses = replica.gather(solution.masses[0].sum(axis=0))
    start = nodal_masses / _volumes(replica)[1]
    facts = {"times": solution.times, "nodal": solution.nodal, "discrete": True}
    return {"replica": replica, "start": start, **facts}


def along_walls(replica: Replica) -> np.ndarray:
    """At each node the projection of velocities on directions along the walls: (nodes, d, d).

    Walls at less than some 35 degrees to each other count as one curved wall, with a mean normal.
    """
    cells, corners = np.nonzero(replica.neighbours < 0)
    across = replica.gradients[cells, corners]
    areas = _volumes(replica)[0][cells] * np.linalg.norm(across, axis=1)
    normals = across / np.linalg.norm(across, axis=1)[:, None]
    others = np.arange(replica.cells.shape[1]) != corners[:, None]
    nodes = replica.cells[cells][others].reshape(len(cells), -1)  # of the facets
    moments = np.zeros((len(replica.x), *(normals.shape[1:] * 2)))
    outer = areas[:, None, None] * normals[:, :, None] * normals[:, None]
    np.add.at(moments, nodes, outer[:, None])
    sizes, directions = np.linalg.eigh(moments)
    free = sizes <= CURVED * sizes.sum(axis=1, keepdims=True)
    return np.einsum("nij,nj,nkj->nik", directions, free, directions)


def _volumes(replica: Replica) -> tuple[np.ndarray, np.ndarray]:
    """Volumes of the cells, and around each node, both up to the same constant."""
    volumes = 1 / abs(np.linalg.det(replica.gradients[:, 1:]))
    around = np.zeros(len(replica.x))
    np.add.at(around, replica.cells, volumes[:, None])
    return volumes, around


def _at_nodes(replica: Replica, V: fem.FunctionSpace, density: fem.Function) -> np.ndarray:
    """Values of a density at all nodes of the mesh, whose P1 space V is. Collective."""
    values = fem.Function(V)
    values.interpolate(density)
    return replica.gather(values.x.array[: V.dofmap.index_map.size_local])
