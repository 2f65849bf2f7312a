"""Matched sweeps: a preconditioner for the strongly coupled Newton equation.

Write it as A du - F dm = r_u, D du + B dm = r_m, where F ~ f w (f the derivative of the running
cost and of -H in m, w the lumped mass) and D ~ a K (a = m H_pp, K the stiffness matrix). With F
replaced by its lumped diagonal F0, eliminating dm leaves on du the operator

    H = B F0^-1 A + D,      symbol  (omega^2 + (nu |k|^2)^2) / f + a |k|^2

at frequency omega and wave number |k|, for diffusion nu and constant coefficients. The sweeps
A^-1 F0 B^-1 alone ignore D, and H A^-1 F0 B^-1 has eigenvalues up to 1 + `strength`. Instead, use

    P = (B + X) F0^-1 (A + X),      X = K_q / (2 kappa) + (kappa / 2) q w,      q = sqrt(f a),

with K_q the stiffness matrix with coefficient q: the symbol of P is
(omega^2 + (nu |k|^2 + x)^2) / f with x = q (|k|^2 / kappa + kappa) / 2 >= q |k|, an equality at |k|
= kappa. So P is H with the square root of its coupling moved into both sweeps, and as f a |k|^2 =
(q |k|)^2 = x^2 / r^2,

    1 / (1 + r^2)  <=  H / P  <=  1,      r = (|k| / kappa + kappa / |k|) / 2,

whatever the coupling, the diffusion and the frequency. (With y = nu |k|^2, c = q |k|, x = r c:
H/P >= (y^2 + c^2) / (y + r c)^2, by Cauchy-Schwarz at least 1 / (1 + r^2).) Constants, |k| = 0,
have no such bound: the coarse space contains them. X is symmetric, as the sweeps are adjoint except
for their drift, and its off-diagonal entries are those of K_q: on a mesh where K is of M-type so is
X, and the matched sweeps are diagonally dominant whatever q is. Without congestion (B + X)^T
replaces A + X where the factors are incomplete (`LevelPlan`).

kappa is the geometric mean of the ends of the range where P is needed: from what the coarse space
(`coarse_space.py`) resolves, to the mesh, or to q / nu, beyond which diffusion wins. A consistent F
couples less than F0 at high frequencies: with the Euler pair kappa is then CONSISTENT times as
large. The coarse space comes first and multiplicatively: v0 = Z H_c^-1 Z^T r,
v = v0 + P^-1 (r - H v0).

Several populations have a P each, with F0 the sum over the densities that a population sees,
F0_i = sum_j |F_ij|: H is then not block-diagonal as X and F0 are, and the bounds hold where the own
density counts most. Blocks of A and B between populations are in P too, and in the coarse space of
those that exchange people. Steps that see averages T du and T* dm of two time levels
(`discrete/step.py`) have H = B T*^-1 F0^-1 A + D T and P = (B + X T*) T*^-1 F0^-1 (A + X T). With a
discount T averages discounted changes.
"""

from functools import cached_property
from itertools import chain

from mpi4py import MPI
from petsc4py import PETSc

import numpy as np

from mfg_fem.discrete.jacobian import Jacobian
from mfg_fem.linear.coupled.coarse_space import CoarseSpace
from mfg_fem.linear.level.sweeps import Sweeps
from mfg_fem.linear.plan import Plan

SAME = PETSc.Mat.Structure.SAME_NONZERO_PATTERN
FLOOR = 1e-6  # relative to the largest f: F0 must be invertible where costs ignore m
ROUND_OFF = 1e-10  # relative difference up to which F is F0
STRONG = 36.0  # strength of coupling from which they take less time than sweeps alone
CONSISTENT = 1.3  # factor of kappa, see above


