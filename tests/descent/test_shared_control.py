"""One velocity for several classes: exact gradient, mass, positivity, descent, ranks."""

from pathlib import Path

from mpi4py import MPI

import numpy as np
import pytest
from ranks import numbers_on, serial_only

import ufl
from dolfinx import fem

import mfg_fem as mfg
from mfg_fem.descent.objective import ReducedProblem

SCRIPT = Path(__file__).parent / "shared_on_ranks.py"


def spiral(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One-turn spirals of two classes in [-1, 1]^2."""
    random = np.random.default_rng(seed)
    angle = 2 * np.pi * np.sqrt(random.random(n))
    label = random.integers(0, 2, n)
    arm = np.stack([-np.cos(angle), np.sin(angle)], axis=1) * (angle / (2 * np.pi))[:, None]
    return np.where(label == 0, 1, -1)[:, None] * arm, label


def classification(dim: int = 2, cells: int = 24, **changes) -> mfg.SharedControl:
    """Two classes to be parted by the first coordinate, in the box [0, 3.2]^dim."""
    points, label = spiral(400, seed=0)
    points = np.pad(points, ((0, 0), (0, dim - 2))) if dim > 1 else points[:, :1]
    data = {
        "densities": [points[label == c] + 1.6 for c in (0, 1)],
        "terminal_costs": [
            lambda x, s=s: ufl.ln(1 + ufl.exp(s * 8 * (x[0] - 1.6))) for s in (1, -1)
        ],
        "diffusion": 1e-3,
        "regularisation": 1e-4,
        "smoothing_length": 0.3,
    }
    return mfg.SharedControl(mfg.box([3.2] * dim, cells), **(data | changes))


def smooth_unknown(reduced: ReducedProblem, shift: float) -> np.ndarray:
    """An unknown that does not depend on how the mesh is shared among ranks."""
    x = reduced.replica.x[reduced.replica.owned]
    steps = np.arange(reduced.steps)[:, None, None]
    return np.sin(3 * x + shift + steps) * np.sqrt(reduced.weights)[:, None]


SCHEMES = [mfg.LagrangeGalerkin(), mfg.Particles(seed=2)]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("dim", "cells"), [(1, 40), (2, 24), (3, 8)])
def test_gradient_is_that_of_finite_differences(dim, cells, scheme):
    reduced = scheme.reduced(classification(dim, cells), steps=4)
    w, direction = smooth_unknown(reduced, 0.3), smooth_unknown(reduced, 1.1)
    _, gradient = reduced.objective_and_gradient(w)
    ahead, _ = reduced.objective_and_gradient(w + 1e-6 * direction)
    behind, _ = reduced.objective_and_gradient(w - 1e-6 * direction)
    slope = np.sum(gradient * direction)
    assert (ahead - behind) / 2e-6 == pytest.approx(slope, rel=1e-6)


@pytest.fixture(scope="module", params=SCHEMES, ids=lambda scheme: type(scheme).__name__)
def solution(request):
    return mfg.solve(classification(), 8, request.param, mfg.Descent(max_it=150))


def test_mass_of_every_class_is_exact_at_all_times(solution):
    masses = solution.masses.sum(axis=2)
    np.testing.assert_allclose(masses, np.tile(masses[0], (9, 1)), rtol=0, atol=1e-12)


def test_masses_are_nowhere_negative(solution):
    assert solution.masses.min() >= -1e-12


def test_objective_falls_monotonically_and_stays_positive(solution):
    objectives = [row["objective"] for row in solution.history]
    assert np.all(np.diff(objectives) <= 1e-12)
    assert objectives[-1] > 0


def test_field_parts_fresh_samples(solution):
    points, label = spiral(4000, seed=1)
    points = points + 1.6
    for time in solution.times[:-1]:
        points = points + 0.125 * solution.drift(points, time)
    assert np.mean((points[:, 0] > 1.6) == (label == 1)) > 0.98


def test_the_report_says_what_was_solved_and_no_information_of_the_mesh(solution):
    assert "mass, largest drift" in solution.report
    assert "information" not in solution.report and list(solution.curves) == ["mass"]


def test_density_and_velocity_are_functions_of_the_mesh(solution):
    assert solution.density(8, 0).x.array.min() >= 0
    assert solution.velocity(0).function_space.dofmap.index_map_bs == 2


@pytest.mark.parametrize(
    "index", [("velocity", -1), ("velocity", 8), ("density", 9), ("density", -1), ("density", 0, 2)]
)
def test_levels_and_classes_that_are_not_there_are_refused(solution, index):
    name, *numbers = index
    with pytest.raises(IndexError, match=r"go from 0 to"):
        getattr(solution, name)(*numbers)


def test_a_descent_that_is_cut_short_says_so():
    short = mfg.solve(classification(cells=8), np.int64(2), method=mfg.Descent(max_it=np.int64(2)))
    assert not short.converged and short.reason == "stopped at the iteration limit"
    assert "stopped at the iteration limit after 2 iterations" in short.report
    with pytest.raises(mfg.ProblemError, match="points"):
        short.drift(np.array([[0.0, np.nan]]), 0.0)
    with pytest.raises(mfg.ProblemError, match="from 0 to 1"):
        short.drift(np.ones((1, 2)), -0.1)
    long = mfg.solve(classification(cells=8), 2, method=mfg.Descent(gtol=0.5))
    assert long.converged and long.reason.startswith("converged")


def test_objective_of_the_particles_is_the_cost_along_their_noisy_paths():
    problem = classification()
    reduced = mfg.Particles(seed=2).reduced(problem, steps=4)
    w = smooth_unknown(reduced, 0.3)
    v, x = reduced.velocity(w), np.concatenate(problem.densities)
    xi = np.random.default_rng(2).standard_normal((4, *x.shape))
    cost = problem.regularisation * reduced.dt / 2 * np.sum(w**2)
    for k in range(4):
        speed = reduced.replica.interpolate(x, v[k])
        cost += reduced.dt * problem.effort / 2 * np.mean(np.sum(speed**2, axis=1))
        x = x + reduced.dt * speed + np.sqrt(2 * problem.diffusion * reduced.dt) * xi[k]
    sign = np.repeat([1, -1], [len(samples) for samples in problem.densities])
    nodal = np.log(1 + np.exp(np.multiply.outer([1, -1], 8 * (reduced.replica.x[:, 0] - 1.6))))
    ends = [reduced.replica.interpolate(x, values) for values in nodal]
    cost += np.mean(np.where(sign == 1, *ends))
    assert reduced.objective_and_gradient(w)[0] == pytest.approx(cost, rel=1e-12)


class Well:
    """|x - 1.6|^2, in UFL and at points."""

    def __call__(self, x):
        away = x - ufl.as_vector([1.6] * len(x))
        return ufl.dot(away, away)

    def at(self, points):
        return np.sum((points - 1.6) ** 2, axis=1), 2 * (points - 1.6)


def test_a_terminal_cost_that_knows_points_is_exact_on_particles():
    problem = classification(cells=6, terminal_costs=[Well(), Well()], diffusion=0.0)
    reduced = mfg.Particles().reduced(problem, steps=2)
    w, direction = smooth_unknown(reduced, 0.3), smooth_unknown(reduced, 1.1)
    x = np.concatenate(problem.densities)
    still, _ = reduced.objective_and_gradient(np.zeros(reduced.shape))
    assert still == pytest.approx(np.mean(np.sum((x - 1.6) ** 2, axis=1)), rel=1e-12)
    _, gradient = reduced.objective_and_gradient(w)
    ahead, behind = (reduced.objective_and_gradient(w + h * direction)[0] for h in (1e-6, -1e-6))
    assert np.sum(gradient * direction) == pytest.approx((ahead - behind) / 2e-6, rel=1e-5)
    reduced.destroy()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_samples_shared_by_classes_are_samples_that_are_in_each(scheme):
    points = spiral(50, seed=0)[0] + 1.6
    twice = classification(densities=[points, points], masses=[0.25, 0.75], diffusion=0.0)
    shares = np.tile([0.1, 0.3], (50, 1))
    shared = classification(densities=mfg.Samples(points, shares), diffusion=0.0)
    np.testing.assert_allclose(shared.class_masses, [0.25, 0.75])
    found = []
    for problem in (twice, shared):
        reduced = scheme.reduced(problem, steps=3)
        found.append(reduced.objective_and_gradient(smooth_unknown(reduced, 0.3)))
        reduced.destroy()
    (one, slope), (other, other_slope) = found
    assert one == pytest.approx(other, rel=1e-12)
    np.testing.assert_allclose(slope, other_slope, rtol=0, atol=1e-12 * np.abs(slope).max())


def test_gradient_with_shared_samples_is_that_of_finite_differences():
    random, points = np.random.default_rng(4), spiral(60, seed=0)[0] + 1.6
    samples = mfg.Samples(points, random.random((60, 2)) * (random.random((60, 2)) > 0.3))
    reduced = mfg.Particles(seed=2).reduced(classification(densities=samples), steps=4)
    w, direction = smooth_unknown(reduced, 0.3), smooth_unknown(reduced, 1.1)
    _, gradient = reduced.objective_and_gradient(w)
    ahead, behind = (reduced.objective_and_gradient(w + h * direction)[0] for h in (1e-6, -1e-6))
    assert (ahead - behind) / 2e-6 == pytest.approx(np.sum(gradient * direction), rel=1e-6)


@pytest.mark.parametrize(
    ("points", "shares", "word"),
    [
        (np.ones((3, 2)), np.ones((2, 2)), "shape"),
        (np.ones(3), np.ones((3, 2)), "shape"),
        (np.full((3, 2), np.nan), np.ones((3, 2)), "NaN"),
        (np.ones((3, 2)), [[1, 0], [-1, 1], [1, 1]], ">= 0"),
        (np.ones((3, 2)), [[1, 0], [1, 0], [1, 0]], "every class"),
    ],
)
def test_bad_shares_are_refused(points, shares, word):
    with pytest.raises(mfg.ProblemError, match=word):
        mfg.Samples(points, shares)


def test_data_may_be_callables_expressions_functions_or_numbers():
    domain = mfg.box([3.2, 3.2], 6)
    x = ufl.SpatialCoordinate(domain.mesh)
    line = fem.Function(fem.functionspace(domain.mesh, ("Lagrange", 1)))
    line.interpolate(lambda x: x[0])
    data = [lambda x: x[0], x[0], line, lambda x: 2.0, 2.0, np.float32(2.0), 2]
    ones = [lambda x: 1.0] * len(data)
    problem = mfg.SharedControl(domain, densities=ones, terminal_costs=data)
    reduced = mfg.LagrangeGalerkin().reduced(problem, steps=2)
    nodes = reduced.replica.x[reduced.replica.owned, 0]
    for found, wanted in zip(reduced.terminal, 3 * [nodes] + 4 * [2 + 0 * nodes], strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-14)
    reduced.destroy()
    problem = mfg.SharedControl(domain, densities=data[:3], terminal_costs=data[3:6])
    reduced = mfg.LagrangeGalerkin().reduced(problem, steps=2)
    np.testing.assert_allclose(reduced.initial[1:], reduced.initial[:2], rtol=0, atol=1e-14)
    reduced.destroy()


def test_scattered_mesh_keeps_masses_positive():
    domain = mfg.box([3.2, 3.2], 16)
    x, random = domain.mesh.geometry.x, np.random.default_rng(3)
    inside = np.all((x[:, :2] > 0.01) & (x[:, :2] < 3.19), axis=1)
    x[inside, :2] += 0.08 * random.uniform(-1, 1, (inside.sum(), 2))
    problem = classification()
    problem = mfg.SharedControl(
        domain, densities=problem.densities, terminal_costs=problem.terminal_costs, diffusion=0.1
    )
    reduced = ReducedProblem(problem, 4)
    masses = reduced.trajectory(reduced.velocity(smooth_unknown(reduced, 0.0)))
    assert masses.min() >= 0


def build(**changes):
    return lambda: classification(cells=6, **changes)


def solve(scheme=None, **changes):
    return lambda: mfg.solve(classification(cells=6, **changes), 2, scheme)


def on_one_rank(wrong, value):
    """Data that are wrong on the last rank only."""
    return wrong if MPI.COMM_WORLD.rank == MPI.COMM_WORLD.size - 1 else value


def fail(x):
    raise RuntimeError("the table is missing")


class Poor(Well):
    """Fails at points, in one of several ways, on the last rank."""

    def __init__(self, how):
        self.how = how

    def at(self, points):
        cost, slope = super().at(points)
        return on_one_rank(self.how, lambda *parts: parts)(cost, slope)


ONES, NAN = np.ones((3, 2)), float("nan")
ELSEWHERE = ufl.SpatialCoordinate(mfg.box([1.0, 1.0], 2, MPI.COMM_WORLD).mesh)[0]
NOUGHT = [lambda x: 0.0, lambda x: 0.0]

# what is wrong: (attempt, words its message must have)
BAD = {
    "effort zero": (build(effort=0.0), "effort"),
    "effort a bool": (build(effort=True), "effort"),
    "effort a string": (build(effort="small"), "effort"),
    "regularisation negative": (build(regularisation=-1.0), "regularisation"),
    "smoothing nan": (build(smoothing_length=NAN), "smoothing_length"),
    "diffusion negative": (build(diffusion=-1e-3), "diffusion"),
    "diffusion none": (build(diffusion=None), "diffusion"),
    "horizon infinite": (build(horizon=np.inf), "horizon"),
    "too few costs": (build(terminal_costs=[lambda x: 0.0]), "terminal_costs"),
    "one cost": (build(terminal_costs=lambda x: 0.0), "terminal_costs must be a list"),
    "no costs": (build(terminal_costs=None), "terminal_costs must be a list"),
    "cost none": (build(terminal_costs=[None, 1.0]), r"terminal_costs\[0\]"),
    "cost nan": (build(terminal_costs=[NAN, 1.0]), r"terminal_costs\[0\]"),
    "cost text": (build(terminal_costs=["far", 1.0]), r"terminal_costs\[0\]"),
    "no densities": (build(densities=[]), "0 densities"),
    "densities none": (build(densities=None), "densities must be a list"),
    "densities a number": (build(densities=1.0), "densities must be a list"),
    "density a number": (build(densities=[1.0, ONES]), r"densities\[0\]"),
    "density text": (build(densities=["ab", ONES]), r"densities\[0\]"),
    "density ragged": (build(densities=[[[1, 2], [3]], ONES]), r"densities\[0\]"),
    "density of points in 3D": (build(densities=[np.zeros((3, 3)), ONES]), r"densities\[0\]"),
    "density of nan": (build(densities=[NAN * ONES, ONES]), "NaN"),
    "density of nobody": (build(densities=[np.zeros((0, 2)), ONES]), r"densities\[0\]"),
    "masses zero": (build(masses=[1.0, 0.0]), "masses"),
    "masses infinite": (build(masses=[np.inf, 1.0]), "masses"),
    "masses nan": (build(masses=[NAN, 1.0]), "masses"),
    "masses too many": (build(masses=[1.0, 1.0, 1.0]), "masses"),
    "masses a number": (build(masses=1.0), "masses"),
    "masses text": (build(masses=["a", "b"]), "masses"),
    "samples in 3D": (
        build(densities=mfg.Samples(np.ones((3, 3)), np.ones((3, 2)))),
        "points of Samples",
    ),
    "samples of more classes": (
        build(densities=mfg.Samples(np.ones((3, 2)), np.ones((3, 3)))),
        "terminal_costs",
    ),
    "samples of text": (lambda: mfg.Samples([["a", "b"]], [[1.0]]), "points"),
    "max_it zero": (lambda: mfg.Descent(max_it=0), "max_it"),
    "max_it a bool": (lambda: mfg.Descent(max_it=True), "max_it"),
    "max_it a float": (lambda: mfg.Descent(max_it=2.0), "max_it"),
    "gtol nan": (lambda: mfg.Descent(gtol=NAN), "gtol"),
    "gtol one": (lambda: mfg.Descent(gtol=1), "gtol"),
    "gtol text": (lambda: mfg.Descent(gtol="1e-3"), "gtol"),
    "options text": (lambda: mfg.Descent(petsc_options="-tao_monitor"), "petsc_options"),
    "seed negative": (lambda: mfg.Particles(seed=-1), "seed"),
    "seed a bool": (lambda: mfg.Particles(seed=True), "seed"),
    # on the mesh, before the descent
    "samples outside": (solve(densities=[9 * ONES, ONES]), "outside the mesh"),
    "density negative": (solve(densities=[lambda x: x[0] - 1.6, ONES]), "negative"),
    "density a vector": (solve(densities=[lambda x: x, ONES]), "could not be built"),
    "cost infinite": (solve(terminal_costs=[lambda x: ufl.ln(-x[0]), 0.0]), "not finite"),
    "cost a vector": (solve(terminal_costs=[lambda x: x, 0.0]), "could not be built.*shape"),
    "cost elsewhere": (solve(terminal_costs=[ELSEWHERE, 0.0]), "another mesh"),
    "cost of nothing": (solve(terminal_costs=[lambda x: None, 0.0]), "could not be built"),
    # wrong on one rank only (in serial: that one)
    "one rank's samples": (build(densities=[on_one_rank(NAN, 1.0) * ONES, ONES]), "NaN"),
    "one rank's cost fails": (
        solve(terminal_costs=[on_one_rank(fail, NOUGHT[0]), 0.0]),
        "table is missing",
    ),
    "one rank's points fail": (
        solve(mfg.Particles(), terminal_costs=[Poor(fail), Well()], diffusion=0.0),
        "at points",
    ),
    "one rank's cost at points nan": (
        solve(mfg.Particles(), terminal_costs=[Poor(lambda c, s: (NAN * c, s)), Well()]),
        "not finite where",
    ),
    "one rank's slopes too few": (
        solve(mfg.Particles(), terminal_costs=[Poor(lambda c, s: (c, s[:, :1])), Well()]),
        "shapes",
    ),
}


@pytest.mark.parametrize("wrong", BAD)
def test_bad_data_are_refused_in_words(wrong):
    attempt, words = BAD[wrong]
    with pytest.raises(mfg.ProblemError, match=f"(?s){words}"):
        attempt()


def said(wrong: str) -> str:
    """What an attempt raises."""
    try:
        BAD[wrong][0]()
    except mfg.ProblemError as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def stop(*_):
    raise KeyboardInterrupt


class Stopping(Well):
    at = stop


def test_an_interrupt_stays_one():
    for problem in (
        solve(terminal_costs=[stop, 0.0]),
        solve(mfg.Particles(), terminal_costs=[Stopping(), Well()]),
    ):
        with pytest.raises(KeyboardInterrupt):
            problem()


def test_particles_refuse_a_density_that_is_not_made_of_samples():
    problem = classification(densities=[lambda x: 1.0, np.ones((3, 2))])
    with pytest.raises(mfg.ProblemError, match="LagrangeGalerkin"):
        mfg.solve(problem, 2, mfg.Particles())


def test_solve_refuses_what_a_shared_control_does_not_take():
    with pytest.raises(mfg.ProblemError, match="method"):
        mfg.solve(classification(), steps=2, method=mfg.Newton())
    with pytest.raises(mfg.ProblemError, match="scheme"):
        mfg.solve(classification(), steps=2, scheme=mfg.Monotone())


@serial_only
def test_one_and_three_ranks_agree():
    alone, three = (numbers_on(ranks, SCRIPT) for ranks in (1, 3))
    np.testing.assert_allclose(three["numbers"], alone["numbers"], rtol=1e-8)
    assert three["said"].keys() == BAD.keys()
    for wrong, (one, *others) in three["said"].items():
        assert one.startswith("ProblemError: "), wrong
        assert others == [one, one], wrong
