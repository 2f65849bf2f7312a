"""The Newton equation A du - F dm = r_u, D du + B dm = r_m, in one of three Krylov formulations.

* `SchurForm`: GMRES on y, with dm = B^-1 y and du = A^-1 (r_u + F dm),

      (I + D A^-1 F B^-1) y = r_m - D A^-1 r_u.

  A product costs one forward and one backward sweep, which must be exact. For weak coupling this is
  best: about 2 sqrt(`Coupling.strength`) iterations.
* `TwoFieldForm`: for inexact sweeps. Flexible GMRES (in 3D GCR) on both fields, preconditioned on
  the right by the block-triangular sweep dm = B^-1 r_m, du = A^-1 (r_u + F dm).
* `HForm`: GMRES on v, with x0 = A^-1 r_u, dm = F^-1 A v and du = x0 + v,

      (B F^-1 A + D) v = r_m - D x0,

  preconditioned by `MatchedSweeps` (flexible, if these iterate), for any coupling. A product needs
  no solve. If F is not diagonal and positive, dm = F0^-1 A v with its lumped F0 and
  du = x0 + v + A^-1 (F - F0) dm: a product has one backward sweep, and HJB rows hold again.

The first and the last have the true Fokker-Planck residual and vectors of half the size. `AutoForm`
takes the H-form where the coupling is strong. Each class is the Python context of the KSP of SNES.
The first axis of a field is the population.
"""

from collections.abc import Callable
from dataclasses import dataclass

from mpi4py import MPI
from petsc4py import PETSc

import numpy as np

from mfg_fem import petsc
from mfg_fem.discrete.jacobian import Jacobian
from mfg_fem.linear.coupled.matched_sweeps import Coupling, MatchedSweeps
from mfg_fem.linear.level.sweeps import Sweeps
from mfg_fem.linear.plan import LOOSEST, PREFIXES, Plan

LOOSEST_START, LOOSEST_REST = 1e-2, 0.3  # of tolerances of solves with A in the H-form


@dataclass
class Equation:
    """The Newton equation as the formulations need it.

    Attributes:
        J: the Jacobian.
        plan: the solver decisions, in force.
        sweeps: A^-1 and B^-1.
        scale: factors of the residual rows, shape (2, k, steps, owned).
        unit: units of the unknowns, shape (2, k, 1, 1).
        atol: the norm of all scaled rows at which Newton stops.
    """

    J: Jacobian
    plan: Plan
    sweeps: Sweeps
    scale: np.ndarray
    unit: np.ndarray
    atol: float = 0.0


class _Form:
    """A Krylov solver on `rows` of the Newton equation, and the context of its shell operator."""

    name: str
    rows: slice | int

    def __init__(self, equation: Equation):
        self.equation, self.J = equation, equation.J
        self.scale = equation.scale[self.rows]
        size = (self.scale.size, PETSc.DETERMINE)
        self.operator = PETSc.Mat().createPython((size, size), self, comm=self.J.comm)
        self.operator.setUp()
        self.krylov = PETSc.KSP().create(self.J.comm)
        self.krylov.setOptionsPrefix(petsc.PREFIX + PREFIXES[self.name])
        self.krylov.setType(equation.plan.solvers[self.name])
        self.krylov.setPCSide(PETSc.PC.Side.RIGHT)
        pc = self.krylov.getPC()
        pc.setType("python" if hasattr(self, "apply") else "none")
        if hasattr(self, "apply"):
            pc.setPythonContext(self)
        self.krylov.setFromOptions()

    def begin(self, atol: float):
        """Take over the norm of all scaled rows at which Newton stops."""
        self.equation.atol = atol

    def refresh(self, coefficients: np.ndarray):
        """Take over a new linearisation and its coefficients f_ij and a_i. Collective."""

    def free(self):  # PETSc calls a context's destroy(obj) itself: another name
        """Free PETSc's objects."""
        self.krylov.destroy()
        self.operator.destroy()

    @property
    def iterations(self) -> int:
        """Krylov iterations of the last Newton step."""
        return self.krylov.getIterationNumber()

    def tolerance(self, forcing: float) -> float:
        """Near the solution a fifth of SNES's tolerance, which saves Newton steps only there."""
        return 0.2 * forcing if forcing < LOOSEST else forcing

    def _split(self, vector):
        return vector.array_r.reshape(self.scale.shape)

    def _atol(self, ksp, norm: float) -> float:
        """The absolute tolerance that SNES asks for, never far below the one that ends Newton."""
        forcing = ksp.getTolerances()[0]
        return max(self.tolerance(forcing) * norm, 0.3 * self.equation.atol)

    def _krylov_solve(self, ksp, b, x, norm: float):
        """Solve with the scaled rows b to a tolerance relative to the norm of all rows."""
        max_it = ksp.getTolerances()[3]
        self.krylov.setOperators(self.operator)
        self.krylov.setTolerances(rtol=1e-14, atol=self._atol(ksp, norm), max_it=max_it)
        self.krylov.solve(b, x)
        ksp.setConvergedReason(self.krylov.getConvergedReason())
        self.krylov.reset()  # frees its vectors, which may be as large as the Jacobian


