"""The exploitability of velocities from anywhere: formulas, fields at points, networks.

Run as a script, this module leaves what it says of a formula, known in two ways.
"""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
from cases import line
from lasting import Exact, station, value
from ranks import leave_numbers, numbers_on, serial_only

import ufl
from dolfinx import fem

import mfg_fem as mfg
from mfg_fem import resnet
from mfg_fem.certainty.legendre import Legendre
from mfg_fem.flows.field import VelocityField


def linear(times, functions, t):
    """The function of time that is linear between these functions at these times."""
    found = 0.0
    for n, (a, b) in enumerate(pairwise(times)):
        part = ((b - t) * functions[n] + (t - a) * functions[n + 1]) / (b - a)
        found += ufl.conditional(ufl.And(ufl.gt(t, a), ufl.le(t, b)), part, 0.0)
    return found


def feedback(solution):
    """The velocity -H_p(x, grad u, m) of a solution, as a callable of UFL."""
    levels = range(solution.steps + 1)
    u, m = ([of(n) for n in levels] for of in (solution.value, solution.density))

    def velocity(x, t):
        p = ufl.variable(ufl.grad(linear(solution.times, u, t)))
        H = solution.problem.H(x, t, p, linear(solution.times, m, t))
        return -ufl.diff(H, p)

    return velocity


HAMILTONIANS = {
    "quadratic": mfg.hamiltonians.quadratic(2.0),
    "steep": mfg.hamiltonians.power(4.0),
    "with a wind": mfg.hamiltonians.with_drift(
        mfg.hamiltonians.power(1.5, 0.1), lambda x: ufl.as_vector([ufl.sin(x[0])])
    ),
    "of a largest speed": lambda x, p, m: ufl.sqrt(1 + ufl.dot(p, p)) - 1,
}


PLANNED = (mfg.MeanFieldControl, "quadratic")


@pytest.mark.parametrize(
    ("kind", "name"), [*((mfg.MeanFieldGame, y) for y in HAMILTONIANS), PLANNED]
)
def test_the_velocity_of_a_solution_has_its_exploitability(kind, name):
    solution = mfg.solve(line(12, kind, hamiltonian=HAMILTONIANS[name]), 6)
    own = solution.exploitability()
    found = mfg.exploitability(feedback(solution), solution.problem, steps=6)
    for of in ("bregman", "costs", "cost"):
        assert getattr(found, of) == pytest.approx(getattr(own, of), rel=1e-5)
    assert found.crowd is None and "L1" not in found.report


@pytest.mark.parametrize("case", ["congestion", "exit"])
def test_what_a_solution_adapts_to_makes_little_difference(case):
    """The density that the policy makes in H, and steps of first order before exits."""
    out = {"boundary": {"right": mfg.Exit(0.1)}, "source": lambda x, t: t * x[0]}
    hard = {"hamiltonian": mfg.hamiltonians.congestion(1.0, 1.0)}
    solution = mfg.solve(line(12, **(hard if case == "congestion" else out)), 12)
    own = solution.exploitability()
    found = mfg.exploitability(feedback(solution), solution.problem, steps=12)
    assert found.costs == pytest.approx(found.bregman, rel=0.05)
    assert found.bregman == pytest.approx(own.bregman, rel=0.35)
    for name, flow in own.gone.items():
        assert found.gone[name] == pytest.approx(flow, abs=1e-2)


@pytest.mark.parametrize("discount", [0.0, 1.0])
def test_velocities_that_last(discount):
    exact = Exact(mfg.box((1, 1), 12), discount)
    state = mfg.solve(exact.game)
    u, own = state.value(), state.exploitability()
    found = mfg.exploitability(lambda x, t: -ufl.grad(u), exact.game)
    assert [found.bregman, found.cost] == pytest.approx([own.bregman, own.cost], rel=1e-6)
    true = mfg.exploitability(lambda x, t: -ufl.grad(value(x)), exact.game)
    assert 0 < true.bregman < own.bregman
    still = mfg.exploitability(lambda x, t: 0 * x, exact.game)
    assert still.bregman > 100 * own.bregman
    assert still.density(0).x.array == pytest.approx(1.0)


