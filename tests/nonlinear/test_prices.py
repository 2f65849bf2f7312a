"""Prices and markets that clear, with a horizon and without.

Run as a script, this module leaves what it finds on its ranks.
"""

from functools import cache

from mpi4py import MPI

import numpy as np
import pytest
from parts import system_of
from ranks import leave_numbers, numbers_on, serial_only

import ufl

import mfg_fem as mfg
from mfg_fem.discrete.clearing import Clearing
from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.discrete.stationary import Stationary
from mfg_fem.linear.coupled import matched_sweeps

STORED, RATE, SUPPLY, LEVEL = 0.4, 2.0, 0.2, 0.5  # mean charge at 0, supply(t) = S cos(RATE t)


def nothing_supplied(x, t, m, v):
    """All that is bought, where nothing is supplied."""
    return m * v[0]


def bought(name: str, dim: int = 1):
    """The Hamiltonian of who pays this price and half the square of what he buys."""
    price = mfg.price(name)
    return lambda x, p, m: (p[0] + price) ** 2 / 2 + sum(p[i] ** 2 / 2 for i in range(1, dim))


def batteries(n: int = 20, dim: int = 1, kind=mfg.MeanFieldGame, crowd: float = 0.0, **changes):
    """Batteries of charge x that buy all that is supplied, and pay price times what they buy."""
    given = {
        "horizon": 1.0,
        "diffusion": 1e-3,
        "hamiltonian": bought("power", dim),
        "running_cost": lambda x, t, m: (x[0] - LEVEL) ** 2 / 2 + crowd * m,
        "terminal_cost": lambda x, m: (x[0] - LEVEL) ** 2 / 2,
        "initial_density": lambda x: ufl.exp(-(((x[0] - STORED) / 0.05) ** 2) / 2),
        "market": {"power": lambda x, t, m, v: m * v[0] - SUPPLY * ufl.cos(RATE * t)},
    }
    return kind(**({"domain": mfg.box((1.0,) * dim, n, MPI.COMM_WORLD)} | given | changes))


def exact_price(t: np.ndarray) -> np.ndarray:
    """With u = x^2/2 + B(t) x + C(t) and x(t) the mean charge, which rises by the supply.

    v = -(x + B + price) = supply on average and B' = x + B + price + ... - LEVEL, so that
    price = -supply - (x(1) - LEVEL) - int_t^1 (x - LEVEL).
    """
    last = STORED - LEVEL + SUPPLY / RATE * np.sin(RATE)
    rest = (STORED - LEVEL) * (1 - t) + SUPPLY / RATE**2 * (np.cos(RATE * t) - np.cos(RATE))
    return -SUPPLY * np.cos(RATE * t) - last - rest


