"""Prices, and the markets that fix them.

A price pi is a number in each time step that players take as it is. Its market clears, in each step
n, with what that sees of the densities and of the optimal drifts v_i = -H_i,p,

    G_n = int e(x, t, m, v) dx = 0,

where e is the excess demand per unit of volume, which may contain prices. `discrete/clearing.py`
makes pi an unknown beside u and m.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

import basix.ufl
import ufl
from dolfinx import fem
from ufl.algorithms.analysis import extract_constants

from mfg_fem.errors import ProblemError, alike, together
from mfg_fem.mesh.values import VertexValues, check_finite
from mfg_fem.problem.moments import moments
from mfg_fem.validate import number

SEEING = ("hamiltonian", "running_cost", "switching", "market")  # data that may see prices
# A price is stated where there is no mesh yet.
NOWHERE = ufl.Mesh(basix.ufl.element("Lagrange", "interval", 1, shape=(1,)))


class Price(ufl.Constant):
    """A price by its name, until the data of a problem replace it by a number of theirs."""

    def __init__(self, name: str, start: float | None):
        super().__init__(NOWHERE)
        self.name, self.start = name, start

    def ufl_domains(self) -> tuple:
        """It lives on no mesh."""
        return ()

    def __float__(self):
        """Refuse; functions of UFL take the price itself."""
        raise TypeError("this must be a real number, not a price")


def price(name: str, start: float | None = None) -> Price:
    """The price of this name, which the market of this name in `market=` fixes.

    In Hamiltonians, running costs, rates of switching and excess demands. It has one value in each
    time step, or one for ever without a horizon. Players take it as it is, and so do planners.

    Args:
        name: of the market.
        start: where Newton looks for it first, 0 by default.
    """
    if not isinstance(name, str) or not name:
        raise ProblemError(f"price({name!r}): it takes the name of a market.")
    return Price(name, None if start is None else number(f"price({name!r}): start", start, -np.inf))


class Prices(Mapping):
    """The prices of a problem: a Constant by the name of its market.

    Attributes:
        starts: where Newton starts, by name.
        sizes: what excess demands are compared with, by name: see `check_markets`.
    """

    def __init__(self, mesh, names: Sequence[str]):
        self._constants = {name: fem.Constant(mesh, 0.0) for name in names}
        self.starts: dict[str, float] = {}
        self.sizes: dict[str, float] = {}
        self._used: set[str] = set()

    def __getitem__(self, name: str) -> fem.Constant:
        """The price of this name."""
        return self._constants[name]

    def __iter__(self):
        """The names of the markets."""
        return iter(self._constants)

    def __len__(self) -> int:
        """Number of markets."""
        return len(self._constants)

    def seen(self, price: Price, data: str) -> fem.Constant:
        """The Constant that stands for a price in data of this name."""
        name, start = price.name, price.start
        if name not in self:
            known = f"the markets are {', '.join(map(repr, self))}" if self else "there is none"
            raise ProblemError(
                f"price({name!r}) needs a market that fixes it, market={{{name!r}: ...}}; {known}"
            )
        if not data.startswith(SEEING):
            raise ProblemError(
                "it sees a price(), which only Hamiltonians, running costs, rates of switching and "
                "markets may"
            )
        if start is not None:
            if self.starts.setdefault(name, start) != start:
                raise ProblemError(f"price({name!r}) has two values of start=")
            self[name].value = start
        if not data.startswith("market"):
            self._used.add(name)
        return self[name]

    def check_used(self, comm):
        """Refuse markets whose price nobody minds. Collective."""
        alike(comm, prices=self.starts)
        for name in self:
            if name not in self._used:
                raise ProblemError(
                    f"market[{name!r}]: no Hamiltonian, running cost or rate of switching sees "
                    f"mfg.price({name!r}), so that nothing would make it clear."
                )

    def begin(self):
        """Let all prices be those of the start."""
        for name, constant in self.items():
            constant.value = self.starts.get(name, 0.0)


def prices_of(problem) -> Prices:
    """The prices of the markets of a problem, which are frozen. Collective."""
    market = problem.market
    with together(problem.domain.comm):
        if not isinstance(market, Mapping):
            raise ProblemError('market must be a dict such as {"r": lambda x, t, m, v: m * x[0]}.')
        for name, excess in market.items():
            if not isinstance(name, str) or not name or not callable(excess):
                raise ProblemError(
                    f"market[{name!r}] is {excess!r}: it must be a callable (x, t, m, v) -> UFL or "
                    "number, of a name."
                )
        if market and problem.terminal_density is not None:
            raise ProblemError("Markets need a terminal_cost in the place of a terminal_density.")
    alike(problem.domain.comm, market=[*market])
    object.__setattr__(problem, "market", MappingProxyType(dict(market)))
    return Prices(problem.domain.mesh, list(market))


def state_markets(data, market: Mapping):
    """State the excess demands, after all other data. Collective."""
    for name, excess in market.items():
        known = len(data.quantities)
        data.state(title(name), excess, "xtmv")
        if len(data.quantities) > known:
            raise ProblemError(
                f"{title(name)} sees smooth() or total(), which is not done: it is itself the "
                "integrand of a total."
            )
    if market:
        data.prices.check_used(data.comm)


def title(name: str) -> str:
    """What messages call a market."""
    return f"market[{name!r}]"


def check_markets(problem, crowding):
    """Look at the excess demands, in uniform crowds at rest, and find their sizes. Collective.

    The size of e is the largest of all times of int |e| + |e_m| M + |e_v| V, with the units M of
    density and V of speed.
    """
    if not problem.prices:
        return
    if problem.plans and problem.quantities:
        raise ProblemError(
            "Markets with a planner whose costs see smooth() or total() are not done: state a game."
        )
    mesh, domain, units = problem.domain.mesh, problem.domain, problem.units
    t, speed = fem.Constant(mesh, 0.0), units.length / units.time
    crowding.uniform()
    drifts = [ufl.variable(fem.Constant(mesh, np.zeros(domain.dim))) for _ in crowding.densities]
    density = np.array([own.units.density for own in crowding.populations])
    for name in problem.prices:
        e = problem.excess(name, problem.x, t, crowding.densities, drifts)
        in_v = [y[i] for y in (ufl.diff(e, v) for v in drifts) for i in range(domain.dim)]
        values = VertexValues(mesh, e, crowding.slopes(e), ufl.as_vector(in_v))
        found = []
        for t.value in moments(problem.duration, t in extract_constants(e)):
            for what, ends in zip(("", "d/dm of ", "d/dv of "), values.extremes(), strict=True):
                check_finite(ends, what + title(name), f" at t = {float(t.value):g}")
            found.append(
                values.integral(
                    lambda e, e_m, e_v: (
                        np.abs(e[..., 0]) + np.abs(e_m) @ density + np.abs(e_v).sum(axis=2) * speed
                    )
                )
            )
        if not max(found) > 0:
            raise ProblemError(f"{title(name)} is zero, whatever people do.")
        problem.prices.sizes[name] = max(found)