class _OneField(_Form):
    """A formulation with one field as unknown, and the Fokker-Planck rows.

    A subclass has `_solve_A(r, norm)`, A^-1 r, and `_fields(y, norm)`, both fields of the unknown.
    The accuracy of inexact solves follows from `norm`, that of r or y among the scaled rows.
    """

    rows = 1
    _solve_A: Callable
    _fields: Callable

    def solve(self, ksp, b, x):
        """Solve the Newton equation to the tolerance SNES asks for, called by PETSc."""
        norm, (scale_u, scale_m) = b.norm(), self.equation.scale
        r_u, r_m = b.array_r.reshape(2, *self.scale.shape)
        du, dm = x.array.reshape(2, *self.scale.shape)
        self.atol = self._atol(ksp, norm)
        du[:] = self._solve_A(r_u / scale_u, norm)
        right = r_m - scale_m * self.J.mult_D(du, np.zeros_like(du[:, 0]))
        # In place, as these arrays are large: dm holds the unknown first.
        right, unknown = (PETSc.Vec().createWithArray(z, comm=self.J.comm) for z in (right, dm))
        self._krylov_solve(ksp, right, unknown, norm)
        right.destroy()
        unknown.destroy()
        change, density = self._fields(dm, norm)
        unit_u, unit_m = self.equation.unit
        du += change
        du /= unit_u
        np.divide(density, unit_m, out=dm)


class SchurForm(_OneField):
    """GMRES on (I + D A^-1 F B^-1) y; its unknown is the scaled y."""

    name = "schur"

    def __str__(self):
        """What the history calls it."""
        return "Schur form"

    def _solve_A(self, r: np.ndarray, norm: float) -> np.ndarray:
        return self.equation.sweeps.backward(r)

    def _fields(self, y, norm: float):
        dm = self.equation.sweeps.forward(y / self.scale)
        return self.equation.sweeps.backward(self.J.mult_F(dm)), dm

    def mult(self, mat, x, y):
        """The scaled operator, called by PETSc."""
        z = self._split(x)
        du, dm = self._fields(z, 0.0)
        y.array[:] = (z + self.scale * self.J.mult_D(du, self.J.terminal_change(dm[:, -1]))).ravel()


class TwoFieldForm(_Form):
    """Flexible GMRES on both fields with the block-triangular sweep as its preconditioner."""

    name, rows = "two-field", slice(None)

    def __str__(self):
        """What the history calls it."""
        return "two-field form"

    def mult(self, mat, x, y):
        """The scaled Jacobian, called by PETSc."""
        product = self.J.mult(self.equation.unit * self._split(x))
        product *= self.scale
        y.array[:] = product.ravel()

    def apply(self, pc, x, y):
        """Apply the preconditioner, called by PETSc."""
        (r_u, r_m), (scale_u, scale_m) = self._split(x), self.scale
        dm = self.equation.sweeps.forward(r_m / scale_m, rough=True)
        right = self.J.mult_F(dm)
        right += r_u / scale_u
        du = self.equation.sweeps.backward(right, rough=True)
        np.divide((du, dm), self.equation.unit, out=y.array.reshape(self.scale.shape))

    def solve(self, ksp, b, x):
        """Solve the Newton equation to the tolerance SNES asks for, called by PETSc."""
        self._krylov_solve(ksp, b, x, b.norm())


