"""The Newton equation of a planning problem, where u(T) is unknown and m(T) prescribed.

    A du - F dm - E dp = r_u,     D (du, dp) + B dm = r_m,     dm^N = m^N r_c + constant m^N,

with dp the change of u(T), E dp the HJB rows of the last step that it changes. `ClosingForm` is
GMRES on y = B dm and dp, with du = A^-1 (r_u + F dm + E dp):

    y + D (A^-1 (F B^-1 y + E dp), dp) = r_m - D (A^-1 r_u, 0),     - (B^-1 y)^N = - m^N (r_c + c).

On the right it is preconditioned for the last row by dp = S z, where z is what the density lacks
at T, and y = x - D (A^-1 E S z, S z) makes the operator block triangular where F = 0. With a = m
H_pp, S z = 2 D z / a + K^-1 z / T: Sinkhorn's step, which is right for short waves, and the
elliptic operator K = - div a grad of transport without noise, which is for long ones. Constants in
dp change nothing; the constant c of each connected part makes the right-hand side consistent.

TIGHTER: with a looser tolerance values where hardly anybody is are so wrong that Newton's steps
fail.
"""

from typing import Any

from mpi4py import MPI
from petsc4py import PETSc

import numpy as np

from mfg_fem import petsc
from mfg_fem.discrete.planning import Planning
from mfg_fem.linear.level.sweeps import Sweeps
from mfg_fem.linear.plan import CLOSING, ZERO_PIVOT, Plan

TIGHTER = 0.1  # tolerance of GMRES, relative to that which SNES asks for
ENOUGH = 0.5  # a residual of GMRES, relative to that of Newton, that is still of use
EXACT = 1e-2  # tolerance of inexact sweeps, relative to that of GMRES
LEAST_MOBILITY = 1e-12  # relative to the largest
SHIFT = 1e-8  # that makes the elliptic operator regular


