"""Linear sweeps through time: backward for the HJB block, forward for the Fokker-Planck block."""

from collections.abc import Sequence

from mpi4py import MPI
from petsc4py import PETSc

import numpy as np

from mfg_fem import petsc
from mfg_fem.discretisation import Discretisation
from mfg_fem.schwarz import OptimisedSchwarz, Part, is_schwarz
from mfg_fem.spacetime import SpaceTime

MAX_POLICY_ITERATIONS = 12  # three or four do; more only near the first, roughest level
DIRECT = ("lu", "cholesky", "redundant")
TRANSPOSABLE = (*DIRECT, "ilu", "icc", "jacobi", "bjacobi")
SMALL = 2000  # nodes of a level, up to which it is factored
REDUNDANT = 10_000
INNER_RTOL = 1e-3
MAX_CORRECTIONS = 8  # inexact sweeps until the residual is round-off: each gains INNER_RTOL


def default_inner(dim: int, nodes: int, ranks: int) -> dict[str, object]:
    """Options (prefix `sweep_`) of the solver of one time level.

    A factorisation in 1D and up to SMALL nodes. Beyond, GMRES with incomplete factors of each
    rank's part, to INNER_RTOL: on 64^2 nodes and more that took half the time and memory of LU for
    diffusion .02 to .5. ILU(2) in 2D, in 3D ILU(0): more levels fill it up.
    """
    if dim == 1 or nodes <= SMALL:
        inner = direct(nodes, ranks)
    else:
        inner = iterative(dim, ranks, INNER_RTOL)
    return {f"sweep_{key}": value for key, value in inner.items()}


def direct(nodes: int, ranks: int) -> dict[str, object]:
    """Options of a factorisation.

    PETSc's own in serial; on several ranks MUMPS, or below REDUNDANT nodes the whole level on
    every rank, which costs no more time than in serial, while MUMPS spends it on messages.
    """
    if ranks == 1:
        pc = {"pc_type": "lu"}
    elif nodes <= REDUNDANT:
        pc = {"pc_type": "redundant", "redundant_pc_type": "lu"}
    else:  # with half as much room again as MUMPS itself estimates
        pc = {"pc_type": "lu", "pc_factor_mat_solver_type": "mumps", "mat_mumps_icntl_14": 50}
    return {"ksp_type": "preonly"} | pc


def iterative(dim: int, ranks: int, rtol: float) -> dict[str, object]:
    """Options of flexible GMRES with incomplete factors.

    From the right, so that it stops by the residual itself: from the left, on ranks, it stopped too
    early for the outer iterations, whose number grew by half. Two or three iterations do, and then
    the flexible variant, which keeps what the preconditioner has made of its vectors, applies it a
    third less often than BiCGStab and multiplies a tenth less often.
    """
    gmres = {"ksp_type": "fgmres", "ksp_rtol": rtol, "ksp_max_it": 100, "ksp_gmres_restart": 100}
    return gmres | incomplete(dim, ranks)


def incomplete(dim: int, ranks: int) -> dict[str, object]:
    """Options of incomplete factors."""
    levels = 0 if dim == 3 else 2
    if ranks == 1:
        return {"pc_type": "ilu", "pc_factor_levels": levels}
    name = f"{OptimisedSchwarz.__module__}.{OptimisedSchwarz.__name__}"
    return {"pc_type": "python", "pc_python_type": name, "sub_pc_factor_levels": levels}


def shares_factors(discrete: Discretisation, prefix: str) -> bool:
    """Whether sweeps with this prefix take the factors of B for A too, transposed.

    Without congestion A differs from B^T by the derivative of Monotone's viscosity only. To the
    loose tolerances of sweeps, incomplete factors that are shared take hardly an iteration more, at
    half the memory. Exact ones are worth their own: a hall took twice the iterations without, and
    so may any game with congestion.
    """
    ksp = PETSc.KSP().create(discrete.comm)
    ksp.setOptionsPrefix(petsc.PREFIX + prefix)
    ksp.setOperators(discrete.mass)
    ksp.setFromOptions()
    pc, preonly = ksp.getPC(), ksp.getType() == "preonly"
    direct, transposable = pc.getType() in DIRECT, pc.getType() in TRANSPOSABLE or is_schwarz(pc)
    ksp.destroy()
    return transposable and not (direct and preonly) and not discrete.congested


