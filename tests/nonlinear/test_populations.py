"""Several populations through the same functional, Jacobian, sweeps and Newton.

Run as a script, this module leaves what it finds on its ranks.
"""

from functools import cache

from mpi4py import MPI

import numpy as np
import pytest
from cases import default, difference
from parts import system_of
from populations import Population, solved, statement
from ranks import leave_numbers, numbers_on, serial_only

import ufl

import mfg_fem as mfg
from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.forms.step_forms import StepForms

SHARP, MONOTONE = mfg.Sharp(), mfg.Monotone()
EULER, MIDPOINT = mfg.Galerkin(), mfg.Galerkin(2, "midpoint")


def hill(x, place):
    return ufl.exp(-sum((x[i] - y) ** 2 for i, y in enumerate(place)) / 0.08)


def crossing(n: int, boundary=None, congested=True, k=2, **changes):
    """Crowds that start at different places and mind each other, in costs and in moving."""
    domain = mfg.box((1.0, 1.0), n, MPI.COMM_WORLD)
    crowds = []
    for i in range(k):
        place = (0.3, 0.4) if i % 2 else (0.7, 0.6)
        weights = [2.0 if j == i else 0.5 + 0.1 * j for j in range(k)]
        minds = lambda m, w=weights: sum(w * m[j] for j, w in enumerate(w))  # noqa: E731
        slow = lambda m, minds=minds: (1 + minds(m)) ** (0.7 if congested else 0.0)  # noqa: E731
        crowds.append(
            Population(
                domain,
                hamiltonian=lambda x, p, m, slow=slow: ufl.dot(p, p) / (2 * slow(m)),
                running_cost=lambda x, t, m, minds=minds: minds(m) + t * x[0],
                terminal_cost=lambda x, m, i=i: (x[0] - 0.3 * i) ** 2 + 0.2 * m[i] * m[0],
                initial_density=lambda x, place=place: 0.1 + hill(x, place),
                diffusion=0.1 * (1 + i),
                population=1.0 + i,
                boundary=(boundary or [{}] * k)[i],
            )
        )
    return statement(*crowds, **changes)


SWITCHING = {(0, 1): lambda x, t, m: (1 + t) * m[1] ** 2, (1, 0): lambda x, t, m: 2 + x[0] * m[0]}

CASES = {
    "game": lambda d: (crossing(4, discount=d), SHARP),
    "exits of one": lambda d: (
        crossing(4, [{"right": mfg.Exit(cost=0.5)}, {}], discount=d),
        MONOTONE,
    ),
    "three": lambda d: (crossing(3, k=3, congested=False, planner="each", discount=d), EULER),
    "midpoint": lambda d: (crossing(3, [{}, {"left": mfg.Exit()}], discount=d), MIDPOINT),
    "planner": lambda d: (crossing(4, planner="all", discount=d), SHARP),
    "planner, midpoint": lambda d: (crossing(3, planner="all", discount=d), MIDPOINT),
    "switching": lambda d: (crossing(4, rates=SWITCHING, discount=d), SHARP),
    "switching by a planner": lambda d: (
        crossing(3, planner="all", rates=SWITCHING, discount=d),
        EULER,
    ),
}


UNLIKE = [
    ("exits of one", (0.0, 3.0)),
    ("three", (3.0, 0.0, 8.0)),
    ("midpoint", (3.0, 0.5)),
    ("switching", (0.5, 5.0)),
]


@pytest.mark.parametrize(
    "case, discount", [("game", 0.0), *((case, 3.0) for case in CASES), *UNLIKE]
)
def test_jacobian_is_the_derivative_of_the_residual(case, discount):
    problem, scheme = CASES[case](discount)
    system, random = system_of(problem, 3, scheme), np.random.default_rng(0)
    X = system.hold(random.uniform(0.5, 1.5, system.shape))
    system.linearise(X)
    for field, population in np.ndindex(system.shape[:2]):
        dX = np.zeros(system.shape)
        dX[field, population] = random.uniform(-1, 1, system.shape[2:])
        system.discrete.release(dX[field])
        exact, e = system.mult_jacobian(dX), 2e-4
        plus, minus, plus2, minus2 = (system.residual(X + k * e * dX) for k in (1, -1, 2, -2))
        differences = (8 * (plus - minus) - (plus2 - minus2)) / (12 * e)
        assert np.abs(exact - differences).max() < 1e-7 * np.abs(differences).max()
    system.destroy()


def forms_of(problem) -> StepForms:
    return Discretisation(problem, MONOTONE).forms


def test_blocks_between_populations_are_made_where_there_are_any():
    game, alone = forms_of(crossing(4)), forms_of(crossing(4, congested=False))
    assert not alone.crossing
    assert set(game.crossing) == {(1, 3), (3, 1)}  # H sees the other density
    planner = forms_of(crossing(4, planner="all"))
    assert set(planner.crossing) == {(1, 3), (3, 1), (0, 2), (2, 0)}  # A too
    assert game.costs_see == alone.costs_see == [(0, 0), (0, 1), (1, 0), (1, 1)]


@cache
def crossed(congested: bool = True, planner: str | None = None, krylov: str = "auto"):
    problem = crossing(12, congested=congested, planner=planner)
    return solved(problem, 10, krylov=krylov)


