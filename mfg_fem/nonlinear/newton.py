"""All-at-once Newton over space-time: PETSc SNES, a matrix-free Jacobian, forms in `krylov.py`.

Unknowns and rows are in the units of the problem (`units.py`): a norm of rows is the root mean
square over space-time of the residuals, those of the HJB equation in U / T, of the Fokker-Planck
equation in M / T, whatever the mesh and whatever a user measures lengths, times, costs, people in.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mpi4py import MPI
from petsc4py import PETSc

import numpy as np

from mfg_fem import petsc
from mfg_fem.discrete.spacetime import SpaceTime
from mfg_fem.linear.coupled.formulations import FORMS
from mfg_fem.linear.level.sweeps import Sweeps
from mfg_fem.nonlinear.method import Newton, options

CLOSING = 0.1  # of the residual two steps before: Newton goes on beyond the steps of its patience
# Of the tolerance: what the last transport of the density, and sums in another order, may change a
# residual to.
STALE = 10.0
LEAVING = 0.9  # of the people at a node, at most in one step
HALVINGS = 30  # of a step after which a residual is not finite


@dataclass(frozen=True)
class Patience:
    """When Newton is stuck, so that a stage had better be split.

    Attributes:
        steps: after so many, unless the residual falls as `CLOSING` says.
        cuts, length: after so many steps in a row cut to this length or less. In a hall with little
            diffusion three such steps more took a third of a stage's iterations and brought
            nothing.
    """

    steps: int = 12
    cuts: int = 3
    length: float = 0.11


@dataclass(frozen=True)
class Outcome:
    """What a Newton solve left.

    Attributes:
        X: the iterate.
        converged: whether it is a solution.
        reason: PETSc's, in words.
        iterations: Newton steps.
        norm: of the scaled residual.
        tolerance: what it was to be at most.
        failed: what else is to be said of it, if it is no solution.
        advice: what to try then.
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
    """SNES on one SpaceTime; solves again and again along a continuation path."""

    def __init__(
        self, system: SpaceTime, method: Newton, record: Callable[[dict, np.ndarray], None]
    ):
        self.system, self.method, self.record = system, method, record
        units = system.discrete.problem.units
        comm = system.comm
        self.unknowns = system.nodes * system.steps  # of each field
        self.options = options(system, method)
        self.unit = np.array([units.cost, units.density])[:, None, None]  # of the unknowns
        self.scale = np.broadcast_to(system.row_scale(), system.shape)

        self.vector = PETSc.Vec().createMPI((self.scale.size, PETSc.DETERMINE), comm=comm)
        size = self.vector.getSizes()
        self.jacobian = PETSc.Mat().createPython((size, size), _Jacobian(self), comm=comm)
        self.jacobian.setUp()
        self.snes = PETSc.SNES().create(comm)
        self.snes.setOptionsPrefix(petsc.PREFIX)
        self.residual_vector = self.vector.duplicate()
        self.snes.setFunction(self._residual, self.residual_vector)
        self.snes.setJacobian(self._linearise, self.jacobian, self.jacobian)
        self.snes.setMonitor(self._monitor)
        self.snes.setLineSearchPreCheck(self._cut)
        self.measured = None, None  # a start that `norms` has seen, and its scaled residual
        self.ahead = None  # a point, a step from there, and the scaled residual after it
        with self.options():
            self.sweeps = Sweeps(system)
            self.form = FORMS[method.krylov](self)

    def destroy(self):
        """Free PETSc's objects."""
        self.form.free()
        self.sweeps.destroy()
        self.system.discrete.pattern.free_parts()
        for obj in (self.snes, self.jacobian, self.vector, self.residual_vector):
            obj.destroy()

    def best_response(self, X: np.ndarray) -> tuple[np.ndarray, bool]:
        """See `Sweeps.best_response`; with PETSc's options, which some factors read late."""
        with self.options():
            return self.sweeps.best_response(X)

    def transport(self, X: np.ndarray) -> np.ndarray:
        """See `Sweeps.transport`."""
        with self.options():
            return self.sweeps.transport(X)

    def norms(self, X: np.ndarray) -> np.ndarray:
        """Norms of the scaled residual at X, of the hjb and the fp rows. Collective."""
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

    def natural_norm(self, X: np.ndarray) -> float:
        """What the norm is if u_t and m_t are of the size of u / T and m / T. Collective."""
        u = self.system.comm.allreduce(np.abs(X[0]).max(initial=0.0), MPI.MAX)
        return float(np.hypot(u / self.system.discrete.problem.units.cost, 1.0))

    def solve(
        self,
        X: np.ndarray,
        atol: float,
        max_it: int,
        stage: str,
        rows: Sequence[dict] = (),
        patience: Patience | None = None,
    ) -> Outcome:
        """Newton from X until the scaled residual norm is below atol. Collective.

        The rows are those of the steps that led to X, if an earlier solve began the stage; the
        last of them is recorded again. Newton also stops when its patience ends, if it has one.
        """
        self.stage, self.last, self.ahead = stage, X, None
        if X is not self.measured[0]:
            self.measured = None, None
        self.done = rows[-1]["step"] if rows else 0
        self.rows, self.patience = list(rows[:-1]), patience
        steps = 0 if self._is_stuck(rows) else max(max_it - self.done, 0)
        with self.options():
            self.snes.setTolerances(rtol=1e-14, atol=atol, stol=0.0, max_it=steps)
            self.snes.setFromOptions()  # after our tolerances, so that the user's win
            if self.done:
                self.snes.setParamsEW(rtol_0=self._forcing(*rows[-2:]))
            self.snes.getKSP().setType("python")  # the form; `mfg_ksp_type` is for what it uses
            self.snes.getKSP().setPythonContext(self.form)
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
        """Whether these rows of a stage, the start the first of them, try its patience."""
        if not (self.patience and rows):
            return False
        lengths = [row["step_length"] for row in rows[1:][-self.patience.cuts :]]
        if len(lengths) == self.patience.cuts and max(lengths) <= self.patience.length:
            return True
        before, now = (np.hypot(row["hjb"], row["fp"]) for row in (rows[-3:][0], rows[-1]))
        return len(rows) > self.patience.steps and now > CLOSING * before

    def _forcing(self, before: dict, now: dict) -> float:
        """Eisenstat-Walker's tolerance (version 2) after these rows, which PETSc has not seen."""
        ew = self.snes.getParamsEW()
        ratio = np.hypot(now["hjb"], now["fp"]) / np.hypot(before["hjb"], before["fp"])
        rtol, safe = (ew["gamma"] * y ** ew["alpha"] for y in (ratio, now["forcing"]))
        return float(min(max(rtol, safe) if safe > ew["threshold"] else rtol, ew["rtol_max"]))

    def _unknowns(self, x: PETSc.Vec) -> np.ndarray:
        return self.unit * x.array_r.reshape(self.system.shape)

    # SNES callbacks

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

    def _cut(self, x, y):
        """Cut y, which SNES subtracts from x, where a full step would make the density negative.

        Where one is, the coupling has the wrong sign. With exits and congestion (exponent 1.5,
        D = 0.02) this took Newton from 26 steps to 11, and GMRES from 72 iterations to 8. Where a
        solution may be negative itself, on meshes that are too coarse for it, y is cut if that
        leaves the smaller residual: from 128 steps to 14.

        Where data are infinite without people, some are left. A step after which residuals are not
        finite is too long as a whole.
        """
        X, dX = (z.reshape(self.system.shape) for z in (x.array_r, y.array))
        share = LEAVING if self.system.discrete.problem.infinite else 1.0
        whole, cut = dX[1].copy(), np.minimum(dX[1], share * X[1])
        alike = self.system.comm.allreduce(np.array_equal(cut, dX[1]), MPI.LAND)
        dX[1] = cut
        norm = self._look_ahead(x, y)
        if not (alike or self.system.discrete.scheme.positive):
            dX[1] = whole
            if not self._look_ahead(x, y) <= norm:  # either may be NaN
                dX[1] = cut
                norm = self._look_ahead(x, y)
        for _ in range(HALVINGS):
            if np.isfinite(norm) or np.isfinite(norm := self._look_ahead(x, y)):
                break
            y.scale(0.5)

    def _look_ahead(self, x, y) -> float:
        """The norm of the residual at x - y, where the line search will look first."""
        R = self._scaled_residual(self.unit * (x.array_r - y.array_r).reshape(self.system.shape))
        self.ahead = x, y, R
        return float(np.linalg.norm(self._norms(R)))

    def _monitor(self, snes, it, norm):
        comm, system = self.system.comm, self.system
        X = self._unknowns(snes.getSolution())
        R = snes.getFunction()[0].array_r.reshape(system.shape)
        change = (X - self.last) / self.unit
        sums = [np.vdot(a, a) for a in (*R, *change)]
        values = comm.allreduce(np.array([*sums, X[1, -1] @ system.discrete.weights]), MPI.SUM)
        sums, mass = values[:4], values[4]
        direction = snes.getSolutionUpdate().norm() if it else 0.0
        length = float(np.sqrt(sums[2] + sums[3]) / direction) if direction else 0.0
        row = {
            "stage": self.stage,
            "step": self.done + it,
            "krylov": self.form.iterations if it else 0,
            "forcing": snes.getKSP().getTolerances()[0] if it else 0.0,
            "form": str(self.form) if it else "",
            "hjb": float(np.sqrt(sums[0])),
            "fp": float(np.sqrt(sums[1])),
            "du": float(np.sqrt(sums[2] / self.unknowns)),
            "dm": float(np.sqrt(sums[3] / self.unknowns)),
            "mass": float(mass),
            "min_density": comm.allreduce(X[1].min(initial=np.inf), MPI.MIN),
            "step_length": length,
        }
        self.rows.append(row)
        if self._is_stuck(self.rows) and not snes.reason:
            snes.setConvergedReason(PETSc.SNES.ConvergedReason.DIVERGED_LINE_SEARCH)
        self.record(row, X)
        self.last = X


class _Jacobian:
    """The scaled Jacobian as a shell matrix."""

    def __init__(self, newton: NewtonSolver):
        self.newton = newton

    def mult(self, mat, x, y):
        """Multiply by scale J."""
        system = self.newton.system
        dX = self.newton.unit * x.array_r.reshape(system.shape)
        y.array[:] = (self.newton.scale * system.mult_jacobian(dX)).ravel()
