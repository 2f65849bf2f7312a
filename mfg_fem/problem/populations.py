"""Several crowds who share a domain, see each other, and may change from one into another."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import permutations
from types import MappingProxyType

import ufl

from mfg_fem.errors import MFGError, ProblemError, alike, together
from mfg_fem.mesh.domain import Domain
from mfg_fem.problem.boundary import Condition, Door
from mfg_fem.problem.checks import check_values
from mfg_fem.problem.conditions import check_datum
from mfg_fem.problem.crowding import Crowding
from mfg_fem.problem.data import Data, InTime
from mfg_fem.problem.densities import Densities
from mfg_fem.problem.discounts import check_discounts
from mfg_fem.problem.ends import check_flows
from mfg_fem.problem.game import Given, MeanField
from mfg_fem.problem.interactions import Quantity
from mfg_fem.problem.market import Prices, check_markets, prices_of, state_markets
from mfg_fem.problem.monotone import doubt
from mfg_fem.problem.statement import Statement
from mfg_fem.problem.switching import check_rates, rate_name
from mfg_fem.problem.units import Units

PLANNERS = (None, "all", "each")


@dataclass(frozen=True, kw_only=True, eq=False)
class Crowd:
    """What one of several crowds wants: the data of a `MeanFieldGame` but domain and horizon.

    In its callables m has the densities of all crowds: m["name"] of one, m.all of everybody. There
    is no terminal density. The population may be 0 for a crowd that others change into.
    """

    diffusion: float | Given | InTime
    hamiltonian: Given | InTime
    running_cost: Given
    terminal_cost: Given | None = None
    initial_density: Given | None = None
    population: float = 1.0
    discount: float = 0.0
    boundary: Mapping[str, Condition] = field(default_factory=dict)
    source: Given | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Member(MeanField):
    """A crowd in its domain: what the functional asks of one population."""

    name: str
    together: "Populations"

    @property
    def label(self) -> str:
        """What messages say before the names of its data."""
        return f"crowd {self.name!r}: "

    def _data(self) -> Data:
        return Data(self.domain, list(self.together.crowds), self.prices)

    def _prices(self) -> Prices:
        return self.together.prices

    @property
    def title(self) -> str:
        """What reports and files call it."""
        return f"Crowd {self.name!r}"

    @property
    def keeps_its_players(self) -> bool:
        """Whether nobody changes from or into another crowd."""
        return not any(self.name in pair for pair in self.together.switching)

    @property
    def plans(self) -> bool:
        """Whether a planner answers for what it does to costs."""
        return self.together.plans

    @property
    def value_is_cost(self) -> bool:
        """Whether its players play for themselves, and stay in this crowd."""
        return self.together.planner is None and self.keeps_its_players and not self.open

    @property
    def empty(self) -> bool:
        """Whether nobody may be there at the start: others change into it."""
        return any(name == self.name for _, name in self.together.switching)

    def check(self):
        """Nothing yet: its callables see the densities of others, who are to be stated first."""

    def check_with(self, crowding: "Crowding"):
        """Look at the data. Collective."""
        units, infinite = check_values(self, crowding)
        object.__setattr__(self, "units", units)
        object.__setattr__(self, "infinite", infinite)

    def crowd(self, densities: Sequence, quantities: Mapping | None = None) -> Densities:
        """What the callables get for m."""
        return self.together.crowd(densities, quantities)

    def who_leaves(self, boundary: str, m: Densities) -> ufl.core.expr.Expr:
        """The density of those who leave through a door, of all crowds that have one there."""
        members = self.together.populations
        return sum(m[own.name] for own in members if boundary in own.named(Door))


@dataclass(frozen=True, kw_only=True, eq=False)
class Populations(Statement):
    """Several crowds in one domain: a Nash equilibrium of all their players, or planners.

    With u_i and m_i of crowd i, D_i, H_i, f_i, g_i and s_i its data, which see the densities m of
    all, its discount gamma_i, and the rates lambda_ij at which its players go over to crowd j,

        -u_i,t - div(D_i grad u_i) + H_i(x, grad u_i, m) + gamma_i u_i
            + sum_j lambda_ij (u_i - u_j) = f_i(x, t, m),                    u_i(T) = g_i(x, m(T)),
         m_i,t - div(D_i grad m_i) - div(m_i H_i,p) + sum_j (lambda_ij m_i - lambda_ji m_j) = s_i.

    Lasry, Lions 2007; Achdou, Bardi, Cirant 2017; Bensoussan, Huang, Lauriere 2018. Without a
    horizon it is stationary, as a MeanFieldGame is. The equilibrium is one only if the coupling is
    monotone: where crowds mind each other more than themselves there may be several, and `guess=`
    chooses one.

    Args:
        domain: a Domain, or a DOLFINx simplex mesh.
        horizon: the final time T, or None.
        crowds: name -> Crowd. Each may have its own discount, except with one planner of all.
        switching: (name, name) -> lambda_ij >= 0, per unit of time, at which a player of the first
            crowd becomes one of the second: a number, a UFL expression, or a callable (x, t, m).
        planner: None: every player for himself. "all": one planner for all crowds, who minimises
            what all pay together. "each": one planner for each crowd, between whom there is a Nash
            equilibrium.
        market: as of a MeanFieldGame, with the density and the drift of each crowd by name.

    Raises:
        ProblemError: data that make no sense, on every rank alike; it names the crowd.
        MeshError: a boundary name the mesh does not have.
    """

    domain: Domain = field(kw_only=False)
    horizon: float | None = None
    crowds: Mapping[str, Crowd]
    switching: Mapping[tuple[str, str], float | Given] = field(default_factory=dict)
    planner: str | None = None
    market: Mapping[str, Callable] = field(default_factory=dict)
    prices: Prices = field(init=False, repr=False)
    populations: tuple[Member, ...] = field(init=False, repr=False)
    data: Data = field(init=False, repr=False)  # the rates of switching, the markets
    units: Units = field(init=False, repr=False)
    infinite: tuple[str, ...] = field(init=False, repr=False)
    doubt: str = field(init=False, repr=False)  # that there is one equilibrium, a sentence or none

    def __post_init__(self):
        """Check everything that can be known before a solve starts. Collective."""
        domain = Domain.of(self.domain)
        object.__setattr__(self, "domain", domain)
        with together(domain.comm):
            self._check_arguments()
        alike(domain.comm, crowds=[*self.crowds], switching=[*self.switching], planner=self.planner)
        object.__setattr__(self, "crowds", MappingProxyType(dict(self.crowds)))
        object.__setattr__(self, "switching", MappingProxyType(dict(self.switching)))
        object.__setattr__(self, "prices", prices_of(self))
        members = tuple(self._each(self._member))
        object.__setattr__(self, "populations", members)
        check_discounts(self)
        data = Data(domain, [*self.crowds], self.prices)
        for pair, rate in self.switching.items():
            data.state(rate_name(pair), rate, "xtm")
        if data.quantities and self.planner == "each":
            raise ProblemError(
                "Rates that see smooth() or total() cannot be had with a planner for each crowd: "
                "which of them would answer for it?"
            )
        state_markets(data, self.market)
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "horizon", members[0].horizon)  # a float now
        self.check()

    def _check_arguments(self):
        if not isinstance(self.crowds, Mapping) or not self.crowds:
            raise ProblemError('crowds must be a dict such as {"tourists": mfg.Crowd(...)}.')
        for name, crowd in self.crowds.items():
            if not (isinstance(name, str) and name.isprintable() and name.strip() == name != ""):
                raise ProblemError(
                    "crowds: a crowd is called by a line of text without blanks at its ends, not "
                    f"by {name!r}."
                )
            if not isinstance(crowd, Crowd):
                raise ProblemError(
                    f"crowds[{name!r}] must be a mfg.Crowd(...), not a {type(crowd).__name__}."
                )
        if self.planner not in PLANNERS:
            raise ProblemError(f'planner is None, "all" or "each", not {self.planner!r}.')
        if not isinstance(self.switching, Mapping):
            raise ProblemError("switching must be a dict such as {('a', 'b'): rate}.")
        pairs = [*permutations(self.crowds, 2)]
        for pair, rate in self.switching.items():
            if pair not in pairs:
                raise ProblemError(
                    f"switching[{pair!r}]: it goes from the name of a crowd to that of another, of "
                    f"{', '.join(map(repr, self.crowds))}."
                )
            check_datum(rate_name(pair), rate, 0.0)

    def _each(self, make):
        """What `make` returns for each crowd by its name, with the name in errors."""
        for name in self.crowds:
            try:
                yield make(name)
            except MFGError as error:
                raise type(error)(f"crowd {name!r}: {error}") from error

    def _member(self, name: str) -> Member:
        crowd = self.crowds[name]
        data = {y.name: getattr(crowd, y.name) for y in fields(Crowd)}
        return Member(self.domain, horizon=self.horizon, name=name, together=self, **data)

    @property
    def digest(self) -> bytes:
        """Of all numbers in the data that may change, on this rank."""
        return b"".join(data.digest for data in (self.data, *(y.data for y in self.populations)))

    def look(self):
        """Look at the data. Collective."""
        check_flows(self)
        crowding = Crowding(self.populations)
        members = {member.name: member for member in self.populations}
        for _ in self._each(lambda name: members[name].check_with(crowding)):
            pass
        self._set_units()
        check_rates(self, crowding)
        infinite = (f"{own.name}: {name}" for own in self.populations for name in own.infinite)
        object.__setattr__(self, "infinite", tuple(infinite))
        object.__setattr__(self, "doubt", doubt(self, crowding))
        check_markets(self, crowding)

    def _set_units(self):
        """One unit of time and of cost for all; of density for each group of crowds."""
        own, volume = [member.units for member in self.populations], self.domain.volume()
        time, cost = min(y.time for y in own), max(y.cost for y in own)
        for group in self.groups:
            people = sum(self.populations[i].population for i in group)
            if not people > 0:
                raise ProblemError("Nobody is in any of the crowds: give one a population > 0.")
            for i in group:
                units = replace(own[i], time=time, cost=cost, density=people / volume)
                object.__setattr__(self.populations[i], "units", units)
        units = replace(own[0], time=time, cost=cost, density=self.population / volume)
        object.__setattr__(self, "units", units)

    @property
    def title(self) -> str:
        """What reports and files call it."""
        return f"Populations of {', '.join(map(repr, self.crowds))}"

    @property
    def discounts(self) -> list[float]:
        """The discount of each crowd."""
        return [member.discount for member in self.populations]

    @property
    def population(self) -> float:
        """The number of all players."""
        return sum(member.population for member in self.populations)

    @property
    def terminal_density(self) -> None:
        """There is none."""
        return None

    @property
    def open(self) -> list[str]:
        """Names of the open boundaries of any crowd."""
        return [name for member in self.populations for name in member.open]

    @property
    def groups(self) -> list[list[int]]:
        """Numbers of the crowds between which players change, group by group."""
        names, groups = list(self.crowds), [{i} for i in range(len(self.crowds))]
        for pair in self.switching:
            joined = [group for group in groups if group & {names.index(name) for name in pair}]
            groups = [group for group in groups if group not in joined] + [set().union(*joined)]
        return sorted(sorted(group) for group in groups)

    @property
    def plans(self) -> bool:
        """Whether planners answer for what their crowds do to costs."""
        return self.planner is not None

    @property
    def switches(self) -> list[tuple[int, int]]:
        """Pairs of numbers of crowds: players of the first become players of the second."""
        names = list(self.crowds)
        return [(names.index(one), names.index(other)) for one, other in self.switching]

    def replaced_rates(self, mapping: dict) -> dict[tuple[str, str], Given]:
        """What would state the same switching with terminals replaced."""
        return {pair: self.data.replaced(rate_name(pair), mapping) for pair in self.switching}

    def rate(self, i: int, j: int, x, t, m: Densities) -> ufl.core.expr.Expr:
        """The rate at which players of crowd i become players of crowd j."""
        names = list(self.crowds)
        return self.data(rate_name((names[i], names[j])), x=x, t=t, m=m)

    @property
    def quantities(self) -> list[tuple[int, Data, Quantity]]:
        """What the crowds make: with the crowd who sees it and the data it is stated in."""
        found = [
            (i, own.data, quantity)
            for i, own in enumerate(self.populations)
            for quantity in own.data.quantities
        ]
        switching = [(self.switches[0][0], self.data, y) for y in self.data.quantities]
        return found + switching

    def crowd(self, densities: Sequence, quantities: Mapping | None = None) -> Densities:
        """What the callables get for m, of the densities of all crowds."""
        return Densities(list(self.crowds), densities, quantities)

    def seen(self, i: int, own: tuple, frozen: tuple) -> tuple:
        """The densities in the costs of crowd i while they are differentiated.

        Those of `own` move with the state, those of `frozen` do not: see functional.py. A planner
        moves all of them, or those of his crowd.
        """
        if self.planner == "each":
            return *frozen[:i], own[i], *frozen[i + 1 :]
        return own if self.planner else frozen
