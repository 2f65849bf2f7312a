"""A network as an optimal-control problem: exact derivatives, energy along the layers, errors."""

import pickle
import warnings
from dataclasses import replace

from mpi4py import MPI

import numpy as np
import pytest
from ranks import numbers_on, serial_only

import mfg_fem as mfg
from mfg_fem.resnet import Pontryagin, PontryaginSolution
from mfg_fem.resnet.mechanics import Layer, Shape

PAIR = pytest.mark.parametrize("form", ["midpoint", "block"])


def spirals(n=150, turns=0.75, seed=0):
    random = np.random.default_rng(seed)
    radius, y = np.sqrt(random.uniform(0.05, 1, n)), random.integers(0, 2, n)
    angle = 2 * np.pi * turns * radius + np.pi * y
    X = 1.5 * radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return X + 0.02 * random.standard_normal(X.shape), y


@pytest.fixture(scope="module")
def solved():
    """Solutions by form and number of layers."""
    found = {}
    for form in ("midpoint", "block"):
        guess = None
        for K in (16, 32, 64):
            guess = Pontryagin(*spirals(), layers=K, form=form).solve(guess)
            found[form, K] = guess
    return found


def differenced(f, v, h):
    """The derivative of f at 0 along v, of fourth order."""
    return (8 * (f(h * v) - f(-h * v)) - (f(2 * h * v) - f(-2 * h * v))) / (12 * h)


@PAIR
@pytest.mark.parametrize("loss", ["logistic", "squares"])
def test_gradient_and_hessian_are_those_of_the_cost(form, loss):
    X, y = spirals(40)
    problem = Pontryagin(X, y, layers=5, width=4, form=form, loss=loss, dimension=3, effort=0.1)
    objective, random = problem.objective(MPI.COMM_SELF), np.random.default_rng(1)
    z, v, w = 0.2 * random.standard_normal((3, objective.size))
    v, w = v / np.linalg.norm(v), w / np.linalg.norm(w)
    _, gradient = objective.value_and_gradient(z)
    Hv, Hw = objective.product(z, v), objective.product(z, w)
    slope = differenced(lambda e: objective.value_and_gradient(z + e)[0], v, 1e-3)
    change = differenced(lambda e: objective.value_and_gradient(z + e)[1], v, 1e-3)
    assert slope == pytest.approx(gradient @ v, rel=1e-8, abs=1e-9)
    assert np.linalg.norm(change - Hv) < 1e-8 * np.linalg.norm(Hv)
    assert abs(w @ Hv - v @ Hw) < 1e-13 * np.linalg.norm(Hv)


def test_costates_are_derivatives_in_the_states(solved):
    one = solved["midpoint", 16]
    scale = one.problem.units[1]

    def loss(change):
        moved = replace(one.problem, X=one.problem.X + scale * change)
        object.__setattr__(moved, "units", one.problem.units)
        return replace(one, problem=moved).loss

    v = np.random.default_rng(0).standard_normal(one.states[0].shape)
    assert differenced(loss, v, 3e-4) == pytest.approx(np.sum(one.costates[0] * v), rel=1e-8)


def test_energy_of_the_midpoint_rule_is_of_second_order(solved):
    drift = np.array([solved["midpoint", K].drift for K in (16, 32, 64)])
    assert np.log2(drift[:-1] / drift[1:]) == pytest.approx([2, 2], abs=0.1)
    assert drift[0] < 0.02
    assert solved["midpoint", 16].layers_for(drift[2]) == pytest.approx(64, rel=0.02)


def test_energy_of_blocks_drifts_as_backward_error_analysis_predicts(solved):
    for K in (16, 32, 64):
        one = solved["block", K]
        assert one.predicted == pytest.approx(one.drift, rel=0.03)
        assert one.asymptotic
        assert one.modified_drift < one.drift * 3 / K
    # K times the drift still grows by 12 % from 32 to 64 layers.
    assert 0.75 * 64 < solved["block", 32].layers_for(one.drift) < 64


@PAIR
def test_layers_can_be_more_or_fewer_without_training(solved, form):
    one, fresh = solved[form, 16], spirals(1000, seed=1)
    few, many = one.resample(8), one.resample(64)
    assert many.cost == pytest.approx(solved[form, 64].cost, rel=0.03)
    assert many.score(*fresh) > 0.999
    assert few.score(*fresh) > 0.99
    assert not many.converged and many.reason == "resampled from 16 layers"
    assert one.resample(16).cost == pytest.approx(one.cost, rel=1e-12)


