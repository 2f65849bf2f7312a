"""Planning: the space-time system with u(T) unknown and m(T) prescribed.

The unknowns are u^0..u^N and log m^1..log m^N, as an array of shape (2, 1, N + 1, owned) whose last
entry of the densities stays zero. The rows are those of `SpaceTime`, whose u(T) is data here, and

    log(m^N / m_T) = 0.

Where hardly anybody is, u is determined by hardly any equation, and rows of different nodes differ
by many orders. So rows are weighted by the density: the square of the norm of all of them is

    int int m hjb^2 + fp^2 / m dx dt + int m_T log(m^N / m_T)^2 dx

in the units of the problem. u is determined up to a constant on each connected part of the domain.
"""

from mpi4py import MPI

import numpy as np

from mfg_fem.discrete.spacetime import SpaceTime

LONGEST = 50.0  # change of log m in one Newton step


class Planning:
    """A `System` around a SpaceTime whose ends are a `TerminalDensity`.

    Attributes:
        weights: the factors of the rows of both equations at the last linearisation, shape
            (2, 1, N, owned), and of the last row, (1, owned).
        m: the densities m^1..m^N there.
    """

    def __init__(self, system: SpaceTime):
        self.inner, self.ends, self.comm = system, system.discrete.ends, system.comm
        self.unknowns = system.unknowns
        units = system.discrete.problem.units
        self.people = system.discrete.problem.population
        self.owned = system.owned
        self.shape = (2, system.k, system.steps + 1, self.owned)
        self.unit = np.array([units.cost, 1.0])[:, None, None, None]

    def row_scale(self) -> np.ndarray:
        """One: the rows that `residual` returns are scaled."""
        return np.ones(1)

    def unknowns_of(self, X: np.ndarray) -> np.ndarray:
        """The unknowns for those of the SpaceTime, shape (2, 1, N, owned), with its u(T)."""
        Y = np.zeros(self.shape)
        Y[:, :, :-1] = X[0], np.log(X[1])
        Y[0, :, -1] = self.ends.potential
        return Y

    def inside(self, Y: np.ndarray) -> np.ndarray:
        """The unknowns of the SpaceTime, whose u(T) is set. A new array."""
        self.ends.potential = Y[0, :, -1].copy()
        return np.stack([Y[0, :, :-1], np.exp(Y[1, :, :-1])])

    def _weights(self, m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        d, units = self.inner.discrete, self.inner.discrete.problem.units
        rates = np.sqrt(self.inner.dt[:, None] / d.norm_weights)
        root = np.sqrt(m / self.people)
        hjb = rates * root * np.sqrt(units.time) / units.cost
        fp = rates * np.sqrt(units.time) / (root * self.people)
        return np.stack([hjb, fp]), np.sqrt(d.norm_weights * self.ends.target / self.people)

    def _rows(self, R: np.ndarray, closing: np.ndarray, weights) -> np.ndarray:
        rows = np.zeros(self.shape)
        rows[:, :, :-1] = weights[0] * R
        rows[1, :, -1] = weights[1] * closing
        return rows

    def residual(self, Y: np.ndarray) -> np.ndarray:
        """The weighted rows at Y."""
        return self.rows(self.inside(Y))

    def rows(self, X: np.ndarray) -> np.ndarray:
        """The weighted rows at unknowns of the SpaceTime with m > 0."""
        closing = np.log(X[1, :, -1] / self.ends.target)
        return self._rows(self.inner.residual(X), closing, self._weights(X[1]))

    def linearise(self, Y: np.ndarray) -> np.ndarray:
        """Assemble the blocks at Y; return the coefficients of `SpaceTime.linearise`."""
        X = self.inside(Y)
        self.m, self.weights = X[1], self._weights(X[1])
        return self.inner.linearise(X)

    def mult_jacobian(self, dY: np.ndarray) -> np.ndarray:
        """The Jacobian times dY, with the weights of the last linearisation."""
        J, (du, dl), du_T = self.inner.jacobian, dY[:, :, :-1], dY[0, :, -1]
        dm = self.m * dl
        R = np.stack([J.mult_A(du) - J.mult_F(dm), J.mult_B(dm) + J.mult_D(du, du_T)])
        R[0, :, -1] -= J.end_rows(du_T)
        return self._rows(R, dl[:, -1], self.weights)

    def admissible(self, Y: np.ndarray, dY: np.ndarray) -> list[np.ndarray]:
        """The step, of log m no longer than LONGEST, so that m stays finite."""
        return [np.stack([dY[0], np.clip(dY[1], -LONGEST, LONGEST)])]

    def facts(self, Y: np.ndarray) -> dict[str, float]:
        """Entries of the history beside residuals: total mass at the end, least density."""
        return self.inner.facts(np.stack([Y[0, :, :-1], np.exp(Y[1, :, :-1])]))

    def centre(self, X: np.ndarray) -> np.ndarray:
        """X with u, and u(T), such that int u(T) m_T = 0 on each connected part. Collective.

        A constant that u loses at T is discounted to earlier levels.
        """
        d, ends = self.inner.discrete, self.ends
        m = self.inner.jacobian.mult_mass(ends.target[0])
        means = ends.sums(d, m * ends.potential[0]) / ends.sums(d, m)
        ends.potential = ends.potential - means[ends.part]
        worth = np.cumprod(self.inner.jacobian.rule.discount[0, ::-1])[::-1, None]
        return np.stack([X[0] - worth * means[ends.part], X[1]])

    def norm(self, X: np.ndarray) -> float:
        """The norm of all rows at unknowns of the SpaceTime; infinite unless m > 0. Collective."""
        if self.comm.allreduce(X[1].min(initial=np.inf), MPI.MIN) <= 0:
            return np.inf
        rows = self.rows(X)
        return float(np.sqrt(self.comm.allreduce(np.vdot(rows, rows), MPI.SUM)))

    def gap(self, m: np.ndarray) -> float:
        """L1 distance of m(T) = m from m_T, as a part of the population. Collective."""
        distance = np.abs(m - self.ends.target) @ self.inner.discrete.weights
        return float(self.comm.allreduce(distance.sum(), MPI.SUM)) / self.people
