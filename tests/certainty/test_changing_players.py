"""Players who change from crowd to crowd, and who pay prices.

Run as a script, this module leaves what players and the certificate say of two crowds.
"""

import numpy as np
import pytest
from crowds import two
from ranks import leave_numbers, numbers_on, serial_only

import ufl

import mfg_fem as mfg

FORTH, BACK = 3.0, 2.0
STILL = {
    "running_cost": lambda x, t, m: 0.0,
    "terminal_cost": lambda x, m: 0.0,
    "initial_density": lambda x: 1.0,
}


def close(found, error, exact, more=0.0) -> bool:
    """Whether numbers are as they should be, but for three standard errors and a bit."""
    return bool((np.abs(found - exact) <= 3 * error + more + 1e-12).all())


@pytest.mark.parametrize("scale", [1.0, 20.0, 5000.0])
def test_as_many_are_in_each_crowd_as_the_equation_of_two_states_says(scale):
    """Even if a player changes more than once in a substep."""
    rates = {("a", "b"): scale * FORTH, ("b", "a"): scale * BACK}
    problem = two(mfg.box(1.0, 4), a=STILL, b=STILL | {"population": 0.0}, switching=rates)
    players = mfg.solve(problem, 8).players(100_000, substeps=1)
    gone = np.exp(-scale * (FORTH + BACK) * players["a"].times)
    exact = {"a": (BACK + FORTH * gone) / (FORTH + BACK)}
    exact["b"] = 1 - exact["a"]
    for name, own in players.items():
        assert close(own.inside, own.inside_error, exact[name]) and own.cost == 0
    assert players["a"].inside + players["b"].inside == pytest.approx(1.0)


def changing(cells: int, discount: float = 0.3) -> mfg.Populations:
    """Crowds of unlike noise and boundaries, who change at rates of place, time and crowd."""
    data = {"discount": 0.3}
    door = {
        "discount": discount,
        "boundary": {"right": mfg.Door(rate=1.0, cost=0.2)},
        "population": 0.5,
    }
    return two(
        mfg.box(1.0, cells),
        a=data | {"diffusion": 0.05, "source": lambda x, t: 0.5 * t},
        b=door,
        switching={("a", "b"): lambda x, t, m: 4 * x[0] + t, ("b", "a"): lambda x, t, m: m["a"]},
    )


def test_players_scatter_about_what_their_crowds_do_and_pay():
    coarse, fine = (mfg.solve(changing(n, 0.9), n) for n in (16, 64))
    for name, own in coarse.players(30_000).items():
        exact = fine[name]
        assert close(own.inside, own.inside_error, exact.masses[::4], 5e-3)
        assert close(own.cost, own.standard_error, exact.cost, 5e-3)
        x, moment = own.positions(16)[:, 0], exact.levels.m[-1] * exact.coordinates[:, 0]
        there = x[np.isfinite(x)]
        assert len(there) * own.weight == pytest.approx(own.inside[-1])
        mean = fine.discrete.integral(moment) / exact.masses[-1]
        assert close(there.mean(), there.std() / len(there) ** 0.5, mean, 5e-3)
        for door, flow in own.gone.items():
            error = np.sqrt(own.weight * flow)
            assert close(flow, error, exact.gone[door][::4], 5e-3)


def test_players_pay_the_prices_of_the_solution():
    """Without the prices they would pay 0.01 more: those are below zero while much is supplied."""
    game = mfg.MeanFieldGame(
        mfg.box(1.0, 32),
        horizon=1.0,
        diffusion=0.02,
        hamiltonian=lambda x, p, m: (p[0] + mfg.price("power")) ** 2 / 2,
        running_cost=lambda x, t, m: (x[0] - 0.5) ** 2 / 2,
        terminal_cost=lambda x, m: (x[0] - 0.5) ** 2 / 2,
        initial_density=lambda x: ufl.exp(-(((x[0] - 0.4) / 0.05) ** 2) / 2),
        market={"power": lambda x, t, m, v: m * v[0] - 0.2 * ufl.cos(2 * t)},
    )
    solution = mfg.solve(game, 32)
    players = solution.players(20_000)
    assert close(players.cost, players.standard_error, solution.cost, 5e-4)


def test_crowds_who_keep_to_themselves_walk_as_alone():
    solution = mfg.solve(two(mfg.box(1.0, 8), b={"population": 3.0}), 8)
    together, alone = solution.players(8000), solution["b"].players(6000)
    assert together["b"].inside == pytest.approx(3.0) and not together["b"].inside_error.any()
    assert together["b"].weight == alone.weight
    error = np.hypot(together["b"].standard_error, alone.standard_error)
    assert close(together["b"].cost, error, alone.cost)
    assert together["b"].standard_error == pytest.approx(alone.standard_error, rel=0.05)


def said() -> dict:
    """What players and the certificate say of two crowds."""
    solution = mfg.solve(changing(12), 8)
    players, certificate = solution.players(4000, 1), solution.exploitability()
    return {
        "inside": [own.inside.tolist() for own in players.values()],
        "gone": players["b"].gone["right"].tolist(),
        "cost": [sum(own.cost for own in players.values()), certificate.cost],
        "certificate": [certificate.bregman, certificate.costs],
        "expected": certificate.gone["right"][::2].tolist(),
        "among": solution.players(1000, 2, substeps=1, among=True)["a"].cost,
    }


@serial_only
def test_the_same_players_change_on_two_ranks():
    one, two = said(), numbers_on(2, __file__)
    for key, found in one.items():
        assert np.ravel(two[key]) == pytest.approx(np.ravel(found), rel=1e-5)
    assert one["certificate"][1] == pytest.approx(one["certificate"][0], rel=0.01)
    assert one["cost"][0] == pytest.approx(one["cost"][1], rel=0.03)
    assert one["gone"] == pytest.approx(one["expected"], abs=0.03)


def test_what_makes_no_sense_is_refused():
    rates = {("a", "b"): 1.0, ("b", "a"): 1.0}
    solution = mfg.solve(two(mfg.box(1.0, 4), switching=rates), 2)
    with pytest.raises(mfg.ProblemError, match=r"Crowd 'b' change .* players of all crowds"):
        solution["b"].players(10)
    with pytest.raises(mfg.ProblemError, match="number must be"):
        solution.players(0)
    lasting = mfg.solve(two(mfg.box(1.0, 4), None, switching=rates))
    with pytest.raises(mfg.ProblemError, match="has no horizon"):
        lasting.players(10)


if __name__ == "__main__":
    leave_numbers(said())
