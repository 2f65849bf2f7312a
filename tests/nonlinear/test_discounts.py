"""Crowds with a discount each: exact values, both sides of duality, what crowds owe to each other.

Run as a script, this module leaves what it finds on its ranks.
"""

from dataclasses import replace

from mpi4py import MPI

import numpy as np
import pytest
from crowds import crowd, two
from exact import Heat, errors, game, rates
from parts import system_of
from ranks import leave_numbers, numbers_on, serial_only

import ufl

import mfg_fem as mfg
from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.discrete.spacetime import SpaceTime
from mfg_fem.discrete.stationary import Stationary

TIGHT = mfg.Newton(rtol=1e-13)
PATIENT, HASTY = 0.5, 6.0
BOTH = {"a": {"discount": PATIENT}, "b": {"discount": HASTY}}
SWITCHING = {("a", "b"): 2.0, ("b", "a"): 1.0}
MIDPOINT = mfg.Galerkin(1, "midpoint")
HEATS = {"a": Heat(), "b": Heat(D=0.25, k=0.1)}


def heat(domain: mfg.Domain, name: str, discount: float) -> mfg.Crowd:
    """A crowd that minds itself alone, with gamma u in its running cost."""
    exact = HEATS[name]
    return mfg.Crowd(
        diffusion=exact.D,
        hamiltonian=mfg.hamiltonians.quadratic(),
        running_cost=lambda x, t, m: exact.f(x, t, m[name]) + discount * exact.u(x, t),
        terminal_cost=lambda x, m: exact.u(x, exact.horizon),
        initial_density=lambda x: exact.m(x, 0.0),
        discount=discount,
    )


def heats(n: int) -> mfg.Populations:
    domain = mfg.box(1, n)
    discounts = {"a": PATIENT, "b": HASTY}
    crowds = {name: heat(domain, name, y) for name, y in discounts.items()}
    return mfg.Populations(domain, horizon=0.5, crowds=crowds)


@pytest.mark.parametrize("scheme, order", [(mfg.Monotone(), 1), (mfg.Sharp(), 2)], ids=str)
def test_exact_solutions(scheme, order):
    found: dict[str, list] = {"a": [], "b": []}
    for n in (32, 64):
        solution = mfg.solve(heats(n), n, scheme)
        for name, part in solution.items():
            found[name].append(errors(part, HEATS[name]))
    for name, each in found.items():
        observed = rates([1 / 32, 1 / 64], each)
        assert min(observed.values()) > order - 0.1, (name, observed)
        assert max(each[-1].values()) < (4e-2 if order == 1 else 1e-3)


@pytest.mark.parametrize("scheme", [mfg.Sharp(), MIDPOINT], ids=str)
def test_a_crowd_that_minds_no_other_is_as_it_is_alone(scheme):
    problem = heats(12)
    solution = mfg.solve(problem, 8, scheme, TIGHT)
    for name, exact in HEATS.items():
        crowd = problem.crowds[name]
        alone = replace(
            game(exact, problem.domain),
            discount=crowd.discount,
            running_cost=lambda x, t, m, f=crowd.running_cost, name=name: f(x, t, {name: m}),
        )
        one = mfg.solve(alone, 8, scheme, TIGHT)
        for field in ("u", "m"):
            np.testing.assert_allclose(
                getattr(solution[name].levels, field), getattr(one.levels, field), atol=1e-11
            )
        assert solution[name].cost == pytest.approx(one.cost, rel=1e-11)


def still(horizon, discounts, switching=SWITCHING) -> mfg.Populations:
    """Nobody moves: a pays 1 per unit of time and 3 at the end, b pays 2 and nothing."""
    costs = {
        name: {"running_cost": lambda x, t, m, f=f: f, "discount": discount}
        for name, f, discount in zip("ab", (1.0, 2.0), discounts, strict=True)
    }
    if horizon:
        costs["a"] |= {"terminal_cost": lambda x, m: 3.0}
        costs["b"] |= {"terminal_cost": lambda x, m: 0.0}
    return two(mfg.box(1.0, 4), horizon, **costs, switching=switching)


def generator(discounts, switching) -> np.ndarray:
    """G of the values that solve -u' + G u = f, or G u = f for ever."""
    there, back = (switching.get(pair, 0.0) for pair in (("a", "b"), ("b", "a")))
    return np.diag(discounts) + np.array([[there, -there], [-back, back]])


