"""What the players want: MeanFieldGame and MeanFieldControl, checked when they are built."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

import ufl
from dolfinx import fem

from mfg_fem.mesh.domain import Domain
from mfg_fem.problem.boundary import (
    WAYS_OUT,
    Condition,
    Door,
    Entry,
    Open,
    Wall,
    data_name,
    given,
)
from mfg_fem.problem.checks import check_arguments, check_values
from mfg_fem.problem.crowding import Crowding
from mfg_fem.problem.data import Data, InTime
from mfg_fem.problem.densities import Densities, spread
from mfg_fem.problem.ends import check_flows
from mfg_fem.problem.interactions import Quantity
from mfg_fem.problem.market import Prices, check_markets, prices_of, state_markets
from mfg_fem.problem.statement import Statement
from mfg_fem.problem.units import Units

Given: TypeAlias = (
    Callable | ufl.core.expr.Expr
)  # what a callable would return will do, a Function too


@dataclass(frozen=True, kw_only=True, eq=False)
class MeanField(Statement):
    """The data shared by games and controls. Costs are per player.

    All callables return UFL. Each is called once, when the problem is stated.
    """

    domain: Domain = field(kw_only=False)
    horizon: float | None = None
    discount: float = 0.0
    diffusion: float | Given | InTime
    hamiltonian: Given | InTime
    running_cost: Given
    terminal_cost: Given | None = None
    initial_density: Given | None = None
    terminal_density: Given | None = None
    floor: float | None = None
    population: float = 1.0
    boundary: Mapping[str, Condition] = field(default_factory=dict)
    source: Given | None = None
    market: Mapping[str, Callable] = field(default_factory=dict)
    prices: Prices = field(init=False, repr=False)
    data: Data = field(init=False, repr=False)
    units: Units = field(init=False, repr=False)
    infinite: tuple[str, ...] = field(init=False, repr=False)  # of the data at m = 0

    def __post_init__(self):
        """Check everything that can be known before a solve starts. Collective."""
        object.__setattr__(self, "domain", Domain.of(self.domain))
        for name, value in check_arguments(self).items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "boundary", MappingProxyType(dict(self.boundary)))
        object.__setattr__(self, "prices", self._prices())
        object.__setattr__(self, "data", self._stated())
        self.check()

    def look(self):
        """Look at the data. Collective."""
        check_flows(self)
        crowding = Crowding([self])
        units, infinite = check_values(self, crowding)
        object.__setattr__(self, "units", units)
        object.__setattr__(self, "infinite", infinite)
        check_markets(self, crowding)

    def _prices(self) -> Prices:
        return prices_of(self)

    def _data(self) -> Data:
        return Data(self.domain, prices=self.prices)

    def _stated(self) -> Data:
        data, d = self._data(), self.domain.dim
        initial_density = 1.0 if self.initial_density is None else self.initial_density
        data.state("initial_density(x)", initial_density, "x")
        data.state("diffusion", self.diffusion, "x", ((), (d, d)))
        data.state("running_cost(x, t, m)", self.running_cost, "xtm")
        terminal_cost = ufl.zero() if self.terminal_cost is None else self.terminal_cost
        data.state("terminal_cost(x, m)", terminal_cost, "xm")
        if self.terminal_density is not None:
            data.state("terminal_density(x)", self.terminal_density, "x")
        data.state("source(x, t)", ufl.zero() if self.source is None else self.source, "xt")
        data.state("hamiltonian(x, p, m)", self.hamiltonian, "xpm")
        for boundary, condition in self.boundary.items():
            for name, value in given(condition).items():
                data.state(data_name(boundary, name), value, "x")
        state_markets(data, self.market)
        return data

    @property
    def title(self) -> str:
        """What reports and files call it."""
        return type(self).__name__

    @property
    def keeps_its_players(self) -> bool:
        """Whether nobody leaves or joins it but through boundaries and the source."""
        return True

    @property
    def plans(self) -> bool:
        """Whether a planner answers for what the crowd does to costs."""
        raise NotImplementedError

    @property
    def value_is_cost(self) -> bool:
        """Whether the value function says what its players pay."""
        raise NotImplementedError

    @property
    def label(self) -> str:
        """What messages say before the names of its data."""
        return ""

    @property
    def empty(self) -> bool:
        """Whether nobody may be there at the start."""
        return False

    # The data as UFL.

    def D(self, x, t) -> ufl.core.expr.Expr:
        """Diffusion at x as a (d, d) tensor. The PDE diffusion: half the squared noise."""
        D = self.data("diffusion", x=x, t=t)
        return D * ufl.Identity(self.domain.dim) if D.ufl_shape == () else D

    def H(self, x, t, p, m) -> ufl.core.expr.Expr:
        """Hamiltonian of one player who sees the density m."""
        name = "hamiltonian(x, p, m)"
        H = self.data(name, x=x, t=t, p=p, m=m)
        # Where nobody moves there is a drift all the same, which is zero.
        return H if self.data.depends(name, "p") else H + fem.Constant(self.data.mesh, 0.0) * p[0]

    def f(self, x, t, m) -> ufl.core.expr.Expr:
        """Running cost of one player."""
        return self.data("running_cost(x, t, m)", x=x, t=t, m=m)

    def g(self, x, m) -> ufl.core.expr.Expr:
        """Terminal cost of one player."""
        return self.data("terminal_cost(x, m)", x=x, m=m)

    def s(self, x, t) -> ufl.core.expr.Expr:
        """Players entering per unit of volume and time."""
        return self.data("source(x, t)", x=x, t=t)

    def m0(self, x) -> ufl.core.expr.Expr:
        """Initial density before it is scaled to the population."""
        return self.data("initial_density(x)", x=x)

    def m_T(self, x) -> ufl.core.expr.Expr:
        """Terminal density before it is scaled to the population."""
        return self.data("terminal_density(x)", x=x)

    def at_boundary(self, boundary: str, name: str, x, t, m=None) -> ufl.core.expr.Expr:
        """A datum of a boundary condition; see `boundary.NUMBERS`."""
        return self.data(data_name(boundary, name), x=x, t=t, m=m)

    def named(self, kind) -> list[str]:
        """Names of the boundaries with a condition of this kind."""
        return [name for name, y in self.boundary.items() if isinstance(y, kind)]

    @property
    def open(self) -> list[str]:
        """Names of the open boundaries."""
        return self.named(Open)

    @property
    def limits(self) -> list[str]:
        """Names of the walls that do not push."""
        return [name for name, y in self.boundary.items() if y == Wall(pushes=False)]

    @property
    def by_flux(self) -> list[str]:
        """Names of the boundaries where the flux of people is given, not u and m."""
        return self.named(Door | Entry)

    @property
    def ways_out(self) -> list[str]:
        """Names of the boundaries that people can leave through."""
        return self.named(WAYS_OUT)

    # What the functional asks of a statement of k populations; here of one.

    @property
    def populations(self) -> tuple["MeanField"]:
        """All of them."""
        return (self,)

    @property
    def discounts(self) -> list[float]:
        """The discount of each population."""
        return [self.discount]

    @property
    def switches(self) -> tuple:
        """Pairs (i, j) of populations where people switch from i to j: there is but one."""
        return ()

    @property
    def groups(self) -> list[list[int]]:
        """The populations in groups that exchange people."""
        return [[0]]

    @property
    def quantities(self) -> list[tuple[int, Data, Quantity]]:
        """What the crowd makes: with the population who sees it and the data it is stated in."""
        return [(0, self.data, quantity) for quantity in self.data.quantities]

    def crowd(self, densities: Sequence, quantities: Mapping | None = None):
        """What the callables get for m, of the densities of all populations.

        `quantities` has what stands for those of the crowd.
        """
        return Densities(["m"], densities, quantities) if quantities else densities[0]

    def who_leaves(self, boundary: str, m) -> ufl.core.expr.Expr:
        """The density of those who leave through a door, of what the callables get for m."""
        return spread(m)[0]

    def seen(self, i: int, own: tuple, frozen: tuple) -> tuple:
        """The densities in the costs of population i while they are differentiated.

        Those of `own` move with the state, those of `frozen` do not: see functional.py.
        """
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True, eq=False)
class MeanFieldGame(MeanField):
    """A Nash equilibrium of infinitely many players (Lasry-Lions 2007).

        -u_t - div(D grad u) + H(x, grad u, m) = f(x, t, m),      u(T) = g(x, m(T)),
         m_t - div(D grad m) - div(m H_p(x, grad u, m)) = s(x, t),  m(0) = m0,

    with u the value function (the cost still to come) and m the density of players. Every
    boundary reflects unless it is named in `boundary`. With a discount gamma the HJB equation has
    gamma u on its left: what is paid at t counts exp(-gamma t).

    With a terminal density m_T in the place of g, a planning problem, m(T) = m_T is prescribed, and
    u(T) is found with the rest, up to a constant: it is such that int u(T) m_T = 0. With no cost
    but that of moving, the control is the Schroedinger bridge between m0 and m_T, and optimal
    transport as D falls to 0. Lions 2011; Achdou, Camilli, Capuzzo-Dolcetta 2012; Leonard 2014.

    Without a horizon it is a stationary game, for ever,

        -div(D grad u) + H(x, grad u, m) + gamma u + lambda = f(x, m),
        -div(D grad m) - div(m H_p(x, grad u, m)) = s(x),

    with the discount gamma. If gamma = 0 and nobody can leave it is ergodic: lambda is what a
    player pays per unit of time, and u is determined up to a constant. Else lambda = 0. Lasry,
    Lions 2006; Bardi, Priuli 2014.

    Args:
        domain: a Domain, or a DOLFINx simplex mesh.
        horizon: the final time T; None for a stationary problem, which has no terminal cost, and
            neither initial nor terminal density.
        discount: gamma >= 0, per unit of time.
        diffusion: D > 0, half the squared noise: a number, or x -> UFL, scalar or symmetric
            positive definite (d, d) tensor. Where it varies it acts in divergence form.
        hamiltonian: H(x, p, m), convex in p and twice differentiable; the drift is -H_p.
        running_cost: f(x, t, m), what a player pays per unit of time besides moving.
        terminal_cost: g(x, m), pointwise in m; or None, with a terminal density.
        initial_density: m0(x) >= 0, scaled so that its integral is `population`.
        terminal_density: m_T(x) >= 0, scaled likewise, or None. Nobody may enter or leave then.
        floor: with a terminal density the least value of both densities, as a part of their
            largest, 1e-6 by default: where one is smaller, it gets so many people more everywhere.
        population: total mass of m0: the number of players. With a source and exits and without a
            horizon, as many as come and go are there, and it is a guess.
        boundary: name of a boundary -> Exit, Open, Door, Entry or Wall. Where they meet, or share
            facets, people pass the one that is named first.
        source: s(x, t), players entering per unit of volume and time, or None.
        market: name -> excess demand (x, t, m, v), per unit of volume, of the density and of the
            optimal drift v = -H_p as a vector. Its integral over the domain is zero in every step,
            which fixes `mfg.price(name)` there.

    Raises:
        ProblemError: data that make no sense, on every rank alike.
        MeshError: a boundary name the mesh does not have.
    """

    @property
    def plans(self) -> bool:
        """No player does."""
        return False

    @property
    def value_is_cost(self) -> bool:
        """Unless people come in through an open boundary, whose costs are not known."""
        return not self.open

    def seen(self, i: int, own: tuple, frozen: tuple) -> tuple:
        """A player does not move the crowd: it stays frozen while differentiating."""
        return frozen


@dataclass(frozen=True, kw_only=True, eq=False)
class MeanFieldControl(MeanField):
    """One planner moves everybody (Bensoussan-Frehse-Yam 2013); arguments as MeanFieldGame.

    The planner minimises the total cost of the population, the integral of the per-player
    costs against m. The equations are those of a game in which every player also pays for the
    harm done to the others: f + m f_m, g + m g_m and H + m H_m stand in place of f, g and H.
    """

    @property
    def plans(self) -> bool:
        """He does."""
        return True

    @property
    def value_is_cost(self) -> bool:
        """It is a marginal cost of the planner."""
        return False

    def seen(self, i: int, own: tuple, frozen: tuple) -> tuple:
        """The planner moves the crowd: it is differentiated with m."""
        return own
