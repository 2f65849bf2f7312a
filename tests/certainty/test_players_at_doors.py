"""Players at doors and entries, with data that change in time, and players among each other.

Run as a script, this module solves a game and leaves what its players say.
"""

import numpy as np
import pytest
from cases import robin
from ranks import leave_numbers, numbers_on, serial_only

import ufl

import mfg_fem as mfg

D, RATE = 0.2, 0.5
COST = mfg.InTime(lambda x, t: 0.3 + 0.7 * t)


DOOR = mfg.Door(rate=mfg.InTime(lambda x, t: RATE * (0.5 + t)), cost=COST)
WAYS = [(DOOR, robin(RATE, D), 1), (mfg.Exit(COST), np.pi / 2, 4)]


@pytest.mark.parametrize("way, k, substeps", WAYS, ids=["door", "exit"])
def test_as_many_leave_as_diffusion_brings(way, k, substeps):
    """Exactly m = cos(k x) exp(-k^2 int D), as u = 0.3 + 0.7 t moves nobody."""
    game = mfg.MeanFieldGame(
        mfg.box(1.0, 32),
        horizon=1.0,
        diffusion=mfg.InTime(lambda x, t: D * (0.5 + t)),
        hamiltonian=mfg.hamiltonians.quadratic(),
        running_cost=lambda x, t, m: -0.7,
        terminal_cost=lambda x, m: 1.0,
        initial_density=lambda x: ufl.cos(k * x[0]) + 1e-12,
        boundary={"right": way},
    )
    solution = mfg.solve(game, 8, mfg.Galerkin(1, "midpoint"))
    players = solution.players(100_000, substeps=substeps)
    t = players.times
    off = players.inside - np.exp(-D * k**2 * (t + t**2) / 2)
    assert (abs(off) <= 3 * players.inside_error + 1e-12).all()
    assert players.gone["right"] == pytest.approx(1 - players.inside, abs=1e-12)
    assert players.cost == pytest.approx(0.3, rel=1e-9)  # c(t) - 0.7 t, whenever they leave
    assert players.standard_error < 1e-6


STEPS = 16


def room():
    """People leave through a door that is too narrow for them, and others come in."""
    return mfg.MeanFieldGame(
        mfg.box((2.0, 1.0), (16, 8)),
        horizon=2.0,
        diffusion=mfg.InTime(lambda x, t: 0.1 + 0.05 * t),
        hamiltonian=mfg.hamiltonians.quadratic(),
        running_cost=lambda x, t, m: 1 + m,
        terminal_cost=lambda x, m: 1.0,
        initial_density=lambda x: 1 + ufl.cos(ufl.pi * x[0] / 2),
        population=1.6,
        source=lambda x, t: 0.1 * x[0],
        boundary={
            "left": mfg.Entry(mfg.InTime(lambda x, t: t * (2 - t) * x[1])),
            "right": mfg.Door(
                rate=3.0,
                capacity=mfg.InTime(lambda x, t: 0.4 + 0.1 * t),
                cost=mfg.WithCrowd(lambda x, t, m: 0.2 * t + x[1] + 0.3 * m),
            ),
        },
    )


def said() -> dict:
    """What players and the certificate say of the room."""
    solution = mfg.solve(room(), STEPS)
    players, certificate = solution.players(10_000, 1, substeps=2), solution.exploitability()
    crowd = solution.players(2000, substeps=2, among=True)
    where = [players.positions(n) for n in range(STEPS + 1)]
    there = np.concatenate([x[np.isfinite(x[:, 0])] for x in where])
    return {
        "inside": players.inside.tolist(),
        "gone": players.gone["right"].tolist(),
        "expected": certificate.gone["right"][::2].tolist(),
        "entered": solution.entered.tolist(),
        "cost": [players.cost, players.standard_error, certificate.cost],
        "weight": players.weight,
        "box": [*there.min(axis=0).tolist(), *there.max(axis=0).tolist()],
        "at the door": float((there[:, 0] > 2 - 1e-6).mean()),
        "mean": there.mean(axis=0).tolist(),
        "among": [crowd.cost, crowd.gone["right"][-1]],
    }


@serial_only
def test_players_queue_at_a_door_as_their_density_does_and_the_same_on_two_ranks():
    found, two = said(), numbers_on(2, __file__)
    for key in ("inside", "gone", "mean", "cost", "among"):
        assert two[key] == pytest.approx(found[key], rel=1e-5)
    names = ("inside", "gone", "expected", "entered")
    inside, gone, expected, entered = (np.array(found[name]) for name in names)
    whole = 0.51 * found["weight"]  # those who enter are whole players
    assert abs(inside + gone - 1.6 - entered).max() <= whole
    assert (abs(gone - expected) <= 3 * np.sqrt(found["weight"] * gone) + 0.01 * 1.6).all()
    cost, error, known = found["cost"]
    assert abs(cost - known) <= 3 * error + 0.005 * known
    low, high = np.reshape(found["box"], (2, 2))
    assert found["at the door"] < 1e-4  # nobody is stuck there
    assert (low >= 0).all() and (high <= [2 + 1e-12, 1 + 1e-12]).all()


