# # The energy of a network along its layers
#
# To train a residual network is to solve a problem of optimal control (E 2017): on points $x_i$,
#
# $$ \min_\theta \frac 1n \sum_i \ell(x_i(T), y_i)
#    + \int_0^T \frac\alpha2 |\theta|^2 + \frac\beta2 |\dot\theta|^2 \, dt,
#    \qquad \dot x_i = V \tanh(W x_i + b) + c, \quad \theta = (V, W, b, c). $$
#
# It is a problem of mechanics, and its solutions, Pontryagin's extremals, keep an energy. With
# $p_i$ the derivative of the cost in $x_i$,
#
# $$ E = -\sum_i p_i \cdot f(x_i, \theta) - \frac\alpha2 |\theta|^2
#      + \frac\beta2 |\dot\theta|^2 . $$
#
# With $K$ layers and backpropagation the network is a symplectic integrator of that system. Blocks
# $x + \Delta t f(x, \theta_k)$ are the symplectic Euler method, of first order: how far $E$ drifts
# is told by backward error analysis from the layers themselves, without another solve. Implicit
# midpoint layers are of second order. So the energy says how many layers are enough.

import argparse
import sys
import warnings
from pathlib import Path

from mpi4py import MPI

import numpy as np

import mfg_fem as mfg
from mfg_fem.resnet import Pontryagin

parser = argparse.ArgumentParser(description="Two spirals by Pontryagin: energy along layers.")
parser.add_argument("--layers", type=int, nargs="+", default=[8, 16, 32, 64])
parser.add_argument("--points", type=int, default=150)
parser.add_argument("--width", type=int, default=8)
parser.add_argument("--turns", type=float, default=0.75)
parser.add_argument("--out", default="results/energy_of_layers", type=Path)
options = parser.parse_args([] if "ipykernel" in sys.argv[0] else None)
comm, FORMS = MPI.COMM_WORLD, ("midpoint", "block")


def spirals(n, seed):
    """Two spiral arms: points (n, 2) and labels."""
    random = np.random.default_rng(seed)
    radius, labels = np.sqrt(random.uniform(0.05, 1, n)), random.integers(0, 2, n)
    angle = 2 * np.pi * options.turns * radius + np.pi * labels
    arms = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return arms + 0.02 * random.standard_normal((n, 2)), labels


def show(line):
    """Print a line once."""
    if comm.rank == 0:
        print(line, flush=True)


train, test = spirals(options.points, 0), spirals(5000, 1)


def solutions(form, **settings):
    """The same problem in more and more layers, each solved from the one before."""
    found, guess = {}, None
    for K in options.layers:
        problem = Pontryagin(*train, layers=K, width=options.width, form=form, **settings)
        found[K] = guess = problem.solve(guess, progress=False)
    return found


# Spreads of the energy are relative to the effort $\frac\alpha2 |\theta|^2$. With enough layers the
# prediction and the drift of blocks agree, and the modified energy, $E$ and the correction, is of
# second order too.

solved = {form: solutions(form) for form in FORMS}
show("form       layers  cost       drift of E  predicted  of the modified E  layers for 1 %")
for form, K in ((form, K) for form in FORMS for K in options.layers):
    one = solved[form][K]
    more = "  -         -       "
    if one.predicted is not None:
        more = f"  {one.predicted:.2e}  {one.modified_drift:.2e}"
    line = f"{form:<9}  {K:6d}  {one.cost:.6f}   {one.drift:.2e}  {more}"
    show(f"{line}           {one.layers_for(0.01):6d}")

# A network is a function $\theta(t)$, and can be read in another number of layers: trained in 16
# of them, or as many as there are nearest to 16, it is used without any training in

trained = min(options.layers, key=lambda K: abs(K - 16))
show(f"\ntrained in {trained} layers, used in   cost      accuracy on fresh points [%]")
for form, K in ((form, K) for form in FORMS for K in (4, 8, 32, 64)):
    one = solved[form][trained].resample(K)
    show(f"{form:<9}              {K:6d}   {one.cost:.6f}  {100 * one.score(*test):.2f}")

# That works because $\beta > 0$. If only the effort is paid for, nothing makes neighbouring layers
# alike: the largest $|\dot\theta|$ grows with the layers, which break into branches, the energy is
# no constant, and there is no limit.

with warnings.catch_warnings():
    warnings.simplefilter("ignore", mfg.SolutionWarning)  # it is what is shown here
    rough = solutions("block", smoothness=0)
show("\nlayers  largest rate of theta: effort and smoothness   effort only")
for K in options.layers:
    rates = [np.abs(found[K].rate).max() for found in (solved["block"], rough)]
    show(f"{K:6d}                         {rates[0]:7.2f}              {rates[1]:9.2f}")

if comm.rank == 0:
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update(mfg.plots.STYLE)
    figure = Figure((mfg.plots.WIDTH, 4.4), layout="constrained")
    (drift, along), (smooth, chatter) = figure.subplots(2, 2)
    K = np.array(options.layers)
    for form, marker in zip(FORMS, "os", strict=True):
        measured = [solved[form][k].drift for k in K]
        drift.loglog(K, measured, f"k{marker}", ms=4, label=f"{form}, measured")
    predicted = [solved["block"][k].predicted for k in K]
    drift.loglog(K, predicted, "-", color="#c05020", lw=1, label="block, predicted")
    second = solved["midpoint"][K[-1]].drift * (K[-1] / K) ** 2
    drift.loglog(K, second, "--", color="0.6", lw=1, label="second order")
    drift.set(xlabel="layers K", title="spread of the energy / effort", xticks=K, xticklabels=K)
    drift.set_ylim(bottom=second[-1] / 30)
    drift.minorticks_off()
    drift.legend(frameon=False, loc="lower left")
    colours = matplotlib.colormaps["viridis"](np.linspace(0.8, 0.1, len(K)))
    for k, colour in zip(K, colours, strict=True):
        one = solved["block"][k]
        along.plot(one.times, 1e3 * one.energy, color=colour, lw=1, label=f"{k} blocks")
    limit = solved["midpoint"][K[-1]]
    along.plot(limit.times, 1e3 * limit.energy, "k--", lw=1, label=f"{K[-1]} midpoints")
    along.set(xlabel="t", title="energy along the layers, x 1000")
    along.legend(frameon=False)
    for ax, found, title in ((smooth, solved["block"], "1e-4"), (chatter, rough, "0")):
        for j, colour in enumerate(matplotlib.colormaps["tab10"](range(min(6, options.width)))):
            one = found[K[-1]]
            ax.plot(one.times, one.arrays["b"][:, j], ".-", color=colour, lw=0.7, ms=2)
        ax.set(xlabel="t", title=f"biases b(t), smoothness {title}")
    for ax in (drift, along, smooth, chatter):
        ax.spines[["top", "right"]].set_visible(False)
    options.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out / "energy.png", dpi=200)
