# # Real data through a projection
#
# A flow on a mesh has two or three dimensions, data have more. Here they go through a projection
# first, and what it loses no classifier behind it gets back: the numbers compare classifiers *on
# the same projection*, and are no statement on the data themselves.
#
# | data | features | classes | projection |
# |---|---|---|---|
# | breast cancer | 30 | 2 | principal components, 2 |
# | wine | 13 | 3 | linear discriminants, 2 |
# | digits | 64 | 10 | linear discriminants, 3 |
#
# Projected classes overlap. A flow that parts the training samples to the last would follow their
# noise. So each sample is *blurred* to a Gaussian, and a point of it has of every class what Bayes'
# rule gives it there: the flow is that of kernel density estimates. The *effort* $\alpha$, what
# moving costs, hardly matters here from 0.01 to 1; $\alpha \to \infty$ leaves the plane as it is,
# and the head behind it is then logistic regression. The blur is chosen by cross-validation on the
# training part, as is k of k-nearest neighbours; Adam, on the same ResNet, stops where a fifth of
# the training part that it did not see is predicted best, and chooses its input noise there. The
# test part, 30 %, serves once.
#
# Discriminants part the points they were made from better than others, 64 features of 1257 digits
# above all. So the projection is a step of what is cross-validated: behind one that knows the
# labels of the part kept aside, too small a blur looks best. Adam has no second fit: its projection
# is that of the whole training part, as everybody's is in the end.

import argparse
import importlib.util
import json
import sys
import time
from pathlib import Path

import numpy as np
from classification import accuracies, on_one_rank, standard_error, train_by_adam
from matplotlib import rc_context
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mfg_fem.plots import STYLE
from mfg_fem.resnet import MeanFieldClassifier

DATA = {"breast cancer": load_breast_cancer, "wine": load_wine, "digits": load_digits}
PROJECTIONS = {
    "breast cancer": PCA(2),
    "wine": LinearDiscriminantAnalysis(n_components=2),
    "digits": LinearDiscriminantAnalysis(n_components=3),
}
BLURS = [0.08, 0.05, 0.02]  # where validation cannot tell, the first: the smoothest
# By dimension: ten digits overlap in three dimensions, and need a finer field than two classes.
SETTINGS = {
    2: dict(layers=4, width=24, cells=30, max_it=60, smoothing_length=0.4, effort=1.0),
    3: dict(layers=6, width=32, cells=22, max_it=150, smoothing_length=0.3, effort=0.1),
}
NEIGHBOURS = [1, 3, 5, 9, 15, 25]


def projected(name, *then):
    """The projection to standardised coordinates, and what follows it."""
    return make_pipeline(StandardScaler(), clone(PROJECTIONS[name]), StandardScaler(), *then)


def settings(name, changes):
    """Of the mean-field classifier; the layers and the width are Adam's too."""
    return SETTINGS[PROJECTIONS[name].n_components] | changes


def mean_field(name, seed, changes):
    """The estimator, its blur to be chosen by cross-validation."""
    dim = PROJECTIONS[name].n_components
    net = MeanFieldClassifier(dimension=dim, random_state=seed, **settings(name, changes))
    return GridSearchCV(projected(name, net), {"meanfieldclassifier__blur": BLURS}, cv=3)


def neighbours(name):
    """Nearest neighbours, their number to be chosen by cross-validation."""
    model = projected(name, KNeighborsClassifier())
    return GridSearchCV(model, {"kneighborsclassifier__n_neighbors": NEIGHBOURS}, cv=5)


def by_adam(X, y, seed, layers, width):
    """The same network by Adam: the best of three sizes of input noise."""
    known, kept, labels, wanted = train_test_split(
        X, y, test_size=0.2, random_state=seed, stratify=y
    )
    runs = [
        train_by_adam(
            (known, labels), (kept, wanted), layers, width, X.shape[1], noise, seed, steps=500
        )
        for noise in (0.0, 0.2, 0.5)
    ]
    return max(runs, key=lambda run: run.curve[:, 1].max())


def test_accuracies(name, split, changes, with_adam):
    """Accuracy of each classifier on the test part of one split, and seconds."""
    X, y = DATA[name](return_X_y=True)
    X, fresh, y, wanted = train_test_split(X, y, test_size=0.3, random_state=split, stratify=y)
    models = {
        "mean field": mean_field(name, split, changes),
        "logistic regression": projected(name, LogisticRegression()),
        "nearest neighbours": neighbours(name),
    }
    row, seconds = {}, {}
    for kind, model in models.items():
        start = time.process_time()
        row[kind] = model.fit(X, y).score(fresh, wanted)
        seconds[kind] = time.process_time() - start
    if with_adam:
        start = time.process_time()
        project = projected(name).fit(X, y)
        sizes = [settings(name, changes)[key] for key in ("layers", "width")]
        adam = by_adam(project.transform(X), y, split, *sizes)
        row["Adam"] = float(np.mean(adam.predict(project.transform(fresh)) == wanted))
        seconds["Adam"] = time.process_time() - start
    return row, seconds, models["mean field"].best_params_["meanfieldclassifier__blur"]


def main():
    """Split, train, print, draw."""
    parser = argparse.ArgumentParser(description="Breast cancer, wine and digits, projected.")
    parser.add_argument("--data", nargs="+", choices=list(DATA), default=list(DATA))
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--first", type=int, default=0, help="the first split's seed")
    parser.add_argument("--layers", type=int, help="instead of 4 or, for the digits, 6")
    parser.add_argument("--width", type=int, help="instead of 24 or 32")
    parser.add_argument("--out", default="results/real_data", type=Path)
    o = parser.parse_args([] if "ipykernel" in sys.argv[0] else None)
    with_adam = importlib.util.find_spec("torch") is not None
    if not with_adam:
        print("Adam is left out: torch is not installed")
    changes = {key: getattr(o, key) for key in ("layers", "width") if getattr(o, key)}
    found = {}
    splits = range(o.first, o.first + o.splits)
    for name in o.data:
        parts = [test_accuracies(name, s, changes, with_adam) for s in splits]
        found[name] = {kind: [row[kind] for row, *_ in parts] for kind in parts[0][0]}
        seconds = {kind: np.mean([s[kind] for _, s, _ in parts]) for kind in parts[0][1]}
        print(f"{name}: test accuracy, mean of {o.splits} splits, and CPU seconds with all choices")
        for kind, values in found[name].items():
            error = standard_error(values)
            mean = f"{100 * np.mean(values):6.2f} +- {100 * error:.2f} %"
            print(f"  {kind:22s}{mean} {seconds[kind]:8.1f} s")
        others = max(np.mean(v) for k, v in found[name].items() if k != "mean field")
        print(
            f"  mean field - best other {100 * (np.mean(found[name]['mean field']) - others):+.2f}"
        )
        print(f"  blurs chosen: {', '.join(str(chosen) for *_, chosen in parts)}", flush=True)
    o.out.mkdir(parents=True, exist_ok=True)
    (o.out / "accuracy.json").write_text(json.dumps(found, indent=2))
    with rc_context(STYLE):
        accuracies(found, o.out / "accuracy.png")


if __name__ == "__main__":
    on_one_rank(main)
