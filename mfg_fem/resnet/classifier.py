"""A classifier trained by a mean-field control problem: a scikit-learn estimator.

1. The data are standardised, projected to two or three coordinates where there are more (padded
   with zeros where there are fewer), and put into the middle of a box.
2. All classes are moved by one velocity (`SharedControl`) to where a fixed linear head tells them
   apart: the terminal cost of class c is its logistic loss, -log softmax(A x + b)_c, taken exactly
   where a sample ends (`head.py`).
3. The field becomes the layers of a residual network (`fit`), one step a layer.
4. The head is fitted anew on what the network makes of the data: logistic regression.
"""

import warnings

from mpi4py import MPI

import numpy as np
from scipy.special import softmax
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    clone,
)
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from mfg_fem.descent.solve import LIMIT, Descent, LagrangeGalerkin, Particles
from mfg_fem.mesh.around import mesh_around
from mfg_fem.problem.samples import Samples
from mfg_fem.problem.shared import SharedControl
from mfg_fem.resnet.fit import fit
from mfg_fem.resnet.head import LogisticLoss, fixed_head, logistic_regression
from mfg_fem.resnet.report import FoldingLayers
from mfg_fem.solve import solve
from mfg_fem.validate import choice, count, number

try:  # scikit-learn 1.6 and later
    from sklearn.utils.validation import validate_data
except ImportError:

    def validate_data(estimator, *arrays, **options):
        """The method that earlier versions have in its place."""
        return estimator._validate_data(*arrays, **options)


HALF_WIDTH = 1.8  # of the box, for data within the unit ball
NEGLIGIBLE = 1e-3  # a smaller share of another class is left out
BLURRED = {2: 2000, 3: 8000}  # points at least, by dimension, that blurred samples become


