"""People who switch from one population to another, with a horizon and without.

Run as a script, this module leaves what it finds on its ranks.
"""

from mpi4py import MPI

import numpy as np
import pytest
from parts import plan_of, system_of
from populations import Population, solved, statement
from ranks import leave_numbers, numbers_on, serial_only

import ufl

import mfg_fem as mfg
from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.discrete.stationary import Stationary
from mfg_fem.discrete.totals import measure
from mfg_fem.linear.level.sweeps import Sweeps
from mfg_fem.nonlinear.responses import best_response, lasting_response, transport

FORTH, BACK = 2.0, 1.0


def crowds(n: int = 12, dim: int = 1, scale: float = 1.0, rates=None, **changes):
    """Two crowds with places of their own, who avoid each other and switch at these rates."""
    domain = mfg.box((1.0,) * dim, n, MPI.COMM_WORLD)
    populations = [
        Population(
            domain,
            hamiltonian=lambda x, p, m: ufl.dot(p, p) / 2,
            running_cost=lambda x, t, m, i=i: m[i] + m[1 - i] / 2 + (x[0] - i) ** 2,
            terminal_cost=lambda x, m, i=i: x[0] * (1 - 2 * i),
            initial_density=lambda x, i=i: 1.2 + ufl.cos(ufl.pi * (x[0] - i)),
            diffusion=0.1 * (1 + i),
        )
        for i in range(2)
    ]
    rates = rates or {(0, 1): scale * FORTH, (1, 0): scale * BACK}
    return statement(*populations, rates=rates, **changes)


def still(**changes):
    """Two crowds with nothing to move for: all that happens is that they switch."""
    domain = mfg.box((1.0,), 4, MPI.COMM_WORLD)
    alike = Population(
        domain,
        hamiltonian=lambda x, p, m: ufl.dot(p, p) / 2,
        running_cost=lambda x, t, m: 0.0,
        initial_density=lambda x: 1 + x[0],
        diffusion=0.01,
    )
    return statement(alike, alike, rates={(0, 1): FORTH, (1, 0): BACK}, **changes)


@pytest.mark.parametrize(
    ("scheme", "order"), [(mfg.Monotone(), 1), (mfg.Galerkin(1, "midpoint"), 2)], ids=str
)
def test_masses_obey_the_equation_of_two_states(scheme, order):
    gone = np.exp(-(FORTH + BACK))
    exact = (2 * BACK + (FORTH - BACK) * gone) / (FORTH + BACK)  # from masses of 1 and 1
    errors = []
    for steps in (8, 16):
        levels, _, discrete = solved(still(), steps, scheme)
        masses = discrete.integral(levels.m)
        assert np.abs(masses.sum(axis=0) - 2).max() < 1e-13
        assert levels.m.min() >= 0
        errors.append(abs(masses[0, -1] - exact))
    assert errors[1] < 5e-2 and np.log2(errors[0] / errors[1]) > order - 0.15


