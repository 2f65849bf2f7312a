"""Layers of one residual block each, as a discrete mechanical system: maps and two derivatives.

    xi_k = x_k + h f(xi_k, theta_k),    x_{k+1} = x_k + dt f(xi_k, theta_k),
    f(x, theta) = V tanh(W x + b) + c,

with h = 0 in the form "block", the explicit residual block, and h = dt / 2 in the form "midpoint",
where xi_k is the middle (x_k + x_{k+1}) / 2. The costates p_k = dJ/dx_k come from

    q_k = p_{k+1} + h Df_k^T q_k,       p_k = p_{k+1} + dt Df_k^T q_k,

which is backpropagation, and at the same time a step of the adjoint equation p' = -Df^T p: both
together are the symplectic Euler method and the midpoint rule for Pontryagin's equations.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp, softmax

FORMS = ("midpoint", "block")
NEWTON = 20  # steps for the middles of a layer at most; four are enough if dt |Df| < 1
HALVINGS = 6  # of a step that does not lower the residual of a point
CLOSE = 1e-13  # residual of the middles, relative to the size of what they are made of


class NoMiddle(ArithmeticError):
    """The equation of a midpoint has no solution that Newton finds: dt |Df| is too large."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a network: dimension d, width w, classes or targets C, layers K, and its steps.

    Attributes:
        dt, half: dt and h above.
    """

    dim: int
    width: int
    outputs: int
    layers: int
    dt: float
    half: float

    @property
    def of_layer(self) -> int:
        """Number of the parameters of a layer."""
        return (2 * self.dim + 1) * self.width + self.dim

    @property
    def of_head(self) -> int:
        """Number of the parameters of the head."""
        return self.outputs * (self.dim + 1)

    def arrays(self, theta: np.ndarray) -> list[np.ndarray]:
        """V (d, w), W (w, d), b (w), c (d) of parameters (..., of_layer), not copied."""
        d, w = self.dim, self.width
        V, W, b, c = np.split(theta, np.cumsum([d * w, w * d, w]), axis=-1)
        return [V.reshape(*V.shape[:-1], d, w), W.reshape(*W.shape[:-1], w, d), b, c]

    def head(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A (C, d) and a (C) of the parameters of the head, not copied."""
        A = parameters[: self.outputs * self.dim].reshape(self.outputs, self.dim)
        return A, parameters[A.size :]