class ClosingForm:
    """GMRES on (y, dp), the Python context of the KSP of SNES."""

    def __init__(self, system: Planning, plan: Plan, sweeps: Sweeps):
        self.system, self.plan, self.sweeps = system, plan, sweeps
        self.J, self.atol = system.inner.jacobian, 0.0
        self.elliptic: Any = None
        size = (int(np.prod(system.shape[1:])), PETSc.DETERMINE)
        self.operator = PETSc.Mat().createPython((size, size), self, comm=self.J.comm)
        self.operator.setUp()
        self.krylov = PETSc.KSP().create(self.J.comm)
        self.krylov.setOptionsPrefix(petsc.PREFIX + CLOSING)
        self.krylov.setPCSide(PETSc.PC.Side.RIGHT)
        self.krylov.getPC().setType("none")
        self.krylov.setFromOptions()

    def __str__(self):
        """What the history calls it."""
        return "closing form"

    @property
    def iterations(self) -> int:
        """Krylov iterations of the last Newton step."""
        return self.krylov.getIterationNumber()

    def begin(self, atol: float):
        """Take over the norm of all rows at which Newton stops."""
        self.atol = atol

    def free(self):
        """Free PETSc's objects."""
        self._free_elliptic()
        self.krylov.destroy()
        self.operator.destroy()

    def refresh(self, coefficients: np.ndarray):
        """Take over a new linearisation and its coefficients f and a. Collective."""
        system, J = self.system, self.J
        d = system.inner.discrete
        (self.hjb, self.fp), closing = system.weights
        self.m_T = system.m[:, -1]
        self.m_weights = self.m_T * d.weights
        # Residuals of the density at T, per unit of volume, in the scale of their row.
        self.unit_T = self.m_T / closing
        a = coefficients[1, -1]
        largest = J.comm.allreduce(a.max(initial=0.0), MPI.MAX) or 1.0
        a = np.maximum(a, LEAST_MOBILITY * largest)
        self.step = 2 * J.diffusion / a
        self._factor(a)

    def _factor(self, a: np.ndarray):
        """Factor the elliptic operator of the last level, with this mobility. Collective."""
        d = self.system.inner.discrete
        self._free_elliptic()
        self.elliptic = d.weighted_stiffness(a)
        shift, _ = self.elliptic.createVecs()
        shift.array[:] = SHIFT * a * d.norm_weights / d.diameter**2
        self.elliptic.setDiagonal(self.elliptic.getDiagonal() + shift)
        # PETSc compares pivots with a fixed number.
        self.scale = 1.0 / self.elliptic.getDiagonal().max()[1]
        self.elliptic.scale(self.scale)
        self.solver = PETSc.KSP().create(self.J.comm)
        self.solver.setOperators(self.elliptic)
        self.solver.setType("preonly")
        pc = self.solver.getPC()
        pc.setType("lu")
        pc.setFactorPivot(zeropivot=ZERO_PIVOT * LEAST_MOBILITY)
        if self.J.comm.size > 1:
            pc.setFactorSolverType("mumps")
        self.solver.setUp()

    def _free_elliptic(self):
        if self.elliptic is not None:
            self.solver.destroy()
            self.elliptic.destroy()

    def _precondition(self, z: np.ndarray) -> np.ndarray:
        """The change of u(T) for densities z, shape (1, owned), that are missing at T."""
        d, ends = self.system.inner.discrete, self.system.ends
        b = self.J.mult_mass(z[0])
        lack = ends.sums(d, b) / ends.sums(d, self.m_weights[0])
        b -= lack[ends.part] * self.m_weights[0]
        x, y = self.elliptic.createVecs()
        y.array[:] = self.scale * b
        self.solver.solve(y, x)
        return self.step * z + x.array_r / d.problem.horizon

    def _back(self, r: np.ndarray) -> np.ndarray:
        return self.sweeps.backward(r, self.rtol)

    def _end(self, dp: np.ndarray) -> np.ndarray:
        """The Fokker-Planck rows D (A^-1 E dp, dp)."""
        r = np.zeros_like(self.hjb)
        r[:, -1] = self.J.end_rows(dp)
        return self.J.mult_D(self._back(r), dp)

    def _fields(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The changes dp and dm of an unknown x, shape (1, N + 1, owned)."""
        dp = self._precondition(self.unit_T * x[:, -1])
        y = x[:, :-1] / self.fp - self._end(dp)
        return dp, self.sweeps.forward(y)

    def mult(self, mat, x, y):
        """The scaled operator, called by PETSc."""
        x = x.array_r.reshape(self.system.shape[1:])
        found = y.array.reshape(self.system.shape[1:])
        dp, dm = self._fields(x)
        found[:] = x
        if self.J.F:
            du, none = self._back(self.J.mult_F(dm)), np.zeros_like(dp)
            found[:, :-1] += self.fp * self.J.mult_D(du, none)
        found[:, -1] = -dm[:, -1] / self.unit_T

    def solve(self, ksp, b, x):
        """Solve the Newton equation to the tolerance SNES asks for, called by PETSc."""
        system, J, d = self.system, self.J, self.system.inner.discrete
        forcing, _, _, max_it = ksp.getTolerances()
        self.rtol = EXACT * forcing
        rows = b.array_r.reshape(system.shape)
        r_u, r_m = rows[0, :, :-1] / self.hjb, rows[1, :, :-1] / self.fp
        r_c = self.unit_T * rows[1, :, -1]  # m^N times the row
        # Mass that the Fokker-Planck rows let in has to be there at the end.
        sums = system.ends.sums(d, (system.inner.dt[:, None] * r_m[0]).sum(axis=0))
        lack = sums - system.ends.sums(d, d.weights * r_c[0])
        lack /= system.ends.sums(d, self.m_weights[0])
        r_c = r_c + self.m_T * lack[system.ends.part]
        first = self._back(r_u)
        right = np.empty(system.shape[1:])
        right[:, :-1] = self.fp * (r_m - J.mult_D(first, np.zeros_like(r_c)))
        right[:, -1] = -r_c / self.unit_T
        found = np.zeros_like(right)
        vectors = [PETSc.Vec().createWithArray(z, comm=J.comm) for z in (right, found)]
        self.krylov.setOperators(self.operator)
        atol = max(TIGHTER * forcing * b.norm(), 0.03 * self.atol)
        self.krylov.setTolerances(rtol=1e-14, atol=atol, max_it=max_it)
        self.krylov.solve(*vectors)
        reason = self.krylov.getConvergedReason()
        enough = self.krylov.getResidualNorm() <= ENOUGH * b.norm()
        if reason == PETSc.KSP.ConvergedReason.DIVERGED_MAX_IT and enough:
            reason = PETSc.KSP.ConvergedReason.CONVERGED_ITS
        ksp.setConvergedReason(reason)
        self.krylov.reset()
        for vector in vectors:
            vector.destroy()
        dp, dm = self._fields(found)
        right_u = J.mult_F(dm) + r_u
        right_u[:, -1] += J.end_rows(dp)
        change = x.array.reshape(system.shape)
        change[0, :, :-1], change[0, :, -1] = self._back(right_u), dp
        change[0] /= system.unit[0]
        change[1, :, :-1], change[1, :, -1] = dm / system.m, 0.0
