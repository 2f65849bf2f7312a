"""What the players want: MeanFieldGame and MeanFieldControl, checked when they are built."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import ufl
from dolfinx import fem

from mfg_fem.boundary import Exit
from mfg_fem.checks import check_arguments, check_values
from mfg_fem.domain import Domain
from mfg_fem.units import Units
from mfg_fem.validate import is_number

Data = Callable | ufl.core.expr.Expr  # what a callable would return will do, a Function too


@dataclass(frozen=True, kw_only=True, eq=False)
class _MeanField:
    """The data shared by games and controls. Costs are per player; all callables return UFL."""

    domain: Domain = field(kw_only=False)
    horizon: float
    diffusion: float | Data
    hamiltonian: Data
    running_cost: Data
    terminal_cost: Data
    initial_density: Data
    population: float = 1.0
    boundary: Mapping[str, Exit] = field(default_factory=dict)
    source: Data | None = None
    units: Units = field(init=False, repr=False)
    infinite: tuple[str, ...] = field(init=False, repr=False)  # of the data at m = 0

    def __post_init__(self):
        """Check everything that can be known before a solve starts. Collective."""
        object.__setattr__(self, "domain", Domain.of(self.domain))
        check_arguments(self)
        units, infinite = check_values(self)
        object.__setattr__(self, "units", units)
        object.__setattr__(self, "infinite", infinite)

    # The data as UFL. Callables are called where they are needed, never inspected.

    @cached_property
    def x(self) -> ufl.SpatialCoordinate:
        """The space coordinate of the forms."""
        return ufl.SpatialCoordinate(self.domain.mesh)

    def D(self, x) -> ufl.core.expr.Expr:
        """Diffusion at x as a (d, d) tensor. The PDE diffusion: half the squared noise."""
        D = self._ufl(self.diffusion, x)
        return D * ufl.Identity(self.domain.dim) if D.ufl_shape == () else D

    def H(self, x, p, m) -> ufl.core.expr.Expr:
        """Hamiltonian of one player who sees the density m."""
        return self._ufl(self.hamiltonian, x, p, m)

    def f(self, x, t, m) -> ufl.core.expr.Expr:
        """Running cost of one player."""
        return self._ufl(self.running_cost, x, t, m)

    def g(self, x, m) -> ufl.core.expr.Expr:
        """Terminal cost of one player."""
        return self._ufl(self.terminal_cost, x, m)

    def s(self, x, t) -> ufl.core.expr.Expr:
        """Players entering per unit of volume and time."""
        return ufl.zero() if self.source is None else self._ufl(self.source, x, t)

    def m0(self, x) -> ufl.core.expr.Expr:
        """Initial density before it is scaled to the population."""
        return self._ufl(self.initial_density, x)

    def exit_cost(self, condition: Exit, x) -> ufl.core.expr.Expr:
        """What a player who leaves there pays."""
        return self._ufl(condition.cost, x)

    def _ufl(self, data, *arguments) -> ufl.core.expr.Expr:
        # UFL's own expressions and DOLFINx's Functions are callable too, and no callables of ours.
        if callable(data) and not isinstance(data, ufl.core.expr.Expr):
            data = data(*arguments)
        # A number becomes a Constant: a new value must not compile a new kernel.
        if is_number(data):
            return fem.Constant(self.domain.mesh, float(data))
        return ufl.as_ufl(data)

    def seen(self, m, frozen):
        """The crowd in the costs while they are differentiated in m: see functional.py."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True, eq=False)
class MeanFieldGame(_MeanField):
    """A Nash equilibrium of infinitely many players (Lasry-Lions 2007).

        -u_t - div(D grad u) + H(x, grad u, m) = f(x, t, m),      u(T) = g(x, m(T)),
         m_t - div(D grad m) - div(m H_p(x, grad u, m)) = s(x, t),  m(0) = m0,

    with u the value function (the cost still to come) and m the density of players. Every
    boundary reflects unless it is named in `boundary`.

    Args:
        domain: a Domain, or a DOLFINx simplex mesh.
        horizon: the final time T.
        diffusion: D > 0, half the squared noise: a number, or x -> UFL, scalar or symmetric
            positive definite (d, d) tensor. Where it varies it acts in divergence form.
        hamiltonian: H(x, p, m), convex in p and twice differentiable; the drift is -H_p.
        running_cost: f(x, t, m), what a player pays per unit of time besides moving.
        terminal_cost: g(x, m), pointwise in m.
        initial_density: m0(x) >= 0, scaled so that its integral is `population`.
        population: total mass of m0: the number of players.
        boundary: name of a boundary -> Exit(...).
        source: s(x, t), players entering per unit of volume and time, or None.

    Raises:
        ProblemError: data that make no sense, on every rank alike.
        MeshError: a boundary name the mesh does not have.
    """

    def seen(self, m, frozen):
        """A player does not move the crowd: it stays frozen while differentiating."""
        return frozen


@dataclass(frozen=True, kw_only=True, eq=False)
class MeanFieldControl(_MeanField):
    """One planner moves everybody (Bensoussan-Frehse-Yam 2013); arguments as MeanFieldGame.

    The planner minimises the total cost of the population, the integral of the per-player
    costs against m. The equations are those of a game in which every player also pays for the
    harm done to the others: f + m f_m, g + m g_m and H + m H_m stand in place of f, g and H.
    """

    def seen(self, m, frozen):
        """The planner moves the crowd: it is differentiated with m."""
        return m
