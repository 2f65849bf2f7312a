"""The fixed linear head that the classes are moved for: its logistic loss as a terminal cost."""

import numpy as np
from sklearn.linear_model import LogisticRegression

import ufl
from dolfinx import fem

SHARPNESS = 6.0  # a point at distance 1 is in its class with odds e^6 or more
CONFINEMENT = 0.05  # weight of |x|^2 in the terminal cost: logistic loss alone pulls to infinity


class LogisticLoss:
    """Terminal cost of class c, in UFL and, where particles end, at points:

        Phi_c(x) = -log softmax(A (x - middle) + b)_c + CONFINEMENT |x - middle|^2.

    Phi_c is convex, so its P1 interpolant lies above it, the more the sharper the head and the
    coarser the mesh: by 44 % for ten digits in 3D on 18 cells a side.

    Args:
        mesh: of DOLFINx, for the constants.
        weights: A, shape (classes, d).
        biases: b, shape (classes,).
        middle: shape (d,).
        label: the class c.
    """  # noqa: D415

    def __init__(self, mesh, weights: np.ndarray, biases: np.ndarray, middle: np.ndarray, label):
        self.mesh, self.label = mesh, label
        self.weights, self.biases, self.middle = weights, biases, middle

    def __call__(self, x):
        """Phi_c as a UFL expression."""
        A = [fem.Constant(self.mesh, np.ascontiguousarray(a)) for a in self.weights]
        b = [fem.Constant(self.mesh, float(bias)) for bias in self.biases]
        away, c = x - fem.Constant(self.mesh, self.middle), self.label
        over = [ufl.exp(ufl.dot(A[k] - A[c], away) + b[k] - b[c]) for k in range(len(A))]
        return ufl.ln(sum(over)) + CONFINEMENT * ufl.dot(away, away)

    def at(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Phi_c and its gradient at points (n, d): shapes (n,) and (n, d)."""
        away, c = points - self.middle, self.label
        scores = away @ self.weights.T + self.biases
        scores -= scores[:, c : c + 1]
        top = scores.max(axis=1, keepdims=True)
        over = np.exp(scores - top)
        total = over.sum(axis=1, keepdims=True)
        value = (np.log(total) + top)[:, 0] + CONFINEMENT * np.sum(away**2, axis=1)
        slope = over / total @ (self.weights - self.weights[c])
        return value, slope + 2 * CONFINEMENT * away


def logistic_regression(z: np.ndarray, shares: np.ndarray, **options) -> LogisticRegression:
    """Fitted to points z, (n, d), that belong to the classes in parts, shares (n, classes)."""
    rows, labels = np.nonzero(shares)
    model = LogisticRegression(C=100.0, max_iter=10_000, **options)
    return model.fit(z[rows], labels, sample_weight=shares[rows, labels])


def fixed_head(z: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (classes, d) and biases (classes,) of the fixed head, on z from the middle.

    Two classes: opposite directions, along the line through their means. More: those of logistic
    regression, so that at v = 0 the loss is what a linear classifier reaches, and made sharper
    where the classes overlap so much that it can tell little.
    """
    if shares.shape[1] == 2:
        means = shares.T @ z / shares.sum(axis=0)[:, None]
        axis = means[1] - means[0]
        size = np.linalg.norm(axis)
        axis = axis / size if size > 0 else np.eye(z.shape[1])[0]
        return SHARPNESS / 2 * np.stack([-axis, axis]), np.zeros(2)
    linear = logistic_regression(z, shares)
    size = np.linalg.norm(linear.coef_, axis=1).mean()
    grow = max(1.0, SHARPNESS / size) if size > 0 else 1.0
    return grow * linear.coef_, grow * linear.intercept_