@pytest.mark.parametrize("scale", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("discount", [0.0, 0.5])
@pytest.mark.parametrize("horizon", [1.0, None])
def test_few_iterations_whatever_the_rates(horizon, discount, scale):
    problem = crowds(scale=scale, horizon=horizon, discount=discount)
    levels, history, discrete = solved(problem, 8 if horizon else 1)
    assert "Schur" in history[-1]["form"] and history[-1]["step"] <= 7
    assert max(row["krylov"] for row in history) <= 12
    masses = discrete.integral(levels.m)
    assert np.abs(masses.sum(axis=0) - 2).max() < 1e-12 and levels.m.min() >= 0
    if not horizon:  # as many go as come
        np.testing.assert_allclose(masses[:, -1], (2 / 3, 4 / 3), rtol=1e-9)


@pytest.mark.parametrize("form", ["two-field", "h-form"])
def test_all_formulations_agree(form):
    for horizon in (1.0, None):
        problem = crowds(scale=5.0, horizon=horizon)
        one, other = (solved(problem, 4, krylov=y)[0] for y in ("schur", form))
        np.testing.assert_allclose(one.m, other.m, rtol=1e-6)


@pytest.mark.parametrize("rate", [10.0, 100.0])
def test_the_h_form_takes_few_iterations_whatever_the_rates(rate):
    """Its coarse space knows that value functions of those who switch are nearly one."""
    domain = mfg.box((1.0, 1.0), 12, MPI.COMM_WORLD)
    strong = [
        Population(
            domain,
            hamiltonian=lambda x, p, m: ufl.dot(p, p) / 2,
            running_cost=lambda x, t, m, i=i: 10 * m[i] + 5 * m[1 - i] + (x[0] - i) ** 2,
            initial_density=lambda x, i=i: 1.2 + ufl.cos(ufl.pi * (x[0] - i)),
            diffusion=0.02,
        )
        for i in range(2)
    ]
    problem = statement(*strong, rates={(0, 1): rate, (1, 0): rate})
    _, history, _ = solved(problem, 12, krylov="h-form")
    assert max(row["krylov"] for row in history) <= 14


CROWDED = {(0, 1): lambda x, t, m: m[1] ** 2 + x[0], (1, 0): lambda x, t, m: 1 + t}


@pytest.mark.parametrize("scheme", [mfg.Monotone(), mfg.Sharp()], ids=str)
@pytest.mark.parametrize("discount", [0.0, 1.0])
def test_switching_costs_nothing(scheme, discount):
    """The cost is what the value function expects, whatever the rates."""
    problem = crowds(rates=CROWDED, discount=discount)
    levels, *_ = solved(problem, 8, scheme, rtol=1e-11)
    system = system_of(problem, 8, scheme)
    system.jacobian.rule = levels.rule
    running, _, terminal, expected, limited = measure(system, levels)
    cost = running.sum() + terminal.sum()
    assert cost == pytest.approx(expected.sum() + limited.sum(), rel=1e-8)


def waves(system) -> np.ndarray:
    """Unknowns of no solution."""
    x = system.discrete.V.tabulate_dof_coordinates()[: system.owned, 0]
    X = system.even_crowd()
    X[0] += 0.3 * np.cos(5 * x)
    X[1] *= 1 + 0.3 * np.cos(3 * x)
    return system.settled(X)


@pytest.mark.parametrize("scheme", [mfg.Monotone(), mfg.Galerkin(1, "midpoint")], ids=str)
@pytest.mark.parametrize("horizon", [1.0, None])
def test_best_responses_and_transport_fulfil_their_rows(horizon, scheme):
    problem = crowds(scale=10.0, horizon=horizon)
    if horizon:
        system = system_of(problem, 4, scheme)
    else:
        system = Stationary(Discretisation(problem, scheme))
    plan, X = plan_of(system), waves(system)
    with plan.in_force():
        sweeps = Sweeps(system.jacobian, plan.sweep)
        if horizon:
            best, solved = best_response(system, sweeps, X, 0.0, atol=1e-11)
            assert solved
        else:
            best = lasting_response(system, sweeps, X, 1e-11)
        moved = transport(system, sweeps, best)
        if not horizon:  # what is left is round-off times the long step
            moved = transport(system, sweeps, system.settled(moved))
        sweeps.destroy()
    assert np.abs(system.residual(moved)[1]).max() < 1e-11
    assert np.abs(system.residual(best)[0]).max() < 1e-10
    system.destroy()


def numbers():
    found = []
    for horizon in (1.0, None):
        problem = crowds(8, 2, 10.0, horizon=horizon)
        levels, history, discrete = solved(problem, 4, rtol=1e-11)
        x = discrete.V.tabulate_dof_coordinates()[: discrete.owned, 0]
        found += [history[-1]["step"], *discrete.integral(levels.m[:, -1] * x).tolist()]
    return found


@serial_only
def test_switching_on_ranks():
    here = numbers()
    assert numbers_on(2, __file__) == pytest.approx(here, rel=1e-8)


if __name__ == "__main__":
    leave_numbers(numbers())
