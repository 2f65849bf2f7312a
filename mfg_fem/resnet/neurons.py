"""One layer of neurons fitted to data by variable projection.

    min over W, b of min over V, c of  (1/n) sum_i |V tanh(W x_i + b) + c - y_i|^2 + ridge |V|^2

The inner problem is linear. The outer one is solved by Levenberg-Marquardt with the Jacobian of
Kaufman 1975 (its gradient is exact, Golub-Pereyra 1973). The normal matrix is formed without the
Jacobian of n d rows itself: 30 steps for 16 or 32 neurons on 1000 points take less than half the
time of MINPACK's (scipy.optimize.least_squares), and came lower. It starts from random features
taken from the data (Bolager et al. 2023): neurons that turn between two points where y differs.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import solve_triangular

# Largest sum of |V| in a row, for y of unit variance. A few neurons gain a little by almost
# cancelling each other: at width 4 the sums reached 240 for a misfit one tenth smaller. In float32
# the rounding of the features (6e-8) comes out times V: eight layers were wrong by 2e-6.
HEAVIEST = 24.0


@dataclass(frozen=True)
class Task:
    """What is to be fitted: data of unit variance, and how far neurons may go."""

    z: np.ndarray  # points and a column of ones, (n, d + 1)
    y: np.ndarray  # values, (n, d)
    ridge: float
    steepest: float = np.inf


@dataclass(frozen=True)
class Neurons:
    """V tanh(W x + b) + c, with V (d, m), W (m, d), b (m), c (d)."""

    V: np.ndarray
    W: np.ndarray
    b: np.ndarray
    c: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Values at points, shape (n, d)."""
        return np.tanh(x @ self.W.T + self.b) @ self.V.T + self.c


@dataclass(frozen=True)
class Point:
    """An iterate of the outer problem: features, linear coefficients and what they leave."""

    theta: np.ndarray  # (m, d + 1), rows (w, b)
    phi: np.ndarray  # (n, m)
    Q: np.ndarray  # orthonormal basis of the features on the data, (n, m + 1)
    coefficients: np.ndarray  # (m + 1, d): V transposed, then c
    r: np.ndarray  # residual on the data, (n, d)
    cost: float  # with the ridge