class HForm(_OneField):
    """GMRES on (B F^-1 A + D) v with matched sweeps and a coarse space."""

    name = "h-form"

    def __init__(self, equation: Equation, coupling: Coupling | None = None):
        J, plan = equation.J, equation.plan
        self.coupling = coupling or Coupling(J)
        self.matched = MatchedSweeps(self.coupling, plan)
        self.start = equation.sweeps
        if not plan.sweep.exact:
            self.start = Sweeps(J, plan.start, factors=equation.sweeps.factors)
        super().__init__(equation)

    def __str__(self):
        """What the history calls it."""
        return f"H-form ({self.matched})"

    def refresh(self, coefficients: np.ndarray):
        """Take over a new linearisation and its coefficients f_ij and a_i. Collective."""
        self.coupling.refresh(coefficients)
        self.matched.refresh()

    def free(self):
        """Free PETSc's objects."""
        super().free()
        self.matched.destroy()
        if self.start is not self.equation.sweeps:
            self.start.destroy()

    def tolerance(self, forcing: float) -> float:
        """Tighter than SNES's tolerance everywhere, as iterations are cheap."""
        return 0.3 * forcing

    def _solve_A(self, r: np.ndarray, norm: float, share: float = 1.0) -> np.ndarray:
        """A^-1 r as exact as what is asked of all scaled rows, of which r / share has this norm.

        The tolerance is divided by the number of time levels, whose errors add up in a sweep.
        """
        rtol = min(self.atol / max(norm, self.atol) / self.J.steps, LOOSEST_START)
        return self.start.backward(r, rtol / max(share, rtol / LOOSEST_REST))

    def _fields(self, v, norm: float):
        dm = self.coupling.density(v)
        if self.coupling.exact:
            return v, dm
        # v is A^-1 F0 dm: what is left is small, and solved less exactly by its share.
        rest = self.J.mult_F(dm)
        whole = self._size(rest)
        rest -= self.coupling.mult_F0(dm)
        du = self._solve_A(rest, norm, self._size(rest) / whole if whole else 1.0)
        du += v
        return du, dm

    def _size(self, r: np.ndarray) -> float:
        return float(np.sqrt(self.J.comm.allreduce(np.vdot(r, r), MPI.SUM)))

    def mult(self, mat, x, y):
        """The scaled operator, less exact as the residual falls (Simoncini, Szyld 2003)."""
        du, dm = self._fields(self._split(x), self.krylov.getResidualNorm())
        product = self.J.mult_B(dm)
        product += self.J.mult_D(du, self.J.terminal_change(dm[:, -1]))
        product *= self.scale
        y.array[:] = product.ravel()

    def apply(self, pc, x, y):
        """Apply the preconditioner, called by PETSc."""
        y.array[:] = self.matched.solve(self._split(x) / self.scale).ravel()


class AutoForm:
    """At each Newton step the H-form if the coupling is strong, else the form for weak coupling.

    If GMRES fails on the H-form, the other takes over until the next solve begins.
    """

    def __init__(self, equation: Equation):
        self.equation, self.coupling = equation, Coupling(equation.J)
        self.form = self.weak = FORMS[equation.plan.weak](equation)
        self.strong: HForm | None = None
        self.failed = False

    def __str__(self):
        """What the history calls it."""
        return str(self.form)

    @property
    def iterations(self) -> int:
        """Krylov iterations of the last Newton step."""
        return self.form.iterations

    def begin(self, atol: float):
        """Take over the norm of all scaled rows at which Newton stops."""
        self.equation.atol, self.failed = atol, False

    def refresh(self, coefficients: np.ndarray):
        """Take over a new linearisation and its coefficients f_ij and a_i. Collective."""
        self.coupling.refresh(coefficients)
        if self.coupling.strong and not self.failed:
            self.form = self.strong = self.strong or HForm(self.equation, self.coupling)
            self.strong.matched.refresh()
        else:
            self.form = self.weak

    def solve(self, ksp, b, x):
        """Solve the Newton equation to the tolerance SNES asks for, called by PETSc."""
        self.form.solve(ksp, b, x)
        if self.form is self.strong and ksp.getConvergedReason() < 0:
            self.form, self.failed = self.weak, True
            self.form.solve(ksp, b, x)

    def free(self):
        """Free PETSc's objects."""
        self.weak.free()
        if self.strong:
            self.strong.free()


FORMS = {form.name: form for form in (SchurForm, TwoFieldForm, HForm)} | {"auto": AutoForm}


def form_of(equation: Equation):
    """The formulation that the plan asks for."""
    return FORMS[equation.plan.krylov](equation)
