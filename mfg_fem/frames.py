"""The fields of a solution one level at a time, and their way to rank 0 and back."""

from mpi4py import MPI

import numpy as np

import ufl
from dolfinx import fem, la

from mfg_fem._compat import geometry_dofmap
from mfg_fem.compilation import compiled
from mfg_fem.functional import drift
from mfg_fem.points import COINCIDE, anything_twice, canonical_order
from mfg_fem.torus import wrap


class Frames:
    """Value function, density and velocity as nodal Functions of a given degree. Collective.

    The family is that of the Functions: "DG" gives each cell nodes of its own, for a torus in a
    file whose reader would draw a cell on a seam across the whole domain.

    The velocity of a step is constant (P1) or linear (P2) on each cell; here it is averaged to the
    vertices, weighted by volume (the L2 projection with lumped mass). Level n shows the velocity
    of the step that begins there, the last level that of the last step: see `Solution.velocity`.

    Attributes:
        value, density, velocity: the Functions that `show` fills.
    """

    def __init__(self, solution, degree: int, family: str = "Lagrange"):
        self.solution, problem = solution, solution.problem
        mesh = problem.domain.mesh
        self._u, self._m = solution.value(0), solution.density(0)
        V = fem.functionspace(mesh, (family, degree))
        W = fem.functionspace(mesh, (family, degree, (problem.domain.dim,)))
        self.value, self.density = fem.Function(V, name="value"), fem.Function(V, name="density")
        self.velocity = fem.Function(W, name="velocity")

        P1 = fem.functionspace(mesh, ("Lagrange", 1, (problem.domain.dim,)))
        dx = ufl.dx(domain=mesh, metadata={"quadrature_degree": 2})
        test = ufl.TestFunction(P1)
        self._average = fem.Function(P1)
        self._moments = compiled(ufl.dot(drift(problem, self._u, self._m), test) * dx)
        ones = fem.Constant(mesh, np.ones(problem.domain.dim))
        self._weights = self._assemble(compiled(ufl.dot(ones, test) * dx))

    def show(self, n: int):
        """Fill the Functions with level n; returns self. Collective."""
        levels, steps = self.solution.levels, self.solution.steps
        step = min(n, steps - 1)
        self._fill(*levels.pair(step, self.solution.scheme))
        self._average.x.array[:] = self._assemble(self._moments) / self._weights
        self.velocity.interpolate(self._average)
        self._fill(levels.u[n], levels.m[n])
        self.value.interpolate(self._u)
        self.density.interpolate(self._m)
        return self

    def _fill(self, u: np.ndarray, m: np.ndarray):
        for function, values in ((self._u, u), (self._m, m)):
            function.x.array[: len(values)] = values
            function.x.scatter_forward()

    def _assemble(self, form: fem.Form) -> np.ndarray:
        total = fem.Function(self._average.function_space).x
        fem.assemble_vector(total.array, form)
        total.scatter_reverse(la.InsertMode.add)
        total.scatter_forward()
        return total.array.copy()


class Nodes:
    """The nodes of a space on a Domain on rank 0, in an order that knows nothing of ranks.

    Collective.

    Attributes:
        x: coordinates of all nodes in that order, shape (nodes, d), on rank 0; None elsewhere.
        number: place of each global dof in that order, on rank 0; None elsewhere.
    """

    def __init__(self, domain, V: fem.FunctionSpace):
        self.comm = domain.comm
        self.owned = V.dofmap.index_map.size_local
        points = wrap(V.tabulate_dof_coordinates()[: self.owned, : domain.dim], domain.seams)
        self.x = self.number = twice = None
        parts = self.comm.gather(points)
        if self.comm.rank == 0:
            points = np.concatenate(parts)
            self._order = canonical_order(points)
            near = COINCIDE * np.ptp(points, axis=0)
            twice = anything_twice(points[self._order], near)
        if self.comm.bcast(twice):  # both sides of a crack: their cells tell them apart
            parts = self.comm.gather(_middles_around(V))
            if self.comm.rank == 0:
                self._order = canonical_order(np.hstack([points, np.concatenate(parts)]))
        if self.comm.rank == 0:
            self._counts = [len(part) for part in parts]
            self.x = points[self._order]
            self.number = np.empty_like(self._order)
            self.number[self._order] = np.arange(len(points))

    def gather(self, values: np.ndarray) -> np.ndarray | None:
        """All values on rank 0 from each rank's owned ones (first axis: nodes). Collective."""
        parts = self.comm.gather(np.ascontiguousarray(values[: self.owned]))
        return np.concatenate(parts)[self._order] if self.comm.rank == 0 else None

    def scatter(self, values: np.ndarray | None) -> np.ndarray:
        """Owned values on each rank from all values on rank 0. Collective."""
        owned = np.empty(self.owned)
        if self.comm.rank == 0:
            pieces = [np.ascontiguousarray(values[self.number]), self._counts, None, MPI.DOUBLE]
            self.comm.Scatterv(pieces, owned)
        else:
            self.comm.Scatterv(None, owned)
        return owned


def _middles_around(V: fem.FunctionSpace) -> np.ndarray:
    """Mean of the middles of the cells around each owned dof, shape (dofs, d). Collective."""
    mesh, d = V.mesh, V.mesh.geometry.dim
    cells = mesh.topology.index_map(mesh.topology.dim).size_local
    middles = mesh.geometry.x[geometry_dofmap(mesh)[:cells], :d].mean(axis=1)
    sums = la.vector(V.dofmap.index_map, d + 1)
    terms = np.column_stack([middles, np.ones(cells)])
    np.add.at(sums.array.reshape(-1, d + 1), V.dofmap.list[:cells], terms[:, None])
    sums.scatter_reverse(la.InsertMode.add)
    sums = sums.array.reshape(-1, d + 1)[: V.dofmap.index_map.size_local]
    return sums[:, :d] / sums[:, d:]
