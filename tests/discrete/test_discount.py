"""A discount with a horizon: exact solutions, both sides of duality, what it means, who must know.

Run as a script, this module leaves the numbers of a discounted game.
"""

from dataclasses import replace
from functools import cache

from mpi4py import MPI

import numpy as np
import pytest
from cases import default, difference, evacuation, gaussian
from exact import Heat, errors, game, rates
from parts import level_plan, system_of
from ranks import leave_numbers, numbers_on, serial_only

import mfg_fem as mfg
from mfg_fem.discrete.totals import departures, measure
from mfg_fem.linear.level.sweeps import Sweeps
from mfg_fem.nonlinear.responses import transport

EXACT = Heat()
MONOTONE, SHARP = mfg.Monotone(), mfg.Sharp()
TIGHT = mfg.Newton(rtol=1e-13)
EXITS = {
    "running_cost": lambda x, t, m: (1 + t) * (1 + m),
    "source": lambda x, t: (1 + t) * gaussian(x),
    "boundary": {"right": mfg.Exit(0.3), "left": mfg.Exit(lambda x: 0.3 + 0.1 * x[1])},
    "terminal_cost": lambda x, m: 0.5 + 0.1 * m,
}


def discounted(domain: mfg.Domain, discount: float) -> mfg.MeanFieldGame:
    """The game with gamma u in the running cost too, so that the solution is the same."""
    return replace(
        game(EXACT, domain),
        discount=discount,
        running_cost=lambda x, t, m: EXACT.f(x, t, m) + discount * EXACT.u(x, t),
    )


@pytest.mark.parametrize("discount", [1.0, 10.0])
@pytest.mark.parametrize(
    ("scheme", "order", "last"),
    [
        (MONOTONE, 1, (3e-2, 5e-3)),
        (SHARP, 2, (5e-4, 8e-5)),
        (mfg.Galerkin(2), 1, (6e-2, 1e-2)),
        (mfg.Galerkin(2, "midpoint"), 2, (1e-3, 3e-4)),
    ],
    ids=str,
)
def test_exact_solution(scheme, order, last, discount):
    """In space and time, and with P2 on a mesh so fine that only time errs."""
    found, steps = [], (16, 32) if scheme.degree == 2 else (32, 64)
    for n in steps:
        domain = mfg.box(1, 160 if scheme.degree == 2 else n)
        solution = mfg.solve(discounted(domain, discount), n, scheme)
        assert solution.iterations <= 5
        assert max(row["krylov"] for row in solution.history) <= 5
        found.append(errors(solution, EXACT))
    observed = rates([1 / n for n in steps], found)
    assert min(observed.values()) > order - 0.1, observed
    assert found[-1]["u"] <= last[0] and found[-1]["m"] <= last[1], found[-1]


UNEVEN = (0.0, 0.1, 0.15, 0.4, 0.8, 1.0)


@pytest.mark.parametrize(
    "scheme, exits, grid",
    [
        (MONOTONE, True, UNEVEN),
        (SHARP, True, 6),
        (SHARP, False, UNEVEN),
        (mfg.Galerkin(), False, 6),
        (mfg.Galerkin(2, "midpoint"), True, UNEVEN),
    ],
)
def test_the_cost_of_a_game_is_what_its_value_function_says(scheme, exits, grid):
    data = EXITS if exits else {"terminal_cost": lambda x, m: 0.1 * m}
    problem = default(mfg.box((1, 1), 6), discount=3.0, **data)
    solution = mfg.solve(problem, grid, scheme, TIGHT)
    expected = solution.expected_cost + solution.limited_cost
    assert solution.cost == pytest.approx(expected, rel=1e-12)
    if exits and scheme == SHARP and grid == 6:
        assert abs(solution.limited_cost) > 1e-6 * solution.cost


