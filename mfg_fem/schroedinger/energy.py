"""The energy of real waves of one mass, and steps that lower it.

The flow follows minus the gradient of the energy on the sphere of waves of the given mass, in a
metric B that makes its steps independent of the mesh and of units (Henning, Peterseim 2020, with V
for the potential in B). Of the second derivative J of the energy with the multiplier mu,

    J = -(hbar^2 / 2) lap + V(x, rho) - mu + 2 rho V_rho,    rho = phi^2,

B takes the positive parts of V - mu and of the last term, and a little more, so that B > J and a
step of length one goes down near a minimum. With w = Mass phi and P = B^-1 - q q^T / (q.w),
q = B^-1 w, the direction is -P r, r = E' / 2 - mu w, which keeps the mass to first order. Newton's
equation J d = -r with w.d = 0, bordered by the multiplier, is solved by CG with P for its
preconditioner: all its iterates keep w.d = 0, and near a minimum J is definite there.
"""

from typing import Any

from mpi4py import MPI
from petsc4py import PETSc

import numpy as np

import ufl
from dolfinx import fem, la
from dolfinx.fem import petsc as fem_petsc

from mfg_fem._compat import interpolation_points
from mfg_fem.compilation import compiled, pointwise
from mfg_fem.errors import ProblemError
from mfg_fem.forms.integrals import Totals, mean_between
from mfg_fem.mesh.domain import Domain
from mfg_fem.mesh.values import VertexValues, check_finite
from mfg_fem.problem.data import Data
from mfg_fem.problem.seams import check_alike
from mfg_fem.schroedinger.linear import definite_solver
from mfg_fem.schroedinger.problem import held_dofs
from mfg_fem.schroedinger.step import rule

POTENTIAL, GUESS = "potential(x, rho)", "guess(x)"
CG_RTOL, CG_MOST = 1e-7, 500
LENGTHS = (1.0, 0.25, 0.0625, 1 / 64)  # of steps of the flow, if a parabola is of no use


