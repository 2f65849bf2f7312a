"""From a velocity field to the layers of a network.

The layers are fitted in sequence, by steering: the points x_k are the samples as the layers
already fitted have moved them, and layer k is fitted to the velocity that brings each of them
where its exact trajectory X is at the end of the layer,

    F_k(x_k) ~ (X_{k+1} - x_k) / dt.

So what one layer gets wrong the next one is asked to correct, and the error at the end is the
misfit of the last layer times dt, on the samples. X is the exact flow: a layer is the velocity
averaged over its time along the trajectories, and few layers need not mean a coarse flow. With
noise there is no such trajectory: the target is then the exact flow over one layer from where the
point is.
"""

import logging
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from mfg_fem.errors import ProblemError
from mfg_fem.flows.field import VelocityField
from mfg_fem.mesh.locate import as_points
from mfg_fem.resnet.network import FORMS, ResNet
from mfg_fem.resnet.neurons import fit_neurons
from mfg_fem.resnet.polish import polish_end_to_end
from mfg_fem.validate import choice, count, generator, number

logger = logging.getLogger(__name__)

SAMPLES = 1000  # drawn from the initial density where the user gives none
# Leapfrog: errors shrink by this factor a layer. Asked to vanish in one layer (0) they enter the
# next target divided by dt^2, which 32 layers of 4 neurons amplified to 0.5; with 0.5 it is 0.02.
DAMPING = 0.5
# Leapfrog: what a layer rounds moves the points in all layers after it, and steep neurons amplify
# it. Rounded to float32, 8 and 16 layers of 2 to 16 neurons were wrong by up to 1.8e-6 with the
# blocks' bounds, and by up to 1.0e-6 with these. The price: a misfit up to 1.6 times as large.
GENTLE = {"heaviest": 12.0, "steepest": 5.0}


def fit(
    field: Any,
    samples: np.ndarray | None = None,
    *,
    layers: int | None = None,
    width: int | None = None,
    form: str = "block",
    seed: int = 0,
    noise: float = 0.0,
    polish: int = 0,
    match: str = "flow",
    ridge: float = 1e-8,
    steepest: float | None = None,
    iterations: int = 30,
) -> ResNet:
    """Fit a residual network to a velocity field, on samples of where it starts.

    Forms, with F_k(x) = V_k tanh(W_k x + b_k) + c_k and dt = horizon / layers:

    * "block", x + dt F_k(x). Any field, with noise or without. What it cannot do: no layer can
      undo another one's fold, so keep dt Lip < 1 (see `report`).
    * "leapfrog", x_{k+1} = 2 x_k - x_{k-1} + dt^2 F_k(x_k) (Stoermer-Verlet; Haber-Ruthotto
      2018), for flows of a potential, whose characteristics obey x'' = grad(f + Q). Layer 0 is
      x + dt F_0(x). It cannot take noise. A layer is no map of x alone, hence no bound from
      dt Lip. It divides by dt^2: rough fields and many layers need samples in plenty.
    * "affine", W_k x + c_k with W_k = I + dt A_k. Exact for linear-quadratic control and
      Gaussian bridges; it cannot bend anything, so no curved decision boundary. Has no width.

    The form x_{k+1} = tanh(W_k x + b_k) is refused: in d dimensions it is an affine map behind
    one fixed bend and cannot follow a given field layer by layer. One neuron a layer, on the
    other hand, is `ResNet.split`.

    Args:
        field: a VelocityField, or what VelocityField.of takes. The solution of a game or a control
            may have no exits and no periodic axes, and its walls are not the network's: a
            LeavesDomain warning says when noise takes many samples across them.
        samples: starting points, shape (n, d); by default 1000 from the initial density, on
            every rank the same.
        layers: number of layers; by default the steps of the field.
        width: neurons in each layer; by default 16.
        form: see above.
        seed: of the random features and of the noise.
        noise: amplitude of the noise that the network will run with. The layers are then fitted
            where noisy points get.
        polish: at most this many L-BFGS steps on all parameters for the final positions.
        match: "flow", so that the network is the exact flow at the end of every layer whatever
            the number of layers; or "field", so that layer k is the velocity v(., t_k) and the
            network the explicit Euler method: its neurons are then those of the field, but
            the trajectories differ from the flow by O(dt).
        ridge: weight of |V|^2 for x and F scaled to unit variance; raised in layers whose
            neurons would almost cancel each other. In float32 the outputs are then the same to
            about 1e-6 where layers are smooth; steep ones (|Dx_K| of 100 and more) amplified
            rounding to 4e-5. With 0 there is no such bound.
        steepest: largest |w| of a neuron for x of unit variance: a bound of 5 kept layers from
            folding where the field itself does not fold. By default 5 for leapfrog, else none.
        iterations: Levenberg-Marquardt steps for a layer.

    Returns:
        The network; it can be fitted again by `resample`.

    Raises:
        ProblemError: arguments that make no sense.
    """
    field = VelocityField.of(field)
    layers = field.steps if layers is None else layers
    settings = Settings(
        layers, width, form, seed, noise, polish, match, ridge, steepest, iterations
    )
    if samples is None:
        samples = field.sample(SAMPLES, generator("seed", seed))
    return Origin(field, as_points(samples, field.dim), settings).fit()


