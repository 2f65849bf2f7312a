"""Statements of several populations: what the functional asks of them, and nothing else."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np

import ufl
from dolfinx import fem

import mfg_fem as mfg
from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.nonlinear.continuation import solve_stages
from mfg_fem.problem.game import MeanField
from mfg_fem.problem.units import Units


@dataclass
class Population:
    """One of them; its callables get the densities of all as a vector m."""

    domain: mfg.Domain
    hamiltonian: object
    running_cost: object
    terminal_cost: object = lambda x, m: 0.0
    terminal_density: None = None
    initial_density: object = lambda x: 1.0
    diffusion: float = 0.1
    population: float = 1.0
    boundary: dict = field(default_factory=dict)

    named, open = MeanField.named, MeanField.open
    by_flux, ways_out = MeanField.by_flux, MeanField.ways_out
    limits = MeanField.limits

    def __post_init__(self):
        mesh = self.domain.mesh
        self.x = ufl.SpatialCoordinate(mesh)
        self.number = lambda y: y if isinstance(y, ufl.core.expr.Expr) else fem.Constant(mesh, y)
        self.D = lambda x, t: self.number(self.diffusion) * ufl.Identity(self.domain.dim)
        self.H = lambda x, t, p, m: self.hamiltonian(x, p, m)
        self.f = lambda x, t, m: self.number(self.running_cost(x, t, m))
        self.g = lambda x, m: self.number(self.terminal_cost(x, m))
        self.s = lambda x, t: ufl.zero()
        self.m0 = lambda x: self.number(self.initial_density(x))
        self.at_boundary = lambda name, of, x, t: self.number(float(self.boundary[name].cost))
        self.data = SimpleNamespace(depends=lambda *_: False)


def statement(
    *populations: Population,
    horizon: float | None = 1.0,
    planner: bool = False,
    discount: float = 0.0,
    rates: dict | None = None,
):
    """A game of these populations, or one planner who moves all of them.

    `rates` has (i, j) -> lambda_ij, a number or a callable of x, t, m. If there are any, all
    populations are one group.
    """
    domain, rates = populations[0].domain, rates or {}
    duration, everybody = horizon or 1.0, range(len(populations))
    length = domain.volume() ** (1 / domain.dim)
    density = sum(own.population for own in populations) / domain.volume()
    return SimpleNamespace(
        domain=domain,
        x=populations[0].x,
        horizon=horizon,
        duration=duration,
        stationary=horizon is None,
        discount=discount,
        open=[],
        populations=populations,
        units=Units.of(length, duration, density, length / duration, 1.0),
        infinite=(),
        crowd=ufl.as_vector,
        seen=lambda i, own, frozen: own if planner else frozen,
        switches=tuple(rates),
        rate=lambda i, j, x, t, m: populations[i].number(
            rates[i, j](x, t, m) if callable(rates[i, j]) else rates[i, j]
        ),
        groups=[list(everybody)] if rates else [[i] for i in everybody],
        boundary={name: exit for own in populations for name, exit in own.boundary.items()},
        population=populations[0].population,
    )


def solved(problem, steps: int, scheme=None, **method):
    """All levels of the solution, its history, and the discretisation."""
    discrete, history = Discretisation(problem, scheme or mfg.Sharp()), []
    times = np.linspace(0, problem.duration, steps + 1)
    record = lambda row, state: history.append(row)  # noqa: E731
    system, _, outcome = solve_stages(discrete, times, mfg.Newton(**method), None, record)
    assert outcome.converged, outcome.reason
    return system.levels(outcome.X), history, discrete
