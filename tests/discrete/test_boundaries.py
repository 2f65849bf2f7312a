"""Doors, entries and walls that do not push: fluxes, limits, balances; data that depend on time."""

from dataclasses import replace

import numpy as np
import pytest
from cases import robin

import ufl
from dolfinx import fem

import mfg_fem as mfg

SHARP, MONOTONE, P1, P2 = mfg.Sharp(), mfg.Monotone(), mfg.Galerkin(), mfg.Galerkin(degree=2)
STEPS = 8
POPULATION = 1.6


def room(boundary, kind=mfg.MeanFieldGame, **changes):
    """A crowd on the left of a room of 2 x 1, which would rather be out."""
    data = {
        "horizon": 2.0,
        "diffusion": 0.1,
        "hamiltonian": mfg.hamiltonians.quadratic(),
        "running_cost": lambda x, t, m: 1 + m,
        "terminal_cost": lambda x, m: 2.0,
        "initial_density": lambda x: 1 + ufl.cos(ufl.pi * x[0] / 2),
        "population": POPULATION,
    }
    return kind(mfg.box((2.0, 1.0), (8, 4)), boundary=boundary, **(data | changes))


def left(solution) -> float:
    return solution.gone["right"][-1]


@pytest.mark.parametrize("scheme", [SHARP, P2], ids=str)
def test_a_door_becomes_an_exit_as_its_rate_grows(scheme):
    out = left(mfg.solve(room({"right": mfg.Exit(0.3)}), STEPS, scheme))
    slow, fast = (
        left(mfg.solve(room({"right": mfg.Door(rate=rate, cost=0.3)}), STEPS, scheme))
        for rate in (100.0, 400.0)
    )
    if scheme.lumped:
        assert 3.8 <= (out - slow) / (out - fast) <= 4.2
    # The consistent mass matrix sees u(T) at the nodes of a door, which has a jump at an exit.
    assert abs(out - fast) < 2e-3 * out


FULL = mfg.Door(capacity=mfg.InTime(lambda x, t: 0.2 + 0.1 * t), cost=lambda x: 0.1 + x[1])
QUEUE = mfg.Door(rate=4.0, capacity=0.4, cost=mfg.WithCrowd(lambda x, t, m: t + 0.3 * m))


@pytest.mark.parametrize(
    "scheme, door",
    [(SHARP, FULL), (P1, FULL), (MONOTONE, QUEUE), (P2, QUEUE)],
    ids=["Sharp-timed", "P1-timed", "Monotone-queue", "P2-queue"],
)
def test_people_and_costs_balance(scheme, door):
    pulse = mfg.Entry(mfg.InTime(lambda x, t: t * (2 - t) * x[1]))
    changes = {"source": lambda x, t: 0.1 * x[0]}
    solution = mfg.solve(room({"left": pulse, "right": door}, **changes), STEPS, scheme)
    assert np.abs(solution.balance).max() < 1e-13
    # t (2 - t) at the middles of 8 steps, times int x[1], and the source.
    middles = 0.125 + 0.25 * np.arange(STEPS)
    came = 0.25 * (middles * (2 - middles)).sum() / 2 + 2 * 0.2
    assert solution.entered[-1] == pytest.approx(came, rel=1e-13)
    flow, t = np.diff(solution.gone["right"]) / 0.25, middles
    assert (flow > 0).all() and (flow <= (0.2 + 0.1 * t if door is FULL else 0.4)).all()
    paid = solution.cost - solution.limited_cost
    assert paid == pytest.approx(solution.expected_cost, rel=1e-8)
    assert solution.min_density >= (0.0 if scheme.positive else -np.inf)