@dataclass(frozen=True)
class Settings:
    """The keywords of `fit` in their order, checked."""

    layers: int
    width: int | None
    form: str
    seed: int
    noise: float
    polish: int
    match: str
    ridge: float
    steepest: float | None
    iterations: int

    def __post_init__(self) -> None:
        """Refuse settings that make no sense, and fill in the width."""
        if self.form in ("tanh", "plain"):
            raise ProblemError(
                "x_{k+1} = tanh(W x + b) is an affine map behind one fixed bend: it cannot follow "
                "a field layer by layer. Take form='block', or split() a block network into layers "
                "of one neuron."
            )
        choice("form", self.form, FORMS)
        choice("match", self.match, ("flow", "field"))
        if self.form == "affine" and self.width is not None:
            raise ProblemError("the form 'affine' has no neurons: leave width out.")
        if self.form != "affine":
            width = 16 if self.width is None else self.width
            object.__setattr__(self, "width", count("width", width))
        count("layers", self.layers), count("iterations", self.iterations)
        count("polish", self.polish, 0)
        number("noise", self.noise), number("ridge", self.ridge)
        if self.steepest is not None:
            number("steepest", self.steepest, above=True)
        generator("seed", self.seed)
        if self.noise and self.form == "leapfrog":
            raise ProblemError("leapfrog cannot take noise: take form='block'.")
        if self.noise and self.polish:
            raise ProblemError("polish fits final positions, and noise has none: choose one.")


@dataclass(frozen=True, eq=False)
class Origin:
    """What a network was fitted to, and how."""

    field: VelocityField
    samples: np.ndarray
    settings: Settings

    def __post_init__(self) -> None:
        """Refuse fewer samples than a layer can be fitted to."""
        n, d = self.samples.shape
        if n < d + 2:
            raise ProblemError(f"{n} samples are too few in {d}D: give {d + 2} or more.")

    def resample(self, layers: int, **changes: Any) -> ResNet:
        """Fit again, with another number of layers or other settings."""
        known = [f.name for f in fields(Settings) if f.name != "layers"]
        if unknown := sorted(set(changes) - set(known)):
            raise ProblemError(
                f"no such option of fit: {', '.join(unknown)}. There are {', '.join(known)}."
            )
        if changes.get("form", self.settings.form) == "affine":
            changes = {"width": None} | changes
        settings = replace(self.settings, layers=layers, **changes)
        return Origin(self.field, self.samples, settings).fit()

    def fit(self) -> ResNet:
        """Fit the layers in sequence."""
        field, samples, s = self.field, self.samples, self.settings
        rng = generator("seed", s.seed)
        dt = field.horizon / s.layers
        ends = np.linspace(0.0, field.horizon, s.layers + 1)
        euler = s.match == "field"
        exact = np.empty(0)  # noisy points have no exact trajectory
        if not s.noise:
            exact = field.flow(samples, s.layers) if euler else field.reference(samples, s.layers)
        options: dict[str, Any] = {"ridge": s.ridge, "iterations": s.iterations}
        options |= GENTLE if s.form == "leapfrog" else {}
        options |= {} if s.steepest is None else {"steepest": s.steepest}
        path, fitted, neurons = [samples], [], None
        for k in range(s.layers):
            x = path[-1]
            if s.noise and euler:
                goal = x + dt * field(x, ends[k])
            elif s.noise:
                goal = field.unchecked_advance(x, ends[k], ends[k + 1], field.substeps(s.layers))
            else:
                goal = exact[k + 1]
            second = s.form == "leapfrog" and k > 0
            start, h = (2 * x - path[-2], dt**2) if second else (x, dt)
            if second:
                goal = goal + 2 * DAMPING * (x - exact[k]) - DAMPING**2 * (path[-2] - exact[k - 1])
            target = (goal - start) / h
            if s.form == "affine":
                layer = _affine(x, target)
                F = x @ layer["A"].T + layer["c"]
            else:
                if s.form == "leapfrog" and k == 1:
                    neurons = None  # those of layer 0 are a velocity, the others accelerations
                neurons = fit_neurons(x, target, s.width or 0, rng, guess=neurons, **options)
                layer = {name: getattr(neurons, name) for name in "VWbc"}
                F = neurons(x)
            fitted.append(layer)
            x = start + h * F
            if s.noise:
                x = x + s.noise * np.sqrt(dt) * rng.standard_normal(x.shape)
            path.append(x)
            logger.debug("layer %d: rms misfit %.3e", k, np.sqrt(np.mean((F - target) ** 2)))
        if s.noise:  # without noise, `reference` has warned already
            field.warn_outside(path[-1], "The network with its noise")
        arrays = {name: np.array([layer[name] for layer in fitted]) for name in fitted[0]}
        net = ResNet(field.horizon, form=s.form, origin=self, **arrays)
        return polish_end_to_end(net, samples, exact[-1], s.polish) if s.polish else net


def _affine(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """The least-squares fit y ~ A x + c."""
    centre = x.mean(axis=0)
    A = np.linalg.lstsq(x - centre, y - y.mean(axis=0), rcond=1e-10)[0].T
    return {"A": A, "c": y.mean(axis=0) - A @ centre}