@pytest.mark.parametrize("congested", [True, False])
def test_mass_is_kept_and_densities_are_positive(congested):
    levels, _, discrete = crossed(congested)
    masses = discrete.integral(levels.m)
    assert np.abs(masses - masses[:, :1]).max() < 1e-12
    np.testing.assert_allclose(masses[:, 0], (1, 2), rtol=1e-14)
    assert levels.m.min() > 0


@pytest.mark.parametrize("form", ["schur", "two-field", "h-form"])
def test_all_forms_solve_for_the_same(form):
    assert difference(crossed(krylov=form)[0].m, crossed()[0].m) < 1e-6


def test_one_planner_moves_both():
    levels, _, discrete = crossed(planner="all")
    assert np.abs(discrete.integral(levels.m)[:, -1] - (1, 2)).max() < 1e-12
    assert difference(levels.m, crossed()[0].m) > 1e-3


@pytest.mark.parametrize("k, scheme", [(3, SHARP), (2, MIDPOINT)], ids=str)
def test_identical_populations_are_one_with_the_mass_of_all(k, scheme):
    def crowd(m):
        return sum(m[j] for j in range(k))

    domain, minds = mfg.box((1.0, 1.0), 8, MPI.COMM_WORLD), mfg.hamiltonians.congestion(2.0, 0.8)
    one = default(domain, hamiltonian=minds, coupling=3.0, population=k * 1.0)
    alike = Population(
        domain,
        hamiltonian=lambda x, p, m: minds(x, p, crowd(m)),
        running_cost=lambda x, t, m: one.f(x, t, crowd(m)),
        terminal_cost=lambda x, m: one.g(x, crowd(m)),
        initial_density=one.m0,
        diffusion=one.diffusion,
    )
    problem = statement(*[alike] * k, horizon=one.horizon)
    levels, _, _ = solved(problem, 6, scheme, rtol=1e-11)
    whole = mfg.solve(one, 6, scheme, mfg.Newton(rtol=1e-11)).levels
    for i in range(k):
        assert difference(levels.u[i], whole.u) < 1e-10
        assert difference(k * levels.m[i], whole.m) < 1e-10


D, MOBILITY, DECAY = 0.3, 0.2, 0.1  # D = MOBILITY + DECAY


def heat(n: int):
    """The exact family of two: m = 1 + e exp(- 2 DECAY pi^2 t) cos cos, u = - MOBILITY ln m."""
    domain = mfg.box((1.0, 1.0), n, MPI.COMM_WORLD)

    def density(x, t, e):
        waves = ufl.cos(ufl.pi * x[0]) * ufl.cos(ufl.pi * x[1])
        return 1 + e * ufl.exp(-2 * DECAY * ufl.pi**2 * t) * waves

    def population(i, e):
        def cost(x, t, m):
            others = (m[i] - density(x, t, e)) + 0.5 * (m[1 - i] - density(x, t, -e))
            slope = ufl.grad(ufl.ln(density(x, t, e)))
            rest = (DECAY + D) * ufl.div(slope) + (DECAY + MOBILITY / 2) * ufl.dot(slope, slope)
            return others + MOBILITY * rest

        return Population(
            domain,
            hamiltonian=lambda x, p, m: ufl.dot(p, p) / 2,
            running_cost=cost,
            terminal_cost=lambda x, m: -MOBILITY * ufl.ln(density(x, 0.5, e)),
            initial_density=lambda x: density(x, 0.0, e),
            diffusion=D,
        )

    return statement(population(0, 0.5), population(1, -0.5), horizon=0.5)


def heat_numbers(n: int) -> dict:
    levels, history, discrete = solved(heat(n), n)
    x = discrete.V.tabulate_dof_coordinates()[: discrete.owned]
    waves = np.cos(np.pi * x[:, 0]) * np.cos(np.pi * x[:, 1])
    exact = [1 + e * np.exp(-DECAY * np.pi**2) * waves for e in (0.5, -0.5)]
    squares = discrete.integral((levels.m[:, -1] - exact) ** 2)
    masses = discrete.integral(levels.m)
    return {
        "newton": sum(row["step"] > 0 for row in history),
        "krylov": max(row["krylov"] for row in history),
        "error": [float(np.sqrt(y)) for y in squares],
        "mass": float(np.abs(masses - masses[:, :1]).max()),
    }


def numbers() -> dict:
    levels, _, discrete = crossed()
    x = discrete.V.tabulate_dof_coordinates()[: discrete.owned, 0]
    moments = discrete.integral(levels.m[:, -1] * x)
    return heat_numbers(16) | {"crossed": moments.tolist()}


@serial_only
def test_exact_family_of_two_on_ranks():
    one, two = numbers(), numbers_on(2, __file__)
    assert one["newton"] == two["newton"] <= 4
    assert max(one["krylov"], two["krylov"]) <= 10
    assert max(one["mass"], two["mass"]) < 1e-12
    np.testing.assert_allclose(one["error"], two["error"], rtol=1e-6)
    np.testing.assert_allclose(one["crossed"], two["crossed"], rtol=1e-6)
    assert max(one["error"]) < 5e-3
    finer = heat_numbers(24)
    assert max(finer["error"]) < 0.5 * max(one["error"])  # second order


if __name__ == "__main__":
    leave_numbers(numbers())