class Energy:
    """E and its derivatives at phi, the nodal values of a Function. All methods are collective."""

    def __init__(self, domain: Domain, data: Data, hbar: float, mass: float, zero, degree: int):
        self.domain, self.data, self.mass, self.hbar = domain, data, mass, hbar
        mesh, x, self.comm = domain.mesh, data.x, domain.comm
        self.V = fem.functionspace(mesh, ("Lagrange", degree))
        self.owned = self.V.dofmap.index_map.size_local
        self.phi, self.mu = fem.Function(self.V, name="wave"), fem.Constant(mesh, 0.0)
        self.half = fem.Constant(mesh, hbar**2 / 2)
        self.held = held_dofs(domain, self.V, zero)
        self.conditions = [fem.dirichletbc(0.0, self.held, self.V)] if zero else []
        dx, (u, v) = rule(mesh, degree), (ufl.TrialFunction(self.V), ufl.TestFunction(self.V))
        rho = self.phi**2

        def V(s):
            return data(POTENTIAL, x=x, m=s)

        volume = domain.volume()
        self.phi.x.array[:] = np.sqrt(mass / volume)
        (found,) = VertexValues(mesh, V(rho)).extremes()
        check_finite(found, POTENTIAL, " for the mean density")
        self.mu.value = found[0]
        little = fem.Constant(mesh, self.half.value / volume ** (2 / domain.dim))
        kinetic = self.half * ufl.inner(ufl.grad(self.phi), ufl.grad(self.phi))
        total = kinetic + rho * mean_between(V, ufl.zero(), rho)
        moments = [x[k] * rho for k in range(domain.dim)]
        self.totals = Totals(mesh, dx, [rho, total, kinetic, *moments, ufl.dot(x, x) * rho])
        r = self.half * ufl.inner(ufl.grad(self.phi), ufl.grad(v)) * dx
        r += (V(rho) - self.mu) * self.phi * v * dx
        s = ufl.variable(rho)
        rise = ufl.max_value(2 * rho * ufl.diff(V(s), s), 0.0)
        rise += ufl.max_value(V(rho) - self.mu, 0.0) + little
        B = self.half * ufl.inner(ufl.grad(u), ufl.grad(v)) + rise * u * v
        self.gradient, self.jacobian = compiled(r), compiled(ufl.derivative(r, self.phi))
        self.metric = compiled(B * dx)
        self.sums = la.vector(self.V.dofmap.index_map)
        self.M = self._matrix(compiled(u * v * dx))
        self.w, self.r = self.M.createVecs()
        self.d, self.q = self.M.createVecs()
        self.B: Any = None

    # phi

    @property
    def values(self) -> np.ndarray:
        """The owned values of phi."""
        return self.phi.x.array[: self.owned]

    def take(self, values: np.ndarray):
        """Let phi have these owned values, scaled to the mass; w = Mass phi."""
        self.r.array[:] = values
        self.M.mult(self.r, self.w)
        scale = np.sqrt(self.mass / self.r.dot(self.w))
        self.w.scale(scale)
        self.values[:] = scale * values
        self.phi.x.scatter_forward()

    def start(self, guessed: bool):
        """Take the first phi; until then it is uniform, and mu the least potential."""
        if guessed:
            self._interpolate()
        else:
            self._renew()
            self.r.array[:] = 1.0
            self.M.mult(self.r, self.w)
            self.w.array[self.held[self.held < self.owned]] = 0.0
            self.B.solve(self.w, self.d)
            self.take(self.d.array_r)

    def _interpolate(self):
        guess = self.data(GUESS, x=self.data.x)
        found = VertexValues(self.domain.mesh, guess)
        check_finite(found.extremes()[0], GUESS)
        check_alike(self.domain, self.data.x, {GUESS: lambda y: self.data(GUESS, x=y)})
        self.phi.interpolate(pointwise(guess, interpolation_points(self.V)))
        self.phi.x.array[self.held] = 0.0
        largest = np.abs(self.values).max(initial=0.0)
        if not self.comm.allreduce(float(largest), MPI.MAX) > 0:
            raise ProblemError(f"{GUESS} vanishes at all nodes.")
        self.take(self.values.copy())

    # Its derivatives

    def _matrix(self, form: fem.Form) -> PETSc.Mat:
        A = fem_petsc.assemble_matrix(form, bcs=self.conditions)
        A.assemble()
        return A

    def _renew(self):
        """B at phi and mu."""
        self._free()
        self.A = self._matrix(self.metric)
        self.B = definite_solver(self.A, self.domain.dim, cycle=True)

    def residual(self):
        """The residual r, for the mu with r.phi = 0."""
        self.mu.value = 0.0
        self._assemble()
        self.mu.value = self._product(self.r.array_r, self.values) / self.mass
        self.r.axpy(-float(self.mu.value), self.w)

    def _assemble(self):
        self.sums.array[:] = 0.0
        fem.assemble_vector(self.sums.array, self.gradient)
        self.sums.scatter_reverse(la.InsertMode.add)
        self.sums.array[self.held] = 0.0
        self.r.array[:] = self.sums.array[: self.owned]

    def _product(self, one: np.ndarray, other: np.ndarray) -> float:
        return self.comm.allreduce(float(one @ other), MPI.SUM)

    def project(self, x: PETSc.Vec, y: PETSc.Vec):
        """The vector y = P x."""
        self.B.solve(x, y)
        y.axpy(-y.dot(self.w) / self.q.dot(self.w), self.q)

    def size(self, values: np.ndarray) -> float:
        """The norm in L2 relative to that of phi."""
        a, b = self.M.createVecs()
        a.array[:] = values
        self.M.mult(a, b)
        found = np.sqrt(max(a.dot(b), 0.0) / self.mass)
        for vector in (a, b):
            vector.destroy()
        return float(found)

    # Steps

    def flow(self) -> float:
        """A step of the flow to the least energy of a parabola; returns the relative direction."""
        self.residual()
        self._renew()
        self.B.solve(self.w, self.q)
        self.project(self.r, self.d)
        self.d.scale(-1.0)
        slope = 2 * self._product(self.r.array_r, self.d.array_r)
        here, direction, change = (
            self.values.copy(),
            self.d.array_r.copy(),
            self.size(self.d.array_r),
        )
        before = self.totals()[1]
        for length in LENGTHS:
            self.take(here + length * direction)
            rise = self.totals()[1] - before
            curvature = rise - slope * length
            if curvature > 0:
                best = min(max(-slope * length**2 / (2 * curvature), 0.05), 4 * length)
                self.take(here + best * direction)
                if self.totals()[1] - before <= min(rise, 0.0):
                    return change
            if rise <= 0:
                self.take(here + length * direction)
                return change
        return change

    def newton(self) -> float:
        """A step of Newton; returns its relative size, inf if the equation could not be solved."""
        self.residual()
        self.B.solve(self.w, self.q)
        J = self._matrix(self.jacobian)
        ksp = PETSc.KSP().create(self.comm)
        ksp.setType("cg")
        ksp.setOperators(J)
        ksp.getPC().setType("python")
        ksp.getPC().setPythonContext(_Projected(self))
        ksp.setTolerances(rtol=CG_RTOL, atol=0.0, max_it=CG_MOST)
        ksp.solve(self.r, self.d)
        good = ksp.getConvergedReason() > 0
        ksp.destroy()
        J.destroy()
        change = self.size(self.d.array_r)
        self.take(self.values - self.d.array_r)
        return change if good else np.inf

    def lost(self, start: np.ndarray) -> bool:
        """Whether phi is no longer near to where Newton began."""
        return self.size(self.values - start) > 0.5

    def turn(self):
        """Make the mean of phi positive, and find its mu."""
        if self.comm.allreduce(float(self.w.array_r.sum()), MPI.SUM) < 0:
            self.take(-self.values)
        self.residual()

    @property
    def spacing(self) -> float:
        """Mean distance of neighbouring nodes."""
        return (self.domain.volume() / self.V.dofmap.index_map.size_global) ** (1 / self.domain.dim)

    def _free(self):
        if self.B is not None:
            self.B.destroy()
            self.A.destroy()

    def destroy(self):
        """Free PETSc's objects."""
        self._free()
        self.M.destroy()


class _Projected:
    """A PETSc PC of type python: P."""

    def __init__(self, energy: Energy):
        self.project = energy.project

    def apply(self, pc: PETSc.PC, x: PETSc.Vec, y: PETSc.Vec):
        self.project(x, y)
