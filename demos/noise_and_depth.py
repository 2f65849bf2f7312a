# # Noise and depth
#
# **Noise.** With noise in the layers,
# $x_{k+1} = x_k + \Delta t\, F_k(x_k) + \sigma \sqrt{\Delta t}\, \xi_k$, the densities obey
# $\partial_t \rho_c + \nabla \cdot (\rho_c v) = D \Delta \rho_c$ with $D = \sigma^2 / 2$, and the
# optimal field knows it. No field keeps what the noise destroys: with
# $P_c = \rho_c / \rho$ the information that place has about class falls as
#
# $$ \frac{d}{dt} I(C; X) = -D \sum_c \int \rho\, \frac{|\nabla P_c|^2}{P_c} \,dx \le 0. $$
#
# Fields are solved with several amounts of noise, and each network is run with several: is the
# one best that was solved with what it runs with?
#
# **Depth.** The field is a function of time, so that the number of layers is chosen after it has
# been solved: `resample` fits 1 to 64 layers to one flow, of several widths. The trajectory error
# at the end, on points that the fit has not seen (data: radius 1), and $\Delta t$ Lip, below 1
# where a layer is invertible, say how many layers the field needs.

import argparse
import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from classification import on_one_rank, spirals
from matplotlib import colormaps, rc_context

from mfg_fem.plots import STYLE, WIDTH
from mfg_fem.resnet import MeanFieldClassifier

RUNS = 5  # realisations of the noise that an accuracy is the mean of


def noisy_accuracy(net, X, labels, noise):
    """Share of right labels when the layers are noisy."""
    z = net.network_input(X)
    outputs = [net.resnet_(z, noise=noise, rng=seed) for seed in range(RUNS)]
    return float(np.mean([net.head_.predict(x) == labels for x in outputs]))


def depths(net, X, labels, layers, width):
    """Accuracy, trajectory error and dt Lip for one field at several numbers of layers."""
    z, rows = net.network_input(X), []
    for count in layers:
        resampled = net.resnet_.resample(count, width=width)
        report = resampled.report(samples=z)
        right = net.head_.predict(resampled(z)) == labels
        row = {"layers": count, "width": width, "wrong": float(np.mean(~right))}
        rows.append(row | {"error": report.quantiles[0.99], "dt Lip": float(report.dt_lip.max())})
    return rows


def draw_noise(noises, table, path):
    """A line for each noise solved with, over the noise run with."""
    figure, ax = plt.subplots(figsize=(0.55 * WIDTH, 2.4), layout="constrained")
    colours = colormaps["viridis"](np.linspace(0, 0.9, len(noises)))
    for solved, wrong, colour in zip(noises, 100 * (1 - table), colours, strict=True):
        ax.plot(noises, wrong, "o-", ms=3, lw=1, color=colour, label=f"{solved:g}")
    same = 100 * (1 - np.diag(table))
    ax.plot(noises, same, "ko", ms=6, mfc="none", mew=0.8, label="the same")
    ax.set_yscale("symlog", linthresh=0.1, linscale=0.5)
    ax.set(xlabel=r"noise $\sigma$ in the layers", ylabel="wrong test labels [%]", xticks=noises)
    ax.set(yticks=[0, 0.1, 1, 10, 50], yticklabels=["0", "0.1", "1", "10", "50"], ylim=(-0.01, 60))
    ax.minorticks_off()
    beside = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
    ax.legend(title=r"solved with $\sigma$ =", frameon=False, **beside)
    figure.savefig(path, dpi=200)


def draw_depth(rows, path):
    """Wrong labels, errors and steepness over the number of layers, a line for each width."""
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, 2.2), layout="constrained")
    widths = sorted({row["width"] for row in rows})
    for width, style in zip(widths, ("^:", "s--", "o-", "d-."), strict=False):
        some = [row for row in rows if row["width"] == width]
        layers = [row["layers"] for row in some]
        scales = {"wrong": 100.0, "error": 1.0, "dt Lip": 1.0}
        for ax, (key, scale) in zip(axes, scales.items(), strict=True):
            values = [scale * row[key] for row in some]
            ax.plot(layers, values, style, ms=3, lw=1, color="k", mfc="w", label=width)
    for ax in axes:
        ax.set_xscale("log")
        ax.set(xlabel="layers", xticks=layers, xticklabels=layers)
        ax.minorticks_off()
    axes[0].set(title="wrong test labels [%]", ylim=(-0.03 * axes[0].get_ylim()[1], None))
    axes[1].set(title="trajectory error, 99 % of the points", yscale="log")
    axes[2].set(title=r"$\Delta t$ Lip, worst layer", yscale="log")
    axes[2].axhline(1, color="0.6", lw=0.6, zorder=0)
    axes[0].legend(title="width", frameon=False)
    figure.savefig(path, dpi=200)


def main():
    """Solve for each noise, run with each; then resample the field without noise."""
    parser = argparse.ArgumentParser(description="Noise in the layers, and their number.")
    parser.add_argument("--turns", type=float, default=1.0)
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--tests", type=int, default=4000)
    parser.add_argument("--noises", type=float, nargs="+", default=[0.0, 0.2, 0.4, 0.7, 1.0])
    parser.add_argument("--layers", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--widths", type=int, nargs="+", default=[2, 4, 16])
    parser.add_argument("--solved-layers", type=int, default=16)
    parser.add_argument("--cells", type=int, default=40)
    parser.add_argument("--iterations", type=int, default=120)
    parser.add_argument("--out", default="results/noise_and_depth", type=Path)
    o = parser.parse_args([] if "ipykernel" in sys.argv[0] else None)
    train, test = (spirals(n, s, o.turns) for n, s in ((o.points, 0), (o.tests, 1)))
    options = dict(cells=o.cells, max_it=o.iterations, random_state=0)
    nets = {
        noise: MeanFieldClassifier(o.solved_layers, noise=noise, **options).fit(*train)
        for noise in sorted({0.0, *o.noises})
    }
    table = np.array([[noisy_accuracy(nets[a], *test, b) for b in o.noises] for a in o.noises])
    print("test accuracy [%]; rows: noise solved with, columns: noise in the layers")
    print("         " + "".join(f"{b:8g}" for b in o.noises))
    for a, row in zip(o.noises, table, strict=True):
        print(f"{a:8g} " + "".join(f"{100 * value:8.2f}" for value in row))
    rows = [row for w in o.widths for row in depths(nets[0.0], *test, o.layers, w)]
    print("layers  width  wrong %  99 % error   dt Lip")
    for r in rows:
        numbers = f"{100 * r['wrong']:9.2f} {r['error']:11.1e} {r['dt Lip']:8.2f}"
        print(f"{r['layers']:6d} {r['width']:6d}{numbers}")
    o.out.mkdir(parents=True, exist_ok=True)
    found = {"noises": o.noises, "accuracy": table.tolist(), "depth": rows}
    (o.out / "numbers.json").write_text(json.dumps(found, indent=2))
    with rc_context(STYLE):
        draw_noise(o.noises, table, o.out / "noise.png")
        draw_depth(rows, o.out / "depth.png")


if __name__ == "__main__":
    on_one_rank(main)