def test_who_comes_and_goes_by_a_velocity():
    game = station(mfg.box((2, 1), 8))
    state = mfg.solve(game)
    u, own = state.value(), state.exploitability()
    found = mfg.exploitability(lambda x, t: -ufl.grad(u), game)
    assert [found.bregman, found.costs] == pytest.approx([own.bregman, own.costs], rel=1e-6)
    assert found.gone["right"] == pytest.approx(own.gone["right"])


def test_walls_stop_who_is_carried_into_them():
    found = mfg.exploitability(lambda x, t: 2.0, line(domain=mfg.box(1.0, 24)))
    assert found.costs == pytest.approx(found.bregman, rel=0.02)
    m = found.density(len(found.times) - 1)
    people = fem.assemble_scalar(fem.form(m * ufl.dx))
    assert m.function_space.mesh.comm.allreduce(people) == pytest.approx(1, abs=1e-12)
    assert m.x.array.min() >= 0


def plane(coupling=0.2, domain=None):
    """People on a square who go from one place to another."""
    return mfg.MeanFieldGame(
        domain or mfg.box((1, 1), 10),
        horizon=1.0,
        diffusion=0.05,
        hamiltonian=mfg.hamiltonians.quadratic(),
        running_cost=lambda x, t, m: coupling * m,
        terminal_cost=lambda x, m: 2 * ((x[0] - 0.7) ** 2 + (x[1] - 0.6) ** 2),
        initial_density=lambda x: ufl.exp(-((x[0] - 0.3) ** 2 + (x[1] - 0.35) ** 2) / 0.02),
    )


@pytest.fixture(scope="module")
def solved():
    """A game, a solution, and one of the game in which nobody minds others."""
    game = plane()
    return game, mfg.solve(game, 10), mfg.solve(plane(0.0, game.domain), 10)


@pytest.mark.filterwarnings("ignore::mfg_fem.flows.field.LeavesDomain")
def test_a_network_is_nearly_as_good_as_what_it_was_fitted_to(solved):
    game, solution, _ = solved
    noise, own = np.sqrt(0.1), solution.exploitability()
    found = []
    for layers, width in ((10, 16), (2, 4)):
        net = resnet.fit(VelocityField.of(solution), layers=layers, width=width, noise=noise)
        found.append(mfg.exploitability(net, game))
        assert found[-1].costs == pytest.approx(found[-1].bregman, rel=0.1)
    assert 0.5 * own.bregman < found[0].bregman < 3 * own.bregman < found[1].bregman


def test_a_wrong_field_is_told_from_a_coarse_one(solved):
    game, solution, alone = solved
    right, wrong = (mfg.exploitability(VelocityField.of(y), game) for y in (solution, alone))
    assert wrong.bregman > 10 * right.bregman
    assert wrong.bregman == pytest.approx(alone.exploitability(game).bregman, rel=0.2)


