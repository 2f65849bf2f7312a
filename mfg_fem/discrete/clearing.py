"""Clearing: the space-time system with prices as unknowns, and markets that clear.

The unknowns Y are those of a `SpaceTime` and the price pi^n_j of each market in each step, in
columns of their own after the dofs of the first rank, where nothing else is: an array of shape
(2, k, N, owned + markets) there. Its price is the entry of u of the first population; the row of
its market, with the excess demand of step n and its size e_j,

    G^n_j(pi^n; U^n, M^n) / e_j = 0,

is that entry of the Fokker-Planck rows. All other entries of these columns are zero. The Jacobian
is bordered: with what the rows R of a step and G see of its prices,

    J dX + R_pi dpi = R,      G_X dX + G_pi dpi = G.

G_pi may be zero: a rate of interest clears its market through what people save.
"""

from mpi4py import MPI

import numpy as np

from mfg_fem.discrete.spacetime import SpaceTime
from mfg_fem.forms.market import EXCESS, ROWS

EXACT = 1e-11  # relative to the size of a market: an excess demand that is zero


def joined(X: np.ndarray, prices: np.ndarray, comm: MPI.Comm) -> np.ndarray:
    """Unknowns with prices of shape (markets, N), which are the same on all ranks."""
    return _widened(X, prices, 0, comm)


def _widened(X: np.ndarray, values: np.ndarray, field: int, comm: MPI.Comm) -> np.ndarray:
    if comm.rank or not len(values):
        return X
    more = np.zeros((*X.shape[:-1], len(values)))
    more[field, 0] = values.T
    return np.concatenate([X, more], axis=-1)


def parted(Y: np.ndarray, markets: int, comm: MPI.Comm) -> tuple[np.ndarray, np.ndarray]:
    """The unknowns without prices, and these. Collective."""
    return _narrowed(Y, markets, 0, comm)


def _narrowed(Y: np.ndarray, markets: int, field: int, comm: MPI.Comm):
    values = comm.bcast(None if comm.rank else Y[field, 0, :, Y.shape[-1] - markets :].T.copy())
    return (Y if comm.rank or not markets else Y[..., :-markets]), values