class MeanFieldClassifier(
    ClassNamePrefixFeaturesOutMixin, ClassifierMixin, TransformerMixin, BaseEstimator
):
    """Residual network whose layers follow the field that solves a mean-field control problem.

    The flow lives on a mesh, so it has two or three dimensions: data with more features go
    through `projection` first, and what that loses is lost. The field is a local optimum, or what
    the descent had when it came to `max_it` (a ConvergenceWarning says so). Layers may fold, and
    the network is no flow then (a FoldingLayers warning): for labels that does no harm.

    Far from the training data the network is certain of its answer, as every tanh network is,
    without any data there: two to ten radii away the most probable class had .93 to .99.

    Args:
        layers: steps of the control problem and layers of the network.
        width: neurons in each layer.
        noise: amplitude of the noise in the layers that the field is solved for, in units of the
            standardised data's radius; the network then loses information but withstands noise.
        blur: standard deviation of the Gaussian put around each sample, for data of radius 1: the
            classes are then kernel density estimates, which helps where the samples are few.
        dimension: 2 or 3, of the flow; 3 lets it lift classes that enclose each other.
        projection: "pca", a transformer with fit and transform (its output has at most `dimension`
            columns), or None, which refuses data with more features than `dimension`.
        effort: cost of moving; small effort separates well.
        regularisation: cost of a rough field.
        smoothing_length: length below which the field is smoothed, for data of radius 1.
        cells: cells along a side of the mesh.
        max_it: iterations of the descent.
        polish: end-to-end steps after the fit of the layers (see `mfg_fem.resnet.fit`).
        random_state: seed of the blur and of the fit's random features.

    Attributes:
        classes_: the labels.
        n_features_in_: number of features seen in fit.
        resnet_: the network, on projected coordinates.
        head_: the logistic regression behind it.
        projection_: from data to the network's coordinates.
        report_: reports of the control problem's solution and of the layers on the training points.
        n_iter_: iterations of the descent.
    """

    def __init__(
        self,
        layers=10,
        width=16,
        *,
        noise=0.0,
        blur=0.03,
        dimension=2,
        projection="pca",
        effort=1e-2,
        regularisation=1e-5,
        smoothing_length=0.2,
        cells=50,
        max_it=200,
        polish=0,
        random_state=None,
    ):
        self.layers = layers
        self.width = width
        self.noise = noise
        self.blur = blur
        self.dimension = dimension
        self.projection = projection
        self.effort = effort
        self.regularisation = regularisation
        self.smoothing_length = smoothing_length
        self.cells = cells
        self.max_it = max_it
        self.polish = polish
        self.random_state = random_state

    def fit(self, X, y):
        """Train on X, shape (n, features), and labels y, shape (n,)."""
        self._check_parameters()
        X, labels = take(self, X, y)
        self.projection_ = self._make_projection(X.shape[1])
        z = self._pad(self.projection_.fit_transform(X, y))
        self.center_ = (z.min(axis=0) + z.max(axis=0)) / 2
        if not self.blur and len(z) < self.dimension + 2:
            raise ValueError(
                f"n_samples={len(z)}: without blur, {self.dimension + 2} or more are needed in "
                f"{self.dimension} dimensions."
            )
        radius = np.linalg.norm(z - self.center_, axis=1).max()
        if not radius > 0:
            raise ValueError("All samples are the same point; there is nothing to tell apart.")
        self.radius_ = radius
        rng = check_random_state(self.random_state)
        samples = blurred(self._place(z), labels, self.blur, rng)
        seed = rng.randint(2**31 - 1)
        solution = self._control(samples)
        self.n_iter_ = len(solution.history) - 1
        options = {name: getattr(self, name) for name in ("layers", "width", "noise", "polish")}
        net = fit(solution, samples.points, seed=seed, **options)
        self.resnet_, facts = net, net.report()
        self.report_ = f"{solution.report}\n{facts}"
        self._warn(solution, facts)
        self.head_ = logistic_regression(net(samples.points), samples.shares, tol=1e-8)
        return self

    @property
    def _n_features_out(self) -> int:
        return self.dimension

    def _warn(self, solution, facts):
        """Say what is not as it should be."""
        if not solution.converged:
            first, last = (solution.history[k]["gradient"] for k in (0, -1))
            warnings.warn(
                f"The descent {solution.reason}, with the gradient at {last / first:.1e} of its "
                "first: the field is no local optimum to the tolerance."
                + (" A larger max_it may improve it." if solution.reason == LIMIT else ""),
                ConvergenceWarning,
                stacklevel=3,
            )
        if facts.folded:
            remedy = "more regularisation"
            if facts.field_folded:
                remedy += ", or more layers,"
            warnings.warn(
                f"Layers fold at {100 * facts.folded:.3g} % of the training points (smallest "
                f"singular value {facts.smallest_singular.min():.2g}), so the network is no flow: "
                f"it has no inverse there. If you need one, {remedy} may help.",
                FoldingLayers,
                stacklevel=3,
            )

    def transform(self, X):
        """What the network makes of X: shape (n, dimension)."""
        return self._transform(X)

    def _transform(self, X) -> np.ndarray:
        """The same as an array, where set_output makes scikit-learn wrap `transform`."""
        z = self.network_input(X)  # first, as it refuses where there is no network yet
        return self.resnet_(z)

    def network_input(self, X):
        """X in the coordinates that the network starts from: shape (n, dimension)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=float, reset=False)
        return self._place(self._pad(self.projection_.transform(X)))

    def predict_proba(self, X):
        """Probability of each class, shape (n, classes)."""
        z = self._transform(X)
        return self.head_.predict_proba(z)

    def decision_function(self, X):
        """Scores of the head: shape (n,) for two classes, (n, classes) for more."""
        z = self._transform(X)
        return self.head_.decision_function(z)

    def predict(self, X):
        """The most probable class of each row of X."""
        z = self._transform(X)
        return self.classes_[self.head_.predict(z)]

    def _check_parameters(self):
        for name in ("layers", "width", "cells", "max_it"):
            count(name, getattr(self, name))
        count("polish", self.polish, 0)
        for name in ("effort", "regularisation", "smoothing_length"):
            number(name, getattr(self, name), above=True)
        for name in ("noise", "blur"):
            number(name, getattr(self, name))
        choice("dimension", self.dimension, (2, 3))

    def _make_projection(self, features: int):
        if features <= self.dimension or self.projection is None:
            if features > self.dimension:
                raise ValueError(
                    f"X has {features} features and the flow {self.dimension} dimensions. Use "
                    "projection='pca', a transformer of your own, or select features first."
                )
            return make_pipeline(StandardScaler(), FunctionTransformer())
        if isinstance(self.projection, str):
            if self.projection != "pca":
                raise ValueError(
                    f"projection must be 'pca', a transformer or None, not {self.projection!r}."
                )
            # fewer samples than coordinates leave some of them empty
            return make_pipeline(StandardScaler(), _PaddedPCA(self.dimension))
        return make_pipeline(StandardScaler(), clone(self.projection), StandardScaler())

    def _pad(self, z):
        if z.shape[1] > self.dimension:
            raise ValueError(
                f"projection gives {z.shape[1]} columns; the flow has {self.dimension} dimensions."
            )
        return np.pad(z, ((0, 0), (0, self.dimension - z.shape[1])))

    def _place(self, z):
        """Into the box: the training data fill a ball of radius 1 in its middle."""
        return (z - self.center_) / self.radius_ + HALF_WIDTH

    def _control(self, samples: Samples):
        domain = mesh_around(self.dimension, HALF_WIDTH, self.cells, MPI.COMM_SELF)
        middle = np.full(self.dimension, HALF_WIDTH)
        head = fixed_head(samples.points - middle, samples.shares)
        problem = SharedControl(
            domain,
            densities=samples,
            terminal_costs=[
                LogisticLoss(domain.mesh, *head, middle, c) for c in range(len(samples))
            ],
            diffusion=self.noise**2 / 2,
            effort=self.effort,
            regularisation=self.regularisation,
            smoothing_length=self.smoothing_length,
        )
        # Densities know the noise exactly, particles only the part of it that was drawn; without
        # noise particles are exact, and densities spread on the mesh.
        scheme = LagrangeGalerkin() if self.noise else Particles()
        return solve(problem, self.layers, scheme, Descent(max_it=self.max_it))


def take(classifier, X, y) -> tuple[np.ndarray, np.ndarray]:
    """Check what a classifier is to fit and set its `classes_`; returns X and labels 0, 1, ..."""
    X, y = validate_data(classifier, X, y, dtype=float, ensure_min_samples=2)
    check_classification_targets(y)
    classifier.classes_, labels = np.unique(y, return_inverse=True)
    if len(classifier.classes_) < 2:
        raise ValueError(
            f"The labels hold one class only ({classifier.classes_[0]!r}); a classifier needs two."
        )
    return X, labels


def blurred(z: np.ndarray, labels: np.ndarray, blur: float, rng) -> Samples:
    """The samples z in the box or, with blur, points drawn from the density they are blurred to.

    A drawn point has of each class what Bayes' rule gives it at its place, not all of the class of
    the sample it was drawn around: where classes overlap, a fine field would follow the noise of
    drawn labels.
    """
    classes = np.eye(labels.max() + 1)
    if not blur:
        return Samples(z, classes[labels])
    copies = -(-BLURRED[z.shape[1]] // len(z))
    offset = blur * rng.standard_normal((copies * len(z), z.shape[1]))
    points = np.repeat(z, copies, axis=0) + offset * (np.ptp(z, axis=0) > 0)
    points = np.clip(points, 0.0, 2 * HALF_WIDTH)  # a coordinate that is empty stays so
    logs = np.empty((len(points), len(classes)))
    for c in range(len(classes)):
        own = z[labels == c]
        density = KernelDensity(bandwidth=blur, rtol=1e-4).fit(own)
        logs[:, c] = np.log(len(own)) + density.score_samples(points)
    posterior = softmax(logs, axis=1)
    others = np.repeat(classes[labels], copies, axis=0) == 0
    posterior[others & (posterior < NEGLIGIBLE)] = 0.0
    return Samples(points, posterior / posterior.sum(axis=1, keepdims=True))


class _PaddedPCA(PCA):
    """PCA to at most so many coordinates: fewer where the data have fewer samples."""

    def fit_transform(self, X, y=None):
        """Fit and transform."""
        self.set_params(n_components=min(self.n_components, *X.shape))
        return super().fit_transform(X, y)