def test_a_closed_door_lets_nobody_through():
    closed = mfg.InTime(lambda x, t: ufl.conditional(t < 1, 0.0, 0.4))
    solution = mfg.solve(room({"right": mfg.Door(rate=1.0, capacity=closed)}), STEPS)
    gone = solution.gone["right"]
    assert gone[STEPS // 2] == 0.0 < gone[-1] <= 0.4


def test_a_player_pays_at_the_door_what_it_costs():
    """With nothing else to pay for, u is the cost of leaving or staying, here the same."""
    boundary = {"right": mfg.Door(rate=3.0, cost=0.7), "left": mfg.Exit(0.7)}
    changes = {"running_cost": lambda x, t, m: 0.0, "terminal_cost": lambda x, m: 0.7}
    solution = mfg.solve(room(boundary, **changes), STEPS)
    assert np.abs(solution.levels.u - 0.7).max(initial=0.0) < 1e-12
    assert solution.cost == pytest.approx(0.7 * POPULATION, rel=1e-12)


def test_who_does_not_walk_leaves_by_diffusion():
    """M = cos(k x) exp(-D k^2 t): the heat equation with a Robin condition, exactly."""
    D, T, rate = 0.2, 1.0, 0.5
    k, error = robin(rate, D), []
    for n in (8, 16, 32):
        game = mfg.MeanFieldGame(
            mfg.box(1.0, n),
            horizon=T,
            diffusion=D,
            hamiltonian=mfg.hamiltonians.quadratic(),
            running_cost=lambda x, t, m: 0.0,
            terminal_cost=lambda x, m: 1.0,
            initial_density=lambda x: ufl.cos(k * x[0]),
            boundary={"right": mfg.Door(rate=rate, cost=1.0)},
        )
        solution = mfg.solve(game, n)
        error.append(abs(solution.masses[-1] - np.exp(-D * k**2 * T)))
    assert error[-1] < 2e-4 and np.log2(error[0] / error[-1]) > 2 * 1.8


@pytest.mark.parametrize("kind", [mfg.MeanFieldGame, mfg.MeanFieldControl])
def test_without_a_horizon_as_many_leave_as_enter(kind):
    boundary = {"left": mfg.Entry(lambda x: 0.3 * x[1]), "right": mfg.Door(rate=3, capacity=0.4)}
    nothing = {"horizon": None, "terminal_cost": None, "initial_density": None}
    state = mfg.solve(room(boundary, kind, **nothing), scheme=MONOTONE)
    assert state.leaving["right"] == pytest.approx(0.15, rel=1e-12)
    assert state.entering == pytest.approx(0.15, rel=1e-12)
    if kind is mfg.MeanFieldGame:
        assert state.cost == pytest.approx(state.expected_cost, rel=1e-7)


def test_the_first_name_has_the_facets_that_two_boundaries_share():
    domain = mfg.box((2.0, 1.0), (8, 4))
    tags = {**domain.names, "also": domain.names["right"]}
    domain = mfg.Domain(domain.mesh, domain.facet_tags, tags)
    game = replace(
        room({}), domain=domain, boundary={"also": mfg.Door(2.0), "right": mfg.Door(2.0)}
    )
    with pytest.warns(mfg.SolutionWarning, match="Nobody can pass 'right'"):
        shared = mfg.solve(game, STEPS, MONOTONE)
    alone = mfg.solve(room({"right": mfg.Door(rate=2.0)}), STEPS, MONOTONE)
    assert shared.gone["also"][-1] == pytest.approx(left(alone), rel=1e-9)
    assert shared.gone["right"][-1] == 0.0


@pytest.mark.parametrize("pushes, known", [(False, 1.08), (True, 1.0)])
def test_who_may_not_lean_on_a_wall_pays_for_standing_still(pushes, known):
    """Without diffusion gamma u = f + L(0) = 1 + 0.4^2 / 2 at the limit, and f = 1 at a wall."""
    game = mfg.MeanFieldGame(
        mfg.box(1.0, 32),
        discount=1.0,
        diffusion=1e-5,
        hamiltonian=lambda x, p, m: p[0] ** 2 / 2 - 0.4 * p[0],
        running_cost=lambda x, t, m: 2 - x[0],
        boundary={"right": mfg.Wall(pushes)},
    )
    state = mfg.solve(game, scheme=MONOTONE)
    assert state.whole.nodal_values[0][-1] == pytest.approx(known, abs=5e-3)
    assert state.mass == pytest.approx(1.0, rel=1e-12)
    assert state.cost == pytest.approx(state.expected_cost, rel=1e-8)


WRONG = [
    ({"right": mfg.Door()}, "without limits"),
    ({"right": mfg.Door(rate=-1.0)}, "rate must be a finite number >= 0"),
    ({"right": mfg.Door(rate=lambda x: x[1] - 0.5)}, "rate is negative somewhere"),
    ({"right": mfg.Door(capacity=mfg.InTime(lambda x, t: 1 - t))}, "negative somewhere.* t = 1.25"),
    ({"left": mfg.Entry("many")}, "flux must be a number"),
    ({"left": mfg.Entry(mfg.WithCrowd(lambda x, t, m: m))}, "a Door can see the crowd"),
    ({"left": mfg.Exit(mfg.WithCrowd(lambda x, t, m: m))}, "a Door can see the crowd"),
    ({"left": mfg.Exit(mfg.InTime(2.0))}, "InTime takes a callable"),
    ({"left": mfg.Wall(pushes="no")}, "pushes must be True or False"),
]


@pytest.mark.parametrize("boundary, message", WRONG)
def test_what_makes_no_sense_is_refused(boundary, message):
    with pytest.raises(mfg.ProblemError, match=message):
        room(boundary)


def test_a_wall_that_does_not_push_needs_the_vertex_rule_and_a_quadratic_hamiltonian():
    with pytest.raises(mfg.ProblemError, match="vertex rule"):
        mfg.solve(room({"right": mfg.Wall()}), 2, P1)
    with pytest.raises(mfg.ProblemError, match="quadratic"):
        room({"right": mfg.Wall()}, hamiltonian=mfg.hamiltonians.power(1.5, 0.1))


# Data in time


def D(t):
    return 0.3 + 0.15 * ufl.sin(3 * t)


def mobility(t):
    return 1 + 0.5 * t


def strength(t):
    return (D(t) - 0.1) / mobility(t)


def exact_density(x, t):
    return 1 + 0.5 * ufl.cos(ufl.pi * x[0]) * ufl.exp(-(ufl.pi**2) * 0.1 * t)


def in_time(n: int) -> mfg.MeanFieldGame:
    """U = -k(t) log m with k = (D(t) - kappa) / a(t), H = a(t) |p|^2 / 2, m_t = kappa lap m."""

    def running_cost(x, t, m):
        moment = ufl.variable(t)
        L, k, rate = ufl.ln(exact_density(x, t)), strength(t), 0.1 + D(t)
        slope = ufl.grad(L)
        found = ufl.diff(strength(moment), moment) * L + k * rate * ufl.div(slope)
        return found + k * (0.1 + mobility(t) * k / 2) * ufl.dot(slope, slope)

    return mfg.MeanFieldGame(
        mfg.box(1.0, n),
        horizon=1.0,
        diffusion=mfg.InTime(lambda x, t: D(t)),
        hamiltonian=mfg.InTime(lambda x, t, p, m: mobility(t) * ufl.dot(p, p) / 2),
        running_cost=running_cost,
        terminal_cost=lambda x, m: -strength(ufl.as_ufl(1.0)) * ufl.ln(exact_density(x, 1.0)),
        initial_density=lambda x: exact_density(x, 0.0),
    )


@pytest.mark.parametrize(
    "scheme, order, last",
    [(SHARP, 2, 1e-4), (mfg.Galerkin(2, "midpoint"), 2, 1e-4)],
    ids=str,
)
def test_diffusion_and_hamiltonian_in_time(scheme, order, last):
    errors = []
    for n in (32, 64):
        solution = mfg.solve(in_time(n), n // 2, scheme)
        x = solution.coordinates[:, 0]
        waves = 0.5 * np.cos(np.pi * x)
        u = solution.nodal_values[0] + 0.2 * np.log(1 + waves)
        m = solution.nodal_densities[-1] - 1 - waves * np.exp(-(np.pi**2) * 0.1)
        errors.append(max(np.abs(u).max(), np.abs(m).max()))
        assert solution.cost == pytest.approx(solution.expected_cost, abs=1e-10)
    assert errors[-1] < last and np.log2(errors[0] / errors[1]) > order - 0.1


def test_an_exit_whose_cost_changes_leads_a_value_function_that_is_flat():
    """U = c(t) at all places, for -c' = f: exact with the midpoint rule, as c is linear."""
    cost = mfg.InTime(lambda x, t: 0.5 + 0.7 * t)
    game = room(
        {"right": mfg.Exit(cost)},
        running_cost=lambda x, t, m: -0.7,
        terminal_cost=lambda x, m: 1.9,
    )
    solution = mfg.solve(game, STEPS, mfg.Galerkin(1, "midpoint"))
    known = 0.5 + 0.7 * solution.times[:, None]
    assert np.abs(solution.nodal_values - known).max(initial=0.0) < 1e-12
    assert solution.cost == pytest.approx(solution.expected_cost, rel=1e-12)


def test_without_a_horizon_nothing_depends_on_time():
    with pytest.raises(mfg.ProblemError, match="flux depends on t"):
        room(
            {"left": mfg.Entry(mfg.InTime(lambda x, t: t)), "right": mfg.Exit()},
            horizon=None,
            terminal_cost=None,
            initial_density=None,
        )


def test_a_wind_is_the_same_as_a_formula_and_as_a_function():
    """The viscosity takes both at each vertex of a cell, where they multiply the density."""
    domain, found = mfg.box((2.0, 1.0), (8, 4)), []
    wind = fem.Function(fem.functionspace(domain.mesh, ("Lagrange", 1, (2,))))
    wind.interpolate(lambda x: np.stack([2 * x[1], 1 - 3 * x[0]]))
    formula = lambda x: ufl.as_vector([2 * x[1], 1 - 3 * x[0]])  # noqa: E731
    for given in (formula, lambda x: wind):
        blown = mfg.hamiltonians.with_drift(mfg.hamiltonians.quadratic(), given)
        game = replace(room({}), domain=domain, hamiltonian=blown, diffusion=0.01)
        found.append(mfg.solve(game, 3, MONOTONE).nodal_densities)
    assert np.abs(found[0] - found[1]).max(initial=0.0) < 1e-9
