"""One time step of a wave, and what is measured of each level."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

import basix.ufl
import ufl
from dolfinx import fem, la
from dolfinx.fem import petsc as fem_petsc

from mfg_fem._compat import interpolation_points
from mfg_fem.compilation import compiled, pointwise
from mfg_fem.errors import ProblemError
from mfg_fem.forms.integrals import Totals, mean_between
from mfg_fem.mesh.values import VertexValues
from mfg_fem.schroedinger.linear import PairSolver
from mfg_fem.schroedinger.problem import NonlinearSchroedinger, held_dofs
from mfg_fem.schroedinger.schemes import WaveScheme

EPS = float(np.finfo(float).eps)
MOST = 20  # Newton steps of a time step
CLOSE = 1e-9  # a residual, relative to its terms, that may be all there is to get


@dataclass(frozen=True)
class Taken:
    """What a time step has taken: Newton steps and iterations of GMRES; why it failed, or ""."""

    newton: int
    krylov: int
    failed: str = ""


def rule(mesh, degree: int) -> ufl.Measure:
    """The measure of all terms: exact for |psi|^4 on every cell."""
    return ufl.dx(domain=mesh, metadata={"quadrature_degree": 4 * degree})


class Stepper:
    """The wave at one level, the step to the next, and the measures of a level. Collective.

    Attributes:
        V, W: the spaces of one component, and of the pair (real, imaginary part).
        owned: number of nodes this rank owns.
        psi: the wave at the present level, a Function on W.
    """

    def __init__(self, problem: NonlinearSchroedinger, scheme: WaveScheme, times: np.ndarray):
        self.problem, self.scheme, self.times = problem, scheme, times
        mesh, k = problem.domain.mesh, scheme.degree
        self.V = fem.functionspace(mesh, ("Lagrange", k))
        self.W = fem.functionspace(mesh, ("Lagrange", k, (2,)))
        self.owned = self.V.dofmap.index_map.size_local
        self.dx = rule(mesh, k)
        self.psi, self.z = fem.Function(self.W), fem.Function(self.W)
        self.t, self.c = fem.Constant(mesh, 0.0), fem.Constant(mesh, 1.0)
        self.half = fem.Constant(mesh, problem.hbar**2 / 2)
        self.nothing = fem.Constant(mesh, 0.0)
        self.held = held_dofs(problem.domain, self.W, problem.zero)
        self.n = 0
        self.before: np.ndarray | None = None  # the level before
        if scheme.relaxed:
            self._relax()

    # Levels

    def initial(self) -> np.ndarray:
        """The wave at the start, at the owned nodes. Collective."""
        self.z.interpolate(
            pointwise(self.problem.psi0(self.problem.x), interpolation_points(self.W))
        )
        values = self.z.x.array.reshape(-1, 2)
        values[self.held] = 0.0
        return values[: self.owned].copy().view(complex)[:, 0]

    def adopt(self, n: int, wave: np.ndarray):
        """Let this be level n, the next one or the first. Collective."""
        self.before = self._owned(self.psi).copy() if n else None
        self.n = n
        self._fill(self.psi, wave.view(float))
        self.t.value = self.times[n]
        if self.scheme.relaxed:
            self._advance_relaxed()

    def measure(self) -> np.ndarray:
        """What is measured of this level, shape (6 + d,). Collective.

        Mass, kinetic, total and modified energy, int V rho, int x rho, int |x|^2 rho.
        """
        self.t.value = self.times[self.n]
        return self._totals()

    @cached_property
    def _totals(self) -> Totals:
        problem, rho = self.problem, ufl.dot(self.psi, self.psi)
        x, V = problem.x, lambda s: problem.V(problem.x, self.t, s)
        kinetic = self.half * ufl.inner(ufl.grad(self.psi), ufl.grad(self.psi))
        energy = kinetic + rho * mean_between(V, ufl.zero(), rho)
        modified = energy
        if self.scheme.relaxed:
            change = self.relaxed - self.relaxed_before
            modified = energy - change[0] * change[1] / 8
        moments = [x[k] * rho for k in range(problem.domain.dim)]
        terms = [rho, kinetic, energy, modified, V(rho) * rho, *moments, ufl.dot(x, x) * rho]
        return Totals(problem.domain.mesh, self.dx, terms)

    def _owned(self, function: fem.Function) -> np.ndarray:
        return function.x.array[: 2 * self.owned]

    def _fill(self, function: fem.Function, values: np.ndarray):
        self._owned(function)[:] = values
        function.x.scatter_forward()

    # A step

    def advance(self) -> tuple[np.ndarray, Taken]:
        """The wave at the next level, at the owned nodes. Collective."""
        t0, t1 = self.times[self.n : self.n + 2]
        guess = self._owned(self.psi).copy()
        if self.before is not None:
            guess += (t1 - t0) / (t0 - self.times[self.n - 1]) / 2 * (guess - self.before)
        return self._step(t0, t1 - t0, guess)

    def _step(self, t: float, dt: float, guess: np.ndarray) -> tuple[np.ndarray, Taken]:
        """The wave a time dt after the present one, which is at time t. Collective.

        Newton goes on to round-off: nothing less keeps mass and energy over many steps.
        """
        self.t.value, self.c.value = t + dt / 2, 2 * self.problem.hbar / dt
        self._fill(self.z, guess)
        A, solver, residual = self._equations
        r, change = A.createVecs()
        newton = krylov = 0
        last, failed = np.inf, f"Newton has not converged in {MOST} iterations"
        for newton in range(MOST + 1):
            r.array[:] = residual()
            if newton == 0 or not self.scheme.relaxed:
                self._assemble(A)
                diagonal = A.getDiagonal()
            change.array[:] = self._owned(self.z)
            change.pointwiseMult(change, diagonal)
            norm, size = r.norm(), change.norm()
            if not np.isfinite(norm):
                failed = "the wave or its potential is not finite"
                break
            if norm <= EPS * size or last / 2 <= norm <= CLOSE * size:
                failed = ""
                break
            last, taken = norm, solver.solve(float(self.c.value), r, change)
            if taken < 0:
                failed = "GMRES has not converged"
                break
            krylov += taken
            self._fill(self.z, self._owned(self.z) - change.array_r)
        wave = 2 * self._owned(self.z) - self._owned(self.psi)
        return wave.view(complex), Taken(newton, krylov, failed)

    @cached_property
    def _equations(self):
        """The matrix of the pair, its solver, and the residual at the owned nodes."""
        problem, mesh = self.problem, self.problem.domain.mesh
        psi, z, test = self.psi, self.z, ufl.TestFunction(self.W)
        off = z - psi
        F = self.half * ufl.inner(ufl.grad(z), ufl.grad(test)) + self._potential * ufl.dot(z, test)
        F = (F + self.c * (off[1] * test[0] - off[0] * test[1])) * self.dx
        residual = compiled(F)
        self._jacobian = compiled(ufl.derivative(F, z))
        zero = np.zeros(2)
        self._conditions = [fem.dirichletbc(zero, self.held, self.W)] if problem.zero else []
        total = la.vector(self.W.dofmap.index_map, 2)

        def assemble() -> np.ndarray:
            total.array[:] = 0.0
            fem.assemble_vector(total.array, residual)
            total.scatter_reverse(la.InsertMode.add)
            total.array.reshape(-1, 2)[self.held] = 0.0
            return total.array[: 2 * self.owned]

        u, v = ufl.TrialFunction(self.V), ufl.TestFunction(self.V)
        conditions = [fem.dirichletbc(0.0, self.held, self.V)] if problem.zero else []
        mass = fem_petsc.assemble_matrix(compiled(u * v * self.dx), bcs=conditions)
        mass.assemble()
        V = problem.V(problem.x, self.t, ufl.dot(psi, psi))
        B = self.half * ufl.inner(ufl.grad(u), ufl.grad(v))
        B = compiled((B + (self.c + ufl.max_value(V, 0.0)) * u * v) * self.dx)

        def definite():
            matrix = fem_petsc.assemble_matrix(B, bcs=conditions)
            matrix.assemble()
            return matrix

        A = fem_petsc.create_matrix(self._jacobian)
        return A, PairSolver(A, mass, definite, mesh.geometry.dim), assemble

    def _assemble(self, A):
        A.zeroEntries()
        fem_petsc.assemble_matrix(A, self._jacobian, bcs=self._conditions)
        A.assemble()

    @property
    def _potential(self):
        """P of the present step: see `schemes.py`."""
        problem, rho = self.problem, ufl.dot(self.psi, self.psi)
        if self.scheme.relaxed:
            return problem.V(problem.x, self.t, self.nothing) + self.relaxed[1]
        after = 2 * self.z - self.psi
        return mean_between(lambda s: problem.V(problem.x, self.t, s), rho, ufl.dot(after, after))

    # Relaxation: density and N at the half steps, at the points of the quadrature

    def _relax(self):
        problem, mesh = self.problem, self.problem.domain.mesh
        x, rho = problem.x, ufl.dot(self.psi, self.psi)
        rest = problem.V(x, self.t, self.nothing)
        (found,) = VertexValues(mesh, rest).extremes()
        if not np.isfinite(found).all():
            raise ProblemError(
                "potential(x, t, rho) is not finite at rho = 0, where Relaxation splits it. Take "
                "DelfourFortinPayre()."
            )
        element = basix.ufl.quadrature_element(
            mesh.topology.cell_name(), value_shape=(2,), degree=4 * self.scheme.degree
        )
        Q = fem.functionspace(mesh, element)
        self.relaxed, self.relaxed_before = fem.Function(Q), fem.Function(Q)
        self._present = fem.Function(Q)
        pair = ufl.as_vector([rho, problem.V(x, self.t, rho) - rest])
        self._pair = pointwise(pair, interpolation_points(Q))

    def _advance_relaxed(self):
        """From the half step before the present level to that after it."""
        n, dt = self.n, np.diff(self.times)
        self._present.interpolate(self._pair)
        present = self._present.x.array
        if n > 0:
            ratio = dt[n] / dt[n - 1] if n < len(dt) else 1.0
            self.relaxed_before.x.array[:] = self.relaxed.x.array
            self.relaxed.x.array[:] = (1 + ratio) * present - ratio * self.relaxed.x.array
            return
        self.relaxed.x.array[:] = present
        here, values = self._owned(self.psi).copy(), present.copy()
        wave, _ = self._step(0.0, dt[0] / 2, here)
        self._fill(self.psi, wave.view(float))
        self.t.value = dt[0] / 2
        self._present.interpolate(self._pair)
        self.relaxed.x.array[:] = present
        self.relaxed_before.x.array[:] = 2 * values - present
        self._fill(self.psi, here)
        self.t.value = 0.0

    def destroy(self):
        """Free PETSc's objects."""
        if "_equations" in self.__dict__:
            A, solver, _ = self._equations
            solver.destroy()
            A.destroy()