@pytest.mark.parametrize("scheme", [mfg.Monotone(), mfg.Sharp()], ids=str)
def test_price_of_power_is_exact_to_first_order(scheme):
    errors = []
    for n in (20, 40):
        solution = mfg.solve(batteries(n), n // 2, scheme)
        assert solution.excess["power"] < 1e-10 and solution.iterations <= 10
        middles = (solution.times[1:] + solution.times[:-1]) / 2
        errors.append(np.abs(solution.prices["power"] - exact_price(middles)).max())
    assert errors[1] < 1.5e-2 and errors[0] / errors[1] > 1.7


def test_planner_who_pays_for_half_of_the_crowding_finds_the_same_price():
    """With a cost of crowding c m he minds 2 c m, and takes the price as it is."""
    game = mfg.solve(batteries(crowd=0.2), 8)
    control = mfg.solve(batteries(crowd=0.1, kind=mfg.MeanFieldControl), 8)
    assert abs(game.prices["power"] - control.prices["power"]).max() < 1e-8
    assert abs(game.prices["power"] - mfg.solve(batteries(), 8).prices["power"]).max() > 1e-4


@pytest.mark.parametrize("scheme", [mfg.Sharp(), mfg.Galerkin(2, "midpoint")], ids=str)
def test_people_who_avoid_each_other_find_the_same_price_in_fewer_iterations(scheme, monkeypatch):
    sold = {"power": lambda x, t, m, v: m * v[0] - mfg.price("power") + SUPPLY * ufl.cos(RATE * t)}
    changes = {"diffusion": 0.05, "initial_density": lambda x: 1.0 + x[0], "market": sold}
    problem = batteries(8, 2, crowd=20.0, **changes)
    matched = mfg.solve(problem, 4, scheme)
    monkeypatch.setattr(matched_sweeps, "STRONG", np.inf)
    plain = mfg.solve(problem, 4, scheme)
    assert matched.prices["power"] == pytest.approx(plain.prices["power"], rel=1e-6)
    few, many = (sum(row["krylov"] for row in y.history) for y in (matched, plain))
    assert 3 * few < many


def test_history_is_the_same_in_all_units_of_costs():
    def history(unit: float):
        price = mfg.price("power")
        costs = {
            "hamiltonian": lambda x, p, m: (p[0] + price) ** 2 / (2 * unit),
            "running_cost": lambda x, t, m: unit * (x[0] - LEVEL) ** 2 / 2,
            "terminal_cost": lambda x, m: unit * (x[0] - LEVEL) ** 2 / 2,
        }
        return mfg.solve(batteries(8, **costs), 4).history

    one, other = ([(y["du"], y["dm"], y["step_length"]) for y in history(u)] for u in (1.0, 1e4))
    np.testing.assert_allclose(one[:3], other[:3], rtol=1e-6, atol=1e-12)


def savers(n: int = 100, rate=None, **changes):
    """Huggett's economy: two incomes, a limit of credit, and loans that nobody gives for ever."""
    price = rate or mfg.price("r", start=0.03)
    debt = 0.15

    def saver(income: float):
        return mfg.Crowd(
            diffusion=1e-5,
            hamiltonian=mfg.hamiltonians.consumption(
                lambda x: income + price * (x[0] - debt), largest=0.5
            ),
            running_cost=lambda x, t, m: 0.0,
            discount=0.05,
            population=0.5,
            boundary={side: mfg.Wall(pushes=False) for side in ("left", "right")},
        )

    market = {} if rate else {"r": lambda x, t, m, v: m.all * (x[0] - debt)}
    return mfg.Populations(
        mfg.box((2.0,), n, MPI.COMM_WORLD),
        crowds={"poor": saver(0.1), "rich": saver(0.2)},
        switching={("poor", "rich"): 1.2, ("rich", "poor"): 1.2},
        **({"market": market} | changes),
    )


@cache
def lasting() -> mfg.PopulationsSolution:
    return mfg.solve(savers(), scheme=mfg.Monotone())


def test_rate_of_interest_makes_loans_cancel():
    """The price stands in no excess demand: it acts through what people save."""
    solution = lasting()
    x, d = solution["poor"].coordinates[:, 0], solution.discrete
    wealth = sum(float(d.integral((x - 0.15) * y.nodal_densities)) for y in solution.values())
    assert abs(wealth) < 1e-10 and solution.iterations <= 8
    assert solution.prices["r"] == pytest.approx(rate_by_finite_differences(100), abs=1e-3)


def rate_by_finite_differences(cells: int) -> float:
    """The same rate by bisection around an upwind scheme, as in Achdou et al. 2022."""
    a, h = np.linspace(-0.15, 1.85, cells + 1, retstep=True)
    incomes = np.repeat([[0.1], [0.2]], len(a), axis=1)
    switch = np.kron([[-1.2, 1.2], [1.2, -1.2]], np.eye(len(a)))
    low, high = 0.01, 0.049
    for _ in range(20):
        rate = (low + high) / 2
        still = incomes + rate * a
        v = -20 / still
        for _ in range(30):
            slope = np.diff(v, axis=1) / h
            forward = np.hstack([slope, still[:, -1:] ** -2.0])
            backward = np.hstack([still[:, :1] ** -2.0, slope])
            saved, spent = still - forward**-0.5, still - backward**-0.5
            up, down = np.maximum(saved, 0), np.minimum(spent, 0)
            alike = (up == 0) & (down == 0)
            c = np.where(alike, still, np.where(up > 0, forward, backward) ** -0.5)
            up, down = up / h, -down / h
            flat = np.zeros((2, 1))
            up, down = np.hstack([up[:, :-1], flat]).ravel(), np.hstack([flat, down[:, 1:]]).ravel()
            A = np.diag(-up - down) + np.diag(up[:-1], 1) + np.diag(down[1:], -1) + switch
            v = np.linalg.solve((0.05 + 1e-3) * np.eye(len(A)) - A, (-1 / c + 1e-3 * v).ravel())
            v = v.reshape(c.shape)
        m = np.linalg.svd(A.T)[2][-1]
        wealth = np.tile(a, 2) @ m / m.sum()
        low, high = (rate, high) if wealth < 0 else (low, rate)
    return (low + high) / 2


def two_markets(horizon, planner=None, discounts=(0.3, 0.3)):
    """Two crowds, two prices: all data that may see prices do."""
    one, other = mfg.price("one", start=0.3), mfg.price("other", start=-0.2)

    ends = {"terminal_cost": lambda x, m: x[0] * m.all, "initial_density": lambda x: 1 + x[0]}

    def crowd(i: int):
        return mfg.Crowd(
            diffusion=0.05,
            discount=discounts[i],
            hamiltonian=lambda x, p, m: (p[0] + one * (1 + i + x[0])) ** 2 / (2 + m.all),
            running_cost=lambda x, t, m: m.all**2 + other**2 * x[0],
            **(ends if horizon else {}),
        )

    return mfg.Populations(
        mfg.box((1.0,), 7, MPI.COMM_WORLD),
        horizon=horizon,
        planner=planner,
        crowds={"a": crowd(0), "b": crowd(1)},
        switching={("a", "b"): lambda x, t, m: 1 + one**2, ("b", "a"): 2.0},
        market={
            "one": lambda x, t, m, v: m["a"] * v["a"][0] + m["b"] ** 2 * v["b"][0] * other - 0.1,
            "other": lambda x, t, m, v: m["a"] * (x[0] - other) + one * other,
        },
    )


@pytest.mark.parametrize("scheme", [mfg.Sharp(), mfg.Galerkin(1, "midpoint")], ids=str)
@pytest.mark.parametrize("planner, discounts", [(None, (0.3, 2.0)), ("all", (0.3, 0.3))])
@pytest.mark.parametrize("horizon", [1.0, None])
def test_jacobian_with_prices(horizon, planner, discounts, scheme):
    problem, random = two_markets(horizon, planner, discounts), np.random.default_rng(0)
    if horizon:
        system = system_of(problem, 3, scheme)
    else:
        system = Stationary(Discretisation(problem, scheme))
    clearing, X = Clearing(system), system.even_crowd()
    X += 0.1 * random.random(X.shape)
    clearing.paid.set(system.times, random.random((2, system.steps)))
    Y = clearing.unknowns_of(X)
    clearing.linearise(Y)
    dX, dpi = random.standard_normal(X.shape), random.standard_normal((2, system.steps))
    clearing.paid.set(system.times, dpi)
    dY, small = clearing.unknowns_of(dX), 1e-6
    product = clearing.mult_jacobian(dY)
    ends = [clearing.residual(Y + sign * small * dY) for sign in (1, -1)]
    np.testing.assert_allclose(
        product, (ends[0] - ends[1]) / (2 * small), atol=1e-7 * np.abs(product).max()
    )
    system.destroy()


@pytest.mark.parametrize("lasts", [False, True])
def test_prices_are_saved(lasts, tmp_path):
    path = tmp_path / "saved.npz"
    if lasts:
        solution = lasting()
        solution.save(path)
        read = mfg.PopulationsSolution.load(path, solution.problem)
    else:
        solution = mfg.solve(batteries(), 6)
        solution.save(path)
        read = mfg.Solution.load(path, batteries())
        with pytest.raises(mfg.FileError, match="has no price 'gas'"):
            mfg.Solution.load(
                path, batteries(hamiltonian=bought("gas"), market={"gas": nothing_supplied})
            )
    ((name, prices),) = solution.prices.items()
    assert read.converged and f"price {name}" in read.report
    np.testing.assert_array_equal(read.prices[name], prices)


def test_a_solve_goes_on_with_the_prices_that_it_had(tmp_path):
    problem = batteries()
    solution = mfg.solve(problem, 6)
    assert mfg.solve(problem, 6, guess=solution).iterations <= 1
    rows: list[dict] = []

    def stop(row):
        rows.append(row)
        if len(rows) == 4:
            raise KeyboardInterrupt

    checkpoint = mfg.Checkpoint(tmp_path / "run.npz", every=0)
    with pytest.raises(KeyboardInterrupt):
        mfg.solve(problem, 6, checkpoint=checkpoint, on_step=stop)
    resumed = mfg.solve(problem, 6, checkpoint=checkpoint)
    assert len(resumed.history) <= len(solution.history) + 1
    np.testing.assert_allclose(resumed.prices["power"], solution.prices["power"], atol=1e-9)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"market": {}}, r"price\('power'\) needs a market .* there is none"),
        ({"market": {"gas": nothing_supplied}}, r"price\('power'\) needs a market .* are 'gas'"),
        (
            {"market": {"power": nothing_supplied, "gas": nothing_supplied}},
            r"market\['gas'\]: no Hamiltonian",
        ),
        (
            {"market": {"power": lambda x, t, m, v: m.dx(0)}},
            "power.* differentiates m",
        ),
        ({"market": {"power": lambda x, t, m, v: v[0].dx(0)}}, r"differentiates v"),
        ({"market": {"power": lambda x, t, m, v: v}}, r"market\['power'\].* its shape is"),
        ({"market": {"power": lambda x, t, m, v: 0.0}}, "is zero, whatever people do"),
        ({"market": {"power": lambda x, t, m, v: 1 / v[0]}}, "market.* is not finite"),
        ({"market": {"power": 1.0}}, "must be a callable"),
        ({"market": ["power"]}, "market must be a dict"),
        ({"market": {"power": lambda x, t, m, v: mfg.total(m)}}, "which is not done"),
        ({"diffusion": lambda x: 1 + mfg.price("power")}, "only Hamiltonians, running costs"),
        ({"running_cost": lambda x, t, m: mfg.total(mfg.price("power") * m)}, "is within smooth"),
        ({"terminal_cost": None, "terminal_density": lambda x: 1.0}, "a terminal_density"),
        ({"running_cost": lambda x, t, m: float(mfg.price("power"))}, "not a price"),
    ],
    ids=[
        "no market",
        "another market",
        "unused",
        "gradient of m",
        "gradient of v",
        "vector",
        "zero",
        "infinite",
        "number",
        "list",
        "total",
        "diffusion",
        "within total",
        "planning",
        "float",
    ],
)
def test_markets_that_make_no_sense(changes, words):
    with pytest.raises(mfg.ProblemError, match=words):
        batteries(4, **changes)


