"""The control problem of a network as a scikit-learn estimator."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.datasets import load_iris, make_moons
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import check_estimator

from mfg_fem.resnet import PontryaginClassifier

MOONS = make_moons(200, noise=0.1, random_state=0)
SMALL = {"layers": 3, "width": 4, "effort": 1e-2, "smoothness": 1e-2}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_every_check_of_scikit_learn_passes_for_pontryagin():
    check_estimator(PontryaginClassifier(**SMALL, max_it=30))


def test_two_moons_are_parted_by_a_network_that_can_be_exported():
    net = PontryaginClassifier(layers=6, width=8, random_state=0).fit(*MOONS)
    fresh = make_moons(2000, noise=0.1, random_state=1)
    assert net.score(*fresh) > 0.99
    problem = net.solution_.problem
    A, a = problem.shape.head(net.solution_.head)
    scores = net.solution_.net(problem.network_input(fresh[0])) @ A.T + a
    assert np.array_equal(scores.argmax(axis=1), net.predict(fresh[0]))
    assert net.decision_function(fresh[0]) == pytest.approx(scores[:, 1] - scores[:, 0])
    again = pickle.loads(pickle.dumps(net))
    assert np.array_equal(again.predict_proba(fresh[0]), net.predict_proba(fresh[0]))


def test_names_of_classes_and_any_number_of_features_are_taken():
    X, y = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"])[y]
    pipeline = make_pipeline(MinMaxScaler(), PontryaginClassifier(**SMALL, random_state=0))
    grid = {"pontryaginclassifier__form": ["block", "midpoint"]}
    search = GridSearchCV(pipeline, grid, cv=3).fit(X, names)
    assert search.cv_results_["mean_test_score"].min() > 0.93
    assert search.transform(X).shape == (150, 4)


def test_a_descent_that_is_cut_short_is_warned_of():
    with pytest.warns(ConvergenceWarning, match="iteration limit"):
        net = PontryaginClassifier(**SMALL, max_it=3).fit(*MOONS)
    assert net.n_iter_ <= 4
