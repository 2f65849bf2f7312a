"""How well a network follows its field, measured on samples."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mfg_fem.errors import ProblemError
from mfg_fem.flows.field import LeavesDomain, VelocityField
from mfg_fem.mesh.locate import as_points, small_step
from mfg_fem.resnet.network import ResNet

QUANTILES = (0.5, 0.9, 0.99, 1.0)


class FoldingLayers(UserWarning):
    """Layers turn over at some points: the network is no invertible map, hence no flow."""


@dataclass(frozen=True, eq=False)
class FitReport:
    """Errors of a network against the exact flow X of its field.

    Attributes:
        rms, max: distance |x_k - X_k| after each layer, shape (K + 1,).
        errors: the distance at the end for each sample, shape (n,).
        quantiles: share of the samples -> their distance at the end.
        field_rms, field_max: |F_k(X_k) - (X_{k+1} - X_k) / dt| for each layer, shape (K,).
        dt_lip: largest norm of dt DF_k at the samples, shape (K,). Below 1 the layer is
            invertible there. None for leapfrog, whose layers are no maps of x alone.
        smallest_singular: smallest singular value of I + dt DF_k at the samples, shape (K,).
        folded: share of the samples at which a layer turns over, det(I + dt DF_k) <= 0 (leapfrog:
            the whole network): there it is no invertible map, hence no flow.
        field_folded: the same of the Euler steps of a `discrete` field, which layers then follow.
        outside: share of the samples that end outside of the domain of the field.
        bound: for each sample sum_k |J_k| dt eps_k, with eps_k its field error and J_k the
            Jacobian of the layers after k: a bound of its error to first order in the error.
        margin: for each sample the distance of X_K to the decision boundary; negative where the
            flow itself takes it to the wrong class. None without a head.
        certified: share of the samples with bound < margin: there the network decides as the flow.
        agreeing: share of the samples with error < margin, as measured.
    """

    net: ResNet
    rms: np.ndarray
    max: np.ndarray
    errors: np.ndarray
    quantiles: dict[float, float]
    field_rms: np.ndarray
    field_max: np.ndarray
    dt_lip: np.ndarray | None
    smallest_singular: np.ndarray | None
    folded: float
    field_folded: float
    outside: float
    bound: np.ndarray | None = field(repr=False)
    margin: np.ndarray | None = field(default=None, repr=False)
    certified: float | None = None
    agreeing: float | None = None

    @property
    def remedy(self) -> str:
        """What keeps the layers from folding."""
        if self.field_folded:
            return "solve with more regularisation or more steps"
        return "fit with steepest=5, or follow a smoother field (more regularisation)"

    def __str__(self) -> str:
        """A page of numbers."""
        net = self.net
        lines = [
            f"{net.form} network, {net.layers} layers of width {net.width} in {net.dim}D, "
            f"{len(self.errors)} samples",
            f"  error at the end              rms {self.rms[-1]:.2e}, "
            + ", ".join(f"{100 * q:g} % {e:.2e}" for q, e in self.quantiles.items()),
            f"  field error, worst layer      rms {self.field_rms.max():.2e}, "
            f"max {self.field_max.max():.2e}",
        ]
        lip, smallest, bound = self.dt_lip, self.smallest_singular, self.bound
        if lip is not None and smallest is not None and bound is not None:
            lines += [
                f"  dt Lip, worst layer           {lip.max():.3g}"
                + ("" if lip.max() < 1 else "  (from 1 on, layers may fold)"),
                f"  smallest singular value       {smallest.min():.3g}",
                f"  first-order bound, median     {np.median(bound):.2e}",
            ]
        lines.append(f"  layers fold at                {100 * self.folded:.3g} % of the samples")
        if self.folded or self.field_folded:
            lines.append(
                f"  the field's steps fold at     {100 * self.field_folded:.3g} %: {self.remedy}"
            )
        if self.outside:
            lines.append(
                f"  outside of the domain         {100 * self.outside:.3g} % of the samples"
            )
        if self.margin is not None and self.agreeing is not None:
            lines.append(f"  margin of the flow, 5 %       {np.quantile(self.margin, 0.05):.3g}")
            lines.append(f"  error below the margin        {100 * self.agreeing:.2f} %")
        if self.certified is not None:
            lines.append(f"  certified by the bound        {100 * self.certified:.2f} %")
        return "\n".join(lines)


def report(
    net: ResNet, field: Any = None, samples: Any = None, *, head: Any = None, labels: Any = None
) -> FitReport:
    """Measure a network against its field.

    Args:
        net: the network.
        field: by default the one it was fitted to.
        samples: starting points, shape (n, d); by default those it was fitted on. Fresh ones
            tell more.
        head: what classifies the output, for the margin: see `margins`.
        labels: class of each sample, 0..C-1; by default what the flow and the head say.
    """
    if net.origin is not None:
        field = net.origin.field if field is None else field
        samples = net.origin.samples if samples is None else samples
    if field is None or samples is None:
        raise ProblemError("this network does not know its field: give field and samples.")
    field, samples = VelocityField.of(field), as_points(samples, net.dim)
    if field.dim != net.dim or not len(samples):
        raise ProblemError(
            f"a network in {net.dim}D against a field in {field.dim}D on {len(samples)} samples."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeavesDomain)  # `outside` says it
        exact, path = field.reference(samples, net.layers), net.trajectory(samples)
        field_folded = _field_folded(field, samples)
    distance = np.linalg.norm(path - exact, axis=2)
    epsilon = np.empty((net.layers, len(samples)))
    for k in range(net.layers):
        one, two, h = net.recurrence(k)
        kept = one * exact[k] - (two * exact[k - 1] if two else 0)
        wanted = (exact[k + 1] - kept) / h
        epsilon[k] = np.linalg.norm(net.field(k, exact[k]) - wanted, axis=1)

    lip = smallest = bound = None
    if net.form != "leapfrog":
        lip, smallest = np.empty(net.layers), np.empty(net.layers)
        bound = np.zeros(len(samples))
        later = np.broadcast_to(np.eye(net.dim), (len(samples), net.dim, net.dim))
        for k in reversed(range(net.layers)):
            bound += np.linalg.norm(later, 2, axis=(1, 2)) * net.dt * epsilon[k]
            D = net.dt * net.field_jacobian(k, path[k])
            lip[k] = np.linalg.norm(D, 2, axis=(1, 2)).max()
            smallest[k] = np.linalg.svd(np.eye(net.dim) + D, compute_uv=False).min()
            later = later @ (np.eye(net.dim) + D)

    margin = None if head is None else margins(exact[-1], head, labels)
    return FitReport(
        net=net,
        rms=np.sqrt(np.mean(distance**2, axis=1)),
        max=distance.max(axis=1),
        errors=distance[-1],
        quantiles={q: float(np.quantile(distance[-1], q)) for q in QUANTILES},
        field_rms=np.sqrt(np.mean(epsilon**2, axis=1)),
        field_max=epsilon.max(axis=1),
        dt_lip=lip,
        smallest_singular=smallest,
        folded=float(np.mean(folds(net, samples, path))),
        field_folded=field_folded,
        outside=float(np.mean(field.outside(path[-1]))),
        bound=bound,
        margin=margin,
        certified=None if margin is None or bound is None else float(np.mean(bound < margin)),
        agreeing=None if margin is None else float(np.mean(distance[-1] < margin)),
    )


def folds(net: ResNet, x: np.ndarray, path: np.ndarray | None = None) -> np.ndarray:
    """At which points a layer turns over, det(I + dt DF_k) <= 0: shape (n,).

    Args:
        net: the network. Of leapfrog, whose layers are no maps of x alone, the whole counts.
        x: points before the first layer, shape (n, d).
        path: the trajectories from there, if they are known.
    """
    if net.form == "leapfrog":
        return np.linalg.det(net.jacobian(x)) <= 0
    path, folded = net.trajectory(x) if path is None else path, np.zeros(len(x), dtype=bool)
    for k in range(net.layers):
        D = np.eye(net.dim) + net.dt * net.field_jacobian(k, path[k])
        folded |= np.linalg.det(D) <= 0
    return folded


def _field_folded(field: VelocityField, x: np.ndarray) -> float:
    """Share of the points at which an Euler step turns over; an exact flow never does."""
    if not field.discrete:
        return 0.0
    folded, identity = np.zeros(len(x), dtype=bool), np.eye(field.dim)
    for here, t, dt in zip(field.flow(x), field.times, np.diff(field.times), strict=False):
        folded |= np.linalg.det(identity + dt * field.jacobian(here, t)) <= 0
    return float(np.mean(folded))


def margins(x: np.ndarray, head: Any, labels: Any = None) -> np.ndarray:
    """Distance of points to the decision boundary, negative on the wrong side, shape (n,).

    Args:
        x: points, shape (n, d).
        head: (coefficients, intercepts) of a linear head, shapes (C, d) and (C,), or (1, d) and
            (1,) for two classes, as in scikit-learn. The distance is exact. Or a callable of
            points that returns scores of shape (n, C): the distance is then that of the scores
            linearised at the point.
        labels: class of each point, 0..C-1; by default the one with the highest score.
    """
    x = np.asarray(x, dtype=float)
    if callable(head):
        scores, slopes = _linearised(head, x)
    else:
        weights, intercepts = (np.atleast_1d(np.asarray(a, dtype=float)) for a in head)
        weights = np.atleast_2d(weights)
        if len(weights) == 1:  # decision > 0 is class 1
            weights, intercepts = np.concatenate([0 * weights, weights]), np.append(0, intercepts)
        if weights.shape != (len(intercepts), x.shape[1]):
            raise ProblemError(
                f"the head has the shapes {weights.shape} and {intercepts.shape}; expected "
                f"(C, {x.shape[1]}) and (C,)."
            )
        scores = x @ weights.T + intercepts
        slopes = np.broadcast_to(weights, (len(x), *weights.shape))
    rows = np.arange(len(x))
    labels = scores.argmax(axis=1) if labels is None else np.asarray(labels)
    if labels.shape != (len(x),) or not np.isin(labels, np.arange(scores.shape[1])).all():
        raise ProblemError(f"labels must be {len(x)} integers from 0 to {scores.shape[1] - 1}.")
    lead = scores[rows, labels][:, None] - scores
    steepness = np.linalg.norm(slopes[rows, labels][:, None] - slopes, axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        distance = np.where(steepness > 0, lead / steepness, np.where(lead < 0, -np.inf, np.inf))
    distance[rows, labels] = np.inf
    return distance.min(axis=1)


def _linearised(scores: Callable, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scores (n, C) and their gradients (n, C, d) by central differences."""
    value = np.asarray(scores(x), dtype=float)
    if value.ndim != 2 or len(value) != len(x):
        raise ProblemError(f"head(x) returned the shape {value.shape}, expected ({len(x)}, C).")
    h = small_step(x, 1e-6)
    steps = h * np.eye(x.shape[1])
    slopes = [(np.asarray(scores(x + e)) - np.asarray(scores(x - e))) / (2 * h) for e in steps]
    return value, np.stack(slopes, axis=2)