def test_people_come_in_where_the_flux_is_and_as_many():
    """Where nobody drives them they stay at the entry, with the flux t (2 - t) y, or at the source.

    In 2 s 2/3 enter by the flux and 0.4 by the source 0.1 x, of which 9 % left of x = 0.6.
    """
    game = mfg.MeanFieldGame(
        mfg.box((2.0, 1.0), (8, 4)),
        horizon=2.0,
        diffusion=1e-4,
        hamiltonian=mfg.hamiltonians.quadratic(),
        running_cost=lambda x, t, m: 0.0,
        terminal_cost=lambda x, m: 0.0,
        initial_density=lambda x: 1.0,
        source=lambda x, t: 0.1 * x[0],
        boundary={"left": mfg.Entry(mfg.InTime(lambda x, t: t * (2 - t) * x[1]))},
    )
    solution = mfg.solve(game, 8)
    players = solution.players(20_000, substeps=1)
    assert abs(players.inside - 1 - solution.entered).max() <= 0.51 * players.weight
    new = players.positions(8)[20_000:]
    flux, source = solution.entered[-1] - 0.4, 0.4
    assert len(new) == round(20_000 * (flux + source))
    share = (flux + 0.09 * source) / (flux + source)
    scatter = 3 * np.sqrt(share * (1 - share) / len(new))
    assert abs((new[:, 0] < 0.6).mean() - share) <= scatter
    height = (flux * 2 / 3 + source / 2) / (flux + source)
    assert abs(new[:, 1].mean() - height) <= 3 * np.sqrt(1 / 12 / len(new)) + 1e-3


CONGESTION, PEOPLE = 2.0, 3.0


def test_a_few_players_pay_more_by_one_over_their_number():
    """In each other's way: cost(N) - cost(infinity) = C / N, for a running cost c m.

    What the same players pay in the solution's density, twice, is a control variate.
    """
    game = mfg.MeanFieldGame(
        mfg.box(1.0, 8),
        horizon=0.5,
        diffusion=0.05,
        hamiltonian=mfg.hamiltonians.quadratic(),
        running_cost=lambda x, t, m: CONGESTION * m,
        terminal_cost=lambda x, m: 2 * (x[0] - 0.7) ** 2,
        initial_density=lambda x: 1 + 0.8 * ufl.cos(ufl.pi * x[0]),
        population=PEOPLE,
    )
    solution = mfg.solve(game, 8)
    found = {}
    for number, seeds in ((10, 80), (100, 30), (1000, 8)):
        costs = [
            [solution.players(number, seed, substeps=2, among=y).cost for y in (True, False)]
            for seed in range(1000 * seeds, 1001 * seeds)
        ]
        each = np.dot(costs, [1, -2]) / PEOPLE
        found[number] = each.mean(), each.std(ddof=1) / np.sqrt(seeds)
    known = excess(solution)
    for few, many in ((10, 100), (100, 1000), (10, 1000)):
        share = 1 / few - 1 / many
        slope = (found[few][0] - found[many][0]) / share
        error = np.hypot(found[few][1], found[many][1]) / share
        assert error < 0.12 * known
        assert abs(slope - known) <= 3 * error


def excess(solution) -> float:
    """C = c P int sum_i (int phi_i^2 rho - (int phi_i rho)^2) / w_i dt, rho = m / P linear."""
    order = np.argsort(solution.coordinates[:, 0])
    rho = solution.nodal_densities[:, order] / PEOPLE
    a, b, h = rho[:, :-1], rho[:, 1:], 1 / 8
    squares, ones, w = np.zeros_like(rho), np.zeros_like(rho), np.full(rho.shape[1], h)
    w[[0, -1]] /= 2
    for here, beside, nodes in ((a, b, np.s_[:, :-1]), (b, a, np.s_[:, 1:])):
        squares[nodes] += h * (here / 4 + beside / 12)
        ones[nodes] += h * (here / 3 + beside / 6)
    rates = ((squares - ones**2) / w).sum(axis=1)
    return CONGESTION * PEOPLE * float(np.trapezoid(rates, solution.times))


def test_what_makes_no_sense_is_refused():
    game = room()
    with pytest.raises(mfg.ProblemError, match="among must be True or False"):
        mfg.solve(game, 2).players(5, among=2)


if __name__ == "__main__":
    leave_numbers(said())
