"""Several crowds in other units of length, time, cost and population have the same solution."""

from functools import cache

import numpy as np
import pytest
from cases import jittered
from test_units import LARGEST, SMALLEST, Units, check

import ufl
from dolfinx import fem

import mfg_fem as mfg


def stated_in(units: Units) -> mfg.Populations:
    """Crowds who switch, pass doors, and see smooth() and total(), in these units."""
    one = jittered(2, 5)
    one.mesh.geometry.x[:] *= units.length
    domain = mfg.Domain(one.mesh, one.facet_tags, one.names)
    numbers = (units.length, units.time, units.cost, units.population)
    L, T, C, M = (fem.Constant(domain.mesh, number) for number in numbers)
    density, flux = M / L**2, M / (T * L)
    near = 0.2 * units.length
    common = {
        "diffusion": lambda x: 0.1 * L**2 / T,
        "hamiltonian": lambda x, p, m: ufl.dot(p, p) * L**2 / (2 * C * T) / (1 + m.all / density),
        "initial_density": lambda x: density * (1.2 + ufl.cos(ufl.pi * x[0] / L)),
    }

    def seeing(x, t, m):
        place = x[0] / L
        mean = mfg.total(m["b"] * place / M)
        return C / T * (mfg.smooth(m.all / density, near) + place * mean + m["a"] / density)

    fee = mfg.WithCrowd(lambda x, t, m: 0.1 * C * m.all / density)
    crowds = {
        "a": mfg.Crowd(
            running_cost=seeing,
            terminal_cost=lambda x, m: C * mfg.smooth(m["a"] / density, near),
            population=units.population,
            boundary={"right": mfg.Door(capacity=0.4 * flux, cost=fee)},
            **common,
        ),
        "b": mfg.Crowd(
            running_cost=lambda x, t, m: C / T * (m["b"] / density + (x[1] / L) ** 2),
            terminal_cost=lambda x, m: 0.3 * C,
            population=2 * units.population,
            boundary={"right": mfg.Door(rate=0.5 * L / T, cost=0.2 * units.cost)},
            **common,
        ),
    }
    rates = {
        ("a", "b"): lambda x, t, m: (1 + mfg.smooth(m["a"] / density, near)) / T,
        ("b", "a"): lambda x, t, m: 0.5 / T + 0 * x[0] / (L * T),
    }
    return mfg.Populations(domain, horizon=units.time, crowds=crowds, switching=rates)


@cache
def numbers(units: Units) -> dict:
    """What a solution is made of, in units of order one."""
    solution = mfg.solve(stated_in(units), 4)
    costs, everybody = units.cost * units.population, solution.everybody
    return {
        "u": everybody.u / units.cost,
        "m": everybody.m * units.length**2 / units.population,
        "velocity": solution.velocity(1, "a").x.array * units.time / units.length,
        "cost": np.array([part.cost for part in solution.values()]) / costs,
        "gone": np.array([y["right"] for y in solution.gone.values()]) / units.population,
        "steps": [row["step"] for row in solution.history],
    }


@pytest.mark.parametrize("units", [SMALLEST, LARGEST, Units(1e-6, 1e5, 1e6, 1e-3)], ids=str)
def test_other_units_change_nothing_for_crowds(units):
    one, other = numbers(Units()), numbers(units)
    assert one["steps"] == other["steps"]
    check(one, other)