def test_smoothness_makes_theta_a_function_of_time(solved):
    changes = [solved["midpoint", K].largest_change for K in (16, 32, 64)]
    assert np.array(changes[1:]) == pytest.approx(np.array(changes[:-1]) / 2, rel=0.02)
    rough, guess = [], None
    for K in (8, 16, 32):
        problem = Pontryagin(*spirals(), layers=K, form="block", smoothness=0)
        with pytest.warns(mfg.SolutionWarning, match="many layers is ill posed"):
            guess = problem.solve(guess, gtol=1e-4, throw=False)
        rough.append(guess.largest_change)
    assert rough[2] > 0.45 * rough[0] > 1 and rough[2] > 15 * changes[1]
    assert "ill posed" in guess.report


def test_the_hessian_is_positive_at_a_minimum(solved):
    one = solved["block", 16]
    objective = one.problem.objective(MPI.COMM_SELF)
    z = objective.unknowns(one.theta, one.head)
    rows = [objective.product(z, e) for e in np.eye(z.size)]
    assert one.curvature == pytest.approx(np.linalg.eigvalsh(rows)[0], rel=1e-3)
    assert 0 < one.curvature < 1
    assert np.linalg.norm(objective.value_and_gradient(z)[1]) < 1e-6


def test_the_network_of_blocks_is_exported_exactly_and_that_of_midpoints_nearly(solved):
    X, _ = spirals(50, seed=2)
    for form, tolerance in (("block", 1e-13), ("midpoint", 0.05)):
        one = solved[form, 16]
        x, (A, a) = one.problem.network_input(X), one.problem.shape.head(one.head)
        assert one.net(x) @ A.T + a == pytest.approx(one.outputs(X), abs=tolerance * 20)
    errors = [
        np.abs(one.network(K)(x) - one.resample(64).transform(X)).max() for K in (128, 256, 512)
    ]
    assert errors[1] / errors[0] == pytest.approx(0.5, abs=0.05)
    flow = one.velocity_field().reference(x, 16)[-1]
    assert np.abs(flow - one.resample(64).transform(X)).max() < 0.02
    np.testing.assert_allclose(one.predict_proba(X).sum(axis=1), 1)


def test_units_of_the_data_do_not_matter():
    X, _ = spirals(60)
    targets = np.stack([X[:, 0] * X[:, 1], np.sin(X[:, 0])], axis=1)
    sizes = {"layers": 5, "width": 4, "loss": "squares", "form": "block"}
    stretched, shifted = 1000 * X + [5, -7], 30 * targets - 2
    # After a few steps: there are several minima, and in hundreds round-off chooses among them.
    one, other = (
        Pontryagin(*data, **sizes).solve(max_it=10, throw=False)
        for data in ((X, targets), (stretched, shifted))
    )
    assert other.cost == pytest.approx(one.cost, rel=1e-8)
    assert other.predict(stretched) == pytest.approx(30 * one.predict(X) - 2, rel=1e-5, abs=1e-4)
    one = Pontryagin(X, targets, **sizes).solve()
    assert one.score(X, targets) > 0.95 and "training R^2" in str(one)
    with pytest.raises(mfg.ProblemError, match="needs classes"):
        one.predict_proba(X)


def test_a_disc_and_the_ring_around_it_are_parted_in_a_third_dimension():
    random = np.random.default_rng(0)
    y, angle = random.integers(0, 2, 200), random.uniform(0, 2 * np.pi, 200)
    radius = np.where(y == 1, random.uniform(0, 0.5, 200), random.uniform(0.8, 1.2, 200))
    X = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    one = Pontryagin(X, y, layers=6, width=6, dimension=3, form="block").solve()
    assert one.score(X, y) == 1
    assert one.states.shape == (7, 200, 3)


