"""ResNet: the frozen network, plain numpy arrays in float64."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpi4py import MPI

import numpy as np

from mfg_fem.errors import FileError, ProblemError, needs
from mfg_fem.flows.field import VelocityField
from mfg_fem.io.files import file_path, on_root, replacing
from mfg_fem.mesh.locate import as_points
from mfg_fem.validate import Seed, array, choice, generator, number

if TYPE_CHECKING:
    from mfg_fem.resnet.export import TorchResNet
    from mfg_fem.resnet.fit import Origin
    from mfg_fem.resnet.report import FitReport

FORMS = ("block", "leapfrog", "affine")
ARRAYS = {"block": "VWbc", "leapfrog": "VWbc", "affine": "Ac"}
FORMAT = "mfg_fem.resnet 1"
ABSENT: Any = None  # an array that the form does not have


@dataclass(frozen=True, eq=False)
class ResNet:
    """K layers, dt = horizon / K, each with its own arrays:

        block       x_{k+1} = x_k + dt F_k(x_k),           F_k(x) = V_k tanh(W_k x + b_k) + c_k
        leapfrog    x_{k+1} = 2 x_k - x_{k-1} + dt^2 F_k(x_k),    and layer 0 as in a block
        affine      x_{k+1} = x_k + dt F_k(x_k),           F_k(x) = A_k x + c_k

    Args:
        horizon: the time T that the layers span.
        c: shape (K, d).
        V, W, b: shapes (K, d, m), (K, m, d), (K, m); width m. Absent in the affine form.
        A: shape (K, d, d). Only in the affine form.
        form: "block", "leapfrog" or "affine".
        origin: what `resample` fits again; set by `fit`, and lost by saving and by pickling.
    """  # noqa: D415

    horizon: float
    c: np.ndarray = field(repr=False)
    V: np.ndarray = field(default=ABSENT, repr=False)
    W: np.ndarray = field(default=ABSENT, repr=False)
    b: np.ndarray = field(default=ABSENT, repr=False)
    A: np.ndarray = field(default=ABSENT, repr=False)
    form: str = "block"
    origin: "Origin | None" = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Check shapes and numbers."""
        choice("form", self.form, FORMS)
        object.__setattr__(self, "horizon", number("horizon", self.horizon, above=True))
        for name in "VWbAc":
            if (getattr(self, name) is not None) != (name in ARRAYS[self.form]):
                wanted = ", ".join(ARRAYS[self.form])
                raise ProblemError(f"the form {self.form!r} has the arrays {wanted}.")
        K, d = array("c", self.c, ("layers", "d")).shape
        if not K * d:
            raise ProblemError("c is empty: a network needs a layer and a dimension.")
        m = 0 if self.b is None else array("b", self.b, (K, "m")).shape[1]
        shapes = {"V": (K, d, m), "W": (K, m, d), "b": (K, m), "A": (K, d, d), "c": (K, d)}
        for name, value in self.arrays.items():
            value = array(name, value, shapes[name]).copy()
            value.flags.writeable = False
            object.__setattr__(self, name, value)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The parameters by name."""
        return {name: getattr(self, name) for name in ARRAYS[self.form]}

    @property
    def layers(self) -> int:
        """Number K of layers."""
        return len(self.c)

    @property
    def width(self) -> int:
        """Neurons m in each layer; 0 in the affine form."""
        return 0 if self.b is None else self.b.shape[1]

    @property
    def dim(self) -> int:
        """Dimension d of what goes in and comes out."""
        return self.c.shape[1]

    @property
    def dt(self) -> float:
        """Time that a layer spans."""
        return self.horizon / self.layers

    def __call__(self, x: np.ndarray, noise: float = 0.0, rng: Seed = None) -> np.ndarray:
        """Output of the last layer, shape (n, d); arguments as `trajectory`."""
        return self.trajectory(x, noise, rng)[-1]

    def trajectory(self, x: np.ndarray, noise: float = 0.0, rng: Seed = None) -> np.ndarray:
        """Positions before and after every layer, shape (K + 1, n, d).

        Args:
            x: shape (n, d).
            noise: each layer adds noise sqrt(dt) xi, xi standard normal.
            rng: numpy Generator or a seed.
        """
        x = as_points(x, self.dim)
        if number("noise", noise) and self.form == "leapfrog":
            raise ProblemError("leapfrog has no noisy inference: noise has no velocity.")
        rng = generator("rng", rng)
        path = [x]
        for k in range(self.layers):
            x = self.step(k, path)
            if noise:
                x = x + noise * np.sqrt(self.dt) * rng.standard_normal(x.shape)
            path.append(x)
        return np.array(path)

    def step(self, k: int, path: Sequence[np.ndarray]) -> np.ndarray:
        """Layer k after the positions path[0..k]: a x_k - b x_{k-1} + h F_k(x_k)."""
        one, two, h = self.recurrence(k)
        x = one * path[k] + h * self.field(k, path[k])
        return x - two * path[k - 1] if two else x

    def recurrence(self, k: int) -> tuple[float, float, float]:
        """The numbers (a, b, h) of x_{k+1} = a x_k - b x_{k-1} + h F_k(x_k)."""
        if self.form == "leapfrog" and k > 0:
            return 2.0, 1.0, self.dt**2
        return 1.0, 0.0, self.dt

    def field(self, k: int, x: np.ndarray) -> np.ndarray:
        """F_k at points, shape (n, d): the velocity of layer k (leapfrog, k > 0: acceleration)."""
        if self.form == "affine":
            return x @ self.A[k].T + self.c[k]
        return np.tanh(x @ self.W[k].T + self.b[k]) @ self.V[k].T + self.c[k]

    def field_jacobian(self, k: int, x: np.ndarray) -> np.ndarray:
        """D F_k at points, shape (n, d, d)."""
        if self.form == "affine":
            return np.broadcast_to(self.A[k], (len(x), self.dim, self.dim))
        slope = 1 - np.tanh(x @ self.W[k].T + self.b[k]) ** 2
        products = self.V[k].T[:, :, None] * self.W[k][:, None, :]  # (m, d, d)
        return np.tensordot(slope, products, axes=1)

    def jacobian(self, x: np.ndarray) -> np.ndarray:
        """Jacobian of the whole network at points, shape (n, d, d)."""
        path, before, now = self.trajectory(x), None, np.eye(self.dim)
        for k in range(self.layers):
            one, two, h = self.recurrence(k)
            new = one * now + h * self.field_jacobian(k, path[k]) @ now
            before, now = now, new - two * before if two else new
        return np.broadcast_to(now, (path.shape[1], self.dim, self.dim))

    def velocity_field(self) -> VelocityField:
        """The field F_k(x) of the layers, each constant in time: for `exploitability`.

        Raises:
            ProblemError: a leapfrog, whose layers are accelerations.
        """
        if self.form == "leapfrog":
            raise ProblemError(
                "a leapfrog has no velocity of x alone, as its layers accelerate: fit a network of "
                "the form 'block' or 'affine'."
            )

        def velocity(x: np.ndarray, t: float) -> np.ndarray:
            return self.field(min(int(t / self.dt), self.layers - 1), x)

        return VelocityField.from_callable(
            velocity, dim=self.dim, horizon=self.horizon, steps=self.layers
        )

    def resample(self, layers: int, **options: Any) -> "ResNet":
        """The same field in another number of layers: fitted again, nothing is solved again.

        Args:
            layers: the new number of layers.
            options: those of `fit` that shall differ, for instance width.
        """
        if self.origin is None:
            raise ProblemError(
                "this network does not know its field (it was loaded, unpickled or made by hand): "
                "call resnet.fit(field, samples, layers=...)."
            )
        return self.origin.resample(layers, **options)

    def split(self) -> "ResNet":
        """Every layer of width m as m layers of width 1, by Lie splitting.

            x + (dt/m) (m V_j tanh(w_j x + b_j) + c),    j = 1..m,

        for forms of network with one neuron a layer. Equal up to O(dt^2 |V|^2 |W|) a layer: look
        at the difference of the outputs before using it.
        """
        if self.form != "block":
            raise ProblemError(f"only the form 'block' can be split, not {self.form!r}.")
        K, m, d = self.layers, self.width, self.dim
        V = m * self.V.transpose(0, 2, 1).reshape(K * m, d, 1)
        W, b = self.W.reshape(K * m, 1, d), self.b.reshape(K * m, 1)
        return ResNet(self.horizon, np.repeat(self.c, m, axis=0), V, W, b)

    def report(self, samples: np.ndarray | None = None, **options: Any) -> "FitReport":
        """How well the network follows its field: see `report.report`."""
        from mfg_fem.resnet.report import report

        return report(self, samples=samples, **options)

    def save(self, path: str | Path) -> None:
        """Write the arrays and the form as safetensors. The field does not go with them."""
        numpy_format = needs("safetensors.numpy", "safetensors")
        facts = {"form": self.form, "horizon": self.horizon, "layers": self.layers}
        facts |= {"width": self.width, "dim": self.dim}
        metadata = {"format": FORMAT, "resnet": json.dumps(facts)}
        arrays = {name: np.ascontiguousarray(a) for name, a in self.arrays.items()}
        write_whole(path, numpy_format.save(arrays, metadata=metadata))

    @classmethod
    def load(cls, path: str | Path) -> "ResNet":
        """Read what `save` wrote.

        Raises:
            FileError: the file is missing, damaged or something else.
        """
        path, safetensors = file_path(path), needs("safetensors", "safetensors")
        try:
            with safetensors.safe_open(str(path), framework="numpy") as file:
                metadata = file.metadata() or {}
                arrays = {name: file.get_tensor(name) for name in file.keys()}
        except (OSError, safetensors.SafetensorError) as error:
            raise FileError(f"{path} cannot be read as safetensors: {error}") from error
        if metadata.get("format") != FORMAT:
            raise FileError(f"{path} is safetensors, but no network of the format {FORMAT!r}.")
        try:
            facts = json.loads(metadata["resnet"])
            return cls(horizon=facts["horizon"], form=facts["form"], **arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise FileError(f"{path} is damaged: {error}") from error

    def to_torch(self, dtype: str = "float64") -> "TorchResNet":
        """The same network as a torch.nn.Module with trainable parameters.

        Args:
            dtype: "float64", or "float32" to go on training at half the size.
        """
        needs("torch", "torch")
        from mfg_fem.resnet.export import TorchResNet

        return TorchResNet(self, dtype)

    def to_onnx(self, path: str | Path, dtype: str = "float64") -> None:
        """Write the network for ONNX runtimes: input "x" and output "y", both of shape (n, d)."""
        needs("onnx", "onnx")
        from mfg_fem.resnet.export import onnx_model

        write_whole(path, onnx_model(self, dtype).SerializeToString())

    def __getstate__(self) -> dict[str, Any]:
        """All but the origin: the mesh of a field has a communicator."""
        return self.__dict__ | {"origin": None}

    def with_arrays(self, **arrays: Any) -> "ResNet":
        """The same network with other parameters."""
        return replace(self, **arrays)


def write_whole(path: str | Path, data: bytes) -> None:
    """Write a file that is there whole or not at all."""
    path, alone = file_path(path), MPI.COMM_SELF
    with replacing(alone, path) as temporary:
        on_root(alone, f"{path} cannot be written", lambda: temporary.write_bytes(data))