@pytest.mark.parametrize(
    "scheme, order", [(MONOTONE, 1), (SHARP, 2), (mfg.Galerkin(2, "midpoint"), 2)], ids=str
)
def test_what_is_paid_later_counts_less(scheme, order):
    """Nobody moves, and everybody pays 2 per unit of time and 5 at the end."""
    costs = {"running_cost": lambda x, t, m: 2.0, "terminal_cost": lambda x, m: 5.0}
    problem = default(mfg.box(1, 8), discount=0.7, population=3.0, **costs)
    end, found = np.exp(-0.7), []
    value = 2 * (1 - end) / 0.7 + 5 * end
    for grid in ([0.0, 0.1, 0.6, 1.0], 10, 20):
        solution = mfg.solve(problem, grid, scheme)
        assert solution.cost == pytest.approx(3 * solution.nodal_values[0][0], rel=1e-12)
        found.append(abs(solution.cost / value / 3 - 1))
    assert max(found) < 0.02 and np.log2(found[1] / found[2]) > order - 0.1
    assert order == 2 or mfg.solve(problem, 2, scheme).cost == pytest.approx(3 * value, rel=1e-12)


@pytest.mark.parametrize("scheme", [MONOTONE, SHARP, mfg.Galerkin(2, "midpoint")], ids=str)
def test_what_lasts_without_a_horizon_lasts_with_one(scheme):
    """A solution without a horizon solves the equations of every step."""
    data = {"discount": 0.8, "terminal_cost": None, "initial_density": None, "horizon": None}
    always = default(mfg.box(1, 12), **data)
    rest = mfg.solve(always, scheme=scheme, method=TIGHT)
    ends = {"terminal_cost": rest.value(), "initial_density": rest.density()}
    later = replace(always, horizon=1.0, **ends)
    solution = mfg.solve(later, [0.0, 0.1, 0.3, 0.6, 0.7, 1.0], scheme, TIGHT)
    for levels, still in (
        (solution.nodal_values, rest.value()),
        (solution.nodal_densities, rest.density()),
    ):
        assert np.ptp(levels, axis=0).max() < 1e-9 * np.abs(still.x.array).max()


def test_nothing_is_discounted_by_nothing():
    problem = evacuation(mfg.box((1, 1), 6), diffusion=0.1)
    one, other = (mfg.solve(replace(problem, discount=y), 6, method=TIGHT) for y in (0.0, 1e-14))
    for field in ("u", "m"):
        assert difference(getattr(other.levels, field), getattr(one.levels, field)) < 1e-10
    assert other.cost == pytest.approx(one.cost, rel=1e-10)


def costs_around(scheme, **changes) -> np.ndarray:
    """The planner's cost at h policies beside the best, for h = -1, 0, 1, and -1/2, 1/2."""
    problem = default(mfg.box((1, 1), 5), mfg.MeanFieldControl, discount=3.0, **changes)
    solution = mfg.solve(problem, 6, scheme, TIGHT)
    system, random = system_of(problem, 6, scheme), np.random.default_rng(2)
    X = np.stack([solution.levels.u[None, :-1], solution.levels.m[None, 1:]])
    size, found = np.abs(X[0]).max(), []
    change = np.zeros_like(X)
    change[0] = 0.005 * size * random.standard_normal(X[0].shape)
    system.discrete.release(change[0])
    with level_plan(pc_type="lu", ksp_type="preonly") as plan:
        sweeps = Sweeps(system.jacobian, plan)
        for share in (-1.0, 0.0, 1.0, -0.5, 0.5):
            moved = transport(system, sweeps, X + share * change)
            running, _, terminal, _, _ = measure(system, system.levels(moved))
            _, paid = departures(system, moved)[0]
            found.append(running.sum() + terminal[0] + paid)
        sweeps.destroy()
    system.destroy()
    assert found[1] == pytest.approx(solution.cost, rel=1e-12)
    return np.array(found)


@pytest.mark.parametrize("scheme", [mfg.Galerkin(), mfg.Galerkin(1, "midpoint")], ids=str)
def test_a_planner_minimises_the_discounted_cost(scheme):
    """The best of these policies, and the derivative there is zero."""
    exits = {"boundary": EXITS["boundary"], "running_cost": EXITS["running_cost"]}
    low, best, high, lower, higher = costs_around(scheme, **exits)
    assert best < min(low, high, lower, higher)
    slope = (8 * (higher - lower) - (high - low)) / 6  # of fourth order
    curvature = low + high - 2 * best
    assert abs(slope) < 1e-5 * curvature


