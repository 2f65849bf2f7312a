"""Linear sweeps through time: backward for the HJB block, forward for the Fokker-Planck block."""

from contextlib import contextmanager
from typing import Any

from petsc4py import PETSc

import numpy as np

from mfg_fem.discrete.jacobian import Jacobian
from mfg_fem.linear.level.factors import Factors, TransposedFactors

FEW, ROUGH = 2, 10.0  # after FEW iterations a rough sweep stops at ROUGH times its tolerance


class Sweeps:
    """A^-1 (backward in time) and B^-1 (forward), population by population.

    One Krylov solver goes from level to level, with the `Factors` of each. Right-hand sides and
    solutions have the shape (k, N, owned). The plan must be in force, as PETSc's options are read
    here and when factors are made.

    Args:
        J: the Jacobian.
        plan: how a level is solved, a `LevelPlan`.
        blocks: instead of A and B of the Jacobian, with its off-diagonal blocks in time; without
            "A", A is the transpose of B.
        factors: taken from other sweeps with the same blocks.
    """

    def __init__(
        self,
        J: Jacobian,
        plan,
        blocks: dict[str, list[list[PETSc.Mat]]] | None = None,
        factors: dict[str, list[Factors | TransposedFactors]] | None = None,
    ):
        self.J, self.plan = J, plan
        self.blocks, self.transposes = blocks or {"A": J.A, "B": J.B}, []
        if "A" not in self.blocks:
            A = [[PETSc.Mat().createTranspose(B) for B in own] for own in self.blocks["B"]]
            self.transposes, self.blocks = A, self.blocks | {"A": A}
        self.ksp = PETSc.KSP().create(J.comm)
        self.ksp.setOptionsPrefix(plan.prefix)
        self.ksp.setFromOptions()
        self.rough = False
        if plan.iterates:
            self.ksp.addConvergenceTest(self._will_do, prepend=True)
        self.rhs, self.x = J.discrete.mass.createVecs()
        self.factors: dict[str, list[Any]] = factors or {}
        self.borrowed = factors is not None
        if self.borrowed:
            return
        B = self._factors(self.blocks["B"])
        self.factors = {"A": list(map(TransposedFactors, B)), "B": B}
        if not plan.transposed:
            self.factors["A"] = self._factors(self.blocks["A"])
        # Best responses solve with A before B is assembled, so that they cannot share its factors.
        alone = blocks is None and plan.transposed
        self.response = self._factors(J.A) if alone else self.factors["A"]

    def _factors(self, blocks: list[list[PETSc.Mat]]) -> list[Factors]:
        return [Factors(self.J.discrete.pattern, own, self.plan) for own in blocks]

    def backward(self, r: np.ndarray, rtol: float | None = None, rough: bool = False) -> np.ndarray:
        """Solve A du = r, the last level first, each to rtol; a `rough` sweep stops earlier."""
        if rtol:
            self.ksp.setTolerances(rtol=rtol)
        if self.J.border:
            return self.J.border.backward(lambda r: self._backward(r, rough), r)
        return self._backward(r, rough)

    def _backward(self, r: np.ndarray, rough: bool) -> np.ndarray:
        solution = np.empty_like(r)
        for i, du in enumerate(solution):
            for n in reversed(range(self.J.steps)):
                du[n] = self.solve_level("A", i, n, r[i, n], du[n + 1 : n + 3], rough)
        return solution

    def forward(self, r: np.ndarray, rough: bool = False) -> np.ndarray:
        """Solve B dm = r, the first level first; `rough` as in `backward`."""
        if self.J.border:
            return self.J.border.forward(lambda r: self._forward(r, rough), r)
        return self._forward(r, rough)

    def _forward(self, r: np.ndarray, rough: bool) -> np.ndarray:
        solution = np.empty_like(r)
        for i, dm in enumerate(solution):
            for n in range(self.J.steps):
                dm[n] = self.solve_level("B", i, n, r[i, n], dm[max(n - 2, 0) : n][::-1], rough)
        return solution

    @contextmanager
    def tolerances(self, rtol: float, atol: float):
        """Set other tolerances of a level during a with block."""
        before = self.ksp.getTolerances()
        self.ksp.setTolerances(rtol=rtol, atol=atol)
        yield
        self.ksp.setTolerances(rtol=before[0], atol=before[1])

    def solve_level(
        self, name: str, i: int, n: int, rhs: np.ndarray, before=(), rough: bool = False
    ) -> np.ndarray:
        """Solve the rows of A or B, by name, of population i and step n. Collective.

        `before` has the solutions at the next levels, nearest first. The rows see the first of
        them, and iterations start from their extrapolation.
        """
        block, factor = self.blocks[name][i][n], self.factors[name][i].of(n)
        if not len(before):
            return self._solve(block, factor, rhs, 0.0, rough)
        r, seen = self.J.ratio(name, i, n), self.J.carried(name, n, before[0])
        other = r * seen if self.J.rule.averages else 0.0
        guess = before[0] if len(before) == 1 else 2 * before[0] - before[1]
        rhs = rhs + self.J.behind(i, n, r, seen)
        return self._solve(block, factor, rhs, guess + other, rough) - other

    def respond(self, i: int, n: int, rhs: np.ndarray) -> np.ndarray:
        """Solve with the present A of population i and step n, factored anew. Collective."""
        self.response[i].update(n)

        def solve(rhs):
            return self._solve(self.J.A[i][n], self.response[i].of(n), rhs, 0.0)

        return self.J.border.backward(solve, rhs) if self.J.border else solve(rhs)

    def forget_response(self):
        """Free the factors of `respond`."""
        for factors in self.response:
            factors.reset()

    def _solve(self, block, factor, rhs: np.ndarray, guess, rough: bool = False) -> np.ndarray:
        self.rough, self.rhs.array[:] = rough, rhs
        self.ksp.setPC(factor)
        self.ksp.setOperators(block)
        if self.plan.iterates:
            # Always set: without a guess, right-preconditioned BiCGStab would add the last
            # solution.
            self.ksp.setInitialGuessNonzero(True)
            self.x.array[:] = guess
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
        for obj in (*self.response, *self.factors["A"], *self.factors["B"]):
            obj.destroy()
        for matrix in (matrix for own in self.transposes for matrix in own):
            matrix.destroy()
