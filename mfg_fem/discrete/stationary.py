"""The stationary system: one time level, on which nothing changes.

The unknowns are u and m at the owned dofs, an array of shape (2, k, 1, owned). For each population

    hjb = dA/dm + gamma Mass u + w [u] / T = 0,      fp = dA/du + w [m - m~] / T = 0,

with the functional A, the discount gamma, the row sums w of Mass, the mean value [.] over the
domain, the uniform density m~ of the population, and the unit T of time. The last terms are there
if nobody can leave, that of u only if gamma = 0. Rows of dA/du sum to 0 then, so that m has the
mass of the population; u is determined up to a constant, and lambda in

    -div(D grad u) + H + lambda = f

is [u] / T. Both terms are derivatives of V [u] [m - m~] / T, so that everything still comes from one
functional.

To the solver it is one time step of the length LONG: nothing changes in it, so that the residual is
exact. Its blocks A and B have Mass/dt besides, which makes them regular, and what `Border` says.
"""

from mpi4py import MPI

import numpy as np

from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.discrete.spacetime import Levels, SpaceTime
from mfg_fem.discrete.step import StepRule

LONG = 1e7  # of the step, in the unit of time


class Border:
    """The terms of mean values beside the blocks A and B: w w^T / (V T). Collective.

    A is singular up to Mass/dt, with constants in its kernel, and so is B, whose columns sum to 0
    and whose kernel is about m.

    Attributes:
        free, closed: whether A, and whether B has such a term.
        m: the densities of the last linearisation, shape (k, 1, owned).
    """

    def __init__(self, discrete: Discretisation, dt: float):
        self.discrete, self.dt, self.time = discrete, dt, discrete.problem.units.time
        self.closed = not discrete.has_exits
        self.free = self.closed and not discrete.problem.discount
        self.m = np.ones((discrete.k, 1, discrete.owned))

    def mean(self, x: np.ndarray) -> np.ndarray:
        """Mean values of rows of owned nodal values, with an axis of length 1 in their place."""
        return (self.discrete.integral(x) / self.discrete.volume)[..., None]

    def rows(self, x: np.ndarray) -> np.ndarray:
        """The product of the term with x, (..., owned)."""
        return self.mean(x) / self.time * self.discrete.weights

    def _balanced(self, r: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rate that r has on average, and the rows r without it."""
        total = self.discrete.comm.allreduce(r.sum(axis=-1), MPI.SUM)
        rate = (total / self.discrete.volume)[..., None]
        return rate, r - rate * self.discrete.weights

    def backward(self, solve, r: np.ndarray) -> np.ndarray:
        """The solution with A and its term, where `solve` is that with A alone."""
        if not self.free:
            return solve(r)
        rate, r = self._balanced(r)
        du = solve(r)
        mean = self.mean(du)
        return du - mean + (rate + mean / self.dt) * self.time

    def forward(self, solve, r: np.ndarray) -> np.ndarray:
        """The solution with B and its term, where `solve` is that with B alone."""
        if not self.closed:
            return solve(r)
        rate, r = self._balanced(r)
        dm = solve(r)
        return dm + (rate * self.time - self.mean(dm)) / self.mean(self.m) * self.m


class Stationary(SpaceTime):
    """A `SpaceTime` of one level. Collective."""

    def __init__(self, discrete: Discretisation):
        long = LONG * discrete.problem.units.time
        super().__init__(discrete, np.array([0.0, long]))
        self.jacobian.rule = self._sharpest = StepRule.constant(1, 0.0)
        self.border = self.jacobian.border = Border(discrete, long)

    def sharpen(self, sharpness: float):
        """Take this share of what the scheme has beyond first order, if it has any."""
        d = self.discrete
        if d.scheme.limited:
            d.state.limit.value = d.scheme.sharpness * sharpness

    def levels(self, X: np.ndarray) -> Levels:
        """The level, twice."""
        u, m = (np.repeat(y, 2, axis=1) for y in X)
        return Levels(u, m, self.jacobian.rule)

    def even_crowd(self) -> np.ndarray:
        """Uniform densities and, unless there are exits, u = the mean cost of staying there."""
        X = np.zeros(self.shape)
        for m, crowd in zip(X[1], self.discrete.state.crowd, strict=True):
            m[:] = crowd.value
        X = self.hold(X)
        if self.border.closed:
            rows = self.comm.allreduce(self.residual(X)[0].sum(axis=2), MPI.SUM)
            rate = self.discrete.problem.discount or 1 / self.border.time
            X[0] -= (rows / self.discrete.volume / rate)[..., None]
        return X

    def size(self, u: np.ndarray) -> float:
        """The largest value of u, without its mean where that is lambda. Collective."""
        return super().size(u - self.border.mean(u) if self.border.free else u)

    def _add_border(self, rows: np.ndarray, X: np.ndarray):
        """Add the terms of mean values to all rows."""
        border = self.border
        if border.free:
            rows[0] += border.rows(X[0])
        if border.closed:
            crowd = np.array([crowd.value for crowd in self.discrete.state.crowd])
            rows[1] += border.rows(X[1] - crowd[:, None, None])

    def residual(self, X: np.ndarray, held: bool = True) -> np.ndarray:
        """The rows of both equations, shape (2, k, 1, owned)."""
        R = super().residual(X, held)
        self._add_border(R, X)
        return R

    def fp_residual(self, X: np.ndarray) -> np.ndarray:
        """The Fokker-Planck rows of `residual`."""
        return self.residual(X)[1]

    def hjb_row(self, X: np.ndarray, i: int, n: int, u_next: np.ndarray) -> np.ndarray:
        """The HJB row of population i at X, whatever u_next."""
        row = super().hjb_row(X, i, n, X[0, i, n])
        return row + self.border.rows(X[0, i, n]) if self.border.free else row

    def linearise(self, X: np.ndarray) -> np.ndarray:
        """As that of a `SpaceTime`."""
        self.border.m = X[1]
        return super().linearise(X)

    def linearise_fp(self, X: np.ndarray):
        """Assemble B alone at X."""
        self.border.m = X[1]
        super().linearise_fp(X)

    def row_scale(self) -> np.ndarray:
        """Factors of the residual rows, as if the step were one unit of time."""
        return super().row_scale() / np.sqrt(LONG)


def system_of(discrete: Discretisation, times: np.ndarray) -> SpaceTime:
    """The system of a problem, at these time levels if it has a horizon."""
    return Stationary(discrete) if discrete.problem.stationary else SpaceTime(discrete, times)
