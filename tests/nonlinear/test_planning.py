"""Planning problems: a prescribed density at the end.

Run as a script, this module solves some and leaves their numbers.
"""

from functools import cache

from mpi4py import MPI

import numpy as np
import pytest
from cases import jittered
from ranks import leave_numbers, numbers_on, once, serial_only

import ufl

import mfg_fem as mfg
from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.discrete.planning import Planning
from mfg_fem.discrete.spacetime import SpaceTime

MIDPOINT = mfg.Galerkin(1, "midpoint")
SIDE, START, END, WIDTH, NARROW = 8.0, 3.0, 5.0, 0.5, 0.4


def blob(x, centre, width):
    return ufl.exp(-sum((y - c) ** 2 for y, c in zip(x, centre, strict=True)) / (2 * width**2))


def congested(x, p, m):
    return ufl.dot(p, p) / (2 * (1 + 0.5 * m) ** 0.75)


def bridge(D: float, cells: int, **changes) -> mfg.MeanFieldControl:
    """The bridge between two Gaussians on a line."""
    data = {
        "horizon": 1.0,
        "diffusion": D,
        "hamiltonian": mfg.hamiltonians.quadratic(),
        "running_cost": lambda x, t, m: 0.0,
        "initial_density": lambda x: blob(x, [START], WIDTH),
        "terminal_density": lambda x: blob(x, [END], NARROW),
    }
    return mfg.MeanFieldControl(mfg.box((SIDE,), cells), **(data | changes))


def square(kind=mfg.MeanFieldGame, domain=None, **changes):
    data = {
        "horizon": 1.0,
        "diffusion": 0.05,
        "hamiltonian": congested,
        "running_cost": lambda x, t, m: 0.2 * m,
        "initial_density": lambda x: blob(x, [0.3, 0.4], 0.15),
        "terminal_density": lambda x: blob(x, [0.7, 0.6], 0.2),
        "floor": 1e-3,
    }
    return kind(domain or mfg.box((1, 1), 10), **(data | changes))


def exact(D: float, t: float) -> tuple[float, float, float]:
    """Mean and variance of the Gaussian bridge at t, and half the derivative of the variance."""
    mixed = np.sqrt(WIDTH**2 * NARROW**2 + D**2)
    variance = (1 - t) ** 2 * WIDTH**2 + t**2 * NARROW**2 + 2 * t * (1 - t) * mixed
    slope = -(1 - t) * WIDTH**2 + t * NARROW**2 + (1 - 2 * t) * mixed
    return (1 - t) * START + t * END, variance, slope


def exact_cost(D: float) -> float:
    times = (np.arange(2000) + 0.5) / 2000
    variance, slope = np.array([exact(D, t)[1:] for t in times]).T
    return float(np.mean((END - START) ** 2 + (slope - D) ** 2 / variance) / 2)


def errors(solution: mfg.Solution) -> tuple[float, float]:
    """L1 error of the density, the largest of three times; of u_x at T/2, weighted by m."""
    D, steps = solution.problem.diffusion, solution.steps
    order = np.argsort(solution.coordinates[:, 0])
    x, middle = np.sort(solution.coordinates[:, 0]), steps // 2

    def density(x, t):
        mean, variance, _ = exact(D, t)
        return np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)

    distances = [
        solution.discrete.integral(abs(m - density(solution.coordinates[:, 0], t))[None])[0]
        for t, m in zip(solution.times, solution.nodal_densities, strict=True)
        if t in (0.25, 0.5, 0.75)
    ]
    mean, variance, slope = exact(D, 0.5)
    found = np.diff(solution.nodal_values[middle][order]) / np.diff(x)
    x = (x[1:] + x[:-1]) / 2
    wanted = -(END - START + (slope - D) / variance * (x - mean))
    weight = density(x, 0.5)
    return max(distances), float(np.sqrt(np.sum(weight * (found - wanted) ** 2) / np.sum(weight)))


@cache
def solved(D: float, cells: int, steps: int, scheme) -> mfg.Solution:
    return mfg.solve(bridge(D, cells), steps, scheme)


serial = pytest.mark.skipif(MPI.COMM_WORLD.size > 1, reason="compares nodes in order")


