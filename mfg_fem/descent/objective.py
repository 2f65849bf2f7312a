"""The reduced problem of a shared control: J as a function of the field alone, with its gradient.

Lagrange-Galerkin P1, one step a layer: nodal masses m^{k+1} = B^T S(v^k)^T m^k, where S
interpolates at x_i + dt v_i and B = (M + dt D K)^{-1} M with lumped M. Masses stay non-negative
and their sum exact, for any step. The costate l^k = S B l^{k+1} + dt (alpha/2)|v|^2 is the exact
adjoint (Carlini-Silva 2014), and

    dJ/dv_i = dt [alpha m_i v_i + sum_c m_{c,i} grad(B l_c)(x_i + dt v_i)] + regularisation.

J is smooth except for kinks where x_i + dt v_i crosses into another cell. The unknown is w with
v = (1 - l^2 lap)^{-2} w: the regularisation is then |w|^2, and a descent uses its inner product.
"""

from mpi4py import MPI
from petsc4py import PETSc

import numpy as np

import ufl
from dolfinx import fem, la
from dolfinx.fem import petsc as fem_petsc
from ufl.algorithms import expand_derivatives

from mfg_fem._compat import interpolation_points
from mfg_fem.compilation import compiled, pointwise
from mfg_fem.errors import ProblemError, require, together
from mfg_fem.mesh.locate import Replica, clip
from mfg_fem.problem.data import alike_on_ranks, as_data
from mfg_fem.problem.samples import Samples

SMOOTHNESS = 2  # the power of (1 - l^2 lap): H^4, enough for a Lipschitz field up to 3D


