"""Statements of several populations whose callables get the densities of all as a vector m."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

import ufl

import mfg_fem as mfg
from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.nonlinear.grids import solve_stages


@dataclass
class Population:
    """One of them."""

    domain: mfg.Domain
    hamiltonian: object
    running_cost: object
    terminal_cost: object = lambda x, m: 0.0
    initial_density: object = lambda x: 1.0
    diffusion: float = 0.1
    population: float = 1.0
    boundary: dict = field(default_factory=dict)

    def crowd(self, discount: float, lasts: bool) -> mfg.Crowd:
        ends = {
            "terminal_cost": lambda x, m: self.terminal_cost(x, vector(m)),
            "initial_density": self.initial_density,
        }
        return mfg.Crowd(
            hamiltonian=lambda x, p, m: self.hamiltonian(x, p, vector(m)),
            running_cost=lambda x, t, m: self.running_cost(x, t, vector(m)),
            diffusion=self.diffusion,
            population=self.population,
            discount=discount,
            boundary=self.boundary,
            **({} if lasts else ends),
        )


def vector(m):
    return ufl.as_vector(list(m.values()))


def statement(
    *populations: Population,
    horizon: float | None = 1.0,
    planner: str | None = None,
    rates: dict | None = None,
    discount: float | Sequence[float] = 0.0,
):
    """A game of these populations, or of their planners.

    `rates` has (i, j) -> lambda_ij, a number or a callable of x, t, m. One discount is that of all.
    """

    def switching(rate):
        return (lambda x, t, m: rate(x, t, vector(m))) if callable(rate) else rate

    discounts, lasts = np.broadcast_to(discount, len(populations)), horizon is None
    return mfg.Populations(
        populations[0].domain,
        horizon=horizon,
        crowds={f"{i}": own.crowd(discounts[i], lasts) for i, own in enumerate(populations)},
        planner=planner,
        switching={(f"{i}", f"{j}"): switching(y) for (i, j), y in (rates or {}).items()},
    )


def solved(problem, steps: int, scheme=None, **method):
    """All levels of the solution, its history, and the discretisation."""
    discrete, history = Discretisation(problem, scheme or mfg.Sharp()), []
    times = np.linspace(0, problem.duration, steps + 1)
    record = lambda row, state: history.append(row)  # noqa: E731
    system, _, outcome = solve_stages(discrete, times, mfg.Newton(**method), None, record)
    assert outcome.converged, outcome.reason
    return system.levels(outcome.X), history, discrete