class Coupling:
    """The coefficients of the coupling at the last linearisation, and the operator H.

    Attributes:
        F0: lumped F, shape (k, steps, owned), positive.
        q: sqrt(f a), zero at Dirichlet dofs; q_max the largest.
        sloped: whether a terminal cost depends on a density.
        uniform: whether all time levels are alike.
    """

    def __init__(self, J: Jacobian):
        self.J = J
        d = J.discrete
        # P2's row sums of the mass vanish at vertices: its diagonal, scaled to the whole volume.
        sums = np.array([d.weights.sum(), d.norm_weights.sum()])
        volume, trace = d.comm.allreduce(sums, MPI.SUM)
        self.weights = d.norm_weights * (volume / trace)

    def refresh(self, coefficients: np.ndarray):
        """Take over, and overwrite, the f_ij and a_i of a new linearisation. Collective."""
        J, k, units = self.J, self.J.k, self.J.discrete.problem.units
        self.__dict__.pop("exact", None)
        self.sloped = J.comm.allreduce(bool(J.terminal_slopes.any()), MPI.LOR)
        self.uniform = J.uniform and not self.sloped
        slopes = coefficients[: k * k].reshape(k, k, J.steps, J.owned)
        # u^N = u_T(m^N) is eliminated
        slopes[:, :, -1] += J.rule.discount[:, -1, None, None] / J.dt[-1] * J.terminal_slopes
        f, a = slopes[np.arange(k), np.arange(k)] if k > 1 else slopes[0], coefficients[k * k :]
        for i, j in np.argwhere(~np.eye(k, dtype=bool)):
            f[i] += np.abs(slopes[i, j])
        J.discrete.release(f), J.discrete.release(a)
        for i in range(k):
            for n in range(J.steps):
                a[i, n] = np.sqrt(np.maximum(f[i, n], 0.0) * np.maximum(a[i, n], 0.0))
        np.abs(f, out=f)
        largest = np.array([y.max(initial=0.0) for y in (f, a)])
        J.comm.Allreduce(MPI.IN_PLACE, largest, MPI.MAX)
        top, self.q_max = largest
        np.maximum(f, FLOOR * (top or units.cost / units.time / units.density), out=f)
        for own, exits in zip(f, J.discrete.exits, strict=True):
            own[:, exits.held] = 1.0
        f *= self.weights
        self.F0, self.q = f, a

    @cached_property
    def exact(self) -> bool:
        """Whether F is F0, so that HJB rows hold for du = v, dm = F0^-1 A v. Collective.

        It is tested on a random density, which has all frequencies.
        """
        dm = np.random.default_rng(0).standard_normal(self.F0.shape)
        self.J.discrete.release(dm)
        y = self.J.mult_F(dm)
        defect, size = (
            self.J.comm.allreduce(np.abs(z).max(initial=0.0), MPI.MAX)
            for z in (y - self.mult_F0(dm), y)
        )
        return bool(defect <= ROUND_OFF * size)

    @property
    def strength(self) -> float:
        """Strength of coupling: the largest f a |k|^2 / (omega^2 + (nu |k|^2)^2).

        omega = pi / 2T is the lowest frequency of [0, T] with one end free, and |k| begins at the
        size of the domain. GMRES on the Schur form takes about 2 sqrt(strength) iterations.
        """
        d, nu = self.J.discrete, self.J.diffusion
        omega = np.pi / (2 * d.problem.duration)
        square = max((np.pi / d.diameter) ** 2, omega / nu)
        return self.q_max**2 * square / (omega**2 + (nu * square) ** 2)

    @property
    def strong(self) -> bool:
        """Whether matched sweeps take less time; never where A is not what sweeps invert."""
        return self.strength > STRONG and not self.J.fed("A")

    def mult_F0(self, dm: np.ndarray) -> np.ndarray:
        """F0 T* dm."""
        return self.F0 * self.J.seen_m(dm)

    def density(self, du: np.ndarray) -> np.ndarray:
        """T*^-1 F0^-1 A du, the change of the densities with which du fulfils the HJB rows."""
        J, dm = self.J, self.J.mult_A(du)
        dm /= self.F0
        if J.rule.averages:
            dm[:, 0] /= J.after[:, 0]
            for n in range(1, J.steps):
                dm[:, n] -= J.before[:, n] * dm[:, n - 1]
                dm[:, n] /= J.after[:, n]
        return dm

    def mult_H(self, du: np.ndarray) -> np.ndarray:
        """H du."""
        dm = self.density(du)
        y = self.J.mult_B(dm)
        y += self.J.mult_D(du, self.J.terminal_change(dm[:, -1]))
        return y