@pytest.mark.parametrize("exponent", [0.0, 0.7])
def test_costs_of_moving_are_transforms_of_the_hamiltonian(exponent):
    """Beside the formula, for velocities of all sizes; at p = 0 this H is flat."""
    domain = mfg.box((1, 1), 3)

    def hamiltonian(x, t, p, m):
        return (ufl.dot(p, p) ** 2 / 4 + ufl.dot(p, p) * x[0] / 2) / (1 + m) ** exponent

    V = fem.functionspace(domain.mesh, ("Lagrange", 1))
    m, a = fem.Function(V), fem.Function(fem.functionspace(domain.mesh, ("DG", 1, (2,))))
    m.interpolate(lambda x: x[1])
    p = np.random.default_rng(1).normal(size=(2, len(a.x.array) // 2))
    p *= 10.0 ** np.linspace(-3, 3, p.shape[1])
    x = fem.Function(fem.functionspace(domain.mesh, ("DG", 1, (2,))))
    x.interpolate(lambda x: x[:2])
    x, y = x.x.array.reshape(-1, 2).T
    size, scale = (p**2).sum(axis=0), (1 + y) ** exponent
    a.x.array[:] = (-(size + x) * p / scale).T.ravel()
    problem = SimpleNamespace(
        domain=domain,
        H=hamiltonian,
        x=ufl.SpatialCoordinate(domain.mesh),
        units=SimpleNamespace(length=1.0, time=1.0, cost=1.0),
    )
    transform = Legendre(problem, m, a)
    transform.transform(0.0)
    L = (3 * size**2 / 4 + size * x / 2) / scale
    there = y > 0.1  # where there are people
    assert transform.L.x.array[there] == pytest.approx(L[there], rel=1e-9)


WRONG = {
    "too fast": (lambda x, t: 1.2, {}, "the speed 1.2 at t = "),
    "not finite": (lambda x, t: 1 / (t - t), {}, "not finite"),
    "of two components": (lambda x, t: ufl.as_vector([x[0], x[0]]), {}, "shape"),
    "a number": (3, {}, "must be a solution"),
    "another horizon": (resnet.ResNet(2.0, np.zeros((3, 1)), A=np.zeros((3, 1, 1)), form="affine"),
        {}, "ends at 2"),
    "another dimension": (VelocityField.from_callable(lambda x, t: x, dim=2, horizon=1.0),
        {}, "dimension 2"),
    "another shape": (VelocityField.from_callable(lambda x, t: x[0], dim=1, horizon=1.0),
        {}, "shape"),
    "a leapfrog": (resnet.ResNet(1.0, np.zeros((2, 1)), np.zeros((2, 1, 1)), np.zeros((2, 1, 1)),
        np.zeros((2, 1)), form="leapfrog"), {}, "leapfrog"),
    "no steps": (lambda x, t: 0.0, {"steps": 0}, "steps must be"),
}  # fmt: skip


@pytest.fixture(scope="module")
def slow():
    """A game in which nobody is faster than 1."""
    return line(12, hamiltonian=HAMILTONIANS["of a largest speed"])


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_judged_is_refused(slow, name):
    policy, options, words = WRONG[name]
    with pytest.raises(mfg.ProblemError, match=words):
        mfg.exploitability(policy, slow, **options)


def test_problems_that_do_not_judge_velocities_are_refused():
    exact = Exact(mfg.box((1, 1), 4))
    field = VelocityField.from_callable(lambda x, t: x, dim=2, horizon=1.0)
    bridge = line(
        12,
        mfg.MeanFieldControl,
        terminal_cost=None,
        initial_density=lambda x: 1 + x[0],
        terminal_density=lambda x: 2 - x[0],
    )
    for policy, problem, options, words in (
        (lambda x, t: x, None, {}, "problem must be"),
        (lambda x, t: t * x, exact.game, {}, "depends on t"),
        (field, exact.game, {}, "no horizon"),
        (lambda x, t: x, exact.game, {"steps": 4}, "no steps"),
        (lambda x, t: 0.0, bridge, {}, "with a terminal_density"),
        (mfg.solve(bridge, 4), None, {"steps": 4}, "its own time levels"),
    ):
        with pytest.raises(mfg.ProblemError, match=words):
            mfg.exploitability(policy, problem, **options)


def numbers():
    """Of a formula on a torus, in UFL and at points."""
    torus = mfg.box((1, 1), 6, periodic=True)
    game = mfg.MeanFieldGame(
        torus,
        horizon=0.5,
        diffusion=0.1,
        hamiltonian=mfg.hamiltonians.congestion(1.0, 0.5),
        running_cost=lambda x, t, m: m + ufl.cos(2 * ufl.pi * x[0]),
        terminal_cost=lambda x, m: 0.0,
        initial_density=lambda x: 1 + 0.5 * ufl.sin(2 * ufl.pi * x[1]),
    )
    wave = 2 * np.pi

    def formula(x, t):
        return ufl.as_vector([ufl.sin(wave * x[0]) * (1 - t), 0.3 * ufl.cos(wave * x[1])])

    def at_points(x, t):
        return np.stack([np.sin(wave * x[:, 0]) * (1 - t), 0.3 * np.cos(wave * x[:, 1])], axis=1)

    field = VelocityField.from_callable(at_points, dim=2, horizon=0.5, steps=3)
    found = [mfg.exploitability(policy, game, steps=3) for policy in (formula, field)]
    return [value for y in found for value in (y.bregman, y.costs, y.cost)]


@serial_only
def test_formulas_in_both_ways_and_on_ranks_are_the_same():
    one, two = numbers(), numbers_on(2, __file__)
    assert one[:3] == pytest.approx(one[3:], rel=1e-9)
    assert two == pytest.approx(one, rel=1e-6)
    assert one[1] == pytest.approx(one[0], rel=0.1) and one[0] > 0


if __name__ == "__main__":
    leave_numbers(numbers())
