"""Costs that see smoothed densities and totals, for players and planners."""

import numpy as np
import pytest
from parts import system_of
from scipy.integrate import solve_bvp

import ufl

import mfg_fem as mfg

GAME, CONTROL = mfg.MeanFieldGame, mfg.MeanFieldControl


def everything(kind, **changes):
    """Smoothed densities and totals wherever they may be."""

    def running_cost(x, t, m):
        near = mfg.smooth(m * (1 + t * x[0]), 0.3, times=2)
        return m * x[0] + near**2 * m + mfg.total(m * x[0]) * x[0]

    cost = mfg.WithCrowd(lambda x, t, m: mfg.total(m))
    data = {
        "horizon": 1.0,
        "diffusion": 0.1,
        "hamiltonian": lambda x, p, m: ufl.dot(p, p) / (2 + mfg.smooth(m, 0.2)),
        "running_cost": running_cost,
        "terminal_cost": lambda x, m: m * mfg.smooth(m**2, 0.2) + (x[0] - mfg.total(m * x[0])) ** 2,
        "initial_density": lambda x: 1 + x[0],
        "boundary": {"right": mfg.Door(rate=1.0, cost=cost)},
    }
    return kind(mfg.box((1.0,), 4), **(data | changes))


@pytest.mark.parametrize("scheme", [mfg.Sharp(), mfg.Galerkin(2, "midpoint")], ids=str)
@pytest.mark.parametrize("kind", [GAME, CONTROL])
def test_jacobian_is_the_derivative_of_the_residual(kind, scheme):
    system, random = system_of(everything(kind), 3, scheme), np.random.default_rng(0)
    X = system.hold(random.uniform(0.5, 1.5, system.shape))
    system.linearise(X)
    for field in range(2):
        dX = np.zeros(system.shape)
        dX[field] = random.uniform(-1, 1, system.shape[1:])
        exact, e = system.mult_jacobian(dX), 2e-4
        plus, minus, plus2, minus2 = (system.residual(X + k * e * dX) for k in (1, -1, 2, -2))
        differences = (8 * (plus - minus) - (plus2 - minus2)) / (12 * e)
        assert np.abs(exact - differences).max() < 1e-7 * np.abs(differences).max()
    system.destroy()


@pytest.mark.parametrize("kind", [GAME, CONTROL])
def test_newton_solves_for_non_local_congestion(kind):
    solution = mfg.solve(everything(kind), 6)
    assert solution.iterations <= 8 and solution.history[-1]["form"] == "two-field form"
    assert np.abs(solution.balance).max() < 1e-13 and solution.min_density > 0


def test_a_planner_counts_what_one_more_player_does_to_all():
    """The value function of a planner is the derivative of the least cost in m0."""

    def cost(e):
        hill = lambda x: 1 + x[0] + e * ufl.cos(ufl.pi * x[0])  # noqa: E731
        problem = everything(CONTROL, initial_density=hill, population=1.5, boundary={})
        solution = mfg.solve(problem, 6, mfg.Monotone(), mfg.Newton(rtol=1e-11))
        assert solution.converged
        return solution

    here, e = cost(0.0), 1e-2
    change = (cost(e).cost - cost(-e).cost) / (2 * e)
    hill = np.cos(np.pi * here.coordinates[:, 0])
    hill -= here.discrete.integral(hill)  # as the population is scaled
    expected = here.discrete.integral(here.nodal_values[0] * hill)
    assert change == pytest.approx(float(expected), rel=1e-4)


D, MOBILITY, RADIUS, MINDS = 0.3, 0.2, 0.3, 5.0
DECAY = D - MOBILITY


def heat(n: int):
    """M = 1 + e exp(-DECAY pi^2 t) cos, u = - MOBILITY ln m, and what two smoothings make of m."""

    def density(x, t, share=1.0):
        return 1 + 0.5 * share * ufl.exp(-DECAY * ufl.pi**2 * t) * ufl.cos(ufl.pi * x[0])

    def cost(x, t, m):
        slope = ufl.grad(ufl.ln(density(x, t)))
        rest = (DECAY + D) * ufl.div(slope) + (DECAY + MOBILITY / 2) * ufl.dot(slope, slope)
        smoothed = density(x, t, 1 / (1 + np.pi**2 * RADIUS**2) ** 2)
        return MINDS * (mfg.smooth(m, RADIUS, 2) - smoothed) + MOBILITY * rest

    return mfg.MeanFieldGame(
        mfg.box((1.0,), n),
        horizon=0.5,
        diffusion=D,
        hamiltonian=mfg.hamiltonians.quadratic(),
        running_cost=cost,
        terminal_cost=lambda x, m: -MOBILITY * ufl.ln(density(x, 0.5)),
        initial_density=lambda x: density(x, 0.0),
    )


