"""What a problem is asked, whether it has one population or several."""

from collections.abc import Callable, Sequence

from mpi4py import MPI

import ufl

from mfg_fem.mesh.domain import Domain
from mfg_fem.problem.data import Data
from mfg_fem.problem.market import Prices, title
from mfg_fem.problem.units import Units


class Statement:
    """What follows alike from the statement of one population and of several."""

    domain: Domain
    horizon: float | None
    prices: Prices
    data: Data
    units: Units
    crowd: Callable
    looked_at = b""  # the digest then

    def check(self):
        """Look at the data, unless they are those of the last time. Collective.

        Functions, Constants and meshes may have changed.
        """
        self.domain.check()
        self.prices.begin()
        digest = self.digest
        if not self.domain.comm.allreduce(digest == self.looked_at, MPI.LAND):
            object.__setattr__(self, "looked_at", b"")  # if what is seen is refused
            self.look()
            object.__setattr__(self, "looked_at", digest)

    @property
    def digest(self) -> bytes:
        """Of all numbers in the data that may change, on this rank."""
        return self.data.digest

    def look(self):
        """Look at the data. Collective."""
        raise NotImplementedError

    @property
    def stationary(self) -> bool:
        """Whether it has no horizon."""
        return self.horizon is None

    @property
    def duration(self) -> float:
        """The horizon; without one the unit of time, in which diffusion crosses the domain."""
        return self.units.time if self.horizon is None else self.horizon

    @property
    def x(self) -> ufl.SpatialCoordinate:
        """The space coordinate of the forms."""
        return self.data.x

    def excess(self, market: str, x, t, m: Sequence, v: Sequence) -> ufl.core.expr.Expr:
        """Excess demand in a market, per unit of volume: densities and drifts of populations."""
        return self.data(title(market), x=x, t=t, m=self.crowd(m), v=self.crowd(v))