class MatchedSweeps:
    """P^-1 after the coarse spaces, one for each group that exchanges people."""

    def __init__(self, coupling: Coupling, plan: Plan):
        self.coupling, self.J, self.plan = coupling, coupling.J, plan
        d, J = self.J.discrete, self.J
        names = "B" if plan.matched.transposed else "AB"
        self.blocks = {name: [self._levels() for _ in range(J.k)] for name in names}
        self.sweeps = Sweeps(J, plan.matched, self.blocks)
        self.coarse = []
        if plan.coarse_size:
            self.coarse = [CoarseSpace(J, y, plan.coarse_size) for y in d.problem.groups]
        self._scratch = [d.stiffness.duplicate() for _ in range(2)]
        self._free = np.ones((J.k, J.owned))
        d.release(self._free)

    def _levels(self) -> list[PETSc.Mat]:
        create, steps = self.J.discrete.pattern.create, self.J.steps
        return [create()] * steps if self.plan.in_turn else [create() for _ in range(steps)]

    def destroy(self):
        """Free the matrices and the solvers."""
        self.sweeps.destroy()
        for space in self.coarse:
            space.destroy()
        for levels in chain(*self.blocks.values()):
            for M in levels:
                M.destroy()
        for M in self._scratch:
            M.destroy()

    def __str__(self):
        """What was chosen, for the report."""
        coarse = "no coarse space"
        if self.coarse:
            coarse = f"{self.coarse[0].size} coarse functions"
        return f"wave number {self.wave_number:.3g}, {coarse}, {self.plan.matched} on each level"

    def refresh(self):
        """Take over the last linearisation. Collective."""
        J, coupling = self.J, self.coupling
        self.wave_number = self.plan.wave_number or self._matched_wave_number()
        for n in range(J.steps):
            for i in range(J.k):
                X = self._X(i, coupling.q[i, n])
                for name, blocks in self.blocks.items():
                    getattr(J, name)[i][n].copy(blocks[i][n], SAME)
                    self._add(blocks[i][n], X, name, i, n)
            if self.plan.in_turn:
                for name in self.blocks:
                    for factors in self.sweeps.factors[name]:
                        factors.update(n)
        J.discrete.pattern.free_scratch()
        for space in self.coarse:
            space.refresh(coupling)

    def _add(self, block: PETSc.Mat, X: PETSc.Mat, name: str, i: int, n: int):
        """Add X as what a step sees of it on its own level. Collective."""
        c = self.J.rule.c[n]
        if name == "A" or not c:
            block.axpy(1 - c, X, SAME)
            return
        scaled = self._scratch[1]  # free again after `_X`
        X.copy(scaled, SAME)
        self.J.scale_columns(scaled, self.J.after[i, n])
        block.axpy(1.0, scaled, SAME)

    def _matched_wave_number(self) -> float:
        d, coupling = self.J.discrete, self.coupling
        length = self.coarse[0].spacing if self.coarse else d.diameter
        high = min(np.pi / d.mesh_size, coupling.q_max / self.J.diffusion)
        kappa = np.pi * np.sqrt(max(high * length / np.pi, 1.0)) / length
        return kappa if coupling.exact or self.J.rule.averages else CONSISTENT * kappa

    def _X(self, i: int, q: np.ndarray) -> PETSc.Mat:
        """X with zero rows and columns at the Dirichlet dofs of population i.

        K_q = (Q K + K Q - diag(K q)) / 2, with entries K_ij (q_i + q_j) / 2 and constants in its
        kernel.
        """
        K, kappa = self.J.discrete.stiffness, self.wave_number
        X, KQ = self._scratch
        scaling = K.createVecRight()
        scaling.array[:] = q
        K.copy(X, SAME)
        X.diagonalScale(scaling, None)
        K.copy(KQ, SAME)
        KQ.diagonalScale(None, scaling)
        X.axpy(1.0, KQ, SAME)
        diagonal = X.getDiagonal()
        diagonal.array[:] += 2 * kappa**2 * q * self.coupling.weights - self.J.product(K, q)
        X.setDiagonal(diagonal)
        X.scale(1 / (4 * kappa))
        if self.J.discrete.exits[i].dofs:
            scaling.array[:] = self._free[i]
            X.diagonalScale(scaling, scaling)
        return X

    def solve(self, r: np.ndarray) -> np.ndarray:
        """Apply the preconditioner: H of the result is about r."""
        if not self.coarse:
            return self._sweep(r)
        v = np.empty_like(r)
        for space in self.coarse:
            v[space.members] = space.solve(r[space.members])
        left = self.coupling.mult_H(v)
        np.subtract(r, left, out=left)
        v += self._sweep(left)
        return v

    def _sweep(self, r: np.ndarray) -> np.ndarray:
        return self.sweeps.backward(self.coupling.mult_F0(self.sweeps.forward(r)))
