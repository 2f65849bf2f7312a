"""What a problem is asked, whether it has one population or several."""

from collections.abc import Callable, Sequence

import ufl

from mfg_fem.problem.data import Data
from mfg_fem.problem.market import title
from mfg_fem.problem.units import Units


class Statement:
    """What follows alike from the statement of one population and of several."""

    horizon: float | None
    data: Data
    units: Units
    crowd: Callable

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
