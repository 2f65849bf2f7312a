"""How many layers and how many neurons a field needs."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from mfg_fem.errors import ProblemError
from mfg_fem.flows.field import VelocityField
from mfg_fem.mesh.locate import as_points
from mfg_fem.resnet.criteria import Criteria, criteria
from mfg_fem.resnet.extremal import PontryaginSolution
from mfg_fem.resnet.fit import fit
from mfg_fem.resnet.network import ResNet
from mfg_fem.resnet.report import folds
from mfg_fem.solution.solution import Solution
from mfg_fem.validate import count, fraction, number

WIDTHS = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, eq=False)
class Recommendation:
    """The smallest network that keeps to the rules, and what each rule asks for.

    Attributes:
        layers, width: the recommendation.
        net: the network of that size, fitted on one half of the samples.
        met: whether (i) to (iii) are kept by the network; False if max_layers or the largest width
            came first. `criteria.met` says so of the solution.
        invertible_layers: rule (i), layers for dt Lip(v) <= theta.
        euler_layers: rule (ii) as measured, layers for which explicit Euler ends within margin/3
            of the flow; None if more than max_layers, or if the field is `discrete`.
        criteria: rules (ii) and (iv) to (vi), of the solution that the field comes from: whether it
            was solved with enough steps, on enough nodes. None for a formula.
        tried: (layers, width, error) of each fit, error the quantile on the other half.
    """

    layers: int
    width: int
    net: ResNet
    met: bool
    invertible_layers: int
    euler_layers: int | None
    criteria: Criteria | None
    tried: list[tuple[int, int, float]]

    def __str__(self) -> str:
        """What is recommended and why."""
        euler = "-" if self.euler_layers is None else self.euler_layers
        return "\n".join(
            [
                f"{self.layers} layers of width {self.width}"
                + ("" if self.met else "  (NOT ENOUGH: the limits of the search came first)"),
                f"  (i)   invertible layers       {self.invertible_layers} layers",
                f"        explicit Euler          {euler} layers as measured",
                *([] if self.criteria is None else [str(self.criteria)]),
                *(f"  (iii) {K:4d} x {m:<3d} error {e:.2e}" for K, m, e in self.tried),
            ]
        )


def recommend(
    field: Any,
    samples: np.ndarray | None = None,
    *,
    margin: float | None = None,
    theta: float = 0.9,
    quantile: float = 0.95,
    invertible: bool = True,
    widths: tuple[int, ...] = WIDTHS,
    max_layers: int = 64,
    tol: float = 0.05,
    solution: Solution | PontryaginSolution | None = None,
    seed: int = 0,
    **options: Any,
) -> Recommendation:
    """The smallest number of layers, then of neurons, that follows the field closely enough.

    (i)   dt Lip(v) <= theta < 1 at the samples, if invertible layers are wanted, and the layers
          then fold at no sample they have not seen;
    (ii)  the energy of the solution drifts by at most tol: see `Criteria`, with (iv) to (vi). And
          explicit Euler steps fine enough for margin/3: that binds only with match="field", as
          layers fitted to the flow (match="flow") make no error of time, and a `discrete` field has
          none;
    (iii) the error of the fit on samples it has not seen is at most margin/3, in the quantile.

    Args:
        field: a VelocityField, or what VelocityField.of takes; also a PontryaginSolution.
        samples: starting points, shape (n, d); by default 1000 from the initial density, or those
            that a PontryaginSolution was trained on.
        margin: distance that most points keep from the decision boundary, for instance a low
            quantile of `margins`; by default a tenth of the rms radius of where the flow ends.
        theta: how contractive I + dt Dv has to be.
        quantile: share of the samples for which (ii) and (iii) hold.
        invertible: whether to ask for (i).
        widths: what to try, in rising order.
        max_layers: where to give up.
        tol: drift of the energy that is allowed.
        solution: what the field comes from, if the field does not say.
        seed: for `fit`.
        options: for `fit`.
    """
    fraction("theta", theta)
    fraction("quantile", quantile, or_one=True)
    tries = sorted(count("widths", width) for width in np.atleast_1d(widths))
    if not tries:
        raise ProblemError("widths is empty: recommend needs some to try.")
    max_layers = count("max_layers", max_layers)
    if solution is None and isinstance(field, Solution | PontryaginSolution):
        solution = field
    said = None if solution is None else criteria(solution, tol)
    if samples is None and isinstance(field, PontryaginSolution):
        samples = field.states[0]
    field = VelocityField.of(field)
    samples = field.sample(1000, seed) if samples is None else as_points(samples, field.dim)
    if len(samples) < 2 * (field.dim + 2):
        raise ProblemError(f"{len(samples)} samples are too few: give twice d + 2 or more.")
    exact = field.reference(samples, 64)
    if margin is None:
        spread = exact[-1] - exact[-1].mean(axis=0)
        margin = 0.1 * float(np.sqrt(np.mean(np.sum(spread**2, axis=1))))
    number("margin", margin, above=True)
    allowed, T = margin / 3, field.horizon
    lip = _lipschitz(field, exact)
    by_lip = max(int(np.ceil(T * lip / theta)), 1)

    def distance(x: np.ndarray, goal: np.ndarray) -> float:
        return float(np.quantile(np.linalg.norm(x - goal, axis=1), quantile))

    # Rule (ii): the fewest explicit Euler steps, of 1, 2, 4, ..., that end close enough.
    steps = [2**k for k in range(0 if field.discrete else max_layers.bit_length())]
    flows = ((n, field.flow(samples, n)[-1]) for n in steps)
    euler = next((n for n, end in flows if distance(end, exact[-1]) <= allowed), None)

    fewest = by_lip if invertible else 1
    if options.get("match") == "field" and not field.discrete:
        fewest = max(fewest, max_layers + 1 if euler is None else euler)
    possible, layers = fewest <= max_layers, min(fewest, max_layers)
    known, fresh = samples[::2], samples[1::2]
    tried, nets = [], []
    while True:
        goal = field.reference(fresh, layers)[-1]
        for width in tries:
            net = fit(field, known, layers=layers, width=width, seed=seed, **options)
            error = distance(net(fresh), goal)
            tried.append((layers, width, error))
            nets.append(net)
            good = error <= allowed and not (invertible and folds(net, fresh).any())
            if good:
                break
        if good or layers == max_layers:
            break
        layers = min(2 * layers, max_layers)
    if not good:
        net = nets[np.argmin([error for *_, error in tried])]
    met = possible and good
    if not met:
        warnings.warn(
            f"No network keeps to the rules within max_layers={max_layers} and widths={tries}: "
            "this is the one with the smallest error. Print the recommendation to see which rule "
            "asks for more.",
            stacklevel=2,
        )
    return Recommendation(net.layers, net.width, net, met, by_lip, euler, said, tried)


def _lipschitz(field: VelocityField, exact: np.ndarray) -> float:
    """Lip(v) on the trajectories."""
    T, levels = field.horizon, len(exact) - 1
    slopes = (field.jacobian(exact[k], (k + 0.5) * T / levels) for k in range(levels))
    return max(float(np.linalg.norm(D, 2, axis=(1, 2)).max()) for D in slopes)