class ReducedProblem:
    """J and its exact gradient as functions of the unknown w, shape (steps, owned nodes, d)."""

    def __init__(self, problem, steps: int):
        self.problem, self.steps, self.dt = problem, steps, problem.horizon / steps
        self.comm = problem.domain.comm
        self.V = fem.functionspace(problem.domain.mesh, ("Lagrange", 1))
        self.replica = Replica(self.V)
        self.box = self.replica.x.min(axis=0), self.replica.x.max(axis=0)
        volume = np.prod(self.box[1] - self.box[0])
        if abs(problem.domain.volume() - volume) > 1e-8 * volume:
            raise ProblemError("A SharedControl needs an interval, a rectangle or a box as domain.")
        self.owned = self.V.dofmap.index_map.size_local
        self.shape = (steps, self.owned, problem.domain.dim)
        self.weights, stiffness = lumped_mass(self.V), _stiffness(self.V)
        D, length = problem.diffusion, problem.smoothing_length
        self._diffuse = _Solver(self.weights, stiffness, self.dt * D) if D > 0 else None
        self._smooth = _Solver(self.weights, stiffness, length**2)
        self.masses = problem.class_masses
        self.initial = np.stack([self._nodal_masses(c) for c in range(len(self.masses))])
        costs = enumerate(problem.terminal_costs)
        self.terminal = np.stack([self._nodal(y, f"terminal_costs[{c}]") for c, y in costs])

    def destroy(self):
        """Free PETSc's objects."""
        for solver in (self._diffuse, self._smooth):
            if solver:
                solver.destroy()

    # Data

    def _nodal_masses(self, c: int) -> np.ndarray:
        """Masses at the owned nodes: each sample is shared by the corners of its cell."""
        density = self.problem.densities[c]
        if callable(density):
            masses = self._nodal(density, f"densities[{c}]") * self.weights
            low, high = masses.min(initial=0.0), masses.max(initial=0.0)
            high = self.comm.allreduce(high, MPI.MAX)
            require(self.comm, low >= -1e-12 * high, f"densities[{c}] is negative somewhere.")
            masses = np.maximum(masses, 0.0)
        else:
            samples = density if isinstance(density, Samples) else Samples.of([density])
            cell, weights, inside = self.replica.locate(samples.points)
            require(
                self.comm,
                inside.all(),
                f"{np.sum(~inside)} samples of densities[{c}] lie outside the mesh.",
            )
            nodes, weights = self.replica.cells[cell], samples.shares * weights
            masses = np.bincount(nodes.ravel(), weights.ravel(), len(self.replica.x))
            masses = np.maximum(masses, 0.0)[self.replica.owned]
        total = self.comm.allreduce(masses.sum(), MPI.SUM)
        require(self.comm, total > 0, f"densities[{c}] vanishes on the mesh.")
        return masses * (self.masses[c] / total)

    def _nodal(self, data, name: str) -> np.ndarray:
        """Values at the owned nodes of a callable x -> UFL, an expression, a Function, a number."""
        mesh = self.V.mesh
        with together(self.comm, ProblemError, f"{name} could not be built"):
            value = as_data(data, mesh, ufl.SpatialCoordinate(mesh))
            if value.ufl_shape != ():
                raise ProblemError(f"its shape is {value.ufl_shape}, expected a scalar")
            zero = fem.Constant(mesh, 0.0)  # gives a formula without x a mesh
            value = expand_derivatives(value + zero)
        alike_on_ranks(self.comm, name, value)
        function = fem.Function(self.V)
        function.interpolate(pointwise(value, interpolation_points(self.V)))
        values = function.x.array[: self.owned].copy()
        require(self.comm, np.isfinite(values).all(), f"{name} is not finite on the mesh.")
        return values

    # Maps between the unknown and the velocity, transposes of each other

    def velocity(self, w: np.ndarray) -> np.ndarray:
        """The field v = (1 - l^2 lap)^{-2} w at the owned nodes."""
        v = _columns(w / np.sqrt(self.weights)[:, None])
        for _ in range(SMOOTHNESS):
            v = self._smooth(self.weights[:, None] * v)
        return _steps(v, self.shape)

    def pull_back(self, gradient: np.ndarray) -> np.ndarray:
        """The gradient in w from the one in v."""
        g = _columns(gradient)
        for _ in range(SMOOTHNESS):
            g = self.weights[:, None] * self._smooth(g)
        return _steps(g, self.shape) / np.sqrt(self.weights)[:, None]

    # Transport and its adjoint

    def _landing(self, v: np.ndarray):
        """Where the owned nodes go in one step: cell corners, weights, and their derivatives."""
        free = self.replica.x[self.replica.owned] + self.dt * v
        points = np.clip(free, *self.box)  # players stop at walls
        cell, weights, _ = self.replica.locate(points)
        slopes = self.replica.gradients[cell] * (points == free)[:, None, :]
        return self.replica.cells[cell], clip(weights), slopes

    def _forward(self, m: np.ndarray, landing) -> np.ndarray:
        """B^T S^T m for the masses of all classes."""
        nodes, weights, _ = landing
        size = len(self.replica.x)
        parts = (weights * m_c[:, None] for m_c in m)
        moved = np.stack([np.bincount(nodes.ravel(), part.ravel(), size) for part in parts])
        self.comm.Allreduce(MPI.IN_PLACE, moved, MPI.SUM)
        moved = moved[:, self.replica.owned]
        return moved if self._diffuse is None else self.weights * self._diffuse(moved.T).T

    def _diffused(self, costate: np.ndarray) -> np.ndarray:
        """B l at all nodes, shape (nodes, classes)."""
        if self._diffuse is not None:
            costate = self._diffuse((self.weights * costate).T).T
        return self.replica.gather(np.ascontiguousarray(costate.T))

    def trajectory(self, v: np.ndarray) -> np.ndarray:
        """Masses of all classes at the owned nodes for all times: (steps + 1, classes, owned)."""
        return np.array(self._march(v)[1])

    def _march(self, v: np.ndarray) -> tuple[list, list[np.ndarray]]:
        """Where the owned nodes go in each step, and the masses at all times."""
        landings, masses = [self._landing(v_k) for v_k in v], [self.initial]
        for landing in landings:
            masses.append(self._forward(masses[-1], landing))
        return landings, masses

    def objective_and_gradient(self, w: np.ndarray) -> tuple[float, np.ndarray]:
        """J(w) and dJ/dw. Collective."""
        problem, dt = self.problem, self.dt
        v = self.velocity(w)
        landings, masses = self._march(v)
        value = np.sum(self.terminal * masses[-1])
        value += problem.regularisation * dt / 2 * np.sum(w * w)
        costate, gradient = self.terminal, np.empty(self.shape)
        for k in reversed(range(self.steps)):
            nodes, weights, slopes = landings[k]
            effort = dt * problem.effort / 2 * np.sum(v[k] ** 2, axis=1)
            value += masses[k].sum(axis=0) @ effort
            ahead = self._diffused(costate)[nodes]  # (owned, corners, classes)
            pull = np.einsum("nic,cn,nid->nd", ahead, masses[k], slopes)
            gradient[k] = dt * (problem.effort * masses[k].sum(axis=0)[:, None] * v[k] + pull)
            costate = np.einsum("nic,ni->cn", ahead, weights) + effort
        total = self.comm.allreduce(float(value), MPI.SUM)
        return total, self.pull_back(gradient) + problem.regularisation * dt * w