@serial
def test_gaussian_bridge():
    solution = solved(0.1, 256, 64, MIDPOINT)
    density, slope = errors(solution)
    assert density <= 5e-4 and slope <= 3e-3
    assert solution.terminal_gap <= 1e-12 and solution.min_density > 0
    assert solution.iterations <= 60
    assert abs(solution.cost - exact_cost(0.1)) <= 2e-4
    assert abs(solution.cost - solution.expected_cost) <= 1e-12


@serial
def test_bridge_comes_near_to_optimal_transport():
    solution = solved(2e-4, 256, 64, MIDPOINT)
    transport = ((END - START) ** 2 + (WIDTH - NARROW) ** 2) / 2
    assert abs(solution.cost - transport) <= 1e-4 and solution.iterations <= 60


@serial
@pytest.mark.parametrize(
    ("scheme", "density_order", "slope_order"),
    [(mfg.Monotone(), 0.9, 0.9), (mfg.Sharp(), 1.9, 1.5)],
)
def test_order_of_a_scheme(scheme, density_order, slope_order):
    coarse, fine = (errors(solved(0.2, n, n // 4, scheme)) for n in (128, 256))
    orders = np.log2(np.divide(coarse, fine))
    assert orders[0] >= density_order and orders[1] >= slope_order


@pytest.mark.parametrize("kind", [mfg.MeanFieldGame, mfg.MeanFieldControl])
@pytest.mark.parametrize("scheme", [mfg.Monotone(), mfg.Sharp(), MIDPOINT])
def test_jacobian_is_the_derivative(kind, scheme):
    discrete = Discretisation(square(kind, mfg.box((1, 1), 4)), scheme)
    system = SpaceTime(discrete, np.linspace(0, 1, 4))
    planning, random = Planning(system), np.random.default_rng(MPI.COMM_WORLD.rank)
    Y, dY = (0.1 * random.standard_normal(planning.shape) for _ in range(2))
    Y[1, :, -1] = dY[1, :, -1] = 0.0
    planning.linearise(Y)
    weights = planning.weights
    planning._weights = lambda m: weights  # Newton does not differentiate them
    h = 1e-5
    difference = (planning.residual(Y + h * dY) - planning.residual(Y - h * dY)) / (2 * h)
    product = planning.mult_jacobian(dY)
    assert abs(product - difference).max() <= 1e-7 * abs(product).max()
    system.destroy()


@pytest.mark.parametrize("kind", [mfg.MeanFieldGame, mfg.MeanFieldControl])
def test_congestion_keeps_mass_sign_and_duality(kind):
    solution = mfg.solve(square(kind, jittered(2, 8)), 12, mfg.Monotone())
    assert solution.converged and solution.min_density > 0 and solution.terminal_gap <= 1e-9
    assert abs(solution.balance).max() <= 1e-12
    if kind is mfg.MeanFieldGame:
        assert abs(solution.cost - solution.expected_cost) <= 1e-8 * solution.cost


def test_sinkhorn_and_newton_agree():
    problem = bridge(0.5, 64, floor=1e-2)
    newton = mfg.solve(problem, 16, mfg.Monotone())
    sinkhorn = mfg.solve(problem, 16, method=mfg.Sinkhorn(tol=1e-8))
    assert sinkhorn.scheme == mfg.Monotone() and sinkhorn.terminal_gap <= 1e-8
    assert abs(sinkhorn.levels.u - newton.levels.u).max() <= 1e-5
    assert abs(sinkhorn.levels.m - newton.levels.m).max() <= 1e-7


def test_units_change_nothing():
    length, time, people = 1e-6, 1e-2, 1e-9
    cost = length**2 / time
    one = solved(0.2, 64, 16, mfg.Sharp())
    other = mfg.solve(
        mfg.MeanFieldControl(
            mfg.box((SIDE * length,), 64),
            horizon=time,
            diffusion=0.2 * length**2 / time,
            hamiltonian=mfg.hamiltonians.quadratic(),
            running_cost=lambda x, t, m: 0.0,
            initial_density=lambda x: blob(x, [START * length], WIDTH * length),
            terminal_density=lambda x: blob(x, [END * length], NARROW * length),
            population=people,
        ),
        16,
    )
    assert [row["krylov"] for row in other.history] == [row["krylov"] for row in one.history]
    assert np.allclose(other.levels.u / cost, one.levels.u, rtol=0, atol=1e-9)
    assert np.allclose(other.levels.m * length / people, one.levels.m, rtol=1e-9)


def test_guess_takes_fewer_steps():
    scheme, problem = mfg.Monotone(), bridge(0.15, 64)
    first = solved(0.2, 64, 16, scheme)
    second = mfg.solve(problem, 16, scheme, guess=first)
    assert second.iterations < mfg.solve(problem, 16, scheme).iterations / 2


def test_sharp_densities_are_smoothed_and_the_report_says_so():
    def box(x, centre):
        return ufl.conditional(ufl.lt(abs(x[0] - centre), 0.7), 1.0, 0.0)

    problem = bridge(
        0.1, 64, initial_density=lambda x: box(x, START), terminal_density=lambda x: box(x, END)
    )
    solution = mfg.solve(problem, 16, mfg.Monotone())
    assert all(0.05 < moved < 0.3 for moved in solution.discrete.ends.smoothed)
    assert "smoothed, start and end" in solution.report
    assert max(solved(0.2, 64, 16, mfg.Sharp()).discrete.ends.smoothed) == 0


def test_a_solution_that_is_saved_is_the_same(tmp_path):
    path = MPI.COMM_WORLD.bcast(tmp_path) / "bridge.npz"
    solution = solved(0.2, 64, 16, mfg.Sharp())
    solution.save(path)
    again = mfg.Solution.load(path, solution.problem)
    assert again.converged and again.cost == pytest.approx(solution.cost, rel=1e-12)
    assert again.terminal_gap == pytest.approx(solution.terminal_gap, abs=1e-13)


@pytest.mark.parametrize("scheme", [mfg.Sharp(), MIDPOINT])
def test_a_solve_that_is_stopped_after_each_step_ends_the_same(scheme, tmp_path):
    path = MPI.COMM_WORLD.bcast(tmp_path) / "bridge.npz"
    problem, whole = bridge(0.4, 48, floor=1e-2), None
    for _ in range(200):
        try:
            settings = mfg.Checkpoint(path, budget=0.0)
            whole = mfg.solve(problem, 8, scheme, checkpoint=settings)
            break
        except mfg.OutOfTime:
            pass
    alone = mfg.solve(problem, 8, scheme)
    assert whole.iterations == alone.iterations
    assert abs(whole.levels.u - alone.levels.u).max() <= 1e-9


def parts(**changes):
    """Two squares that do not touch."""
    from dolfinx import mesh

    whole = mfg.box((3, 1), (12, 4)).mesh
    cells = np.arange(whole.topology.index_map(2).size_local, dtype=np.int32)
    middle = mesh.compute_midpoints(whole, 2, cells)[:, 0]
    apart = mfg.Domain(mesh.create_submesh(whole, 2, cells[abs(middle - 1.5) > 0.5])[0])
    return square(domain=apart, **changes)


def test_separate_parts_of_a_domain():
    def left_and_right(x):
        return ufl.conditional(ufl.lt(x[0], 1.5), 1.0, 2.0)

    def moved(x):
        return left_and_right(x) * (1 + 0.5 * ufl.cos(ufl.pi * x[1]))

    problem = parts(initial_density=left_and_right, terminal_density=moved)
    assert mfg.solve(problem, 6, mfg.Monotone()).terminal_gap <= 1e-9
    with pytest.raises(mfg.ProblemError, match="2 parts that nobody can leave"):
        mfg.solve(parts(initial_density=left_and_right), 6)


def solve_wrongly(problem, **arguments):
    mfg.solve(problem, 4, **arguments)


WRONG = {
    "no end": (lambda: bridge(0.1, 8, terminal_density=None), "either terminal_cost=.*or"),
    "two ends": (lambda: bridge(0.1, 8, terminal_cost=lambda x, m: 0.0), "either terminal_cost="),
    "exit": (lambda: bridge(0.1, 8, boundary={"left": mfg.Exit()}), "nobody may enter or leave"),
    "source": (lambda: bridge(0.1, 8, source=lambda x, t: 1.0), "nobody may enter or leave"),
    "floor": (lambda: bridge(0.1, 8, floor=1.0), "floor is a part of the largest density"),
    "floor of a game": (
        lambda: bridge(0.1, 8, terminal_density=None, terminal_cost=lambda x, m: 0.0, floor=1e-3),
        "floor= is for problems with a terminal_density",
    ),
    "no floor": (lambda: bridge(0.1, 8, floor=0.0), "floor"),
    "negative": (
        lambda: bridge(0.1, 8, terminal_density=lambda x: x[0] - 1),
        r"terminal_density\(x\) is negative",
    ),
    "nobody": (
        lambda: bridge(0.1, 8, terminal_density=lambda x: 0.0),
        r"terminal_density\(x\) vanishes",
    ),
    "krylov": (
        lambda: solve_wrongly(bridge(0.1, 8), method=mfg.Newton(krylov="schur")),
        "one formulation",
    ),
    "density in the cost": (
        lambda: solve_wrongly(square(), method=mfg.Sinkhorn()),
        "costs that do not depend on the density",
    ),
    "limited": (
        lambda: solve_wrongly(bridge(0.1, 8), scheme=mfg.Sharp(), method=mfg.Sinkhorn()),
        r"takes Monotone\(\) or Galerkin",
    ),
    "sinkhorn's tol": (lambda: mfg.Sinkhorn(tol=2.0), "tol must lie between 0 and 1"),
    "sinkhorn of a game": (
        lambda: solve_wrongly(
            bridge(0.1, 8, terminal_density=None, terminal_cost=lambda x, m: 0.0),
            method=mfg.Sinkhorn(),
        ),
        r"takes Newton\(...\)",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_makes_no_sense_is_refused(wrong):
    attempt, words = WRONG[wrong]
    with pytest.raises(mfg.ProblemError, match=f"(?s){words}"):
        attempt()


def test_what_cannot_be_reached_is_not_converged():
    problem = bridge(0.01, 32, hamiltonian=lambda x, p, m: ufl.sqrt(1 + ufl.dot(p, p)) - 1)
    with pytest.raises(mfg.NotConverged, match="time enough to get there"):
        mfg.solve(problem, 16, mfg.Monotone(), mfg.Newton(max_it=8))


def numbers(solution: mfg.Solution) -> dict:
    d, levels = solution.discrete, solution.levels
    return {
        "iterations": [row["krylov"] for row in solution.history],
        "cost": solution.cost,
        "u": float(d.integral(levels.u**2).sum()),
        "m": float(d.integral(levels.m**2).sum()),
    }


CASES = {
    "congestion": lambda: mfg.solve(square(), 8, mfg.Monotone()),
    "sharp": lambda: mfg.solve(square(running_cost=lambda x, t, m: 0.0), 24),
    "tensor, 3D": lambda: mfg.solve(
        mfg.MeanFieldControl(
            mfg.box((1, 1, 1), 4),
            horizon=1.0,
            diffusion=lambda x: ufl.as_matrix([[0.2, 0.05, 0], [0.05, 0.2, 0], [0, 0, 0.1]]),
            hamiltonian=mfg.hamiltonians.quadratic(),
            running_cost=lambda x, t, m: 0.1 * m,
            initial_density=lambda x: blob(x, [0.3] * 3, 0.3),
            terminal_density=lambda x: blob(x, [0.7] * 3, 0.3),
            floor=1e-2,
        ),
        4,
        mfg.Monotone(),
    ),
}


@pytest.fixture(scope="module")
@once
def on_three_ranks() -> dict[str, dict]:
    return numbers_on(3, __file__)


@serial_only
@pytest.mark.parametrize("case", CASES)
def test_numbers_do_not_depend_on_the_ranks(case, on_three_ranks):
    for name, value in numbers(CASES[case]()).items():
        assert on_three_ranks[case][name] == pytest.approx(value, rel=1e-9), name


if __name__ == "__main__":
    leave_numbers({name: numbers(case()) for name, case in CASES.items()})