class Clearing:
    """A `System` around a SpaceTime whose data see prices. Collective.

    Attributes:
        columns, rows: R_pi and G_X at the last linearisation, of what each step sees, arrays of
            shape (markets, 2, k, N, owned).
        own: G_pi, shape (markets, markets, N).
    """

    def __init__(self, system: SpaceTime):
        self.inner, self.comm, self.unknowns = system, system.comm, system.unknowns
        d = system.discrete
        self.paid, self.markets = d.state.paid, len(d.problem.prices)
        self.owned = system.owned
        self.shape = *system.shape[:-1], self.owned + self.markets * (self.comm.rank == 0)
        self.unit = self._beside(system.unit)
        sizes = np.array([d.problem.prices.sizes[name] for name in d.problem.prices])
        self.share = np.sqrt(system.dt / system.times[-1])
        self.weights = self.share / sizes[:, None]

    def _beside(self, factors: np.ndarray) -> np.ndarray:
        """Factors of the fields, with 1 in the columns of prices."""
        found = np.ones(self.shape)
        found[..., : self.owned] = factors
        return found

    def row_scale(self) -> np.ndarray:
        """Factors of the rows; those of markets are scaled as they are assembled."""
        return self._beside(self.inner.row_scale())

    def unknowns_of(self, X: np.ndarray) -> np.ndarray:
        """The unknowns for those of the SpaceTime, with the present prices."""
        return joined(X, self.paid.values, self.comm)

    def inside(self, Y: np.ndarray) -> np.ndarray:
        """The unknowns of the SpaceTime, whose prices are set."""
        X, prices = parted(Y, self.markets, self.comm)
        self.paid.set(self.inner.times, prices)
        return X

    def rows_of(self, R: np.ndarray, G: np.ndarray) -> np.ndarray:
        """All rows, of those of the SpaceTime and of the excess demands, (markets, N)."""
        return _widened(R, self.weights * G, 1, self.comm)

    def parts_of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The inverse of `rows_of`."""
        R, G = _narrowed(rows, self.markets, 1, self.comm)
        return R, G / self.weights

    def excess(self, X: np.ndarray) -> np.ndarray:
        """The excess demands G at the present prices, shape (markets, N)."""
        d, found = self.inner.discrete, np.empty((self.markets, self.inner.steps))
        names = [(EXCESS, j) for j in range(self.markets)]
        totals = self.inner.each(self.inner.levels(X), lambda: [d.total(y) for y in names])
        for n, total in totals:
            found[:, n] = total
        return self.comm.allreduce(found, MPI.SUM)

    def residual(self, Y: np.ndarray) -> np.ndarray:
        """The rows at Y."""
        X = self.inside(Y)
        return self.rows_of(self.inner.residual(X), self.excess(X))

    def linearise(self, Y: np.ndarray) -> np.ndarray:
        """Assemble the blocks at Y; return the coefficients of `SpaceTime.linearise`."""
        X, d, forms = self.inside(Y), self.inner.discrete, self.inner.discrete.forms.of_market
        q, k = self.markets, d.k
        self.columns, self.rows = np.zeros((2, q, *self.inner.shape))
        self.own = np.zeros((q, q, self.inner.steps))
        places = [(j, c % 2, c // 2) for j in range(q) for c in range(2 * k)]

        def assemble():
            columns, rows = np.zeros((2, q, 2, k, self.inner.owned))
            for j, field, i in places:
                c = 2 * i + field
                if (ROWS, c, j) in forms:
                    columns[j, field, i] = d.assemble_rows((ROWS, c, j))
                if (EXCESS, j, c) in forms:
                    rows[j, field, i] = d.assemble_rows((EXCESS, j, c))
            own = [
                [d.total(y) if (y := (EXCESS, j, "price", i)) in forms else 0.0 for i in range(q)]
                for j in range(q)
            ]
            return columns, rows, own

        coefficients = self.inner.linearise(X)
        for n, (columns, rows, own) in self.inner.each(self.inner.levels(X), assemble):
            self.columns[..., n, :], self.rows[..., n, :], self.own[..., n] = columns, rows, own
        self.own = self.comm.allreduce(self.own, MPI.SUM)
        self.columns[:, 0] *= self.inner.jacobian.rule.worth[..., None]
        for column in self.columns.reshape(-1, *self.inner.shape[1:]):
            d.release(column)
        return coefficients

    def mult_prices(self, dpi: np.ndarray) -> np.ndarray:
        """The rows of the SpaceTime that a change of prices, (markets, N), makes."""
        return np.einsum("jfinx,jn->finx", self.columns, dpi)

    def mult_fields(self, dX: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What a change of fields adds to the excess demands, and its size. Of this rank.

        These are sums of products, and of their absolute values, flattened of (markets, N).
        """
        J, (du, dm) = self.inner.jacobian, dX
        dU = J.seen_u(du, J.terminal_change(dm[:, -1])) / J.rule.worth[..., None]
        products = self.rows * np.stack([dU, J.seen_m(dm)])
        axes = 1, 2, 4
        return products.sum(axes).ravel(), np.abs(products).sum(axes).ravel()

    def mult_jacobian(self, dY: np.ndarray) -> np.ndarray:
        """The Jacobian times dY."""
        dX, dpi = parted(dY, self.markets, self.comm)
        G = self.comm.allreduce(self.mult_fields(dX)[0], MPI.SUM).reshape(dpi.shape)
        G += np.einsum("jin,in->jn", self.own, dpi)
        return self.rows_of(self.inner.mult_jacobian(dX) + self.mult_prices(dpi), G)

    def admissible(self, Y: np.ndarray, dY: np.ndarray) -> list[np.ndarray]:
        """Steps of the fields as of the SpaceTime, with those of prices."""
        X, _ = parted(Y, self.markets, self.comm)
        dX, dpi = parted(dY, self.markets, self.comm)
        return [joined(step, dpi, self.comm) for step in self.inner.admissible(X, dX)]

    def enough(self, rows: np.ndarray, atol: float) -> bool:
        """Whether the norm of these scaled rows is at most atol, and all markets clear to EXACT."""
        norm = np.sqrt(self.comm.allreduce(np.vdot(rows, rows), MPI.SUM))
        _, scaled = _narrowed(rows, self.markets, 1, self.comm)
        return bool(norm <= atol and (np.abs(scaled) <= EXACT * self.share).all())

    def facts(self, Y: np.ndarray) -> dict[str, float]:
        """Entries of the history beside residuals."""
        return self.inner.facts(parted(Y, self.markets, self.comm)[0])

    def norm(self, X: np.ndarray) -> float:
        """The norm of all rows at the present prices."""
        G = self.weights * self.excess(X)
        return float(np.hypot(np.linalg.norm(self.inner.norms(X)), np.linalg.norm(G)))

    def defect(self, X: np.ndarray) -> dict[str, float]:
        """The largest excess demand of each market, relative to its size, by name."""
        sizes = self.inner.discrete.problem.prices.sizes
        largest = np.abs(self.excess(X)).max(axis=1)
        return {name: float(y / sizes[name]) for name, y in zip(sizes, largest, strict=True)}
