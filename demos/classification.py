"""What the demos of classification share: data sets, the same ResNet trained by Adam, pictures."""

import sys
import time
from dataclasses import dataclass
from functools import partial

from mpi4py import MPI

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.animation import PillowWriter
from matplotlib.colors import LinearSegmentedColormap
from sklearn.datasets import make_circles, make_moons

from mfg_fem.plots import WIDTH

COLOURS = ["#0072b2", "#d55e00"]  # told apart by colour-blind readers
BLEND = LinearSegmentedColormap.from_list("classes", [COLOURS[0], "white", COLOURS[1]])
REACH = 1.3  # half the width of a picture, for data of radius 1


def spirals(n, seed, turns=1.0, noise=0.02):
    """Two spiral arms in the unit disc; the noise is far below the gap between them."""
    rng = np.random.default_rng(seed)
    labels, radius = rng.integers(0, 2, n), np.sqrt(rng.uniform(0.15**2, 1.0, n))
    angle = 2 * np.pi * turns * radius + np.pi * labels
    arms = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return arms + noise * rng.standard_normal((n, 2)), labels


def lang_witbrock(n=194, seed=None):
    """The 194 points of Lang and Witbrock (1988): three turns; with a seed, n others between."""
    if seed is None:
        step, labels = np.tile(np.arange(97.0), 2), np.repeat([0, 1], 97)
    else:
        rng = np.random.default_rng(seed)
        step, labels = rng.uniform(0, 96, n), rng.integers(0, 2, n)
    angle, radius = step * np.pi / 16 + np.pi * labels, (104 - step) / 104
    return radius[:, None] * np.stack([np.sin(angle), np.cos(angle)], axis=1), labels


DATA = {
    "moons": lambda n, seed: make_moons(n, noise=0.1, random_state=seed),
    "spirals 1": partial(spirals, turns=1.0),
    "spirals 1.5": partial(spirals, turns=1.5),
    "circles": lambda n, seed: make_circles(n, noise=0.05, factor=0.5, random_state=seed),
    "spirals 3": lang_witbrock,
}


def on_one_rank(main):
    """Run a demo whose estimators are serial: under mpirun, on rank 0 alone."""
    comm = MPI.COMM_WORLD
    if comm.rank == 0:
        if comm.size > 1:
            print(f"rank 0 alone works here, {comm.size - 1} others wait", file=sys.stderr)
        main()


@dataclass(frozen=True)
class Adam:
    """A network trained by Adam: `predict`, and (CPU seconds, accuracy on the validation set)."""

    predict: object
    curve: np.ndarray

    def seconds_to(self, accuracy):
        """When the validation accuracy first reached this; None if it never did."""
        reached = self.curve[self.curve[:, 1] >= accuracy]
        return reached[0, 0] if len(reached) else None


def train_by_adam(
    train, validation, layers, width, dimension=2, noise=0.0, seed=0, steps=3000, rate=3e-2
):
    """The layers and the linear head of MeanFieldClassifier, all weights by Adam, full batches.

    The data are standardised and padded with zeros; `noise` is the standard deviation of what is
    added to the input at every step, the rate falls to zero as a cosine, and the weights
    kept are those with the best validation accuracy, looked at every 20 steps.
    """
    import torch

    torch.manual_seed(seed)
    X, y = train
    mean, scale, pad = X.mean(axis=0), X.std(axis=0), (0, dimension - X.shape[1])
    classes, y = np.unique(y, return_inverse=True)

    def tensor(points):
        z = torch.tensor((points - mean) / scale, dtype=torch.float32)
        return torch.nn.functional.pad(z, pad)

    def weights(*shape, fan):
        return (torch.randn(*shape) / np.sqrt(fan)).requires_grad_()

    W, V = (
        weights(layers, width, dimension, fan=dimension),
        weights(layers, dimension, width, fan=width),
    )
    b, c = (torch.zeros(layers, size, requires_grad=True) for size in (width, dimension))
    A, a = (
        weights(len(classes), dimension, fan=dimension),
        torch.zeros(len(classes)).requires_grad_(),
    )
    everything = [W, V, b, c, A, a]

    def scores(x):
        for k in range(layers):
            x = x + (torch.tanh(x @ W[k].T + b[k]) @ V[k].T + c[k]) / layers
        return x @ A.T + a

    known, fresh = tensor(X), tensor(validation[0])
    labels, wanted = torch.tensor(y), np.asarray(validation[1])
    shaken = (torch.tensor(X.std(axis=0)) > 0).new_ones(X.shape[1], dtype=torch.float32)
    shaken = torch.nn.functional.pad(shaken, pad)
    adam = torch.optim.Adam(everything, lr=rate)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    best, curve, spent = (-1.0, None), [], 0.0
    for step in range(1, steps + 1):
        start = time.process_time()
        adam.zero_grad()
        x = known + noise * shaken * torch.randn_like(known) if noise else known
        torch.nn.functional.cross_entropy(scores(x), labels).backward()
        adam.step()
        falling.step()
        spent += time.process_time() - start  # looking at the validation set is not counted
        if step % 20 == 0 or step == steps:
            with torch.no_grad():
                accuracy = np.mean(classes[scores(fresh).argmax(dim=1).numpy()] == wanted)
            curve.append((spent, accuracy))
            if accuracy >= best[0]:
                best = accuracy, [w.detach().clone() for w in everything]
    for w, kept in zip(everything, best[1], strict=True):
        w.data = kept

    def predict(points):
        with torch.no_grad():
            return classes[scores(tensor(points)).argmax(dim=1).numpy()]

    return Adam(predict, np.array(curve))


