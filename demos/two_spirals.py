# # Two spirals
#
# A residual network is an explicit Euler method, $x_{k+1} = x_k + \Delta t\, F_k(x_k)$; to train it
# is to control a flow. The control does not see the label: with $\rho_c$ the density of class $c$
# and $\rho$ their sum, one velocity $v$ moves all classes,
#
# $$ \partial_t \rho_c + \nabla \cdot (\rho_c v) = 0, \qquad
#    \min_v \int_0^1 \!\! \int \frac{\alpha}{2} |v|^2 \rho
#    + \frac{\beta}{2} |(1 - \ell^2 \Delta)^2 v|^2 \,dx\,dt
#    + \sum_c \int \Phi_c\, \rho_c(1) \,dx, $$
#
# where $\Phi_c$ is the logistic loss of a fixed linear head. The optimum is
# $v = -\frac{1}{\alpha} \sum_c P_c \nabla \lambda_c$ for $\beta = 0$, $\lambda_c$ the cost still to
# come for class $c$: each place goes the way that its classes, $P_c = \rho_c / \rho$, want on
# average (E, Han, Li 2018). Here $v$ comes from a descent on a mesh that begins at $v = 0$. It then
# becomes layers, $F_k(x) = V_k \tanh(W_k x + b_k) + c_k$, fitted one after the other.
#
# The flow is a homeomorphism of the plane: it can unroll two spirals, and it could not part a
# disc from a ring around it (that takes a third dimension: `dimension=3`).
#
# `--turns 1.5 --layers 15 --iterations 400` is the harder one.

import argparse
import json
import sys
import time
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from classification import (
    decision,
    film,
    grid_of_lines,
    head_line,
    on_one_rank,
    panels,
    scatter,
    spirals,
)
from matplotlib import rc_context

from mfg_fem.plots import STYLE, WIDTH
from mfg_fem.resnet import MeanFieldClassifier


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description="Two spirals parted by a mean-field control.")
    parser.add_argument("--turns", type=float, default=1.0)
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--layers", type=int, default=10)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--cells", type=int, default=50)
    parser.add_argument("--iterations", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--frames", type=int, default=6, help="of the film, for each layer")
    parser.add_argument("--out", default="results/two_spirals", type=Path)
    return parser.parse_args([] if "ipykernel" in sys.argv[0] else None)


# ## The field
#
# Where it is fast, and where the points go under it in the layer.


def draw_field(net, z, labels, path):
    """Velocity and its stream lines in six layers, with the points there."""
    chosen = np.unique(np.linspace(0, net.layers - 1, 6).astype(int))
    points, places = net.trajectory(z), np.linspace(-1.5, 1.5, 151)
    centre = z.mean(axis=0)
    square = np.stack(np.meshgrid(places, places), axis=-1)
    fields = [net.field(k, square.reshape(-1, 2) + centre).reshape(square.shape) for k in chosen]
    near = [nearest(square + centre, points[k]) < 0.25 for k in chosen]  # elsewhere undetermined
    speeds = [np.where(n, np.hypot(*f.T).T, np.nan) for f, n in zip(fields, near, strict=True)]
    top = max(np.nanquantile(speed, 0.99) for speed in speeds)
    figure, axes = panels(len(chosen))
    for ax, k, field, speed in zip(axes, chosen, fields, speeds, strict=True):
        image = ax.pcolormesh(
            places, places, speed, cmap="Greys", vmin=0, vmax=top, rasterized=True
        )
        u, v = np.where(np.isnan(speed), np.nan, field.transpose(2, 0, 1))
        ax.streamplot(places, places, u, v, color="0.2", linewidth=0.5, arrowsize=0.5, density=1.0)
        scatter(ax, points[k] - centre, labels, size=2)
        ax.set_title(f"layer {k + 1}")
    figure.colorbar(image, ax=axes.tolist(), shrink=0.7, label="speed", extend="max")
    figure.savefig(path, dpi=200)


def nearest(square, points):
    """Distance from each place of the square to the nearest point."""
    away = square[:, :, None] - points[None, None, ::4]
    return np.sqrt((away**2).sum(axis=-1).min(axis=-1))


# ## The plane, bent
#
# Lines of a square grid, carried by the layers, with the data on them.


def draw_layers(net, z, labels, head, path):
    """The plane after some of the layers; the head's straight line at the end."""
    chosen = np.unique(np.linspace(0, net.layers, 6).astype(int))
    centre, points = z.mean(axis=0), net.trajectory(z)
    lines = grid_of_lines(net, centre)
    figure, axes = panels(len(chosen))
    for ax, k in zip(axes, chosen, strict=True):
        ax.plot(*(lines[k] - centre).transpose(2, 1, 0), color="0.7", linewidth=0.35, zorder=0)
        scatter(ax, points[k] - centre, labels, size=3)
        ax.set_title(f"after {k} of {net.layers} layers" if k else "data")
    head_line(axes[-1], head, centre)
    figure.savefig(path, dpi=200)


def main():
    """Train, print, draw."""
    o = arguments()
    data = partial(spirals, turns=o.turns)
    train, test = data(o.points, o.seed), data(10_000, o.seed + 1000)
    net = MeanFieldClassifier(
        o.layers, o.width, cells=o.cells, max_it=o.iterations, random_state=o.seed
    )
    start = time.perf_counter()
    net.fit(*train)
    found = {"seconds": time.perf_counter() - start, "layers": o.layers, "width": o.width}
    found |= {"training accuracy": net.score(*train), "test accuracy": net.score(*test)}
    z = net.network_input(train[0])
    print(net.report_)
    for key, value in found.items():
        print(f"{key}: {value:.4g}" if key == "seconds" else f"{key}: {value}")
    o.out.mkdir(parents=True, exist_ok=True)
    (o.out / "numbers.json").write_text(json.dumps(found, indent=2))
    with rc_context(STYLE):
        draw_field(net.resnet_, z, train[1], o.out / "field.png")
        draw_layers(net.resnet_, z, train[1], net.head_, o.out / "layers.png")
        figure, ax = plt.subplots(figsize=(0.5 * WIDTH, 0.45 * WIDTH), layout="constrained")
        decision(figure, ax, net, *train)
        figure.savefig(o.out / "decision.png", dpi=200)
        film(net.resnet_, z, train[1], net.head_, o.out / "layers.gif", o.frames)


if __name__ == "__main__":
    on_one_rank(main)
