"""Linear sweeps through time: backward for the HJB block, forward for the Fokker-Planck block."""

from contextlib import contextmanager
from typing import Any

from petsc4py import PETSc

import numpy as np

from mfg_fem.discrete.jacobian import Jacobian
from mfg_fem.linear.level.factors import Factors, TransposedFactors
from mfg_fem.linear.level.joint import GaussSeidel, JointFactors, JointRows

FEW, ROUGH = 2, 10.0  # after FEW iterations a rough sweep stops at ROUGH times its tolerance


class Sweeps:
    """A^-1 (backward in time) and B^-1 (forward).

    One Krylov solver goes from level to level, with the `Factors` of each, and from population to
    population. Where blocks of A or B between populations join their rows, a level of all is one
    system: factored as a whole if the plan is exact, else with a Gauss-Seidel pass over the factors
    of each as its preconditioner. Right-hand sides and solutions have the shape (k, N, owned). The
    plan must be in force, as PETSc's options are read here and when factors are made.

    Args:
        J: the Jacobian.
        plan: how a level is solved, a `LevelPlan`.
        blocks: instead of the diagonal blocks of A and B of the Jacobian, with its others in time
            and between populations; without "A", A is the transpose of B.
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
        self.joint = {y: JointRows(J, y, own) for y, own in self.blocks.items() if J.crosses(y)}
        self.rough = False
        self.ksp, self.joint_ksp = self._solver(), self._solver()
        self.vectors = J.discrete.mass.createVecs()
        self.factors: dict[str, list[Any]] = factors or {}
        self.borrowed = factors is not None
        if self.borrowed:
            return
        B = self._factors("B")
        transposed: list[Any] = [TransposedFactors(own) for own in B] if plan.transposed else []
        own = transposed or self._factors("A")
        self.factors = {"A": self._joined("A", own), "B": self._joined("B", B)}
        # Best responses solve with A before B is assembled, so that they cannot share its factors.
        alone = blocks is None and plan.transposed
        self.response = self._joined("A", self._factors("A")) if alone else self.factors["A"]

    def _solver(self) -> PETSc.KSP:
        ksp = PETSc.KSP().create(self.J.comm)
        ksp.setOptionsPrefix(self.plan.prefix)
        ksp.setFromOptions()
        if self.plan.iterates:
            ksp.addConvergenceTest(self._will_do, prepend=True)
        return ksp

    def _factors(self, name: str) -> list[Any]:
        if name in self.joint and self.plan.exact:
            return [JointFactors(self.J, name, self.blocks[name], self.plan)]
        pattern = self.J.discrete.pattern
        return [Factors(pattern, own, self.plan) for own in self.blocks[name]]

    def _joined(self, name: str, factors: list[Any]) -> list[Any]:
        """The same, or one for all populations if their rows are joined."""
        if name in self.joint and not self.plan.exact:
            return [GaussSeidel(self.J, name, self.blocks[name], factors)]
        return factors

    def backward(self, r: np.ndarray, rtol: float | None = None, rough: bool = False) -> np.ndarray:
        """Solve A du = r, the last level first, each to rtol; a `rough` sweep stops earlier."""
        if rtol:
            for ksp in (self.ksp, self.joint_ksp):
                ksp.setTolerances(rtol=rtol)
        if self.J.border:
            return self.J.border.backward(lambda r: self._backward(r, rough), r)
        return self._backward(r, rough)

    def _backward(self, r: np.ndarray, rough: bool) -> np.ndarray:
        du = np.empty_like(r)
        for n in reversed(range(self.J.steps)):
            before = du[:, n + 1 : n + 3].swapaxes(0, 1)
            du[:, n] = self.solve_level("A", n, r[:, n], before, rough)
        return du

    def forward(self, r: np.ndarray, rough: bool = False) -> np.ndarray:
        """Solve B dm = r, the first level first; `rough` as in `backward`."""
        if self.J.border:
            return self.J.border.forward(lambda r: self._forward(r, rough), r)
        return self._forward(r, rough)

    def _forward(self, r: np.ndarray, rough: bool) -> np.ndarray:
        dm = np.empty_like(r)
        for n in range(self.J.steps):
            before = dm[:, max(n - 2, 0) : n][:, ::-1].swapaxes(0, 1)
            dm[:, n] = self.solve_level("B", n, r[:, n], before, rough)
        return dm

    @contextmanager
    def tolerances(self, rtol: float, atol: float):
        """Set other tolerances of a level during a with block."""
        before, solvers = self.ksp.getTolerances(), (self.ksp, self.joint_ksp)
        for ksp in solvers:
            ksp.setTolerances(rtol=rtol, atol=atol)
        yield
        for ksp in solvers:
            ksp.setTolerances(rtol=before[0], atol=before[1])

    def solve_level(
        self, name: str, n: int, rhs: np.ndarray, before=(), rough: bool = False
    ) -> np.ndarray:
        """Solve the rows of A or B, by name, of step n, shape (k, owned). Collective.

        `before` has the solutions at the next levels, nearest first. The rows see the first of
        them, and iterations start from their extrapolation.
        """
        factors = [own.of(n) for own in self.factors[name]]
        if not len(before):
            return self._solve(name, n, factors, rhs, np.zeros_like(rhs), rough)
        r, seen = self.J.ratio(name, n), self.J.carried(name, n, before[0])
        other = r * seen
        guess = before[0] if len(before) == 1 else 2 * before[0] - before[1]
        rhs = rhs + self.J.behind(n, r, seen)
        return self._solve(name, n, factors, rhs, guess + other, rough) - other

    def respond(self, n: int, rhs: np.ndarray) -> np.ndarray:
        """Solve with the present A of step n, (k, owned), factored anew. Collective."""
        for own in self.response:
            own.update(n)
        factors = [own.of(n) for own in self.response]

        def solve(rhs: np.ndarray) -> np.ndarray:
            return self._solve("A", n, factors, rhs[:, 0], np.zeros_like(rhs[:, 0]))[:, None]

        rows = rhs[:, None]
        return (self.J.border.backward(solve, rows) if self.J.border else solve(rows))[:, 0]

    def forget_response(self):
        """Free the factors of `respond`."""
        for factors in self.response:
            factors.reset()

    def _solve(self, name: str, n: int, factors, rhs, guess, rough: bool = False) -> np.ndarray:
        self.rough = rough
        if name in self.joint:
            rows = self.joint[name]
            rows.n = n
            return self._solve_one(
                self.joint_ksp, rows.vectors, rows.matrix, factors[0], rhs, guess
            )
        blocks = [own[n] for own in self.blocks[name]]
        systems = zip(blocks, factors, rhs, guess, strict=True)
        return np.stack([self._solve_one(self.ksp, self.vectors, *system) for system in systems])

    def _solve_one(self, ksp: PETSc.KSP, vectors, block, factor, rhs, guess) -> np.ndarray:
        b, x = vectors
        b.array[:] = rhs.ravel()
        ksp.setPC(factor)
        ksp.setOperators(block)
        if self.plan.iterates:
            # Always set: without a guess, right-preconditioned BiCGStab would add the last
            # solution.
            ksp.setInitialGuessNonzero(True)
            x.array[:] = guess.ravel()
        ksp.solve(b, x)
        return x.array_r.reshape(rhs.shape).copy()

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
        self.joint_ksp.destroy()
        for rows in self.joint.values():
            rows.matrix.destroy()
        if self.borrowed:
            return
        for obj in (*self.response, *self.factors["A"], *self.factors["B"]):
            obj.destroy()
        for matrix in (matrix for own in self.transposes for matrix in own):
            matrix.destroy()
