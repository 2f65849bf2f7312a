"""A consumer who eats his wealth down to a limit of credit, without diffusion: known exactly.

With the income z + r a, the risk aversion 2 and a discount rho > r consumption grows backwards in
time from the limit as c = y exp(k s), k = (rho - r) / 2, y the income there. So with the time s
that is left until then wealth, consumption and value are known:

    a' = c - z - r a,    V = int_0^s exp(-rho (s - q)) U(c(q)) dq + exp(-rho s) U(y) / rho.
"""

from functools import cache

import numpy as np
import pytest

import ufl
from dolfinx import fem

import mfg_fem as mfg
from mfg_fem.discrete.discretisation import Discretisation

Z, R, RHO = 0.1, 0.03, 0.05
K = (RHO - R) / 2
LEFT = np.linspace(0, 60, 6001)  # time until the limit
WEALTH = Z / R * (np.exp(-R * LEFT) - 1) + Z * (np.exp(K * LEFT) - np.exp(-R * LEFT)) / (K + R)
VALUE = (np.exp(-RHO * LEFT) - np.exp(-K * LEFT)) / (Z * (RHO - K)) - np.exp(-RHO * LEFT) / Z / RHO
MONOTONE, WALLS = mfg.Monotone(), {"left": mfg.Wall(), "right": mfg.Wall()}


def exact(a):
    """What the consumer with this wealth will pay, minus the utility."""
    return -np.interp(a, WEALTH, VALUE)


def consumer(domain, diffusion, **changes):
    data = {
        "discount": RHO,
        "hamiltonian": mfg.hamiltonians.consumption(lambda x: Z + R * x[0]),
        "running_cost": lambda x, t, m: 0.0,
        "boundary": WALLS,
    }
    return mfg.MeanFieldGame(domain, diffusion=diffusion, **(data | changes))


@cache
def stationary(cells: int, diffusion: float):
    return mfg.solve(consumer(mfg.box(1.0, cells), diffusion), scheme=MONOTONE)


def error(cells: int, diffusion: float) -> np.ndarray:
    return stationary(cells, diffusion).whole.nodal_values[0] - exact(np.linspace(0, 1, cells + 1))


@pytest.mark.parametrize("diffusion", [1e-8, 1e-10])
def test_value_is_of_first_order_without_diffusion(diffusion):
    errors = [np.abs(error(cells, diffusion)).max() for cells in (50, 100, 200)]
    assert errors[-1] < 0.1 and np.log2(errors[0] / errors[-1]) > 2 * 0.9


@pytest.mark.parametrize("cells", [50, 200, 800])
@pytest.mark.parametrize("diffusion, most", [(1e-8, 2e-3), (1e-6, 0.1), (1e-4, 1.2)])
def test_value_at_the_limit_is_right_on_any_mesh(cells, diffusion, most):
    """It is 200. What noise pushes at a reflecting wall changes it by 45 at 1e-4 on 400 cells."""
    assert 0 < error(cells, diffusion)[0] < most


def test_everybody_is_at_the_limit_in_the_end_and_costs_balance():
    state = stationary(100, 1e-8)
    m = state.density().x.array
    assert m[0] / 200 > 0.999 and m.min() > -1e-6
    state = stationary(100, 1e-6)
    assert state.mass == pytest.approx(1.0, rel=1e-12)
    assert state.cost == pytest.approx(state.expected_cost, rel=1e-10)


def test_the_limit_is_reached_in_time():
    """All start evenly in [0, 0.4]; the mean wealth is known at all times, and who has arrived."""
    errors, shares = [], []
    for cells in (25, 50, 100):
        domain = mfg.box(0.4, cells)
        value = fem.Function(fem.functionspace(domain.mesh, ("Lagrange", 1)))
        value.interpolate(lambda x: exact(x[0]))
        data = {"horizon": 30.0, "terminal_cost": value, "initial_density": lambda x: 1.0}
        solution = mfg.solve(consumer(domain, 1e-8, **data), cells, MONOTONE)
        end, x = solution.density(cells).x.array, np.linspace(0, 0.4, cells + 1)
        start = np.interp(np.linspace(0, 0.4, 401), WEALTH, LEFT)
        known = np.interp(np.maximum(start - 30.0, 0), LEFT, WEALTH).mean()
        errors.append(abs(end @ x * 0.4 / cells - 0.2 * end[-1] / cells - known))
        shares.append(end[0] * 0.2 / cells)
        assert solution.masses[-1] == pytest.approx(1.0, rel=1e-12)
    arrived = np.interp(30.0, LEFT, WEALTH) / 0.4
    assert errors[-1] < 6e-3 and np.log2(errors[0] / errors[-1]) > 2 * 0.8
    assert shares[0] < shares[1] < shares[2] < arrived < shares[2] + 0.07


@pytest.mark.parametrize("cells", [32, 256])
def test_a_finer_mesh_does_not_lose_what_standing_still_costs(cells):
    """It is 1.08 without diffusion; without `Monotone.at_walls` 1.061 is found on 256 cells."""
    game = mfg.MeanFieldGame(
        mfg.box(1.0, cells),
        discount=1.0,
        diffusion=1e-5,
        hamiltonian=lambda x, p, m: p[0] ** 2 / 2 - 0.4 * p[0],
        running_cost=lambda x, t, m: 2 - x[0],
        boundary={"right": mfg.Wall()},
    )
    state = mfg.solve(game, scheme=MONOTONE)
    assert state.whole.nodal_values[0][-1] == pytest.approx(1.08, abs=1e-3)


@pytest.mark.parametrize("aversion", [0.5, 1.0, 3.0])
def test_consumption_is_what_the_price_says(aversion):
    """H = U(c) - p (y - c) and H_p = c - y at p = -U'(c)."""
    c, y = 0.3, 0.2
    p = ufl.variable(ufl.as_vector([ufl.as_ufl(-(c**-aversion))]))
    H = mfg.hamiltonians.consumption(lambda x: y, aversion)((), p, None)
    utility = np.log(c) if aversion == 1 else c ** (1 - aversion) / (1 - aversion)
    assert H(()) == pytest.approx(utility + c**-aversion * (y - c))
    slope = ufl.algorithms.expand_derivatives(ufl.diff(H, p)[0])
    assert slope(()) == pytest.approx(c - y)


def test_who_cannot_stand_still_at_a_wall_is_told_so():
    wind = mfg.hamiltonians.with_drift(
        lambda x, p, m: ufl.sqrt(1 + p[0] ** 2), lambda x: ufl.as_vector([2.0])
    )
    with pytest.raises(mfg.ProblemError, match="stand still at 'left', 'right'"):
        Discretisation(consumer(mfg.box(1.0, 4), 0.1, hamiltonian=wind), MONOTONE)
