"""The stationary system: one time level, on which nothing changes.

The unknowns are u and m at the owned dofs, an array of shape (2, k, 1, owned). For each population

    hjb = dA/dm + gamma Mass u + w (e + [u] / T) = 0,      fp = dA/du + w [m - m~] / T = 0,

with the functional A, its discount gamma, the row sums w of Mass, the mean value [.] over the
domain and over the populations that exchange people, the uniform density m~ of the population, what
it costs per unit of time there, e, and a time T, the unit of time or 1 / gamma if that is less. The
last terms are there if nobody can leave, that of u only if none of these populations has a
discount. Rows of dA/du sum to 0 then over them, so that m has their mass; u is determined up to one
constant for them, and lambda in

    -div(D grad u) + H + lambda = f

is e + [u] / T. Both terms are derivatives of V (e + [u] / T) [m - m~], so that everything still
comes from one functional.

To the solver it is one time step of the length LONG T: nothing changes in it, so that the residual
is exact. Its blocks A and B have Mass/dt besides, which makes them regular, and what `Border` says.
"""

from dataclasses import replace

from mpi4py import MPI

import numpy as np

from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.discrete.spacetime import SpaceTime
from mfg_fem.discrete.step import Levels

LONG = 1e7  # of the step, in T


class Border:
    """The terms of mean values beside the blocks A and B: w w^T / (V T). Collective.

    A is singular up to Mass/dt, with constants in its kernel, and so is B, whose columns sum to 0
    and whose kernel is about m.

    Mean values are those of the groups of populations that exchange people.

    Attributes:
        discount: the mean discount of the group of each population, shape (k,).
        free, closed: whether A, and whether B has such a term, for each population (k, 1, 1).
        even: e of each population, shape (k, 1).
        m: the densities of the last linearisation, shape (k, 1, owned).
    """

    def __init__(self, discrete: Discretisation, dt: float):
        self.discrete, self.dt, self.time = discrete, dt, dt / LONG
        problem, k = discrete.problem, discrete.k
        self.share = np.zeros((k, k))
        for group in problem.groups:
            self.share[np.ix_(group, group)] = 1 / len(group)
        self.closed = discrete.closed[:, None, None]
        self.discount = self.share @ problem.discounts
        self.free = self.closed & (self.discount == 0)[:, None, None]
        self.even = np.zeros((k, 1))
        self.m = np.ones((k, 1, discrete.owned))

    def mean(self, x: np.ndarray) -> np.ndarray:
        """Mean values over the groups of nodal values (k, ..., owned), shape (k, ..., 1)."""
        return self.of_groups(self.discrete.integral(x))

    def of_groups(self, totals: np.ndarray) -> np.ndarray:
        """Mean values over the groups of totals of each population, with one axis more."""
        return (np.tensordot(self.share, totals, 1) / self.discrete.volume)[..., None]

    def value_rows(self, u: np.ndarray) -> np.ndarray:
        """The product of the term of A with u, (k, 1, owned)."""
        return self.free * self.mean(u) / self.time * self.discrete.weights

    def density_rows(self, m: np.ndarray) -> np.ndarray:
        """The product of the term of B with m, (k, 1, owned)."""
        return self.closed * self.mean(m) / self.time * self.discrete.weights

    def _balanced(self, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rate that r has on average, and the rows r without it."""
        rate = self.of_groups(self.discrete.comm.allreduce(r.sum(axis=-1), MPI.SUM))
        return rate, r - rate * self.discrete.weights

    def backward(self, solve, r: np.ndarray) -> np.ndarray:
        """The solution with A and its term, where `solve` is that with A alone."""
        if not self.free.any():
            return solve(r)
        rate, balanced = self._balanced(r)
        du = solve(np.where(self.free, balanced, r))
        constant = (rate * self.time - self.mean(du)) / (1 + self.time / self.dt)
        return du + self.free * constant

    def forward(self, solve, r: np.ndarray) -> np.ndarray:
        """The solution with B and its term, where `solve` is that with B alone."""
        if not self.closed.any():
            return solve(r)
        rate, balanced = self._balanced(r)
        dm = solve(np.where(self.closed, balanced, r))
        share = (rate * self.time - self.mean(dm)) / self.mean(self.m)
        return dm + self.closed * share * self.m


class Stationary(SpaceTime):
    """A `SpaceTime` of one level. Collective."""

    def __init__(self, discrete: Discretisation):
        problem = discrete.problem
        long = LONG / max(1 / problem.units.time, *problem.discounts)
        super().__init__(discrete, np.array([0.0, long]))
        rule = replace(self.jacobian.rule, c=np.zeros(1), limited=False)
        self.jacobian.rule = self._sharpest = rule
        self.border = self.jacobian.border = Border(discrete, long)
        self.border.even = self.border.free[:, 0] * -self._mean_cost(self._uniform())

    def sharpen(self, sharpness: float):
        """Take this share of what the scheme has beyond first order, if it has any."""
        d = self.discrete
        if d.scheme.limited:
            d.state.limit.value = d.scheme.sharpness * sharpness

    def levels(self, X: np.ndarray) -> Levels:
        """The level, twice."""
        u, m = (np.repeat(y, 2, axis=1) for y in X)
        return Levels(u, m, self.jacobian.rule)

    def _uniform(self) -> np.ndarray:
        """Uniform densities, and u = 0."""
        X = np.zeros(self.shape)
        for m, crowd in zip(X[1], self.discrete.state.crowd, strict=True):
            m[:] = crowd.value
        return self.hold(X)

    def _mean_cost(self, X: np.ndarray) -> np.ndarray:
        """The mean of the HJB rows of each group at X, shape (k, 1)."""
        rows = self.comm.allreduce(self.residual(X)[0, :, 0].sum(axis=-1), MPI.SUM)
        return self.border.of_groups(rows)

    def even_crowd(self) -> np.ndarray:
        """Uniform densities, and u = 0, with a discount what it costs to stay there for ever."""
        X = self._uniform()
        border = self.border
        kept = (border.closed & ~border.free)[:, 0, 0]
        if kept.any():
            X[0, kept] -= (self._mean_cost(X)[kept, 0] / border.discount[kept])[:, None, None]
        return X

    def size(self, u: np.ndarray) -> float:
        """Of what size u will be, in its unit, by the residual at uniform densities. Collective."""
        return float(self.norms(self._uniform())[0])

    def _add_border(self, rows: np.ndarray, X: np.ndarray):
        """Add the terms of mean values to all rows."""
        border = self.border
        rows[0] += border.value_rows(X[0]) + border.even[..., None] * self.discrete.weights
        rows[1] += border.density_rows(X[1] - self._crowd)

    @property
    def _crowd(self) -> np.ndarray:
        """The uniform densities, shape (k, 1, 1)."""
        return np.array([crowd.value for crowd in self.discrete.state.crowd])[:, None, None]

    def residual(self, X: np.ndarray, held: bool = True) -> np.ndarray:
        """The rows of both equations, shape (2, k, 1, owned)."""
        R = super().residual(X, held)
        self._add_border(R, X)
        return R

    def fp_residual(self, X: np.ndarray) -> np.ndarray:
        """The Fokker-Planck rows of `residual`."""
        return self.residual(X)[1]

    def hjb_rows(self, X: np.ndarray, n: int, u_next: np.ndarray) -> np.ndarray:
        """The HJB rows at X, whatever u_next."""
        rows = super().hjb_rows(X, n, X[0, :, n])
        rows += self.border.value_rows(X[0])[:, 0] + self.border.even * self.discrete.weights
        return rows

    def linearise(self, X: np.ndarray) -> np.ndarray:
        """As that of a `SpaceTime`."""
        self.border.m = X[1]
        return super().linearise(X)

    def linearise_fp(self, X: np.ndarray):
        """Assemble B alone at X."""
        self.border.m = X[1]
        super().linearise_fp(X)

    def settled(self, X: np.ndarray) -> np.ndarray:
        """X with the mass of each closed group to round-off: a multiple of m solves as well."""
        border, ones = self.border, np.ones((self.k, 1, self.owned))
        ratio = border.mean(self._crowd * ones) / border.mean(X[1])
        return np.stack([X[0], X[1] * np.where(border.closed, ratio, 1.0)])

    def row_scale(self) -> np.ndarray:
        """Factors of the residual rows, as if the step were one unit of time."""
        return super().row_scale() / np.sqrt(self.dt[0] / self.discrete.problem.units.time)


def constant_cost(discrete: Discretisation, i: int, u: np.ndarray, m: np.ndarray) -> float | None:
    """Lambda of population i for u and m of all, (k, owned); None if u_i has no free constant.

    Collective.
    """
    group = next(y for y in discrete.problem.groups if i in y)
    if not discrete.closed[i] or any(discrete.problem.discounts[j] for j in group):
        return None
    discrete.set_state(u, m, 0.0)
    rows = discrete.comm.allreduce(float(discrete.assemble_rows("hjb", i).sum()), MPI.SUM)
    return -rows / discrete.volume


def system_of(discrete: Discretisation, times: np.ndarray) -> SpaceTime:
    """The system of a problem, at these time levels if it has a horizon."""
    return Stationary(discrete) if discrete.problem.stationary else SpaceTime(discrete, times)