class Layer:
    """One layer at points: where they go, and what is needed to come back.

    Args:
        shape: sizes.
        theta: parameters, shape (of_layer,).
        x: points, shape (n, d).

    Attributes:
        xi, f, x: middles, velocities and images, shape (n, d).
    """

    def __init__(self, shape: Shape, theta: np.ndarray, x: np.ndarray):
        self.shape = shape
        self.V, self.W, self.b, self.c = shape.arrays(theta)
        self.inverse: np.ndarray | None = None  # of I - h Df
        if shape.half and len(x):
            self._find_middles(x)
        else:
            self._evaluate(x)
        self.x = x + shape.dt * self.f

    def _evaluate(self, xi: np.ndarray):
        self.xi, self.h = xi, np.tanh(xi @ self.W.T + self.b)
        self.slope, self.f = 1 - self.h**2, self.h @ self.V.T + self.c

    def _find_middles(self, x: np.ndarray):
        """Newton's method for all points at once, with steps halved at points where it fails."""
        self._evaluate(x)
        rest = -self.shape.half * self.f
        size = np.abs(rest).max(axis=1)
        close = CLOSE * (np.abs(x).max() + size.max())
        for _ in range(NEWTON):
            inverse = self._invert()
            if size.max() <= close:
                return
            start, step, length = self.xi, _product(inverse, rest), np.ones((len(x), 1))
            for _ in range(HALVINGS):
                self._evaluate(start - length * step)
                rest = self.xi - x - self.shape.half * self.f
                found = np.abs(rest).max(axis=1)
                worse = found > np.maximum(size, close)
                if not worse.any():
                    break
                length[worse] /= 2
            size = found
        raise NoMiddle(f"residual {size.max():.1e} after {NEWTON} steps of Newton")

    def _invert(self) -> np.ndarray:
        products = self.V.T[:, :, None] * self.W[:, None, :]
        Df = np.tensordot(self.slope, products, axes=1)
        try:
            self.inverse = np.linalg.inv(np.eye(Df.shape[1]) - self.shape.half * Df)
        except np.linalg.LinAlgError as error:
            raise NoMiddle("I - h Df is singular") from error
        return self.inverse

    def back(self, p: np.ndarray) -> np.ndarray:
        """p_k for p_{k+1} = p; keeps q, and e = slope V^T q, of which all derivatives are made."""
        self.q = p if self.inverse is None else _product(self.inverse.transpose(0, 2, 1), p)
        self.force = self.q @ self.V
        self.e = self.force * self.slope
        return p + self.shape.dt * self.e @ self.W

    def gradient(self) -> np.ndarray:
        """Of J in the parameters, after `back`."""
        return self.shape.dt * _join(
            self.q.T @ self.h, self.e.T @ self.xi, self.e.sum(axis=0), self.q.sum(axis=0)
        )

    def tangent(self, v: np.ndarray, dx: np.ndarray) -> np.ndarray:
        """The change of x_{k+1} for changes v of the parameters and dx of x_k."""
        shape, (V, W, b, c) = self.shape, self.shape.arrays(v)
        forced = self.xi @ W.T + b
        f = (forced * self.slope) @ self.V.T + self.h @ V.T + c
        self.dxi = dx
        if self.inverse is not None:
            self.dxi = _product(self.inverse, dx + shape.half * f)
        self.dh = self.slope * (self.dxi @ self.W.T + forced)
        return dx + shape.dt * (self.dh @ self.V.T + self.h @ V.T + c)

    def back_tangent(self, v: np.ndarray, dp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Changes of p_k and of the gradient for v, after `tangent`, and for dp of p_{k+1}."""
        shape, (V, W, _, _) = self.shape, self.shape.arrays(v)
        de = self.q @ V * self.slope - 2 * self.force * self.h * self.dh
        dq = dp
        if self.inverse is not None:
            forced = dp + shape.half * (de @ self.W + self.e @ W)
            dq = _product(self.inverse.transpose(0, 2, 1), forced)
        de = de + dq @ self.V * self.slope
        gradient = _join(
            dq.T @ self.h + self.q.T @ self.dh,
            de.T @ self.xi + self.e.T @ self.dxi,
            de.sum(axis=0),
            dq.sum(axis=0),
        )
        return dp + shape.dt * (de @ self.W + self.e @ W), shape.dt * gradient


class Logistic:
    """-log softmax(s)_y of scores s for labels y in 0..C-1, and its derivatives."""

    def __init__(self, scores: np.ndarray, y: np.ndarray):
        self.probability = softmax(scores, axis=1)
        rows = np.arange(len(y))
        self.value = float(np.sum(logsumexp(scores, axis=1) - scores[rows, y]))
        self.slope = self.probability.copy()
        self.slope[rows, y] -= 1.0

    def change(self, ds: np.ndarray) -> np.ndarray:
        """Of the slope, for a change ds of the scores."""
        mean = np.sum(self.probability * ds, axis=1, keepdims=True)
        return self.probability * (ds - mean)


class Squares:
    """|s - y|^2 / 2 of scores s for targets y, and its derivatives."""

    def __init__(self, scores: np.ndarray, y: np.ndarray):
        self.slope = scores - y
        self.value = float(np.sum(self.slope**2) / 2)

    def change(self, ds: np.ndarray) -> np.ndarray:
        """Of the slope, for a change ds of the scores."""
        return ds


LOSSES: dict[str, type[Logistic] | type[Squares]] = {"logistic": Logistic, "squares": Squares}


class Pass:
    """Points through all layers and the head, and back.

    Args:
        shape: sizes.
        loss: "logistic" or "squares".
        theta: parameters of the layers, shape (K, of_layer).
        head: parameters of the head, shape (of_head,).
        x, y: points (n, d), and labels (n,) or targets (n, C).
        share: weight of a point, one over the number of all.

    Attributes:
        layers: the layers at the points.
        scores: A x_K + a, shape (n, C).
        value: the sum of the losses times the share.
    """

    def __init__(self, shape: Shape, loss: str, theta, head, x, y, share: float):
        self.shape, self.share, self.start, self.layers = shape, share, x, []
        for parameters in theta:
            self.layers.append(Layer(shape, parameters, x))
            x = self.layers[-1].x
        self.A, a = shape.head(head)
        self.end, self.scores = x, x @ self.A.T + a
        self.loss = LOSSES[loss](self.scores, y)
        self.value = share * self.loss.value

    def back(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Costates (K + 1, n, d), and the gradient in theta and in the head."""
        self.r = self.share * self.loss.slope
        p = [self.r @ self.A]
        for layer in reversed(self.layers):
            p.append(layer.back(p[-1]))
        gradient = np.array([layer.gradient() for layer in self.layers])
        return np.array(p[::-1]), gradient, _join(self.r.T @ self.end, self.r.sum(axis=0))

    def product(self, v: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The Hessian times (v, w), after `back`: changes of both gradients."""
        dx = np.zeros_like(self.start)
        for layer, change in zip(self.layers, v, strict=True):
            dx = layer.tangent(change, dx)
        A, a = self.shape.head(w)
        dr = self.share * self.loss.change(dx @ self.A.T + self.end @ A.T + a)
        dp, rows = dr @ self.A + self.r @ A, []
        for layer, change in zip(reversed(self.layers), v[::-1], strict=True):
            dp, row = layer.back_tangent(change, dp)
            rows.append(row)
        of_head = _join(dr.T @ self.end + self.r.T @ dx, dr.sum(axis=0))
        return np.array(rows[::-1]), of_head


def resampled(theta: np.ndarray, layers: int) -> np.ndarray:
    """Parameters of as many layers that read the same theta(t) in their middles."""
    return at_times(theta, (np.arange(layers) + 0.5) / layers)


def at_times(theta: np.ndarray, share: np.ndarray) -> np.ndarray:
    """theta(t), linear between the middles of its layers, at shares t / T: (shares, parameters)."""
    K = len(theta)
    place = np.clip(K * share - 0.5, 0, K - 1)
    k = np.minimum(place.astype(int), K - 2)
    weight = (place - k)[:, None]
    return (1 - weight) * theta[k] + weight * theta[k + 1]


def _product(matrices: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    return np.matmul(matrices, vectors[:, :, None])[:, :, 0]


def _join(*arrays: np.ndarray) -> np.ndarray:
    return np.concatenate([array.ravel() for array in arrays])