class Sweeps:
    """A^-1 (backward in time) and B^-1 (forward).

    One Krylov solver goes from level to level; each level has factors, made anew at the first solve
    after its block has changed. `blocks` may stand in for those of the system, with the same
    coupling in time; without "A" among them, A is the transpose of B. `factors` of other sweeps
    with the same blocks may be shared. The options (with this prefix) are read when this is made:
    make it inside `petsc.options`.
    """

    def __init__(
        self,
        system: SpaceTime,
        blocks: dict[str, list[PETSc.Mat]] | None = None,
        prefix: str = "sweep_",
        factors: dict[str, list[PETSc.PC]] | None = None,
    ):
        self.system, self.prefix, self.part = system, petsc.PREFIX + prefix, None
        self.blocks, self.transposes = blocks or {"A": system.A, "B": system.B}, []
        if "A" not in self.blocks:
            self.transposes = [PETSc.Mat().createTranspose(B) for B in self.blocks["B"]]
            self.blocks = self.blocks | {"A": self.transposes}
        self.ksp = PETSc.KSP().create(system.comm)
        self.ksp.setOptionsPrefix(self.prefix)
        self.ksp.setFromOptions()
        self.rhs, self.x = system.discrete.mass.createVecs()
        self.borrowed = factors is not None
        if self.borrowed:
            self.factors = factors
            return
        self.one_level = system.discrete.pattern.create()  # for the best response
        self.one_factor = self._factor(self.one_level)
        self.factors = {"B": [self._factor(block) for block in self.blocks["B"]]}
        if shares_factors(system.discrete, prefix):
            self.factors["A"] = [_Transposed.of(pc) for pc in self.factors["B"]]
        else:
            self.factors["A"] = [self._factor(block) for block in self.blocks["A"]]

    def _factor(self, block: PETSc.Mat) -> PETSc.PC:
        pc = PETSc.PC().create(self.system.comm)
        pc.setOptionsPrefix(self.prefix)
        pc.setOperators(block)
        pc.setFromOptions()
        if is_schwarz(pc):
            self.part = self.part or Part(block)
            pc.getPythonContext().part = self.part
        return pc

    def factor(self, name: str, n: int):
        """Factor a block now, whatever becomes of its matrix. Collective."""
        pc = self.factors[name][n]
        pc.setReusePreconditioner(False)
        pc.setOperators(self.blocks[name][n])
        pc.setUp()
        pc.setReusePreconditioner(True)

    def __str__(self):
        """Solver and preconditioner of a level."""
        return f"{self.ksp.getType()}/{self.factors['B'][0].getType()}"

    @property
    def iterate(self) -> bool:
        """Whether a level is solved by iterations, which see its matrix."""
        return self.ksp.getType() != "preonly"

    @property
    def exact(self) -> bool:
        """Whether a sweep solves to round-off."""
        return not self.iterate and self.factors["B"][0].getType() in DIRECT

    def backward(self, r: np.ndarray) -> np.ndarray:
        """Solve A du = r for all levels, the last one first."""
        du = np.empty_like(r)
        for n in reversed(range(self.system.steps)):
            rhs = r[n]
            if n + 1 < self.system.steps:
                rhs = rhs + self.system.other_level(self.blocks["A"], n, du[n + 1])
            du[n] = self._solve_level("A", n, rhs, du[n + 1 : n + 3])
        return du

    def forward(self, r: np.ndarray) -> np.ndarray:
        """Solve B dm = r for all levels, the first one first."""
        dm = np.empty_like(r)
        for n in range(self.system.steps):
            rhs = r[n]
            if n > 0:
                rhs = rhs + self.system.other_level(self.blocks["B"], n, dm[n - 1])
            dm[n] = self._solve_level("B", n, rhs, dm[max(n - 2, 0) : n][::-1])
        return dm

    def best_response(self, X: np.ndarray) -> tuple[np.ndarray, bool]:
        """X with u replaced by the value function of one player in the crowd m: a nonlinear sweep.

        And whether it was solved at all levels.

        Backward in time, Newton on each level from the level after it. For convex H and the
        monotone scheme this is policy iteration, which converges from any start.
        """
        system, X, solved = self.system, X.copy(), True
        u_next, _ = system.discrete.terminal_values(X[1, -1])
        for n in reversed(range(system.steps)):
            X[0, n], first = u_next, None
            X[0, n, system.discrete.held] = system.discrete.exit_cost[system.discrete.held]
            for _ in range(MAX_POLICY_ITERATIONS):
                residual = system.hjb_row(X, n, u_next)
                norm = np.sqrt(system.comm.allreduce(residual @ residual, MPI.SUM))
                first = first or norm
                if norm <= 1e-2 * first:
                    break
                if not np.isfinite(norm):
                    return X, False
                system.fill_hjb(self.one_level)
                X[0, n] -= self._solve(self.one_level, self.one_factor, residual)
            else:
                solved = False
            u_next = X[0, n]
        return X, solved

    def transport(self, X: np.ndarray) -> np.ndarray:
        """X with m replaced by the density that the drift of X carries: a linear forward sweep.

        Its Fokker-Planck residual is round-off (with congestion: of second order in the change),
        so that mass and positivity hold as the scheme promises, whatever Newton's tolerance.
        """
        X, comm = X.copy(), self.system.comm
        self.system.linearise_fp(X)
        residual = self.system.fp_residual(X)
        largest = np.abs(self.system.mult_mass(X[1, -1])).max(initial=0.0) / self.system.dt
        round_off = 0.1 * np.finfo(float).eps * comm.allreduce(largest, MPI.MAX)
        for _ in range(MAX_CORRECTIONS):
            change = self.forward(residual)
            X[1] -= change
            if self.exact:
                break
            residual = residual - self.system.mult_B(change)
            if comm.allreduce(np.abs(residual).max(initial=0.0), MPI.MAX) <= round_off:
                break
        return X

    def _solve_level(self, name: str, n: int, rhs: np.ndarray, before) -> np.ndarray:
        return self._solve(self.blocks[name][n], self.factors[name][n], rhs, before)

    def _solve(self, block, factor, rhs: np.ndarray, before=()) -> np.ndarray:
        """The block's solution. `before` has those of the neighbouring levels, the nearest first.

        Iterations start where these lead: a third less of them in serial, two fifths on two ranks.
        """
        self.rhs.array[:] = rhs
        self.ksp.setPC(factor)
        self.ksp.setOperators(block)
        if self.iterate:
            # Always: told of none, BiCGStab from the right, if chosen, would add the last solution.
            self.ksp.setInitialGuessNonzero(True)
            self.x.array[:] = _led_to(before)
        self.ksp.solve(self.rhs, self.x)
        return self.x.array_r.copy()

    def destroy(self):
        """Free the solver and its own factors."""
        self.ksp.destroy()
        if self.borrowed:
            return
        factors = (self.one_factor, *self.factors["A"], *self.factors["B"])
        for obj in (*factors, *self.transposes, self.one_level):
            obj.destroy()
        if self.part:
            self.part.destroy()


class _Transposed:
    """A PETSc PC of type python: the transpose of another."""

    def __init__(self, other: PETSc.PC):
        self.other = other

    @classmethod
    def of(cls, other: PETSc.PC) -> PETSc.PC:
        return PETSc.PC().createPython(cls(other), comm=other.getComm())

    def apply(self, pc: PETSc.PC, x: PETSc.Vec, y: PETSc.Vec):
        self.other.applyTranspose(x, y)


def _led_to(before: Sequence[np.ndarray]) -> np.ndarray | float:
    if len(before) > 1:
        return 2 * before[0] - before[1]
    return before[0] if len(before) else 0.0
