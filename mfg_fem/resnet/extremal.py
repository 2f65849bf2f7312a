"""The solution of a Pontryagin problem: states, costates, and the energy along the layers."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpi4py import MPI

import numpy as np
from scipy.sparse.linalg import LinearOperator, eigsh
from scipy.special import softmax

from mfg_fem.errors import ProblemError
from mfg_fem.flows.field import VelocityField
from mfg_fem.resnet import store
from mfg_fem.resnet.mechanics import NoMiddle, Pass, at_times, resampled
from mfg_fem.resnet.minimise import PART
from mfg_fem.resnet.network import ResNet
from mfg_fem.validate import array, count, number

if TYPE_CHECKING:
    from mfg_fem.resnet.pontryagin import Pontryagin

FINER = 8  # explicit blocks to a midpoint layer, in `network`
ASYMPTOTIC = 0.1  # prediction and measurement differ by less where the steps are fine enough


@dataclass(frozen=True, eq=False)
class PontryaginSolution:
    """A network that solves its optimal-control problem: see `Pontryagin`.

    With p_k = dJ/dx_k, summed over the samples, the energy of the mechanical system (x, theta) is

        E = -p.f - effort |theta|^2 / 2 + smoothness |theta'|^2 / 2,

    a constant along an extremal of Pontryagin's equations: how far it is from one measures the
    layers. In the form "block", backward error analysis has the part of first order: what is
    nearly constant is E + c, c_k = (p_{k+1} - p_k).(x_{k+1} - x_k) / (2 dt). Spreads are relative
    to the mean of effort |theta|^2 / 2 over the layers, as E may be near 0.

    Attributes:
        problem: what was solved.
        theta: parameters (V, W, b, c) of each layer, shape (K, (2 d + 1) w + d); see `arrays`.
        head: A, then a.
        converged, reason, history: how the descent ended, and its iterations.
    """

    problem: "Pontryagin"
    theta: np.ndarray
    head: np.ndarray
    converged: bool
    reason: str
    history: list[dict]

    # Along the layers

    @cached_property
    def _along(self) -> dict[str, Any]:
        """States, costates, loss, and the sums over the samples at each layer."""
        problem, shape = self.problem, self.problem.shape
        x, y = problem.network_input(problem.X), problem.goals()
        states, costates, scores = [], [], []
        power, correction, loss = np.zeros(shape.layers), np.zeros(shape.layers), 0.0
        for first in range(0, len(x), PART):
            part = slice(first, first + PART)
            one = self._passed(x[part], y[part])
            p, *_ = one.back()
            states.append(np.array([x[part], *(layer.x for layer in one.layers)]))
            costates.append(p)
            scores.append(one.scores)
            power += [np.sum(layer.q * layer.f) for layer in one.layers]
            moved = np.diff(states[-1], axis=0)
            correction += np.sum(np.diff(p, axis=0) * moved, axis=(1, 2)) / (2 * shape.dt)
            loss += one.value
        found = {"states": states, "costates": costates, "scores": scores}
        joined = {k: np.concatenate(v, axis=v[0].ndim - 2) for k, v in found.items()}
        return joined | {"power": power, "correction": correction, "loss": loss}

    def _passed(self, x: np.ndarray, y: np.ndarray) -> Pass:
        problem = self.problem
        arguments = self.theta, self.head, x, y, 1 / len(problem.X)
        try:
            return Pass(problem.shape, problem.loss, *arguments)
        except NoMiddle as error:
            raise ProblemError(
                f"The steps of {problem.layers} implicit layers are too long: {error}. Take more."
            ) from error

    @property
    def states(self) -> np.ndarray:
        """The x_k of the samples, standardised, shape (K + 1, n, d)."""
        return self._along["states"]

    @property
    def costates(self) -> np.ndarray:
        """Their p_k = dJ/dx_k, shape (K + 1, n, d)."""
        return self._along["costates"]

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """V (K, d, w), W (K, w, d), b (K, w) and c (K, d)."""
        return dict(zip("VWbc", self.problem.shape.arrays(self.theta), strict=True))

    @cached_property
    def times(self) -> np.ndarray:
        """The middles of the layers, where the energy is: shape (K,)."""
        return (np.arange(self.problem.layers) + 0.5) * self.problem.shape.dt

    @cached_property
    def rate(self) -> np.ndarray:
        """The rates theta' between layers, shape (K - 1, parameters of a layer)."""
        return np.diff(self.theta, axis=0) / self.problem.shape.dt

    @cached_property
    def energy(self) -> np.ndarray:
        """E of each layer, shape (K,), with the mean of theta' before and after; 0 at both ends."""
        p, ends = self.problem, np.pad(self.rate, ((1, 1), (0, 0)))
        squares = np.sum((ends[1:] + ends[:-1]) ** 2, axis=1) / 4
        effort = p.effort * np.sum(self.theta**2, axis=1)
        return (p.smoothness * squares - effort) / 2 - self._along["power"]

    @property
    def correction(self) -> np.ndarray | None:
        """The c of each layer that `modified_energy` adds; None in the form "midpoint"."""
        return self._along["correction"] if self.problem.form == "block" else None

    @property
    def modified_energy(self) -> np.ndarray | None:
        """E + c; None in the form "midpoint"."""
        return None if self.correction is None else self.energy + self.correction

    @property
    def drift(self) -> float:
        """Spread of the energy, relative to the mean effort."""
        return self._relative(self.energy)

    @property
    def predicted(self) -> float | None:
        """What backward error analysis expects of it: the spread of the correction."""
        return None if self.correction is None else self._relative(self.correction)

    @property
    def modified_drift(self) -> float | None:
        """Spread of the modified energy, likewise."""
        return None if self.modified_energy is None else self._relative(self.modified_energy)

    def _relative(self, values: np.ndarray) -> float:
        effort = self.problem.effort / 2 * np.mean(np.sum(self.theta**2, axis=1))
        return float(np.ptp(values) / effort) if effort else 0.0

    # What came out

    @property
    def loss(self) -> float:
        """The mean loss of the samples."""
        return self._along["loss"]

    @cached_property
    def cost(self) -> float:
        """J: loss, effort and smoothness."""
        p, dt = self.problem, self.problem.shape.dt
        effort = p.effort / 2 * (dt * np.sum(self.theta**2) + np.sum(self.head**2))
        return float(self.loss + effort + p.smoothness / 2 * dt * np.sum(self.rate**2))

    @property
    def largest_change(self) -> float:
        """The largest |theta_{k+1} - theta_k|: of the order 1/K where theta(t) is smooth."""
        return float(np.abs(np.diff(self.theta, axis=0)).max())

    @cached_property
    def curvature(self) -> float:
        """Smallest eigenvalue of the Hessian, in the norm of effort and smoothness.

        The effort alone has 1. A positive one certifies a strict minimum, with no conjugate point;
        it takes about a hundred products with the Hessian.
        """
        objective = self.problem.objective(MPI.COMM_SELF)
        z = objective.unknowns(self.theta, self.head)
        size = 2 * (z.size,)
        operator = LinearOperator(size, lambda v: objective.product(z, v.ravel()), dtype=float)
        start = np.random.default_rng(0).standard_normal(z.size)
        found = eigsh(operator, 1, which="SA", v0=start, tol=1e-4, return_eigenvectors=False)
        return float(found[0])

    def layers_for(self, tol: float) -> int:
        """Layers at which the drift would be tol: K drift / tol, with the root for "midpoint".

        Where `asymptotic` is False, estimate again at that number.
        """
        ratio = self.drift / number("tol", tol, above=True)
        order = 1 if self.problem.form == "block" else 2
        return max(int(np.ceil(self.problem.layers * ratio ** (1 / order))), 2)

    @property
    def asymptotic(self) -> bool | None:
        """Whether drift and prediction agree within a tenth; None in the form "midpoint"."""
        if self.predicted is None:
            return None
        return bool(abs(self.predicted - self.drift) <= ASYMPTOTIC * self.drift)

    def transform(self, X: np.ndarray) -> np.ndarray:
        """The states after the last layer, shape (n, d)."""
        x, logistic = self.problem.network_input(X), self.problem.loss == "logistic"
        y = np.zeros(len(x), int) if logistic else np.zeros((len(x), 1))
        parts = (slice(first, first + PART) for first in range(0, len(x), PART))
        return np.concatenate([x[:0], *(self._passed(x[part], y[part]).end for part in parts)])

    def outputs(self, X: np.ndarray) -> np.ndarray:
        """A x_K + a: scores of the classes, or targets in their units. Shape (n, C)."""
        mean, scale = self.problem.target_units
        A, a = self.problem.shape.head(self.head)
        return mean + scale * (self.transform(X) @ A.T + a)

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The most probable label, shape (n,); or the targets, shape (n, C)."""
        found = self.outputs(X)
        return found.argmax(axis=1) if self.problem.loss == "logistic" else found

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Probability of each class, shape (n, C)."""
        if self.problem.loss != "logistic":
            raise ProblemError("predict_proba needs classes: loss='logistic'.")
        return softmax(self.outputs(X), axis=1)

    def score(self, X: np.ndarray, y: np.ndarray) -> float:
        """Accuracy; or 1 - the mean square error of all targets over their variance (R^2)."""
        if self.problem.loss == "logistic":
            return float(np.mean(self.predict(X) == array("y", y, (len(X),))))
        y = np.reshape(y, (len(X), -1))
        return float(1 - np.sum((self.predict(X) - y) ** 2) / np.sum((y - y.mean(axis=0)) ** 2))

    # The same theta(t) elsewhere

    def resample(self, layers: int) -> "PontryaginSolution":
        """The same theta(t) in another number of layers, without training.

        It is linear between the middles of the layers, and constant beyond.
        """
        problem = replace(self.problem, layers=count("layers", layers, 2), comm=MPI.COMM_SELF)
        theta = resampled(self.theta, layers)
        reason = f"resampled from {self.problem.layers} layers"
        return PontryaginSolution(problem, theta, self.head, False, reason, [])

    def network(self, layers: int | None = None) -> ResNet:
        """The layers as a ResNet, which has to_torch, to_onnx and save.

        It maps `problem.network_input(X)` to the last states; the head is `head`. By default the
        form "block" is it exactly. A midpoint layer is no explicit block: 8 blocks of the same
        theta(t) stand for each, and differ by O(1 / blocks).

        Args:
            layers: another number of blocks.
        """
        finer = 1 if self.problem.form == "block" else FINER
        K = finer * self.problem.layers if layers is None else count("layers", layers)
        V, W, b, c = self.problem.shape.arrays(resampled(self.theta, K))
        return ResNet(self.problem.horizon, c, V, W, b)

    @property
    def net(self) -> ResNet:
        """The network of the default number of layers."""
        return self.network()

    def velocity_field(self) -> VelocityField:
        """The field f(x, theta(t)) on standardised states: for `fit` and `recommend`."""
        shape, K = self.problem.shape, self.problem.layers

        def velocity(x, t):
            (theta,) = at_times(self.theta, np.array([t / self.problem.horizon]))
            V, W, b, c = shape.arrays(theta)
            return np.tanh(x @ W.T + b) @ V.T + c

        return VelocityField.from_callable(
            velocity, dim=shape.dim, horizon=self.problem.horizon, steps=K
        )

    def save(self, path: str | Path) -> None:
        """Write everything as .npz of numpy: the data, the settings and the parameters."""
        store.write(self, path)

    @staticmethod
    def load(path: str | Path) -> "PontryaginSolution":
        """Read what `save` wrote.

        Raises:
            FileError: the file is missing, damaged or something else.
        """
        return store.read(path)

    @property
    def report(self) -> str:
        """A page of numbers. `print(solution)` prints it."""
        p, last = self.problem, self.history[-1:]
        quality = self.score(p.X, p.y)
        word = "training accuracy" if p.loss == "logistic" else "training R^2"
        lines = [
            f"Pontryagin: {p.layers} {p.form} layers of width {p.width} in {p.shape.dim}D, "
            f"{len(p.X)} samples",
            f"  {'cost':<22} {self.cost:.6g}, of which loss {self.loss:.3g}",
            f"  {word:<22} {quality:.4f}",
            f"  {'descent':<22} {self.reason}",
        ]
        if last:
            (row,) = last
            iterations = sum(row["step"] > 0 for row in self.history)
            lines.append(f"  {'gradient':<22} {row['gradient']:.1e} after {iterations} iterations")
        lines.append(
            f"  {'energy':<22} {self.energy.mean():.4g}, spread {self.drift:.2e} of effort"
        )
        if self.predicted is not None:
            lines.append(
                f"  {'  by backward error':<22} predicted {self.predicted:.2e}, of the modified "
                f"energy {self.modified_drift:.2e}"
            )
        rate = np.abs(self.rate).max()
        lines.append(f"  {'largest |theta_t|':<22} {rate:.3g}")
        if p.smoothness:
            again = "" if self.asymptotic is not False else "; solve there and estimate again"
            lines.append(f"  {'layers for 1 % spread':<22} {self.layers_for(0.01)}{again}")
        else:
            lines.append("  smoothness = 0: the limit of many layers is ill posed")
        return "\n".join(lines)

    def __str__(self) -> str:
        """The report."""
        return self.report