class _Solver:
    """(M + s K)^{-1} for several right-hand sides, with K from `_stiffness`."""

    def __init__(self, weights: np.ndarray, stiffness: PETSc.Mat, scale: float):
        self.matrix = stiffness.copy()
        self.matrix.scale(scale)
        diagonal = self.matrix.getDiagonal()
        diagonal.array[:] += weights
        self.matrix.setDiagonal(diagonal)
        self.ksp = PETSc.KSP().create(stiffness.comm)
        self.ksp.setOperators(self.matrix)
        self.ksp.setType("preonly")
        self.ksp.getPC().setType("lu")
        if stiffness.comm.size > 1:
            self.ksp.getPC().setFactorSolverType("mumps")
        self.ksp.setUp()
        self._shapes: dict[int, tuple[PETSc.Mat, PETSc.Mat]] = {}

    def __call__(self, rhs: np.ndarray) -> np.ndarray:
        """Solve for the columns of rhs, shape (owned, columns). Collective."""
        owned, columns = rhs.shape
        if columns not in self._shapes:
            size = ((owned, PETSc.DETERMINE), (PETSc.DECIDE, columns))
            pair = [PETSc.Mat().createDense(size, comm=self.matrix.comm) for _ in range(2)]
            for mat in pair:
                mat.setUp()
            self._shapes[columns] = tuple(pair)
        B, X = self._shapes[columns]
        B.getDenseArray()[:] = rhs
        B.assemble()
        X.assemble()
        self.ksp.matSolve(B, X)
        return np.array(X.getDenseArray())

    def destroy(self):
        """Free PETSc's objects."""
        for mat in (mat for pair in self._shapes.values() for mat in pair):
            mat.destroy()
        self.ksp.destroy()
        self.matrix.destroy()


def lumped_mass(V) -> np.ndarray:
    """Integrals of the basis functions of the owned nodes. Collective."""
    lumped = fem.assemble_vector(compiled(ufl.TestFunction(V) * ufl.dx))
    lumped.scatter_reverse(la.InsertMode.add)
    return lumped.array[: V.dofmap.index_map.size_local].copy()


def _stiffness(V) -> PETSc.Mat:
    """The stiffness matrix without positive off-diagonal entries. Collective.

    Without them M + s K is an M-matrix on any mesh. On a Delaunay mesh in 2D there are none.
    """
    u, v = ufl.TrialFunction(V), ufl.TestFunction(V)
    K = fem_petsc.assemble_matrix(compiled(ufl.inner(ufl.grad(u), ufl.grad(v)) * ufl.dx))
    K.assemble()
    first = K.getOwnershipRange()[0]
    indptr, indices, values = K.getValuesCSR()
    rows = np.repeat(np.arange(len(indptr) - 1), np.diff(indptr))
    off = indices != rows + first
    values = np.where(off, np.minimum(values, 0.0), 0.0)
    values[~off] = -np.bincount(rows, values, len(indptr) - 1)
    K.setValuesCSR(indptr, indices, values)
    K.assemble()
    return K


def _columns(w: np.ndarray) -> np.ndarray:
    """(steps, nodes, d) -> (nodes, steps * d)."""
    return np.ascontiguousarray(w.transpose(1, 0, 2)).reshape(w.shape[1], -1)


def _steps(columns: np.ndarray, shape: tuple) -> np.ndarray:
    """The inverse of _columns."""
    return columns.reshape(shape[1], shape[0], shape[2]).transpose(1, 0, 2)
