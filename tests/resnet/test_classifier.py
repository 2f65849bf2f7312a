"""The scikit-learn estimator: its conventions, its errors, and that it learns."""

import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.datasets import load_iris, make_circles, make_moons
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import check_estimator

import ufl
from dolfinx import fem

import mfg_fem as mfg
from mfg_fem._compat import interpolation_points
from mfg_fem.resnet import FoldingLayers, MeanFieldClassifier
from mfg_fem.resnet.classifier import blurred
from mfg_fem.resnet.head import LogisticLoss

# Fits are short here, and hardly one comes to an end.
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::mfg_fem.resnet.report.FoldingLayers"),
]
SMALL = {"layers": 2, "width": 4, "cells": 8, "max_it": 8}
MOONS = make_moons(300, noise=0.1, random_state=0)


@pytest.fixture(scope="module")
def moons():
    return MeanFieldClassifier(layers=6, width=8, cells=30, max_it=60, random_state=0).fit(*MOONS)


def test_every_check_of_scikit_learn_passes():
    check_estimator(MeanFieldClassifier(**SMALL))


def test_two_moons_are_parted(moons):
    assert moons.score(*make_moons(2000, noise=0.1, random_state=1)) > 0.99


def test_probabilities_sum_to_one_and_agree_with_the_prediction(moons):
    probability = moons.predict_proba(MOONS[0])
    np.testing.assert_allclose(probability.sum(axis=1), 1.0)
    assert np.array_equal(moons.classes_[probability.argmax(axis=1)], moons.predict(MOONS[0]))


def test_the_network_behind_the_labels_is_the_one_that_can_be_exported(moons):
    by_hand = moons.head_.predict(moons.resnet_(moons.network_input(MOONS[0])))
    assert np.array_equal(moons.classes_[by_hand], moons.predict(MOONS[0]))


def test_blurred_points_have_of_each_class_what_bayes_rule_gives_them():
    rng, blur = np.random.default_rng(0), 0.1
    z, labels = 1.8 + 0.2 * rng.standard_normal((40, 2)), np.arange(40) % 3
    samples = blurred(z, labels, blur, np.random.RandomState(1))
    squares = np.sum((samples.points[:, None] - z) ** 2, axis=2)
    likely = np.exp(-squares / (2 * blur**2)) @ np.eye(3)[labels]
    np.testing.assert_allclose(
        samples.shares, likely / likely.sum(axis=1, keepdims=True), rtol=0, atol=2e-3
    )
    np.testing.assert_allclose(samples.shares.sum(axis=1), 1.0)


def test_circles_are_parted_in_a_third_dimension():
    train, test = (make_circles(400, noise=0.05, factor=0.5, random_state=s) for s in (0, 1))
    net = MeanFieldClassifier(layers=6, width=12, dimension=3, cells=12, max_it=60, random_state=0)
    assert net.fit(*train).score(*test) > 0.97


def test_the_loss_at_points_is_that_of_the_form_and_its_slope_the_derivative():
    rng, mesh = np.random.default_rng(0), mfg.box([3.6, 3.6], 8).mesh
    head = 9 * rng.standard_normal((4, 2)), rng.standard_normal(4)
    V = fem.functionspace(mesh, ("Lagrange", 1))
    x, form = V.tabulate_dof_coordinates()[:, :2], fem.Function(V)
    for c in range(4):
        loss = LogisticLoss(mesh, *head, np.full(2, 1.8), c)
        form.interpolate(fem.Expression(loss(ufl.SpatialCoordinate(mesh)), interpolation_points(V)))
        value, slope = loss.at(x)
        np.testing.assert_allclose(form.x.array, value, rtol=1e-12)
        ends = [[loss.at(x + h * e)[0] for h in (1e-5, -1e-5)] for e in np.eye(2)]
        along = np.stack([(up - down) / 2e-5 for up, down in ends], axis=1)
        np.testing.assert_allclose(slope, along, rtol=1e-6, atol=1e-6)


