"""Newton for a space-time system: PETSc SNES with a matrix-free Jacobian.

It knows the equations by the protocol `System`, and the linear solver as one of `formulations.py`.
Unknowns and rows are in units of the problem (`problem/units.py`): the norm of scaled rows is the
root mean square over space-time of the residuals, in U / T for the HJB and M / T for the
Fokker-Planck equation, whatever the mesh and the units of lengths, times, costs and people.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mpi4py import MPI
from petsc4py import PETSc

import numpy as np

from mfg_fem import petsc

# A residual below this part of that two steps before lets Newton go on when its patience ends.
CLOSING = 0.1
# The final transport of the density, and sums in another order, may raise a converged residual to
# this times the tolerance.
STALE = 10.0
HALVINGS = 30  # most halvings of a step after which the residual is not finite


class System(Protocol):
    """The equations. All methods are collective.

    Attributes:
        shape: of unknowns and residual on this rank; the first axis has two fields, or two
            equations.
        unit: units of the unknowns, broadcast to them.
        unknowns: number of unknowns per field on all ranks.
        owned: number of dofs on this rank; columns of unknowns after them are no fields.
    """

    comm: MPI.Comm
    unknowns: int
    owned: int

    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102

    @property
    def unit(self) -> np.ndarray: ...  # noqa: D102

    def row_scale(self) -> np.ndarray:
        """Factors of the residual rows, broadcast to them."""

    def residual(self, X: np.ndarray) -> np.ndarray:
        """The residual rows at X."""

    def linearise(self, X: np.ndarray) -> np.ndarray:
        """Assemble the Jacobian at X. Returns coefficients for the linear solver."""

    def mult_jacobian(self, dX: np.ndarray) -> np.ndarray:
        """The Jacobian times dX."""

    def admissible(self, X: np.ndarray, dX: np.ndarray) -> list[np.ndarray]:
        """Steps that may be subtracted from X in the place of dX, in that order."""

    def facts(self, X: np.ndarray) -> dict[str, float]:
        """Entries of the history of X beside residuals."""


@dataclass(frozen=True)
class Patience:
    """When Newton is stuck, so that a stage should be split.

    Attributes:
        steps: after so many Newton steps, unless the residual falls as `CLOSING` says.
        cuts, length: after so many steps in a row of this length or less, as more bring nothing.
    """

    steps: int = 12
    cuts: int = 3
    length: float = 0.11


@dataclass(frozen=True)
class Outcome:
    """What a Newton solve left.

    Attributes:
        X: the last iterate.
        converged: whether it is a solution.
        reason: PETSc's reason, in words.
        iterations: Newton steps.
        norm, tolerance: of the scaled residual, and its bound.
        failed, advice: if it is no solution, what else to say of it, and what to try.
    """

    X: np.ndarray
    converged: bool
    reason: str
    iterations: int
    norm: float = np.nan
    tolerance: float = np.nan
    failed: str = ""
    advice: str = ""


class NewtonSolver:
    """SNES on one system, for the solves along a continuation path.

    `form` is the linear solver, one of `formulations.py`; `record` is called after each step with
    its row of the history and the iterate.
    """

    def __init__(self, system: System, form, record: Callable[[dict, np.ndarray], None]):
        self.system, self.form, self.record = system, form, record
        self.unit = system.unit
        self.scale = np.broadcast_to(system.row_scale(), system.shape)
        size = (self.scale.size, PETSc.DETERMINE)
        self.vector = PETSc.Vec().createMPI(size, comm=system.comm)
        sizes = (self.vector.getSizes(), self.vector.getSizes())
        self.jacobian = PETSc.Mat().createPython(sizes, _Jacobian(self), comm=system.comm)
        self.jacobian.setUp()
        self.snes = PETSc.SNES().create(system.comm)
        self.snes.setOptionsPrefix(petsc.PREFIX)
        self.residual_vector = self.vector.duplicate()
        self.snes.setFunction(self._residual, self.residual_vector)
        self.snes.setJacobian(self._linearise, self.jacobian, self.jacobian)
        self.snes.setMonitor(self._monitor)
        self.snes.setLineSearchPreCheck(self._choose)
        self.measured: tuple[Any, Any] = None, None  # the last X of `norms`, its scaled residual
        self.ahead: Any = None  # a point, a step from there, and the scaled residual after it

    def destroy(self):
        """Free PETSc's objects and those of the linear solver."""
        self.form.free()
        for obj in (self.snes, self.jacobian, self.vector, self.residual_vector):
            obj.destroy()

    def norms(self, X: np.ndarray) -> np.ndarray:
        """Norms of the scaled residual at X, one per equation. Collective."""
        R = self._scaled_residual(X)
        self.measured = X, R
        return self._norms(R)

    def _norms(self, R: np.ndarray) -> np.ndarray:
        squares = np.array([np.vdot(row, row) for row in R])
        return np.sqrt(self.system.comm.allreduce(squares, MPI.SUM))

    def _scaled_residual(self, X: np.ndarray) -> np.ndarray:
        R = self.system.residual(X)
        R *= self.scale
        return R

    def solve(
        self,
        X: np.ndarray,
        atol: float,
        max_it: int,
        stage: str,
        rows: Sequence[dict] = (),
        patience: Patience | None = None,
        enough: Callable[[np.ndarray], bool] | None = None,
    ) -> Outcome:
        """Newton from X until the norm of the scaled residual is below atol. Collective.

        If an earlier solve began the stage, `rows` is the history that led to X, whose last row is
        recorded again. Newton also stops when its patience, if any, ends, and where the scaled rows
        are `enough`.
        """
        self.enough = enough
        self.stage, self.last, self.ahead = stage, X, None
        if X is not self.measured[0]:
            self.measured = None, None
        self.done = rows[-1]["step"] if rows else 0
        self.rows, self.patience = list(rows[:-1]), patience
        steps = 0 if self._is_stuck(rows) else max(max_it - self.done, 0)
        self.snes.setTolerances(rtol=1e-14, atol=atol, stol=0.0, max_it=steps)
        self.snes.setFromOptions()  # after our tolerances, so that the user's win
        if self.done:
            self.snes.setParamsEW(rtol_0=self._forcing(*rows[-2:]))
        self.snes.getKSP().setType("python")  # the formulation; `mfg_ksp_type` is its solver's
        self.snes.getKSP().setPythonContext(self.form)
        self.form.begin(self.snes.getTolerances()[1])
        self.vector.array[:] = (X / self.unit).ravel()
        try:
            self.snes.solve(None, self.vector)
        except PETSc.Error as error:  # what callbacks raise comes back wrapped
            raise error.__cause__ or error from None
        X = self._unknowns(self.vector)
        code = self.snes.getConvergedReason()
        steps = self.done + self.snes.getIterationNumber()
        norm, reason = self.snes.getFunction()[0].norm(), petsc.reason(self.snes)
        return Outcome(X, code > 0, reason, steps, norm, atol)

    def _is_stuck(self, rows: Sequence[dict]) -> bool:
        """Whether these rows of a stage, from its start on, exhaust the patience."""
        if not (self.patience and rows):
            return False
        lengths = [row["step_length"] for row in rows[1:][-self.patience.cuts :]]
        if len(lengths) == self.patience.cuts and max(lengths) <= self.patience.length:
            return True
        before, now = (np.hypot(row["hjb"], row["fp"]) for row in (rows[-3:][0], rows[-1]))
        return len(rows) > self.patience.steps and now > CLOSING * before

    def _forcing(self, before: dict, now: dict) -> float:
        """Eisenstat-Walker's tolerance (version 2) after these rows, unknown to PETSc."""
        ew = self.snes.getParamsEW()
        ratio = np.hypot(now["hjb"], now["fp"]) / np.hypot(before["hjb"], before["fp"])
        rtol, safe = (ew["gamma"] * y ** ew["alpha"] for y in (ratio, now["forcing"]))
        return float(min(max(rtol, safe) if safe > ew["threshold"] else rtol, ew["rtol_max"]))

    def _unknowns(self, x: PETSc.Vec) -> np.ndarray:
        return self.unit * x.array_r.reshape(self.system.shape)

    # Callbacks of SNES

    def _residual(self, snes, x, f):
        (_, R), self.measured = self.measured, (None, None)
        if self.ahead:
            start, step, R = self.ahead
            alike = np.array_equal(x.array_r, start.array_r - step.array_r)
            R = R if self.system.comm.allreduce(alike, MPI.LAND) else None
            self.ahead = None
        if R is None:
            R = self._scaled_residual(self._unknowns(x))
        f.array[:] = R.ravel()

    def _linearise(self, snes, x, J, P):
        self.form.refresh(self.system.linearise(self._unknowns(x)))

    def _choose(self, x, y):
        """Make y, which SNES subtracts from x, the admissible step of least residual.

        A step after which the residual is not finite is halved.
        """
        X, dX = (z.reshape(self.system.shape) for z in (x.array_r, y.array))
        best, *others = self.system.admissible(X, dX)
        R = self._ahead(X, best)
        norm = self._norm(R)
        for other in others:
            found = self._ahead(X, other)
            if self._norm(found) <= norm:  # either may be NaN
                best, R, norm = other, found, self._norm(found)
        dX[:] = best
        for _ in range(HALVINGS):
            if np.isfinite(norm):
                break
            y.scale(0.5)
            R = self._ahead(X, dX)
            norm = self._norm(R)
        self.ahead = x, y, R

    def _ahead(self, X: np.ndarray, dX: np.ndarray) -> np.ndarray:
        """The scaled residual at X - dX, where the line search looks first."""
        return self._scaled_residual(self.unit * (X - dX))

    def _norm(self, R: np.ndarray) -> float:
        return float(np.linalg.norm(self._norms(R)))

    def _monitor(self, snes, it, norm):
        X = self._unknowns(snes.getSolution())
        R = snes.getFunction()[0].array_r.reshape(self.system.shape)
        change = (X - self.last) / self.unit
        taken, direction = self._norm(change), snes.getSolutionUpdate().norm() if it else 0.0
        length = taken / direction if direction else 0.0
        row = {
            "stage": self.stage,
            "step": self.done + it,
            "krylov": self.form.iterations if it else 0,
            "forcing": snes.getKSP().getTolerances()[0] if it else 0.0,
            "form": str(self.form) if it else "",
            **sizes(self.system, R, change),
            **self.system.facts(X),
            "step_length": length,
        }
        self.rows.append(row)
        if self._is_stuck(self.rows) and not snes.reason:
            snes.setConvergedReason(PETSc.SNES.ConvergedReason.DIVERGED_LINE_SEARCH)
        if self.enough and self.enough(R) and not snes.reason:
            snes.setConvergedReason(PETSc.SNES.ConvergedReason.CONVERGED_FNORM_ABS)
        self.record(row, X)
        self.last = X


def sizes(system: System, R: np.ndarray, change: np.ndarray) -> dict[str, float]:
    """Entries of the history: norms of scaled rows; root mean squares of changes. Collective."""
    sums = np.array([np.vdot(y, y) for y in (*R, *change[..., : system.owned])])
    norms = np.sqrt(system.comm.allreduce(sums, MPI.SUM))
    norms[2:] /= np.sqrt(system.unknowns)
    return dict(zip(("hjb", "fp", "du", "dm"), norms.tolist(), strict=True))


class _Jacobian:
    """The scaled Jacobian as a shell matrix."""

    def __init__(self, newton: NewtonSolver):
        self.newton = newton

    def mult(self, mat, x, y):
        """Multiply by the scaled Jacobian."""
        system = self.newton.system
        dX = self.newton.unit * x.array_r.reshape(system.shape)
        y.array[:] = (self.newton.scale * system.mult_jacobian(dX)).ravel()
