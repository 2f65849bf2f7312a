"""`Pontryagin` as a scikit-learn estimator."""

import warnings

from mpi4py import MPI

import numpy as np
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from mfg_fem.resnet.classifier import take, validate_data
from mfg_fem.resnet.pontryagin import Pontryagin


class PontryaginClassifier(
    ClassNamePrefixFeaturesOutMixin, ClassifierMixin, TransformerMixin, BaseEstimator
):
    """Residual network trained as an optimal-control problem: see `Pontryagin`.

    Beside `MeanFieldClassifier` it needs no mesh and takes any number of features. Its parameters
    are a local minimum; a ConvergenceWarning says where it is none to the tolerance. It knows no
    noise, so that few samples of a curved boundary are told apart in ways of its own.

    Args:
        layers, width, effort, smoothness, form, dimension: of `Pontryagin`. Blocks are the default
            here: they take any step, and about half the time.
        max_it, gtol: of `Pontryagin.solve`.
        random_state: seed of the first block.

    Attributes:
        classes_: the labels.
        n_features_in_: number of features seen in fit.
        solution_: the PontryaginSolution, with energy, costates, export and other depths.
        n_iter_: iterations of the descent.
    """

    def __init__(
        self,
        layers=10,
        width=16,
        *,
        effort=1e-3,
        smoothness=1e-4,
        form="block",
        dimension=None,
        max_it=1000,
        gtol=1e-4,
        random_state=None,
    ):
        self.layers = layers
        self.width = width
        self.effort = effort
        self.smoothness = smoothness
        self.form = form
        self.dimension = dimension
        self.max_it = max_it
        self.gtol = gtol
        self.random_state = random_state

    def fit(self, X, y):
        """Train on X, shape (n, features), and labels y, shape (n,)."""
        X, labels = take(self, X, y)
        names = ("layers", "width", "effort", "smoothness", "form", "dimension")
        settings = {name: getattr(self, name) for name in names}
        problem = Pontryagin(X, labels, comm=MPI.COMM_SELF, **settings)
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        options = {"seed": seed, "max_it": self.max_it, "gtol": self.gtol}
        self.solution_ = problem.solve(throw=False, progress=False, **options)
        self.n_iter_ = max(sum(row["step"] > 0 for row in self.solution_.history), 1)
        if not self.solution_.converged:
            warnings.warn(
                f"The descent {self.solution_.reason}: the network is no local minimum to the "
                "tolerance. A larger max_it, or more effort, may help.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    @property
    def _n_features_out(self) -> int:
        return self.solution_.problem.shape.dim

    def _checked(self, X) -> np.ndarray:
        check_is_fitted(self)
        return validate_data(self, X, dtype=float, reset=False)

    def transform(self, X):
        """What the layers make of X: shape (n, dimension)."""
        X = self._checked(X)
        return self.solution_.transform(X)

    def predict_proba(self, X):
        """Probability of each class, shape (n, classes)."""
        X = self._checked(X)
        return self.solution_.predict_proba(X)

    def decision_function(self, X):
        """Scores of the head: shape (n,) for two classes, (n, classes) for more."""
        X = self._checked(X)
        scores = self.solution_.outputs(X)
        return scores[:, 1] - scores[:, 0] if len(self.classes_) == 2 else scores

    def predict(self, X):
        """The most probable class of each row of X."""
        X = self._checked(X)
        return self.classes_[self.solution_.predict(X)]