@pytest.mark.parametrize(
    "scheme, order", [(mfg.Monotone(), 0.9), (mfg.Sharp(), 1.8), (mfg.Galerkin(1, "midpoint"), 1.9)]
)
def test_exact_family_with_a_smoothed_density(scheme, order):
    errors = []
    for n in (16, 32):
        solution = mfg.solve(heat(n), n, scheme)
        assert solution.iterations <= 5
        x = solution.coordinates[:, 0]
        exact = 1 + 0.5 * np.exp(-DECAY * np.pi**2 / 2) * np.cos(np.pi * x)
        errors.append(np.abs(solution.nodal_densities[-1] - exact).max())
    assert np.log2(errors[0] / errors[1]) > order and errors[1] < 1e-2


@pytest.mark.parametrize("kind", [GAME, CONTROL])
def test_few_iterations_for_a_strong_coupling_that_is_not_local(kind):
    problem = kind(
        mfg.box((1.0, 1.0), 16),
        horizon=1.0,
        diffusion=0.02,
        hamiltonian=mfg.hamiltonians.quadratic(),
        running_cost=lambda x, t, m: 100 * mfg.smooth(m, 0.05) + ufl.sin(2 * ufl.pi * x[0]) / 2,
        terminal_cost=lambda *_: 0.0,
        initial_density=lambda x: ufl.exp(-50 * ((x[0] - 0.5) ** 2 + (x[1] - 0.5) ** 2)),
    )
    solution = mfg.solve(problem, 8, mfg.Monotone())
    assert "H-form" in solution.history[-1]["form"] and solution.iterations <= 6
    assert max(row["krylov"] for row in solution.history) <= 20


def test_the_mean_of_a_linear_quadratic_game():
    """The cost is q/2 (x - theta xbar)^2 with the mean xbar of all, known from linear equations."""
    q, theta, half, start = 1.3, 0.7, 3.0, 0.6

    def slope(t):
        return np.sqrt(q) * np.tanh(np.sqrt(q) * (1 - t))

    exact = solve_bvp(
        lambda t, y: [slope(t) * y[0] + q * theta * y[1], -(slope(t) * y[1] + y[0])],
        lambda first, last: [last[0], first[1] - start],
        np.linspace(0, 1, 101),
        np.zeros((2, 101)),
        tol=1e-10,
    ).sol(1.0)[1]

    def cost(x, t, m):
        y = x[0] - half
        return q / 2 * (y - theta * mfg.total(m * y)) ** 2

    errors = []
    for n in (50, 100):
        problem = mfg.MeanFieldGame(
            mfg.box((2 * half,), n),
            horizon=1.0,
            diffusion=0.05,
            hamiltonian=mfg.hamiltonians.quadratic(),
            running_cost=lambda x, t, m: (
                q / 2 * (x[0] - half - theta * mfg.total(m * (x[0] - half))) ** 2
            ),
            terminal_cost=lambda *_: 0.0,
            initial_density=lambda x: ufl.exp(-12.5 * (x[0] - half - start) ** 2),
        )
        solution = mfg.solve(problem, n // 5, mfg.Galerkin(1))
        assert max(row["krylov"] for row in solution.history) <= 3
        mean = solution.discrete.integral(
            (solution.coordinates[:, 0] - half) * solution.nodal_densities[-1]
        )
        errors.append(float(mean) - exact)
    assert exact == pytest.approx(0.49940884, abs=1e-7)
    assert 1.8 < errors[0] / errors[1] < 2.2 and abs(errors[1]) < 2e-3


def test_a_cost_of_the_total_is_felt_by_all_alike():
    problem = everything(
        GAME,
        hamiltonian=mfg.hamiltonians.quadratic(),
        running_cost=lambda x, t, m: mfg.total(m) ** 2,
        terminal_cost=lambda *_: 0.0,
        population=3.0,
        boundary={},
    )
    np.testing.assert_allclose(mfg.solve(problem, 4).nodal_values[0], 9.0, rtol=1e-9)


def test_costs_balance_in_a_wind_among_those_who_are_near():
    """Standing still costs what the HJB rows say, with what is seen of the crowd at each vertex."""
    game = mfg.MeanFieldGame(
        mfg.box((1.0, 1.0), 6),
        horizon=1.0,
        diffusion=0.02,
        hamiltonian=lambda x, p, m: ufl.dot(p, p) / (2 + 8 * mfg.smooth(m, 0.2)) - p[0],
        running_cost=lambda x, t, m: (x[0] - 0.5) ** 2 + m,
        terminal_cost=lambda x, m: x[1],
        initial_density=lambda x: 1 + ufl.cos(ufl.pi * x[0]) * ufl.cos(ufl.pi * x[1]),
    )
    solution = mfg.solve(game, 6, mfg.Monotone(), mfg.Newton(rtol=1e-12))
    assert solution.cost == pytest.approx(solution.expected_cost, rel=1e-9)