def panels(count, reach=REACH, height=4.6):
    """A figure of square panels in two rows, of the same scale and without ticks."""
    columns = -(-count // 2)
    figure, axes = plt.subplots(2, columns, figsize=(WIDTH, height), layout="constrained")
    for ax in axes.flat[count:]:
        ax.set_axis_off()
    for ax in axes.flat[:count]:
        bare(ax, reach)
    return figure, axes.ravel()[:count]


def bare(ax, reach=REACH):
    """Square, no ticks."""
    ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])


def scatter(ax, points, labels, size=3):
    """Points in the colour of their class."""
    colours = np.array(COLOURS)[labels]
    ax.scatter(*points.T, s=size, c=colours, linewidths=0, zorder=2)


def grid_of_lines(net, centre, count=23, fine=400):
    """Lines of a square grid after each layer, shape (layers + 1, lines, points, 2)."""
    along, across = np.linspace(-1.1, 1.1, fine), np.linspace(-1.1, 1.1, count)
    x, y = (a.T for a in np.meshgrid(across, along))  # (count, fine)
    lines = np.concatenate([np.stack([x, y], axis=-1), np.stack([y, x], axis=-1)])
    moved = net.trajectory(lines.reshape(-1, 2) + centre)
    return moved.reshape(-1, *lines.shape)


def head_line(ax, head, centre):
    """Where the linear head is undecided."""
    normal, offset = head.coef_[0], head.intercept_[0] + head.coef_[0] @ centre
    foot = -offset * normal / (normal @ normal)
    ax.axline(foot, foot + np.array([-normal[1], normal[0]]), color="k", linewidth=1, zorder=3)


def decision(figure, ax, net, X, labels):
    """Probability of the second class over the plane, and the data."""
    middle, half = (X.max(axis=0) + X.min(axis=0)) / 2, 0.6 * np.ptp(X, axis=0).max()
    places = np.linspace(-half, half, 400)
    square = np.stack(np.meshgrid(*(places + m for m in middle)), axis=-1)
    probability = net.predict_proba(square.reshape(-1, 2))[:, 1].reshape(400, 400)
    extent = (middle[0] - half, middle[0] + half, middle[1] - half, middle[1] + half)
    image = ax.imshow(
        probability, origin="lower", extent=extent, cmap=BLEND, vmin=0, vmax=1, alpha=0.45
    )
    ax.contour(probability, [0.5], extent=extent, colors="k", linewidths=0.8)
    scatter(ax, X, labels)
    ax.set(xlabel="$x_1$", ylabel="$x_2$")
    figure.colorbar(image, label="probability of class 1", shrink=0.9)


def film(net, z, labels, head, path, frames=6):
    """The points and the grid on their way through the layers, as a .gif."""
    centre = z.mean(axis=0)
    points, lines = net.trajectory(z), grid_of_lines(net, centre)
    figure, ax = plt.subplots(figsize=(3.6, 3.9), layout="constrained")
    writer = PillowWriter(fps=12)
    with writer.saving(figure, path, dpi=110):
        for time in np.append(np.arange(0, net.layers, 1 / frames), [net.layers] * 2 * frames):
            k, share = min(int(time), net.layers - 1), time - min(int(time), net.layers - 1)
            between = [(1 - share) * a[k] + share * a[k + 1] for a in (points, lines)]
            ax.clear()
            bare(ax)
            ax.plot(*(between[1] - centre).transpose(2, 1, 0), color="0.7", linewidth=0.35)
            scatter(ax, between[0] - centre, labels)
            if time == net.layers:
                head_line(ax, head, centre)
            ax.set_title(f"layer {k + 1} of {net.layers}")
            writer.grab_frame()
    plt.close(figure)


def standard_error(values):
    """Of their mean; zero for one value."""
    return np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0


def accuracies(found, path):
    """Each classifier's accuracies, and their mean with its standard error: a panel a data set."""
    size = {"figsize": (WIDTH, 1.5), "layout": "constrained"}
    figure, axes = plt.subplots(1, len(found), squeeze=False, sharey=True, **size)
    for ax, (name, kinds) in zip(axes[0], found.items(), strict=True):
        for place, (kind, values) in enumerate(kinds.items()):
            mean, error = 100 * np.mean(values), 100 * standard_error(values)
            style = {"ms": 4, "capsize": 2, "color": COLOURS[1] if place == 0 else "0.2"}
            ax.plot(100 * np.array(values), [place] * len(values), ".", color="0.75", ms=4)
            ax.errorbar(mean, place, xerr=error, fmt="o", label=kind, **style)
        ax.set(title=name, xlabel="test accuracy [%]")
        ax.set_yticks(range(len(kinds)), list(kinds))
        ax.margins(y=0.2)
    axes[0, 0].invert_yaxis()
    figure.savefig(path, dpi=200)