@pytest.mark.parametrize(
    "discounts, switching",
    [((PATIENT, HASTY), SWITCHING), ((0.0, HASTY), SWITCHING), ((0.0, 2.0), {("a", "b"): 0.7})],
    ids=["both", "one", "one way"],
)
def test_values_for_ever_solve_their_linear_equations(discounts, switching):
    state = mfg.solve(still(None, discounts, switching))
    wanted = np.linalg.solve(generator(discounts, switching), (1.0, 2.0))
    for part, value in zip(state.values(), wanted, strict=True):
        assert part.nodal_values == pytest.approx(value, rel=1e-7)
        assert part.cost_rate is None
    assert state.cost == pytest.approx(state.expected_cost, rel=1e-7)


@pytest.mark.parametrize(("scheme", "order"), [(mfg.Monotone(), 1), (MIDPOINT, 2)], ids=str)
def test_values_until_the_end_solve_their_linear_equations(scheme, order):
    found, discounts = [], (PATIENT, HASTY)
    G, f, g = generator(discounts, SWITCHING), np.array([1.0, 2.0]), np.array([3.0, 0.0])
    rest, (values, vectors) = np.linalg.solve(G, f), np.linalg.eig(G)
    exact = rest + vectors @ (np.exp(-values) * np.linalg.solve(vectors, g - rest))
    for steps in (16, 32):
        levels = mfg.solve(still(1.0, discounts), steps, scheme).everybody
        found.append(np.abs(levels.u[:, 0] - exact[:, None]).max() / np.abs(exact).max())
    assert found[1] < (5e-2 if order == 1 else 1e-3)
    assert np.log2(found[0] / found[1]) > order - 0.15, found


def test_a_group_without_discount_is_ergodic_beside_one_with_it():
    lasting = {"terminal_cost": None, "initial_density": None}
    crowds = {
        name: crowd(i, running_cost=lambda x, t, m, i=i: m["abc"[i]] + (x[0] - i) ** 2, **lasting)
        for i, name in enumerate("abc")
    }
    crowds["c"] = replace(crowds["c"], discount=HASTY)
    problem = mfg.Populations(mfg.box(1.0, 12), crowds=crowds, switching=SWITCHING)
    a, b, c = mfg.solve(problem, method=TIGHT).values()
    assert a.cost_rate == pytest.approx(b.cost_rate, rel=1e-10) and c.cost_rate is None
    assert a.cost + b.cost == pytest.approx(a.expected_cost + b.expected_cost, rel=1e-8)
    assert c.cost == pytest.approx(c.expected_cost, rel=1e-8)


def sight(system, levels) -> float:
    """What who changes counts at the discount of the crowd he comes from, less as of the other.

    The sum over steps of dt (e_j - e_i) lambda_ij int M_i U_j, with what costs in crowd i count.
    """
    found, worth = 0.0, levels.rule.of_steps
    for n, dt in enumerate(system.dt):
        U, M = levels.of_step(n)
        for pair, rate in SWITCHING.items():
            i, j = ("ab".index(name) for name in pair)
            shared = float(U[j] @ system.jacobian.mult_mass(M[i]))
            found += dt * rate * (worth[j, n] - worth[i, n]) * shared
    return system.comm.allreduce(found, MPI.SUM)


@pytest.mark.parametrize("scheme", [mfg.Monotone(), mfg.Sharp(), mfg.Galerkin(), MIDPOINT], ids=str)
@pytest.mark.parametrize("grid", [6, (0.0, 0.1, 0.15, 0.4, 0.8, 1.0)], ids=["even", "uneven"])
def test_costs_are_what_the_value_functions_say(scheme, grid):
    exits = {"boundary": {"right": mfg.Exit(0.3)}}
    problem = two(mfg.box(1.0, 8), a=BOTH["a"] | exits, b=BOTH["b"], switching=SWITCHING)
    solution = mfg.solve(problem, grid, scheme, TIGHT)
    system = SpaceTime(Discretisation(problem, scheme), solution.times)
    gap = sight(system, solution.everybody)
    limited = sum(part.limited_cost for part in solution.values())
    assert solution.cost == pytest.approx(solution.expected_cost + limited + gap, rel=1e-12)
    assert abs(gap) > 1e-2 * solution.cost
    system.destroy()


def test_each_crowd_by_itself_if_nobody_changes():
    solution = mfg.solve(two(mfg.box(1.0, 8), **BOTH), 6, method=TIGHT)
    for part in solution.values():
        assert part.cost == pytest.approx(part.expected_cost + part.limited_cost, rel=1e-12)


def three(order: str, horizon: float | None) -> mfg.Populations:
    """Three crowds in a circle, of whom each flees the next, stated in this order."""
    lasting = {} if horizon else {"terminal_cost": None, "initial_density": None}
    crowds = {
        name: crowd(
            running_cost=lambda x, t, m, i=i: m["abc"[i]] + 0.3 * m["bca"[i]] + i * x[0],
            discount=1.0 + 2 * i,
            **lasting,
        )
        for i, name in enumerate("abc")
    }
    return mfg.Populations(
        mfg.box(1.0, 8),
        horizon=horizon,
        crowds={name: crowds[name] for name in order},
        switching={pair: 1.0 + i for i, pair in enumerate(zip("abc", "bca", strict=True))},
    )


