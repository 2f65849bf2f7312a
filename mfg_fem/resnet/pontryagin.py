"""A residual network as a deterministic optimal-control problem: Pontryagin, discretised first."""

import hashlib
import warnings
from dataclasses import dataclass, field, replace
from functools import cached_property

from mpi4py import MPI

import numpy as np

from mfg_fem.errors import NotConverged, ProblemError, SolutionWarning, alike, together
from mfg_fem.resnet.extremal import PontryaginSolution, resampled
from mfg_fem.resnet.mechanics import FORMS, LOSSES, Shape
from mfg_fem.resnet.minimise import ROUGH, Objective, minimise
from mfg_fem.validate import array, choice, count, flag, fraction, generator, number

NO_LIMIT = (
    "smoothness=0: the limit of many layers is ill posed. Each layer may then choose its own of "
    "several equally good blocks, more wildly the more layers there are; smoothness=1e-4, say, "
    "makes the parameters a smooth function of time."
)


@dataclass(frozen=True, eq=False)
class Pontryagin:
    """Train a residual network by optimal control, as a mechanical system with as many steps.

        min over theta(t), A, a of  (1/n) sum_i loss(A x_i(T) + a, y_i) + effort |A, a|^2 / 2
            + int_0^T effort |theta|^2 / 2 + smoothness |theta'|^2 / 2 dt,
        x_i' = f(x_i, theta),  f(x, theta) = V tanh(W x + b) + c,  theta = (V, W, b, c),

    with one head (A, a) behind the last layer. The layers are discretised before anything is
    derived, dt = horizon / layers, so that costates p_k = dJ/dx_k come from backpropagation:

        block       x_{k+1} = x_k + dt f(x_k, theta_k),     p_k = p_{k+1} + dt Df(x_k)^T p_{k+1},
        midpoint    x_{k+1} = x_k + dt f((x_k + x_{k+1}) / 2, theta_k), and its adjoint,

    which are the symplectic Euler method (first order) and the midpoint rule (second order) for
    Pontryagin's equations. Midpoint layers must be short, dt |Df| < 2: steep fields need more of
    them than blocks. A deeper network with the same theta(t) is a finer integrator of the
    same system: the energy along the layers tells how fine, see `PontryaginSolution`.

    *Smoothness.* Without it the limit of many layers is ill posed: the velocities f(., theta) are
    no convex set, and |theta|^2 has no say in how theta changes with t, so that layers break into
    branches. On 150 points of spirals of .75 turn with 8 neurons and effort 1e-3, the largest
    |theta'| of blocks was 12, 23, 47, 85, 147 for 4, 8, 16, 32, 64 layers without smoothness, and
    2.2, 2.1, 2.9, 2.9, 2.9 with 1e-4.

    X is standardised first, each column to mean 0 and variance 1, and so are targets. So effort and
    smoothness mean the same for data in any units.

    Li, Chen, Tai, E 2017; Benning, Celledoni, Ehrhardt, Owren, Schoenlieb 2019.

    Args:
        X: inputs, shape (n, features).
        y: labels 0..C-1, shape (n,), for the loss "logistic"; targets of shape (n,) or (n, C) for
            "squares".
        layers: number K of layers, at least 2.
        width: neurons in each layer.
        effort: weight of |theta|^2.
        smoothness: weight of |theta'|^2, with natural conditions theta' = 0 at both ends.
        form: "midpoint" or "block".
        horizon: the time T that the layers span.
        loss: "logistic", -log softmax(A x + a)_y; or "squares", |A x + a - y|^2 / 2.
        dimension: of the states, by default that of X; more coordinates start at 0, and let a flow
            part what encloses each other.
        comm: ranks that share the work; every rank passes the same data and gets the same result.
            MPI.COMM_SELF lets this rank work on its own.

    Raises:
        ProblemError: data or settings that make no sense. On every rank.
    """

    X: np.ndarray = field(repr=False)
    y: np.ndarray = field(repr=False)
    layers: int = 16
    width: int = 8
    effort: float = 1e-3
    smoothness: float = 1e-4
    form: str = "midpoint"
    horizon: float = 1.0
    loss: str = "logistic"
    dimension: int | None = None
    comm: MPI.Comm = field(default_factory=lambda: MPI.COMM_WORLD, repr=False)

    def __post_init__(self) -> None:
        """Check everything, on all ranks."""
        with together(self.comm):
            count("layers", self.layers, 2), count("width", self.width)
            for name in ("effort", "horizon"):
                number(name, getattr(self, name), above=True)
            number("smoothness", self.smoothness)
            choice("form", self.form, FORMS), choice("loss", self.loss, tuple(LOSSES))
            X = array("X", self.X, ("samples", "features")).copy()
            if min(X.shape) < 1 or len(X) < 2:
                raise ProblemError(f"X has the shape {X.shape}: give two samples or more.")
            if self.dimension is not None:
                count("dimension", self.dimension, X.shape[1])
            y = self._labels(len(X)) if self.loss == "logistic" else self._targets(len(X))
            for name, values in {"X": X, "y": y}.items():
                values.flags.writeable = False
                object.__setattr__(self, name, values)
        settings = {k: v for k, v in vars(self).items() if k not in ("X", "y", "comm")}
        sums = {name: hashlib.sha256(v.tobytes()).hexdigest() for name, v in (("X", X), ("y", y))}
        alike(self.comm, **settings, **sums)

    def _labels(self, samples: int) -> np.ndarray:
        found = array("y", self.y, (samples,))
        labels = found.astype(int)
        classes = int(labels.max()) + 1
        if (labels != found).any() or labels.min() < 0 or len(np.unique(labels)) < max(classes, 2):
            raise ProblemError(
                "y must be labels 0..C-1 of two classes or more, each with a sample. Number yours "
                "by numpy.unique(y, return_inverse=True), or take loss='squares' for targets."
            )
        return labels

    def _targets(self, samples: int) -> np.ndarray:
        columns = np.ndim(self.y) == 2
        found = array("y", self.y, (samples, "targets") if columns else (samples,))
        return found.reshape(samples, -1).copy()

    @cached_property
    def units(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the columns of X (1 where all are the same)."""
        return _units(self.X)

    @cached_property
    def target_units(self) -> tuple[np.ndarray, np.ndarray]:
        """The same of the targets; of labels 0 and 1."""
        return _units(self.y) if self.loss == "squares" else (np.zeros(1), np.ones(1))

    @cached_property
    def shape(self) -> Shape:
        """Sizes of the network."""
        dt = self.horizon / self.layers
        outputs = int(self.y.max()) + 1 if self.loss == "logistic" else self.y.shape[1]
        half = dt / 2 if self.form == "midpoint" else 0.0
        return Shape(self.dimension or self.X.shape[1], self.width, outputs, self.layers, dt, half)

    def network_input(self, X: np.ndarray) -> np.ndarray:
        """The states before the first layer: X standardised, shape (n, dimension)."""
        X = array("X", X, ("samples", self.X.shape[1]))
        mean, scale = self.units
        return np.pad((X - mean) / scale, ((0, 0), (0, self.shape.dim - X.shape[1])))

    def goals(self) -> np.ndarray:
        """What the loss compares with: the labels, or the targets standardised."""
        mean, scale = self.target_units
        return self.y if self.loss == "logistic" else (self.y - mean) / scale

    def objective(self, comm: MPI.Comm) -> Objective:
        """J of this problem. Collective on these ranks."""
        data = self.network_input(self.X), self.goals()
        return Objective(comm, self.shape, self.loss, *data, self.effort, self.smoothness)

    def solve(
        self,
        guess: PontryaginSolution | None = None,
        *,
        seed: int = 0,
        gtol: float = 1e-6,
        max_it: int = 1000,
        throw: bool = True,
        progress: bool | None = None,
    ) -> PontryaginSolution:
        """Find a local minimum: quasi-Newton steps, then Newton's with conjugate gradients.

        Both are PETSc TAO's (lmvm, ntr), in the norm of effort and smoothness, in which it takes
        about as many iterations for any number of layers. Collective.

        Args:
            guess: where to start: a solution of the same sizes, with any number of layers. By
                default all layers are the same random block, and the head is zero.
            seed: of that block.
            gtol: stop when the gradient, in the norm dual to that of effort and smoothness, is
                below gtol sqrt(J of the network that does nothing).
            max_it: largest number of iterations, of both methods together.
            throw: raise NotConverged if that fails; with False return where it ended.
            progress: print a line for each iteration; by default on a terminal only. Each is a line
                of the log in any case.

        Raises:
            NotConverged: no minimum to this tolerance; the error has the history.
            ProblemError: arguments that make no sense; no step of an implicit layer at the start.
        """
        with together(self.comm):
            fraction("gtol", gtol), count("max_it", max_it), flag("throw", throw)
            if progress is not None:
                flag("progress, unless None,", progress)
            theta, head = self._start(generator("seed", seed)) if guess is None else self._of(guess)
        alike(self.comm, gtol=gtol, max_it=max_it, throw=throw)
        theta, head = self.comm.bcast((theta, head))
        objective = self.objective(self.comm)
        starts = [objective.unknowns(theta, head)]
        if guess is None and self.form == "midpoint":
            starts.insert(0, self._near(starts, max_it, progress))
        found = minimise(objective, starts, gtol, max_it, progress)
        if throw and not found.converged:
            last = found.history[-1]
            remedy = "a larger max_it, more smoothness or effort, or another seed"
            if self.form == "midpoint":
                remedy += "; more layers, or form='block', if implicit layers are too long"
            raise NotConverged(
                found.reason,
                found.history,
                f"The descent {found.reason} (cost {last['cost']:.4g}, gradient "
                f"{last['gradient']:.1e}). Try {remedy}. throw=False returns where it ended.",
            )
        if not self.smoothness and self.comm.rank == 0:
            warnings.warn(NO_LIMIT, SolutionWarning, stacklevel=2)
        parameters = objective.parameters(found.z)
        return PontryaginSolution(self, *parameters, found.converged, found.reason, found.history)

    def _start(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        d, w = self.shape.dim, self.width
        sizes = (d * w, w * d, w, d)
        scales = (w**-0.5, (2 / d) ** 0.5, 1.0, 0.0)
        parts = [a * random.standard_normal(n) for a, n in zip(scales, sizes, strict=True)]
        theta = np.tile(np.concatenate(parts), (self.layers, 1))
        return theta, np.zeros(self.shape.of_head)

    def _near(self, starts: list, max_it: int, progress: bool | None) -> np.ndarray:
        """Where the form "block" is nearly at its minimum: near by, and far from folds.

        Where dt |Df| is about 2 a middle may have two solutions, with a fold between them at which
        descents get stuck; from a random start they meet some on their way.
        """
        blocks = replace(self, form="block").objective(self.comm)
        return minimise(blocks, starts, ROUGH, max_it, progress).z

    def _of(self, guess: PontryaginSolution) -> tuple[np.ndarray, np.ndarray]:
        if not isinstance(guess, PontryaginSolution):
            raise ProblemError(f"guess must be a PontryaginSolution, not {type(guess).__name__}.")
        one, other = (p.shape for p in (self, guess.problem))
        if (one.of_layer, one.of_head) != (other.of_layer, other.of_head):
            raise ProblemError("guess has another dimension, width, or number of outputs.")
        return resampled(guess.theta, self.layers), guess.head

    def __getstate__(self) -> dict:
        """All but the ranks: who unpickles it works alone."""
        return self.__dict__ | {"comm": None}

    def __setstate__(self, state: dict) -> None:
        """What was pickled, on this rank."""
        self.__dict__.update(state | {"comm": MPI.COMM_SELF})


def _units(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean, scale = values.mean(axis=0), values.std(axis=0)
    same = scale <= 1e-12 * np.abs(values).max(axis=0)  # round-off of a constant column
    return mean, np.where(same, 1.0, scale)