def test_saved_and_pickled_solutions_are_the_same(solved, tmp_path):
    one = solved["midpoint", 16]
    one.save(tmp_path / "net.npz")
    for other in (PontryaginSolution.load(tmp_path / "net.npz"), pickle.loads(pickle.dumps(one))):
        assert np.array_equal(other.outputs(one.problem.X), one.outputs(one.problem.X))
        assert other.report == one.report
    (tmp_path / "no.npz").write_text("nothing")
    with pytest.raises(mfg.FileError, match=r"no\.npz cannot be read"):
        PontryaginSolution.load(tmp_path / "no.npz")


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"layers": 1}, "layers must be an integer >= 2"),
        ({"width": 0}, "width"),
        ({"effort": 0.0}, "effort"),
        ({"smoothness": -1}, "smoothness"),
        ({"form": "leapfrog"}, "'midpoint', 'block'"),
        ({"loss": "hinge"}, "'logistic', 'squares'"),
        ({"horizon": np.inf}, "horizon"),
        ({"dimension": 1}, "dimension must be an integer >= 2"),
        ({"X": np.full((150, 2), np.nan)}, "X must be finite"),
        ({"X": np.ones(150)}, r"\(samples, features\)"),
        ({"y": np.zeros(150)}, "two classes or more"),
        ({"y": np.arange(150) % 2 * 2}, "numpy.unique"),
        ({"y": np.ones(7)}, r"\(150\)|\(150,\)"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_makes_no_sense_is_refused(changes, said):
    X, y = spirals()
    with pytest.raises(mfg.ProblemError, match=said):
        Pontryagin(**({"X": X, "y": y} | changes))


def test_a_descent_that_is_cut_short_says_so(solved):
    problem = Pontryagin(*spirals(), layers=4)
    with pytest.raises(mfg.NotConverged, match=r"iteration limit.*max_it") as raised:
        problem.solve(max_it=6)
    assert [row["method"] for row in raised.value.history].count("quasi-Newton") == 4
    assert not problem.solve(max_it=6, throw=False).converged
    with pytest.raises(mfg.ProblemError, match="another dimension, width"):
        Pontryagin(*spirals(), width=3).solve(solved["block", 16])
    with pytest.raises(mfg.ProblemError, match="gtol"):
        problem.solve(gtol=2)


def test_implicit_layers_of_long_steps_are_still_found_or_refused():
    random, shape = np.random.default_rng(0), Shape(2, 8, 2, 1, 1.0, 0.5)
    x = random.standard_normal((500, 2))
    steep = Layer(shape, 1.0 * random.standard_normal(shape.of_layer), x)
    assert np.linalg.norm(steep.inverse, 2, axis=(1, 2)).max() > 2
    middle = np.tanh(steep.xi @ steep.W.T + steep.b) @ steep.V.T + steep.c
    np.testing.assert_allclose(steep.xi, x + 0.5 * middle, atol=1e-11)


SCRIPT = """
import warnings
import numpy as np
from ranks import leave_numbers, raised
from mpi4py import MPI
from mfg_fem.resnet import Pontryagin
random = np.random.default_rng(0)
X = random.standard_normal((1200, 2))
y = (X[:, 0] * X[:, 1] > 0).astype(int)
one = Pontryagin(X, y, layers=6, width=3, effort=1e-2, smoothness=1e-2, form="block").solve()
other = MPI.COMM_WORLD.gather(one.cost)
mine = X + MPI.COMM_WORLD.rank
said = raised({
    "data": lambda: Pontryagin(mine, y),
    "layers": lambda: Pontryagin(X, y, layers=1 + MPI.COMM_WORLD.rank),
    "limit": lambda: Pontryagin(X, y, layers=4).solve(max_it=4),
})
leave_numbers([one.cost, one.theta.tolist(), one.energy.tolist(), other, said])
"""


@serial_only
def test_on_two_and_three_ranks_everything_is_the_same(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    (one, *alone), two, three = (numbers_on(n, path, timeout=120) for n in (1, 2, 3))
    for ranks, (cost, theta, energy, costs, said) in ((2, two), (3, three)):
        assert costs == [cost] * ranks
        assert cost == pytest.approx(one, rel=1e-12)
        assert theta == pytest.approx(np.array(alone[0]), abs=1e-9)
        assert energy == pytest.approx(np.array(alone[1]), abs=1e-12)
        for texts in said.values():
            assert len(set(texts)) == 1, texts
        assert "X must be the same on every rank" in said["data"][0]
        assert "ProblemError" in said["layers"][0] and "NotConverged" in said["limit"][0]


def test_what_is_not_asked_for_warns_not():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Pontryagin(*spirals(60), layers=3, width=3).solve()
