"""The Jacobian of the space-time system: its blocks by time step, and their products.

The Newton equation is A du - F dm = r_u, D du + B dm = r_m. The blocks of step n are PETSc matrices
of one sparsity pattern: for population i

    A[i][n] = d hjb_i / d u_i^n,     B[i][n] = d fp_i / d m_i^{n+1},     D[i][n] = d fp_i / d U_i,

F[i, j][n] = - d hjb_i / d M_j where the costs of i see the density of j, one matrix for all steps
if it is the same at all states, and `crossing[row, column][n]`, the nonzero blocks of A and B
between two populations, by components as in `StepForms`. (U, M) is what a step sees: see `step.py`.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any

from mpi4py import MPI
from petsc4py import PETSc

import numpy as np

from mfg_fem.discrete.discretisation import Discretisation

EVEN = 1e-13  # relative to the horizon: steps that differ by more are not equally long


def longest_step(times: np.ndarray) -> np.ndarray:
    """The time levels of one step as long as the longest: enough to choose solvers by."""
    return np.array([0.0, np.diff(times).max()])


class Jacobian:
    """The blocks of a Discretisation at the time levels `times`, zero until they are filled.

    Vectors are arrays of shape (k, N, owned): du of u^0..u^{N-1}, dm of m^1..m^N.

    Attributes:
        times, dt: the time levels t^0 < ... < t^N, and their differences.
        even: whether all steps are equally long.
        uniform: whether all steps have equal blocks.
        rule: what a step sees of its two time levels.
        before, after: derivatives of the M of step n in m^n and m^{n+1}, shape (k, N, owned).
        feedback: what steps see through quantities of the crowd, if anything.
        end_feedback: what u(T) sees of a change of m(T) through them, if anything.
        border: terms beside A and B in a stationary system, see `stationary.py`.
        terminal_slopes: d u_i(T) / d m_j(T), shape (k, k, owned).
    """

    def __init__(self, discrete: Discretisation, times: np.ndarray):
        self.discrete, self.times, self.steps = discrete, times, len(times) - 1
        self.comm, self.owned, self.k = discrete.comm, discrete.owned, discrete.k
        self.nodes = discrete.V.dofmap.index_map.size_global
        self.dt = np.diff(times)
        self.even = bool(np.ptp(self.dt) <= EVEN * times[-1])
        if self.even:  # else round-off would make the factors of steps differ
            self.dt = np.full(self.steps, (times[-1] - times[0]) / self.steps)
        rule = discrete.scheme.rule(self.dt, discrete.has_exits, discrete.decay)
        decay = np.outer(discrete.problem.discounts, self.dt)
        self.rule = replace(rule, decay=0 * decay if discrete.problem.stationary else decay)
        self.see(np.ones((self.k, self.steps + 1, self.owned)))
        forms, populations = discrete.forms, range(self.k)
        self.A, self.B, self.D = ([self._blocks() for _ in populations] for _ in range(3))
        self.F = {pair: self._blocks(forms.steady) for pair in forms.costs_see}
        self.crossing = {pair: self._blocks() for pair in forms.crossing}
        self.feedback: list[Any] = [None] * self.steps
        self.end_feedback: Callable[[np.ndarray], np.ndarray] | None = None
        self.terminal_slopes = np.zeros((self.k, self.k, self.owned))
        self.uniform = False
        self.border: Any = None
        self._x, self._y = discrete.mass.createVecs()

    def see(self, m: np.ndarray):
        """Take over the densities at all levels, shape (k, N + 1, owned)."""
        self.before, self.after = self.rule.slopes(m)

    def _blocks(self, alike: bool = False) -> list[PETSc.Mat]:
        create, steps = self.discrete.pattern.create, self.steps
        return [create()] * steps if alike else [create() for _ in range(steps)]

    def fed(self, name: str) -> bool:
        """Whether rows of A or B, by name, depend on quantities that their own field makes."""
        feedback: Any = self.discrete.forms.feedback
        return bool(feedback) and (feedback.answering if name == "A" else feedback.moving)

    def forget_feedback(self):
        """Free what steps see through quantities of the crowd."""
        for blocks in {*self.feedback} - {None}:
            blocks.destroy()
        self.feedback = [None] * self.steps

    def crosses(self, name: str) -> bool:
        """Whether A or B, by name, has blocks between populations."""
        return bool(self.between(name, 0))

    @property
    def diffusion(self) -> float:
        """The smallest mean diffusion of a population, times the viscosity factor."""
        return self.discrete.mean_diffusion.min() * self.discrete.state.stretch.value

    @property
    def diffusion_number(self) -> float:
        """Largest D dt / (mesh size)^2 without viscosity factor, rounded as `spread` is."""
        d = self.discrete
        return round(self.dt.max() * d.mean_diffusion.max() / d.mesh_size**2, 6)

    @property
    def least_rate(self) -> float:
        """The least diagonal entry of Mass/dt for the longest dt. Collective."""
        least = self.comm.allreduce(self.discrete.norm_weights.min(initial=np.inf), MPI.MIN)
        return least / self.dt.max()

    def destroy(self):
        """Free the matrices."""
        lists = [*self.A, *self.B, *self.D, *self.F.values(), *self.crossing.values()]
        for matrix in (matrix for blocks in lists for matrix in blocks):
            matrix.destroy()
        self.forget_feedback()

    def fill(self, n: int, entries: np.ndarray):
        """Write the entries of `Discretisation.assemble_jacobian` into the blocks of step n."""
        fill = self.discrete.pattern.fill
        for name in "AB":
            self.fill_field(name, n, entries)
        for i in range(self.k):
            fill(self.D[i][n], entries[2 * i + 1, 2 * i] / self.rule.worth[i, n])
        if not (n and self.discrete.forms.steady):
            for (i, j), F in self.F.items():
                fill(F[n], -entries[2 * i, 2 * j + 1])

    def fill_field(self, name: str, n: int, entries: np.ndarray):
        """The same for A or B alone, by name, with what they have between populations."""
        field = "AB".index(name)
        for i in range(self.k):
            own = entries[2 * i + field, 2 * i + field]
            if name == "A":
                self.fill_diagonal(self.A[i][n], i, n, own)
            else:
                self.fill_B(i, n, own)
        worth = np.ones(self.k) if field else self.rule.worth[:, n]
        for (row, column), blocks in self.crossing.items():
            if row % 2 == field:
                ratio = worth[row // 2] / worth[column // 2]
                self.discrete.pattern.fill(blocks[n], ratio * entries[row, column])

    def fill_diagonal(self, block: PETSc.Mat, i: int, n: int, entries: np.ndarray):
        """Write (1 - c) entries of population i and step n, plus Mass/dt, into a block."""
        if self.rule.c[n]:
            entries = (1 - self.rule.c[n]) * entries
        self.discrete.pattern.fill(block, entries, self._rates(i, n))

    def fill_B(self, i: int, n: int, entries: np.ndarray):
        """Write B of population i and step n, from entries of d fp / dM. Collective."""
        block, pattern = self.B[i][n], self.discrete.pattern
        if not (self.rule.limited and self.rule.c[n]):
            self.fill_diagonal(block, i, n, entries)
            return
        pattern.fill(block, entries)
        self.scale_columns(block, self.after[i, n])
        pattern.add(block, self._rates(i, n))

    def scale_columns(self, block: PETSc.Mat, factors: np.ndarray):
        """Multiply each column of a block by a factor. Collective."""
        self._x.array[:] = factors
        block.diagonalScale(None, self._x)

    def _rates(self, i: int, n: int) -> list[np.ndarray]:
        """Entries of Mass/dt in the parts of the pattern."""
        if self.even:
            return self._rates_of_even_steps[i]
        return self._split_rates(i, n)

    def _split_rates(self, i: int, n: int) -> list[np.ndarray]:
        return self.discrete.pattern.split(self.discrete.step_entries[i] / self.dt[n])

    @cached_property
    def _rates_of_even_steps(self) -> list[list[np.ndarray]]:
        return [self._split_rates(i, 0) for i in range(self.k)]

    def product(self, mat: PETSc.Mat, x: np.ndarray) -> np.ndarray:
        """Owned values of mat x. Collective."""
        self._x.array[:] = x
        mat.mult(self._x, self._y)
        return self._y.array_r.copy()

    def product_of_level(
        self, name: str, n: int, x: np.ndarray, blocks: list[list[PETSc.Mat]] | None = None
    ) -> np.ndarray:
        """The rows of A or B, by name, of step n for x on its own level, (k, owned). Collective.

        `blocks` may take the place of its diagonal blocks.
        """
        blocks = blocks or getattr(self, name)
        y = np.stack([self.product(own[n], x[i]) for i, own in enumerate(blocks)])
        if between := self.between(name, n):
            seen = self.own_share(name, n) * x
            for (i, j), block in between.items():
                y[i] += self.product(block, seen[j])
        return y

    def between(self, name: str, n: int) -> dict[tuple[int, int], PETSc.Mat]:
        """The blocks of A or B, by name, of step n between populations (i, j)."""
        return {
            (row // 2, column // 2): blocks[n]
            for (row, column), blocks in self.crossing.items()
            if row % 2 == "AB".index(name)
        }

    def mult_mass(self, x: np.ndarray) -> np.ndarray:
        """Owned values of the mass matrix times x. Collective."""
        d = self.discrete
        return d.weights * x if d.scheme.lumped else self.product(d.mass, x)

    def mult_free_mass(self, i: int, x: np.ndarray) -> np.ndarray:
        """Mass matrix without the Dirichlet dofs of population i times x. Collective."""
        d = self.discrete
        return d.free_weights[i] * x if d.scheme.lumped else self.product(d.free_mass[i], x)

    def carried(self, name: str, n: int, y: np.ndarray) -> np.ndarray:
        """What step n sees of y on its other level: for A it is later, and discounted."""
        return self.rule.discount[:, n, None] * y if name == "A" else y

    def own_share(self, name: str, n: int) -> np.ndarray | float:
        """What step n sees of its own level, for A or B by name."""
        return 1 - self.rule.c[n] if name == "A" else self.after[:, n]

    def ratio(self, name: str, n: int) -> np.ndarray | float:
        """r, with which step n has r K - Mass/dt on its other level, beside A or B = Mass/dt + K.

        With x on its own level and y `carried` from the other its product is that of x + r y, as on
        the own level, less `behind`(y).
        """
        c = self.rule.c[n]
        if name == "A" or not c:
            return c / (1 - c)
        return self.before[:, n] / self.after[:, n]

    def behind(self, n: int, r: np.ndarray | float, y: np.ndarray) -> np.ndarray:
        """(1 + r) Mass/dt y of step n without Dirichlet dofs, for y of shape (k, owned)."""
        rates = (1 + r) * y / self.dt[n]
        return np.stack([self.mult_free_mass(i, rate) for i, rate in enumerate(rates)])

    def other_level(self, name: str, n: int, y: np.ndarray) -> np.ndarray:
        """Minus the product of step n with y, (k, owned), on the other level alone. Collective."""
        r, y = self.ratio(name, n), self.carried(name, n, y)
        found = self.behind(n, r, y)
        if self.rule.c[n]:
            found -= self.product_of_level(name, n, r * y)
            self.discrete.release(found)
        return found

    def seen_m(self, dm: np.ndarray) -> np.ndarray:
        """What the steps see of a change of m^1..m^N, shape (k, N, owned)."""
        if not self.rule.averages:
            return dm
        dM = self.after * dm
        dM[:, 1:] += self.before[:, 1:] * dm[:, :-1]
        return dM

    def seen_u(self, du: np.ndarray, du_T: np.ndarray) -> np.ndarray:
        """What the steps see of a change of u^0..u^{N-1} and of u^N, times `StepRule.worth`."""
        if not self.rule.averages:
            return du
        c = self.rule.c[:, None]
        dU, later = (1 - c) * du, c * self.rule.discount[..., None]
        dU[:, :-1] += later[:, :-1] * du[:, 1:]
        dU[:, -1] += later[:, -1] * du_T
        return dU

    def terminal_change(self, dm: np.ndarray) -> np.ndarray:
        """The change of u(T) with the final densities, shape (k, owned)."""
        change = np.einsum("ijx,jx->ix", self.terminal_slopes, dm)
        return change + self.end_feedback(dm) if self.end_feedback else change

    def mult_F(self, dm: np.ndarray) -> np.ndarray:
        """F dm, which a change of the densities adds to the right-hand side of the HJB rows."""
        dM, y = self.seen_m(dm), np.zeros_like(dm)
        for (i, j), F in self.F.items():
            for n, block in enumerate(F):
                y[i, n] += self.product(block, dM[j, n])
        for n, blocks in enumerate(self.feedback):
            if blocks:
                y[:, n] -= blocks.rows(0, None, dM[:, n])
        y *= self.rule.worth[..., None]
        self.discrete.release(y)
        y[:, -1] += self.end_rows(self.terminal_change(dm[:, -1]))
        return y

    def end_rows(self, du_T: np.ndarray) -> np.ndarray:
        """What a change of u(T), (k, owned), adds to the right-hand side of the last HJB rows."""
        last = self.steps - 1
        y = self.other_level("A", last, du_T)
        if self.fed("A") and self.rule.c[last]:
            seen = self.rule.c[last] * self.rule.discount[:, last, None] * du_T
            y -= self.discrete.release(self.feedback[last].rows(0, seen, None))
        return y

    def mult_D(self, du: np.ndarray, du_T: np.ndarray) -> np.ndarray:
        """D du, the Fokker-Planck rows of a change of the value functions, of u(T) by du_T."""
        dU, y = self.seen_u(du, du_T), np.empty_like(du)
        for i, n in np.ndindex(y.shape[:2]):
            y[i, n] = self.product(self.D[i][n], dU[i, n])
        return self.discrete.release(y)

    def mult_A(self, du: np.ndarray) -> np.ndarray:
        """A du, the HJB rows of a change of u^0..u^{N-1}."""
        y = self._mult("A", du, range(1, self.steps + 1))
        if self.fed("A"):
            seen = self.seen_u(du, np.zeros((self.k, self.owned)))
            for n, blocks in enumerate(self.feedback):
                y[:, n] += blocks.rows(0, seen[:, n], None)
            self.discrete.release(y)
        return y + self.border.value_rows(du) if self.border else y

    def mult_B(self, dm: np.ndarray) -> np.ndarray:
        """B dm, the Fokker-Planck rows of a change of m^1..m^N."""
        y = self._mult("B", dm, range(-1, self.steps - 1))
        if self.fed("B"):
            seen = self.seen_m(dm)
            for n, blocks in enumerate(self.feedback):
                y[:, n] += self.discrete.release(blocks.rows(1, None, seen[:, n]))
        return y + self.border.density_rows(dm) if self.border else y

    def _mult(self, name: str, x: np.ndarray, others: range) -> np.ndarray:
        """The product of A or B, by name, where `others` has the other level of each step."""
        y = np.empty_like(x)
        for n, other in enumerate(others):
            if other in range(self.steps):
                r, seen = self.ratio(name, n), self.carried(name, n, x[:, other])
                y[:, n] = self.product_of_level(name, n, x[:, n] + r * seen)
                y[:, n] -= self.behind(n, r, seen)
            else:
                y[:, n] = self.product_of_level(name, n, x[:, n])
        return y

    def mult(self, dX: np.ndarray) -> np.ndarray:
        """The whole Jacobian times dX, shape (2, k, N, owned)."""
        (du, dm), y = dX, np.empty_like(dX)
        y[0], y[1] = self.mult_A(du), self.mult_B(dm)
        y[0] -= self.mult_F(dm)
        y[1] += self.mult_D(du, self.terminal_change(dm[:, -1]))
        return y