def test_three_classes_with_names_in_four_features_pass_through_a_projection():
    X, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    net = MeanFieldClassifier(layers=4, width=8, cells=20, max_it=30, noise=0.2, random_state=0)
    assert cross_val_score(net, X, names, cv=3).mean() > 0.85


def test_it_is_a_step_of_a_pipeline_and_of_a_grid_search():
    pipeline = make_pipeline(MinMaxScaler(), MeanFieldClassifier(**SMALL, random_state=0))
    grid = {"meanfieldclassifier__noise": [0.0, 0.2]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(*MOONS)
    assert search.best_score_ > 0.8


def test_the_same_seed_gives_the_same_network():
    one, other = (MeanFieldClassifier(**SMALL, random_state=3).fit(*MOONS) for _ in range(2))
    probabilities = [net.predict_proba(MOONS[0]) for net in (one, other)]
    np.testing.assert_allclose(*probabilities, rtol=1e-6)  # threads add up in any order


def test_a_fit_that_is_cut_short_and_one_that_folds_say_so():
    net = MeanFieldClassifier(2, 8, cells=20, max_it=60, smoothing_length=0.6, regularisation=1e-6)
    with pytest.warns(ConvergenceWarning, match="iteration limit"):
        with pytest.warns(FoldingLayers, match="more regularisation, or more layers,"):
            net.fit(*MOONS)
    assert "stopped at the iteration limit after 60 iterations" in net.report_
    jacobian = net.resnet_.jacobian(net.network_input(MOONS[0]))
    assert np.mean(np.linalg.det(jacobian) <= 0) > 0.05
    assert "layers fold at" in net.report_ and "mutual" not in net.report_


def test_a_fit_that_converges_and_does_not_fold_is_silent():
    net = MeanFieldClassifier(2, 4, cells=12, regularisation=1.0, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        net.fit(*MOONS)
    assert net.n_iter_ < net.max_it and "converged" in net.report_


def test_its_outputs_have_names(moons):
    names = [f"meanfieldclassifier{i}" for i in range(2)]
    assert list(moons.get_feature_names_out()) == names
    pipeline = make_pipeline(MeanFieldClassifier(**SMALL), LogisticRegression())
    assert pipeline.set_output(transform="default").fit(*MOONS).score(*MOONS) > 0.8


@pytest.mark.parametrize(
    ("X", "y", "word"),
    [
        (np.ones((4, 2)), [0, 1, 0, 1], "same point"),
        (np.eye(4)[:, :2], [1, 1, 1, 1], "one class"),
        (np.array([[0, np.nan], [1, 0]]), [0, 1], "NaN"),
        (np.zeros((1, 2)), [0], "minimum of 2"),
        (np.eye(4)[:, :2], [0.1, 0.2, 0.3, 0.4], "Unknown label type"),
        (np.eye(4)[:, :2], [0, 1], "inconsistent"),
    ],
)
def test_bad_data_are_refused(X, y, word):
    with pytest.raises(ValueError, match=word):
        MeanFieldClassifier(**SMALL).fit(X, y)


def test_too_few_samples_without_blur_are_refused():
    with pytest.raises(ValueError, match=r"n_samples=3.* 4 or more"):
        MeanFieldClassifier(**SMALL, blur=0.0).fit(np.eye(3)[:, :2], [0, 1, 0])


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"layers": 0}, "layers"),
        ({"layers": True}, "layers"),
        ({"width": 1.5}, "width"),
        ({"cells": "many"}, "cells"),
        ({"max_it": None}, "max_it"),
        ({"polish": -1}, "polish"),
        ({"noise": -1.0}, "noise"),
        ({"blur": np.nan}, "blur"),
        ({"effort": True}, "effort"),
        ({"regularisation": np.inf}, "regularisation"),
        ({"random_state": "dice"}, "seed"),
        ({"effort": 0.0}, "effort"),
        ({"dimension": 4}, "dimension"),
        ({"projection": "tsne"}, "projection"),
        ({"projection": None}, "features"),
    ],
)
def test_bad_parameters_are_refused_in_fit(changes, word):
    X, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match=word):
        MeanFieldClassifier(**(SMALL | changes)).fit(X, y)
