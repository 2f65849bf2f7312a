"""The space-time system: its unknowns, its residual, its Jacobian by time step.

Unknowns are u^0..u^{N-1} and m^1..m^N of each population at the owned dofs, an array of shape
(2, k, N, owned): ranks share space, not time. The ends of the time interval determine u^N and m^0
(`ends.py`). Step n sees the fields (U, M) = (u^n, m^{n+1}), or averages of both time levels
(`step.py`). With dt = t^{n+1} - t^n it reads for each population

    hjb^n = Mass (u^n - u^{n+1}) / dt + dA/dm (U, M) = 0
    fp^n  = Mass (m^{n+1} - m^n) / dt + dA/du (U, M) = 0.

*Discount.* With gamma u in the HJB equation the present value v = exp(-gamma t) u solves it
without, with the costs exp(-gamma t) A(exp(gamma t) v, m). Step n takes e_n for exp(-gamma t), and
U = ((1 - c) v^n + c v^{n+1}) / e_n. As e_n U is what a step sees of v,

    sum v^0 Mass m^0 = cost

to round-off for all c, as without discount: costs of a step count e_n, and what is paid at an exit
in it exp(-gamma t) averaged as v is. Divided by what counts at t^n,

    hjb^n = Mass (u^n - b u^{n+1}) / dt + w dA/dm (U, M),     U = ((1 - c) u^n + c b u^{n+1}) / w,

    b = (1 - (1 - c) gamma dt) / (1 + c gamma dt),     w = (1 - b) / (gamma dt) = 1 - c + c b.

These are of the order of the scheme in dt, and the only ones for which U = u if u does not change,
and (1 - b) u / dt = w gamma u: a solution without a horizon solves the equations of each step. In
steps so long that (1 - c) gamma dt > LONG b is exp(-gamma dt), with the same w of b, which is exact
for costs that are the same everywhere. In both cases
d hjb^n / d u^n = Mass / dt + (1 - c) K is what it was, the transpose of d fp^n / d m^{n+1}
where that was so.

Each population has its own gamma_i, and with it e_i, b_i and w_i. A player who changes from i to j
at the rate lambda_ij discounts at gamma_j from then on: row i sees U_j. The cost of population j
counts exp(-gamma_j t), whoever pays it, and so

    sum of costs = sum v^0 Mass m^0 + sum_n dt sum_ij (e_j - e_i) int lambda_ij M_i U_j,

where the last sum is zero if nobody changes, or if all have one discount.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mpi4py import MPI

import numpy as np

from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.discrete.jacobian import Jacobian
from mfg_fem.discrete.step import Levels

ROUND_OFF = 1e-15  # relative to the value function
LEAVING = 0.99  # largest share of the people at a node that one Newton step removes


class SpaceTime:
    """Residual and Jacobian of a Discretisation at the time levels `times`.

    Attributes:
        jacobian: its blocks at the last linearisation.
        assembled: steps that the last linearisation or residual assembled; the others were equal.
    """

    def __init__(self, discrete: Discretisation, times: np.ndarray):
        self.discrete, self.jacobian = discrete, Jacobian(discrete, times)
        self.times, self.dt, self.steps = times, self.jacobian.dt, self.jacobian.steps
        self.comm, self.owned, self.k = discrete.comm, discrete.owned, discrete.k
        self.unknowns = self.jacobian.nodes * self.steps * self.k  # of each field
        self.assembled, self._sharpest = 0, self.jacobian.rule

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape (2, k, N, owned) of the unknowns and of the residual on this rank."""
        return 2, self.k, self.steps, self.owned

    @property
    def unit(self) -> np.ndarray:
        """The units of u and m, shape (2, k, 1, 1)."""
        units = [own.units for own in self.discrete.problem.populations]
        pairs = [[own.cost for own in units], [own.density for own in units]]
        return np.array(pairs)[:, :, None, None]

    def destroy(self):
        """Free the matrices."""
        self.jacobian.destroy()

    def even_crowd(self) -> np.ndarray:
        """Uniform densities at all times, and u = their terminal cost.

        Where nobody can leave, u also has their mean running cost until the end: the HJB rows of a
        step sum to 0.
        """
        d = self.discrete
        m = np.array([np.full(self.owned, crowd.value) for crowd in d.state.crowd])
        u_T, _ = d.ends.values(d, m)
        X = self.hold(np.stack([np.repeat(y[:, None], self.steps, axis=1) for y in (u_T, m)]))
        if d.closed.any():
            sums = self.comm.allreduce(self.residual(X)[0].sum(axis=2), MPI.SUM)
            still, discount = np.zeros(self.k), self.jacobian.rule.discount
            for n in reversed(range(self.steps)):
                still = discount[:, n] * still + self.dt[n] / d.volume * sums[:, n]
                X[0, d.closed, n] -= still[d.closed, None]
        return X

    def size(self, u: np.ndarray) -> float:
        """The largest value of u, in its unit. Collective."""
        cost = self.discrete.problem.units.cost
        return self.comm.allreduce(np.abs(u).max(initial=0.0), MPI.MAX) / cost

    def settled(self, X: np.ndarray) -> np.ndarray:
        """A solution X with what its system knows of it exactly: nothing here."""
        return X

    def hold(self, X: np.ndarray) -> np.ndarray:
        """X with u and m as they are known at the Dirichlet dofs, in a new array."""
        X = X.copy()
        for i, exits in enumerate(self.discrete.exits):
            X[0, i][:, exits.held] = exits.costs(self.times[:-1])
            X[1, i][:, exits.held] = exits.density[exits.held]
        return X

    def levels(self, X: np.ndarray) -> Levels:
        """The time levels 0..N of both fields, with u^N and m^0 from the ends of the interval."""
        ends = self.discrete.ends
        u_T, _ = ends.values(self.discrete, X[1, :, -1])
        u = np.concatenate([X[0], u_T[:, None]], axis=1)
        return Levels(u, np.concatenate([ends.start[:, None], X[1]], axis=1), self.jacobian.rule)

    def sharpen(self, sharpness: float):
        """Take this share of what the scheme has beyond first order, if it has any."""
        d = self.discrete
        if d.scheme.limited:
            d.state.limit.value = d.scheme.sharpness * sharpness
            self.jacobian.rule = self._sharpest.times(sharpness)

    @contextmanager
    def sturdy(self) -> Iterator[None]:
        """Take Euler steps in the place of limited ones during a with block: for starts."""
        J, rule = self.jacobian, self.jacobian.rule
        if rule.limited:
            J.rule = rule.times(0.0)
        try:
            yield
        finally:
            J.rule = rule

    def _see(self, fields: tuple[np.ndarray, np.ndarray], n: int):
        self.discrete.set_state(*fields, (self.times[n] + self.times[n + 1]) / 2)

    def each(self, levels: Levels, assemble: Callable):
        """Each step n, and what `assemble` returns for the fields it sees.

        Consecutive steps that see the same share one assembly, as at a start from uniform
        densities.
        """
        self.assembled, found, alike = 0, None, self._alike(levels)
        for n in range(self.steps):
            if not alike[n]:
                self._see(levels.of_step(n), n)
                found = assemble()
                self.assembled += 1
            yield n, found

    def _alike(self, levels: Levels) -> np.ndarray:
        """Whether a step sees the same m as the one before, and u up to a constant. Collective."""
        if not self.discrete.forms.autonomous:
            return np.zeros(self.steps, bool)
        ends, before = np.full((self.steps, 5, self.k), np.inf), None
        for n in range(self.steps):
            seen = levels.of_step(n)
            if before:
                ends[n, 4] = np.abs(seen[0]).max(axis=1, initial=0.0)
                for i, change in enumerate(map(np.subtract, seen, before)):
                    ends[n, i] = change.max(axis=1, initial=-np.inf)
                    ends[n, 2 + i] = -change.min(axis=1, initial=np.inf)
            before = seen
        self.comm.Allreduce(MPI.IN_PLACE, ends, MPI.MAX)
        up_u, up_m, down_u, down_m, size = ends.swapaxes(0, 1)
        same = (up_m == 0.0) & (down_m == 0.0) & (up_u + down_u <= ROUND_OFF * size)
        return same.all(axis=1)

    def residual(self, X: np.ndarray, held: bool = True) -> np.ndarray:
        """The rows of both equations, shape (2, k, N, owned).

        At Dirichlet dofs they are the deviation from the Dirichlet value times mass over dt, or
        with held=False minus the outflow.
        """
        levels, R, rule = self.levels(X), np.empty(self.shape), self.jacobian.rule
        for n, rows in self.each(levels, lambda: self.discrete.assemble_rows("residual")):
            R[:, :, n] = rows.reshape(self.k, 2, -1).swapaxes(0, 1)
            R[0, :, n] *= rule.worth[:, n, None]
            later = rule.discount[:, n, None] * levels.u[:, n + 1]
            R[0, :, n] += self._rate(levels.u[:, n] - later, n)
            R[1, :, n] += self._rate(levels.m[:, n + 1] - levels.m[:, n], n)
        if held:
            for i, exits in enumerate(self.discrete.exits):
                dofs = exits.held
                rates = self.discrete.norm_weights[dofs] / self.dt[:, None]
                R[0, i][:, dofs] = rates * (X[0, i][:, dofs] - exits.costs(self.times[:-1]))
                R[1, i][:, dofs] = rates * (X[1, i][:, dofs] - exits.density[dofs])
        return R

    def fp_residual(self, X: np.ndarray) -> np.ndarray:
        """The Fokker-Planck rows of `residual`, if B has been assembled at X."""
        d = self.discrete
        if d.forms.nonlinear or d.has_source or d.problem.open:
            levels, R = self.levels(X), np.empty(self.shape[1:])
            for i in range(self.k):
                for n, rows in self.each(levels, lambda i=i: d.assemble_rows("fp", i)):
                    change = levels.m[i, n + 1] - levels.m[i, n]
                    R[i, n] = rows + self.jacobian.mult_mass(change) / self.dt[n]
        else:  # linear in the density, so that a product suffices
            R = self.jacobian.mult_B(X[1])
            R[:, 0] -= self.jacobian.other_level("B", 0, d.ends.start)
        return d.release(R)

    def _rate(self, changes: np.ndarray, n: int) -> np.ndarray:
        return np.stack([self.jacobian.mult_mass(change) for change in changes]) / self.dt[n]

    def linearise(self, X: np.ndarray) -> np.ndarray:
        """Assemble the blocks at X; return f_ij, a_i of `StepForms`, shape (k k + k, N, owned)."""
        d, levels, J = self.discrete, self.levels(X), self.jacobian
        coefficients = np.empty((self.k * (self.k + 1), *self.shape[2:]))
        _, J.terminal_slopes = d.ends.values(d, X[1, :, -1])
        J.see(levels.m)
        J.forget_feedback()
        J.end_feedback = d.ends.feedback(d, X[1, :, -1])

        def assemble():
            feedback = d.feedback and d.feedback.linearised(d)
            return d.assemble_jacobian(), d.coupling(), feedback

        for n, (entries, coupling, feedback) in self.each(levels, assemble):
            J.fill(n, entries)
            J.feedback[n] = feedback
            coefficients[:, n] = coupling
        worth = J.rule.worth[..., None]
        coefficients[: self.k**2] *= np.repeat(worth, self.k, axis=0)
        coefficients[self.k**2 :] /= worth
        J.uniform = J.even and self.assembled == 1 and not J.rule.limited
        return coefficients

    def hjb_rows(self, X: np.ndarray, n: int, u_next: np.ndarray) -> np.ndarray:
        """The HJB rows of step n of X, given u^{n+1}, shape (k, owned)."""
        d, rule, u = self.discrete, self.jacobian.rule, X[0, :, n]
        before = X[1, :, n - 1] if n else d.ends.start
        self._see(rule.fields(n, (u, u_next), (before, X[1, :, n])), n)
        rows = np.stack([d.assemble_rows("hjb", i) for i in range(self.k)])
        worth, discount = rule.worth[:, n, None], rule.discount[:, n, None]
        return d.release(worth * rows + self._rate(u - discount * u_next, n))

    def linearise_hjb(self, n: int):
        """Assemble A of step n at the fields of the last `hjb_rows`."""
        d, J = self.discrete, self.jacobian
        if J.crosses("A"):
            J.fill_field("A", n, d.assemble_jacobian())
            return
        for i in range(self.k):
            J.fill_diagonal(J.A[i][n], i, n, d.assemble_block("hjb in u", i))

    def linearise_fp(self, X: np.ndarray):
        """Assemble B alone at X."""
        d, J, levels = self.discrete, self.jacobian, self.levels(X)
        J.see(levels.m)
        if J.crosses("B"):
            for n, entries in self.each(levels, d.assemble_jacobian):
                J.fill_field("B", n, entries)
            return
        for i in range(self.k):
            for n, entries in self.each(levels, lambda i=i: d.assemble_block("fp in m", i)):
                J.fill_B(i, n, entries)

    def mult_jacobian(self, dX: np.ndarray) -> np.ndarray:
        """The whole Jacobian times dX."""
        return self.jacobian.mult(dX)

    def admissible(self, X: np.ndarray, dX: np.ndarray) -> list[np.ndarray]:
        """Steps dX, of which Newton subtracts from X the one of least residual. Collective.

        The first is cut where the full step would make a density negative: the coefficient m H_pp
        of the coupling changes sign there. Where data are infinite at m = 0, or the scheme has a
        kink there, some people are left (LEAVING). The full step is the second if the scheme does
        not keep solutions positive, so that they may be negative on coarse meshes.
        """
        kinked = self.discrete.problem.infinite or self.discrete.scheme.limited
        share = LEAVING if kinked else 1.0
        cut = np.stack([dX[0], np.minimum(dX[1], share * X[1])])
        alike = self.comm.allreduce(np.array_equal(cut[1], dX[1]), MPI.LAND)
        return [cut] if alike or self.discrete.scheme.positive else [cut, dX]

    def facts(self, X: np.ndarray) -> dict[str, float]:
        """Entries of the history beside residuals: total mass at the end, least density."""
        mass = self.comm.allreduce(float((X[1, :, -1] @ self.discrete.weights).sum()), MPI.SUM)
        least = self.comm.allreduce(X[1].min(initial=np.inf), MPI.MIN)
        return {"mass": mass, "min_density": least}

    def norms(self, X: np.ndarray) -> np.ndarray:
        """Root mean squares of the residuals of both equations at X, in their units. Collective."""
        squares = np.sum((self.row_scale() * self.residual(X)) ** 2, axis=(1, 2, 3))
        return np.sqrt(self.comm.allreduce(squares, MPI.SUM))

    def row_scale(self) -> np.ndarray:
        """Factors of the residual rows, shape (2, 1, N or 1, owned).

        The Euclidean norm of scaled rows is the root mean square over space-time of the residuals,
        those of the HJB equation in U / T and of the Fokker-Planck equation in M / T: see
        `problem/units.py`.
        """
        d, units = self.discrete, self.discrete.problem.units
        dt = self.dt[:1] if self.jacobian.even else self.dt
        scale = np.sqrt(dt[:, None] / (d.volume * units.time) / d.norm_weights)
        return scale * units.time / self.unit
