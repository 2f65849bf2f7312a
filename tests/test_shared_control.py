"""One velocity for several classes: exact gradient, mass, positivity, descent, ranks."""

from pathlib import Path

import numpy as np
import pytest
from ranks import numbers_on, serial_only

import ufl

import mfg_fem as mfg
from mfg_fem.reduced import ReducedProblem

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


def test_noise_loses_information_and_no_step_creates_any(solution):
    information = solution.curves["information"]
    assert information[0] <= np.log(2) + 1e-12
    assert np.all(np.diff(information) <= 1e-12)


def test_density_and_velocity_are_functions_of_the_mesh(solution):
    assert solution.density(8, 0).x.array.min() >= 0
    assert solution.velocity(0).function_space.dofmap.index_map_bs == 2


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
        (np.ones((3, 2)), np.ones((2, 2)), "shapes"),
        (np.ones(3), np.ones((3, 2)), "shapes"),
        (np.full((3, 2), np.nan), np.ones((3, 2)), "NaN"),
        (np.ones((3, 2)), [[1, 0], [-1, 1], [1, 1]], ">= 0"),
        (np.ones((3, 2)), [[1, 0], [1, 0], [1, 0]], "every class"),
    ],
)
def test_bad_shares_are_refused(points, shares, word):
    with pytest.raises(mfg.ProblemError, match=word):
        mfg.Samples(points, shares)


def test_a_terminal_cost_may_be_a_number():
    problem = classification(cells=6, terminal_costs=[lambda x: 0, lambda x: 2.0])
    reduced = mfg.LagrangeGalerkin().reduced(problem, steps=2)
    assert np.all(reduced.terminal[0] == 0) and np.all(reduced.terminal[1] == 2)
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


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"effort": 0.0}, "effort"),
        ({"regularisation": -1.0}, "regularisation"),
        ({"smoothing_length": np.nan}, "smoothing_length"),
        ({"diffusion": -1e-3}, "diffusion"),
        ({"horizon": np.inf}, "horizon"),
        ({"terminal_costs": [lambda x: 0.0]}, "terminal_costs"),
        ({"densities": [np.zeros((3, 3)), np.zeros((3, 2))]}, r"densities\[0\]"),
        ({"densities": [np.full((3, 2), np.nan), np.ones((3, 2))]}, "NaN"),
        ({"densities": [np.zeros((0, 2)), np.ones((3, 2))]}, r"densities\[0\]"),
        ({"masses": [1.0, 0.0]}, "masses"),
        ({"densities": mfg.Samples(np.ones((3, 3)), np.ones((3, 2)))}, "points of Samples"),
        ({"densities": mfg.Samples(np.ones((3, 2)), np.ones((3, 3)))}, "terminal_costs"),
    ],
)
def test_bad_data_are_refused_when_the_problem_is_built(changes, word):
    with pytest.raises(mfg.ProblemError, match=word):
        classification(**changes)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"densities": [np.full((3, 2), 9.0), np.ones((3, 2))]}, "outside the mesh"),
        ({"densities": [lambda x: x[0] - 1.6, np.ones((3, 2))]}, "negative"),
        ({"terminal_costs": [lambda x: ufl.ln(-x[0]), lambda x: 0.0]}, "not finite"),
    ],
)
def test_bad_data_on_the_mesh_are_refused_before_the_descent(changes, word):
    with pytest.raises(mfg.ProblemError, match=word):
        mfg.solve(classification(**changes), steps=2)


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
def test_one_two_and_three_ranks_agree():
    numbers = [numbers_on(ranks, SCRIPT) for ranks in (1, 2, 3)]
    for other in numbers[1:]:
        np.testing.assert_allclose(other, numbers[0], rtol=1e-8)
