"""Linear sweeps through time: backward for the HJB block, forward for the Fokker-Planck block."""

from collections.abc import Sequence

from mpi4py import MPI
from petsc4py import PETSc

import numpy as np

from mfg_fem import petsc
from mfg_fem.discrete.spacetime import SpaceTime
from mfg_fem.linear.level.factors import Factors, TransposedFactors, serve_both
from mfg_fem.linear.level.schwarz import OptimisedSchwarz

MAX_POLICY_ITERATIONS = 12  # three or four do; more only near the first, roughest level
SMALL = 2000  # nodes of a level, up to which it is factored
REDUNDANT = 10_000
INNER_RTOL = {2: 1e-3, 3: 3e-3}  # by dimension
FEW, ROUGH = 2, 10.0  # iterations after which so many times the tolerance will do for a rough sweep
MAX_CORRECTIONS = 8  # sweeps until the residual is round-off: one or two do
EPS = np.finfo(float).eps


def default_inner(system: SpaceTime) -> dict[str, object]:
    """Options (prefix `sweep_`) of the solver of one time level.

    A factorisation in 1D and up to SMALL nodes. Beyond, GMRES with incomplete factors of each
    rank's part, to INNER_RTOL: on 64^2 nodes and more that took half the time and memory of LU for
    diffusion .02 to .5.
    """
    dim, ranks = system.discrete.problem.domain.dim, system.comm.size
    if dim == 1 or system.nodes <= SMALL:
        inner = direct(system.nodes, ranks)
    else:
        inner = iterative(dim, ranks, INNER_RTOL[dim], system.diffusion_number)
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


def iterative(dim: int, ranks: int, rtol: float, number: float = 0.0) -> dict[str, object]:
    """Options of flexible GMRES with incomplete factors, for this diffusion number.

    From the right, so that it stops by the residual itself: from the left, on ranks, it stopped too
    early for the outer iterations, whose number grew by half. Two or three iterations do, and then
    the flexible variant, which keeps what the preconditioner has made of its vectors, applies it a
    third less often than BiCGStab and multiplies a tenth less often.
    """
    gmres = {"ksp_type": "fgmres", "ksp_rtol": rtol, "ksp_max_it": 100, "ksp_gmres_restart": 100}
    return gmres | incomplete(dim, ranks, number)


def incomplete(dim: int, ranks: int, number: float = 0.0) -> dict[str, object]:
    """Options of incomplete factors, for this diffusion number.

    In 2D ILU(2), and up to ILU(6) where diffusion couples more nodes: there levels share factors,
    and iterations become half as many (at 256^2 a fifth of the time). In 3D ILU(0), as more levels
    fill it up, relaxed (`relaxation.py`).

    On ranks, with so many layers of nodes in common that more take hardly fewer iterations: in 2D
    with 2 layers a seventh more, and nearly half more where diffusion couples far; in 3D with 1 a
    sixteenth more. A part's rows come from one rank after the other: reordered, its factors are
    better, in 3D as good as in serial: an eighth of the iterations less in 2D, a quarter in 3D.
    """
    levels = min(max(2, round(0.6 * number**0.5)), 6)
    levels, relaxation, overlap = (0, 0.1, 2) if dim == 3 else (levels, 0.0, levels + 4)
    factors = {"pc_factor_levels": levels, "pc_factor_relaxation": relaxation}
    if ranks == 1:
        return {"pc_type": "ilu"} | factors
    name = f"{OptimisedSchwarz.__module__}.{OptimisedSchwarz.__name__}"
    factors["pc_factor_mat_ordering_type"] = "rcm"
    schwarz = {"pc_type": "python", "pc_python_type": name, "pc_asm_overlap": overlap}
    return schwarz | {f"sub_{key}": value for key, value in factors.items()}