@pytest.mark.parametrize("horizon", [1.0, None], ids=["horizon", "for ever"])
def test_the_order_of_crowds_does_not_matter(horizon):
    one, other = (
        mfg.solve(three(order, horizon), horizon and 6, method=TIGHT) for order in ("abc", "cab")
    )
    for name in "abc":
        assert other[name].cost == pytest.approx(one[name].cost, rel=1e-9)
        assert other[name].expected_cost == pytest.approx(one[name].expected_cost, rel=1e-9)


@pytest.mark.parametrize("krylov", ["two-field", "h-form"])
def test_all_formulations_agree(krylov):
    problem = two(mfg.box(1.0, 12), planner="each", switching=SWITCHING, **BOTH)
    one, other = (
        mfg.solve(problem, 6, method=mfg.Newton(rtol=1e-11, krylov=y)) for y in ("schur", krylov)
    )
    np.testing.assert_allclose(one.everybody.m, other.everybody.m, rtol=1e-7)


@pytest.mark.parametrize("planner", [None, "each"])
@pytest.mark.parametrize("horizon", [1.0, None], ids=["horizon", "for ever"])
def test_jacobian_of_crowds_who_see_quantities(horizon, planner):
    sees = {
        name: {
            "discount": discount,
            "running_cost": lambda x, t, m: mfg.smooth(m.all, 0.3) ** 2 + x[0] * mfg.total(m["b"]),
            "hamiltonian": lambda x, p, m: ufl.dot(p, p) / (1 + mfg.smooth(m.all, 0.2)),
        }
        for name, discount in zip("ab", (PATIENT, HASTY), strict=True)
    }
    ends = {"terminal_cost": lambda x, m: mfg.smooth(m.all, 0.3) ** 2} if horizon else {}
    for data in sees.values():
        data |= ends
    problem = two(mfg.box(1.0, 6), horizon, planner=planner, **sees)
    discrete = Discretisation(problem, MIDPOINT)
    system = system_of(problem, 3, MIDPOINT) if horizon else Stationary(discrete)
    random, e = np.random.default_rng(1), 1e-4
    X, dX = random.uniform(0.5, 1.5, system.shape), random.uniform(-1, 1, system.shape)
    system.linearise(X)
    exact = system.mult_jacobian(dX)
    plus, minus, plus2, minus2 = (system.residual(X + k * e * dX) for k in (1, -1, 2, -2))
    differences = (8 * (plus - minus) - (plus2 - minus2)) / (12 * e)
    np.testing.assert_allclose(exact, differences, atol=1e-8 * np.abs(differences).max())
    system.destroy()


def test_players_and_certificates_count_as_their_crowd_does():
    solution = mfg.solve(two(mfg.box(1.0, 32), **BOTH), 32)
    for part in solution.values():
        certificate = part.exploitability()
        assert certificate.bregman == pytest.approx(certificate.costs, rel=0.05, abs=1e-6)
        assert certificate.relative < 0.01
        players = part.players(4000)
        error = abs(players.cost - part.cost)
        assert error < 3 * players.standard_error + 0.01 * part.cost


def test_files_know_the_discount_of_each_crowd(tmp_path):
    folder = MPI.COMM_WORLD.bcast(tmp_path)
    problem = two(mfg.box(1.0, 8), **BOTH)
    other = two(problem.domain, a=BOTH["b"], b=BOTH["a"])
    solution = mfg.solve(problem, 4, checkpoint=folder / "run")
    solution.save(folder / "saved")
    assert mfg.PopulationsSolution.load(folder / "saved", problem).converged
    assert not mfg.PopulationsSolution.load(folder / "saved", other).converged
    with pytest.raises(mfg.FileError, match=r"discount is \[0.5, 6.0\] there"):
        mfg.solve(other, 4, checkpoint=folder / "run")


def numbers() -> list[float]:
    found = []
    for horizon in (1.0, None):
        problem = two(mfg.box(1, 16), horizon, switching=SWITCHING, **BOTH)
        solution = mfg.solve(problem, horizon and 6, method=mfg.Newton(rtol=1e-12))
        found += [solution.cost, solution.expected_cost, *(y.cost for y in solution.values())]
    return found


@serial_only
def test_ranks():
    assert numbers_on(2, __file__, timeout=60) == pytest.approx(numbers(), rel=1e-9)


if __name__ == "__main__":
    leave_numbers(numbers())