def test_what_is_not_done_with_prices():
    for name in ("", 1):
        with pytest.raises(mfg.ProblemError, match="takes the name of a market"):
            mfg.price(name)
    with pytest.raises(mfg.ProblemError, match="two values of start"):
        batteries(4, running_cost=lambda x, t, m: mfg.price("power", 1) + mfg.price("power", 2))
    problem = batteries(8)
    with pytest.raises(mfg.ProblemError, match="one formulation"):
        mfg.solve(problem, 2, method=mfg.Newton(krylov="schur"))
    with pytest.raises(mfg.ProblemError, match="Markets fix prices"):
        mfg.exploitability(lambda x, t: 0.0 * x[0], problem)
    free = batteries(8, domain=problem.domain, hamiltonian=mfg.hamiltonians.quadratic(), market={})
    with pytest.raises(mfg.ProblemError, match="'power', and the policy was found without"):
        mfg.solve(free, 4).exploitability(problem)
    with pytest.raises(mfg.ProblemError, match="'left', 'right'"):
        mfg.solve(savers(), scheme=mfg.Monotone()).exploitability()
    never = batteries(8, market={"power": lambda x, t, m, v: m * t - 0.5})
    with pytest.raises(mfg.ProblemError, match="does not react to its price"):
        mfg.solve(never, 2)


def numbers():
    solution = mfg.solve(batteries(8, 2, crowd=0.1), 4)
    found = [*solution.prices["power"].tolist(), solution.iterations]
    return [*found, lasting().prices["r"]]


@serial_only
def test_prices_on_ranks():
    here = numbers()
    assert numbers_on(2, __file__) == pytest.approx(here, rel=1e-8)


if __name__ == "__main__":
    leave_numbers(numbers())