class Sweeps:
    """A^-1 (backward in time) and B^-1 (forward).

    One Krylov solver goes from level to level, with the `Factors` of each. `blocks` may stand in
    for those of the system, with the same coupling in time; without "A" among them, A is the
    transpose of B. `factors` of other sweeps with the same blocks may be used. The options (with
    this prefix) are read when this is made: make it inside `petsc.options`.
    """

    def __init__(
        self,
        system: SpaceTime,
        blocks: dict[str, list[PETSc.Mat]] | None = None,
        prefix: str = "sweep_",
        factors: dict[str, Factors | TransposedFactors] | None = None,
    ):
        self.system, self.prefix = system, petsc.PREFIX + prefix
        self.blocks, self.transposes = blocks or {"A": system.A, "B": system.B}, []
        if "A" not in self.blocks:
            self.transposes = [PETSc.Mat().createTranspose(B) for B in self.blocks["B"]]
            self.blocks = self.blocks | {"A": self.transposes}
        self.ksp = PETSc.KSP().create(system.comm)
        self.ksp.setOptionsPrefix(self.prefix)
        self.ksp.setFromOptions()
        self.rough = False
        if self.iterate:
            self.ksp.addConvergenceTest(self._will_do, prepend=True)
        self.rhs, self.x = system.discrete.mass.createVecs()
        self.borrowed = factors is not None
        if self.borrowed:
            self.factors = factors
            return
        B = self._factors(self.blocks["B"])
        both = serve_both(system.discrete, prefix)
        A = TransposedFactors(B) if both else self._factors(self.blocks["A"])
        self.factors = {"A": A, "B": B}
        # The best response alone solves A where there is no B yet.
        self.response = self._factors(system.A) if blocks is None and both else A

    def _factors(self, blocks: list[PETSc.Mat]) -> Factors:
        return Factors(self.system.discrete.pattern, blocks, self.prefix, self.iterate)

    def __str__(self):
        """Solver and preconditioner of a level."""
        return f"{self.ksp.getType()}/{self.factors['B'].type}"

    @property
    def iterate(self) -> bool:
        """Whether a level is solved by iterations, which see its matrix."""
        return self.ksp.getType() != "preonly"

    @property
    def exact(self) -> bool:
        """Whether a sweep solves to round-off."""
        return self.factors["B"].exact

    def backward(self, r: np.ndarray, rtol: float | None = None, rough: bool = False) -> np.ndarray:
        """Solve A du = r for all levels, the last one first, to the tolerance rtol of each.

        `rough`: as a preconditioner, see `ROUGH`. That takes a tenth of these iterations less, and
        as many outer ones, but where factors are poor: there one more.
        """
        if rtol:
            self.ksp.setTolerances(rtol=rtol)
        du = np.empty_like(r)
        for n in reversed(range(self.system.steps)):
            rhs = r[n]
            if n + 1 < self.system.steps:
                rhs = rhs + self.system.other_level(self.blocks["A"], n, du[n + 1])
            du[n] = self._solve_level("A", n, rhs, du[n + 1 : n + 3], rough)
        return du

    def forward(self, r: np.ndarray, rough: bool = False) -> np.ndarray:
        """Solve B dm = r for all levels, the first one first; `rough` as for `backward`."""
        dm = np.empty_like(r)
        for n in range(self.system.steps):
            rhs = r[n]
            if n > 0:
                rhs = rhs + self.system.other_level(self.blocks["B"], n, dm[n - 1])
            dm[n] = self._solve_level("B", n, rhs, dm[max(n - 2, 0) : n][::-1], rough)
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
                system.fill_hjb(system.A[n])
                self.response.update(n)
                X[0, n] -= self._solve(system.A[n], self.response.of(n), residual)
            else:
                solved = False
            u_next = X[0, n]
        self.response.reset()
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
        round_off = 0.1 * EPS * comm.allreduce(largest, MPI.MAX)
        rtol, atol, *_ = self.ksp.getTolerances()
        # One sweep to round-off costs less than some that gain INNER_RTOL each.
        self.ksp.setTolerances(rtol=EPS, atol=round_off)
        for _ in range(MAX_CORRECTIONS):
            change = self.forward(residual)
            X[1] -= change
            if self.exact:
                break
            residual = residual - self.system.mult_B(change)
            if comm.allreduce(np.abs(residual).max(initial=0.0), MPI.MAX) <= round_off:
                break
        self.ksp.setTolerances(rtol=rtol, atol=atol)
        return X

    def _solve_level(self, name: str, n: int, rhs, before, rough: bool = False) -> np.ndarray:
        return self._solve(self.blocks[name][n], self.factors[name].of(n), rhs, before, rough)

    def _solve(self, block, factor, rhs: np.ndarray, before=(), rough: bool = False) -> np.ndarray:
        """The block's solution. `before` has those of the neighbouring levels, the nearest first.

        Iterations start where these lead: a third less of them in serial, two fifths on two ranks.
        """
        self.rough, self.rhs.array[:] = rough, rhs
        self.ksp.setPC(factor)
        self.ksp.setOperators(block)
        if self.iterate:
            # Always: told of none, BiCGStab from the right, if chosen, would add the last solution.
            self.ksp.setInitialGuessNonzero(True)
            self.x.array[:] = _led_to(before)
        self.ksp.solve(self.rhs, self.x)
        return self.x.array_r.copy()

    def _will_do(self, ksp: PETSc.KSP, iterations: int, norm: float) -> int:
        """Whether this is enough for a rough sweep. If not, PETSc's own test decides."""
        reason, true = PETSc.KSP.ConvergedReason, PETSc.KSP.NormType.UNPRECONDITIONED
        if self.rough and iterations >= FEW and ksp.getNormType() == true:
            rtol, *_ = ksp.getTolerances()
            if norm <= ROUGH * rtol * ksp.getRhs().norm():
                return reason.CONVERGED_RTOL
        return reason.CONVERGED_ITERATING

    def destroy(self):
        """Free the solver and its own factors."""
        self.ksp.destroy()
        if self.borrowed:
            return
        for obj in (self.response, *self.factors.values(), *self.transposes):
            obj.destroy()


def _led_to(before: Sequence[np.ndarray]) -> np.ndarray | float:
    if len(before) > 1:
        return 2 * before[0] - before[1]
    return before[0] if len(before) else 0.0