def test_a_long_game_is_nearly_stationary_in_the_middle():
    data = {"terminal_cost": None, "initial_density": None, "horizon": None}
    always = default(mfg.box(1, 32), discount=2.0, **data)
    rest = mfg.solve(always)
    long = default(mfg.box(1, 32), discount=2.0, horizon=12.0)
    solution = mfg.solve(long, 120)
    middle = {"value": solution.value(60), "density": solution.density(60)}
    for name, found in middle.items():
        assert difference(found.x.array, getattr(rest, name)().x.array) < 5e-4


@pytest.mark.parametrize("discount", [0.0, 2.0])
def test_players_and_a_certificate_know_what_a_policy_costs(discount):
    data = {"diffusion": 0.1, "boundary": EXITS["boundary"]}
    problem = evacuation(mfg.box((1, 1), 10), exponent=0.0, discount=discount, **data)
    solution = mfg.solve(problem, 20)
    certificate = solution.exploitability()
    assert certificate.bregman == pytest.approx(certificate.costs, rel=0.05)
    assert 0 < certificate.relative < 0.01
    players = solution.players(4000)
    error = abs(players.cost - certificate.cost)
    assert error < 3 * players.standard_error + 0.005 * certificate.cost


@cache
def bridge(discount: float, scheme=MONOTONE) -> mfg.Solution:
    problem = mfg.MeanFieldGame(
        mfg.box(1, 24),
        horizon=1.0,
        discount=discount,
        diffusion=0.1,
        hamiltonian=mfg.hamiltonians.quadratic(),
        running_cost=lambda x, t, m: 0.2 * m + x[0],
        initial_density=lambda x: 0.2 + gaussian(x),
        terminal_density=lambda x: 0.5 + x[0],
    )
    return mfg.solve(problem, 12, scheme, mfg.Newton(rtol=1e-11))


@pytest.mark.parametrize("scheme", [SHARP, mfg.Galerkin(1, "midpoint")], ids=str)
def test_planning(scheme):
    solution = bridge(2.0, scheme)
    assert solution.terminal_gap < 1e-9
    expected = solution.expected_cost + solution.limited_cost
    assert solution.cost == pytest.approx(expected, rel=1e-8)


def test_sinkhorn_refuses_it():
    problem = replace(bridge(2.0).problem, running_cost=lambda x, t, m: 0.0)
    with pytest.raises(mfg.ProblemError, match="without a discount"):
        mfg.solve(problem, 12, method=mfg.Sinkhorn())


def test_laws_without_discount_are_not_promised():
    fluid = mfg.hydrodynamics(small(1.0))
    for name in ("pair", "modified_energy", "energy", "total_momentum"):
        assert "discounted" in fluid.reasons[name]
    with pytest.raises(mfg.ProblemError, match="discounted"):
        mfg.structure(small(1.0))


@cache
def small(discount: float, comm=MPI.COMM_WORLD) -> mfg.Solution:
    return mfg.solve(default(mfg.box(1, 12, comm), discount=discount), 5)


def test_files_know_their_discount(tmp_path):
    folder = MPI.COMM_WORLD.bcast(tmp_path)
    solution, other = small(1.0), replace(small(1.0).problem, discount=2.0)
    solution.save(folder / "one")
    assert mfg.Solution.load(folder / "one", solution.problem).converged
    assert not mfg.Solution.load(folder / "one", other).converged
    checkpoint = {"checkpoint": folder / "two"}
    mfg.solve(solution.problem, 5, **checkpoint)
    with pytest.raises(mfg.FileError, match="discount is 1"):
        mfg.solve(other, 5, **checkpoint)


def numbers() -> list[float]:
    problem = default(mfg.box((1, 1), 8), discount=3.0, coupling=50.0, **EXITS | {"source": None})
    solution = mfg.solve(problem, 8, method=mfg.Newton(rtol=1e-12, krylov="h-form"))
    assert max(row["krylov"] for row in solution.history) <= 25
    return [solution.cost, solution.expected_cost, *(y[-1] for y in solution.gone.values())]


@serial_only
def test_ranks():
    assert numbers_on(2, __file__, timeout=60) == pytest.approx(numbers(), rel=1e-9)


if __name__ == "__main__":
    leave_numbers(numbers())