def fit_neurons(
    x: np.ndarray,
    y: np.ndarray,
    width: int,
    rng: np.random.Generator,
    *,
    guess: Neurons | None = None,
    ridge: float = 1e-8,
    iterations: int = 30,
    heaviest: float = HEAVIEST,
    steepest: float = np.inf,
) -> Neurons:
    """Fit y ~ V tanh(W x + b) + c.

    Args:
        x: points, shape (n, d).
        y: values, shape (n, d).
        width: number m of neurons.
        rng: draws the random features.
        guess: neurons to try beside the random ones, for instance those of the layer before.
        ridge: weight of |V|^2, for x and y scaled to unit variance. Unless it is 0 it is raised
            until no row of V has a sum of |V| above `heaviest`.
        iterations: Levenberg-Marquardt steps of the final fit.
        heaviest: see ridge.
        steepest: largest length of a row of W, for x of unit variance.

    Returns:
        The best fit found. Widths up to 4 start from several places, so that they find the
        global minimum as far as a search can.
    """
    n, d = x.shape
    centre, middle = x.mean(axis=0), y.mean(axis=0)
    x_size, y_size = _rms(x - centre) or 1.0, _rms(y - middle)
    if y_size <= 1e-14 * _rms(y):  # constant: no neuron is needed
        theta = _random_features(x, y, width, rng)
        return Neurons(np.zeros((d, width)), theta[:, :d], theta[:, d], middle)
    z = np.column_stack([(x - centre) / x_size, np.ones(n)])
    target = (y - middle) / y_size
    task = Task(z, target, ridge, steepest)

    wide = width > 4
    draws = [_random_features(z[:, :d], target, width, rng) for _ in range(8 if wide else 24)]
    starts = sorted((project(task, theta) for theta in draws), key=lambda p: p.cost)
    starts = starts[: 1 if wide else 6]
    if guess is not None:
        theta = np.column_stack([guess.W * x_size, guess.b + guess.W @ centre])
        starts.append(project(task, theta))
    short, tolerance = max(iterations // 3, 1), 1e-3 if wide else 1e-5
    tried = [_levenberg_marquardt(task, p, short, tolerance) for p in starts]
    best = min(tried, key=lambda p: p.cost)
    best = _levenberg_marquardt(task, best, iterations - short, tolerance)
    while ridge and np.abs(best.coefficients[:-1]).sum(axis=0).max() > heaviest:
        task = replace(task, ridge=4 * task.ridge)
        best = _levenberg_marquardt(task, project(task, best.theta), iterations, tolerance)

    W = best.theta[:, :d] / x_size
    b = best.theta[:, d] - W @ centre
    V, c = best.coefficients[:-1].T * y_size, best.coefficients[-1] * y_size + middle
    return Neurons(V, W, b, c)


def project(task: Task, theta) -> Point:
    """Solve the linear problem for V and c: QR of the features above the ridge rows."""
    z, y, ridge = task.z, task.y, task.ridge
    (n, _), m = z.shape, len(theta)
    length = np.linalg.norm(theta[:, :-1], axis=1, keepdims=True)
    theta = theta * np.minimum(1, task.steepest / (length + 1e-300))  # turns where it did
    phi = np.tanh(z @ theta.T)
    A = np.zeros((n + m, m + 1))
    A[:n, :m], A[:n, m] = phi, 1.0
    A[n:, :m] = np.sqrt(n * ridge) * np.eye(m)
    Q, R = np.linalg.qr(A)
    right = Q[:n].T @ y
    diagonal = np.abs(np.diagonal(R))
    if diagonal.min() <= 1e-14 * diagonal.max():  # only without a ridge
        coefficients = np.linalg.lstsq(A[:n], y, rcond=1e-13)[0]
    else:
        coefficients = solve_triangular(R, right)
    r = A[:n] @ coefficients - y
    cost = (np.sum(r**2) / n + ridge * np.sum(coefficients[:-1] ** 2)) / 2
    return Point(theta, phi, Q[:n], coefficients, r, float(cost))


def normal_equations(z: np.ndarray, p: Point) -> tuple[np.ndarray, np.ndarray]:
    """J^T J and the gradient of the cost in theta, J the Kaufman Jacobian: P times d(phi) V."""
    n = len(p.phi)
    slope = 1 - p.phi**2
    D = (slope[:, :, None] * z[:, None, :]).reshape(n, -1)  # columns (neuron, input)
    inputs = z.shape[1]
    gram, shadow = D.T @ D, p.Q.T @ D
    gram -= shadow.T @ shadow  # the projection on what V and c cannot do
    V = np.repeat(p.coefficients[:-1], inputs, axis=0)  # (m inputs, d)
    gradient = np.sum((D.T @ p.r) * V, axis=1)
    return gram * (V @ V.T) / n, gradient / n


def _levenberg_marquardt(task: Task, p: Point, iterations, tolerance) -> Point:
    """Go down until the cost falls by less than the tolerance, relatively, in a step."""
    damping, shape = 1e-3, p.theta.shape
    for _ in range(iterations):
        H, g = normal_equations(task.z, p)
        scale = np.maximum(np.diagonal(H), 1e-12 * max(H.max(), 1e-300))
        before = p
        for _ in range(8):
            step = np.linalg.solve(H + np.diag(damping * scale), -g)
            trial = project(task, p.theta + step.reshape(shape))
            if trial.cost < p.cost:
                damping = max(damping / 5, 1e-12)
                p = trial
                break
            damping *= 4
        if p is before or before.cost - p.cost <= tolerance * p.cost:
            break
    return p


def _random_features(x, y, width, rng) -> np.ndarray:
    """Rows (w, b): tanh goes from -1/2 to 1/2 between two data points where y differs much."""
    n, d = x.shape
    size = _rms(x - x.mean(axis=0)) or 1.0
    one, other = rng.integers(n, size=(2, 16 * width + 64))
    way, change = x[other] - x[one], np.linalg.norm(y[other] - y[one], axis=1)
    length = np.linalg.norm(way, axis=1)
    near = np.maximum(length, 0.2 * size)  # closer pairs would make jumps
    rate = change / near + 1e-12
    pick = rng.choice(len(rate), size=width, p=rate / rate.sum())
    way, length, near = way[pick], length[pick, None], near[pick, None]
    random = rng.standard_normal((width, d))
    unit = np.where(length > 0, way / np.where(length > 0, length, 1.0), random)
    W = np.log(3) * unit / near
    b = -np.sum(W * (x[one[pick]] + way / 2), axis=1)
    return np.column_stack([W, b])


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.sum(values**2, axis=-1))))
