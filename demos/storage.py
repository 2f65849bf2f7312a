# # Storage and a price
#
# Many small batteries, each with its owner, buy power when it is cheap and sell it when it is dear.
# With the charge $x$ and the price $\pi(t)$ an owner who buys at the rate $v$ pays
#
# $$ \int \pi v + \frac{v^2}{2 \mu} + \frac{a}{2} (x - \tfrac12)^2 \, dt, \qquad
#    dx = v \, dt + \sqrt{2 D} \, dW, \qquad 0 \le x \le 1. $$
#
# Power plants sell $\pi / s$ at the price $\pi$, and people want $d(t)$ besides. The market clears
# where $C \int v m \, dx + d(t) = \pi(t) / s$, with the capacity $C$ of all batteries: a mean-field
# game of controls, with one more unknown in each time step. Nobody minds the others but through the
# price. Empty batteries cannot sell, nor full ones buy: the ends are walls that do not push.
# Hours, and the mean demand as the unit of power.

import argparse
import sys
from pathlib import Path

from mpi4py import MPI

import numpy as np

import ufl

import mfg_fem as mfg

parser = argparse.ArgumentParser(description="Batteries that take the peaks off a price.")
parser.add_argument("--cells", type=int, default=80)
parser.add_argument("--steps", type=int, default=48)
parser.add_argument("--capacities", type=float, nargs="+", default=[0.5, 2.0, 8.0])
parser.add_argument("--out", default="results/storage", type=Path)
options = parser.parse_args([] if "ipykernel" in sys.argv[0] else None)

DAY, SWING, SLOPE = 24.0, 0.4, 1.0  # h; of the demand; s
SPEED, WEAR, NOISE = 0.15, 0.05, 2e-4  # mu; a; D, per h


def demand(t, cos=np.cos):
    """Twice a day there is a peak."""
    return 1 + SWING * cos(4 * np.pi * t / DAY)


def batteries(capacity):
    """The owners, and the market."""
    price = mfg.price("power", start=SLOPE)

    def excess(x, t, m, v):
        return capacity * m * v[0] + demand(t, ufl.cos) - price / SLOPE  # of a domain of length 1

    return mfg.MeanFieldGame(
        mfg.box((1,), options.cells),
        horizon=DAY,
        diffusion=NOISE,
        hamiltonian=lambda x, p, m: SPEED * (p[0] + price) ** 2 / 2,
        running_cost=lambda x, t, m: WEAR * (x[0] - 0.5) ** 2 / 2,
        terminal_cost=lambda x, m: 4 * (x[0] - 0.5) ** 2 - SLOPE * x[0],  # what is left is worth it
        initial_density=lambda x: ufl.exp(-(((x[0] - 0.5) / 0.1) ** 2) / 2),
        boundary={end: mfg.Wall(pushes=False) for end in ("left", "right")},
        market={"power": excess},
    )


runs = {C: mfg.solve(batteries(C), options.steps, mfg.Monotone()) for C in options.capacities}


def quantiles(solution, shares):
    """Charges below which these shares of the batteries are at all times: (shares, levels)."""
    x, comm = solution.coordinates[:, 0], MPI.COMM_WORLD
    m = np.concatenate(comm.allgather(solution.nodal_densities), axis=1)
    x = np.concatenate(comm.allgather(x))
    order = np.argsort(x)
    below = np.cumsum(m[:, order], axis=1)
    below = (below - m[:, order] / 2) / below[:, -1:]
    return np.array([[np.interp(share, y, x[order]) for y in below] for share in shares])


fan = quantiles(runs[max(runs)], (0.05, 0.25, 0.5, 0.75, 0.95))
if MPI.COMM_WORLD.rank == 0:
    for C, solution in runs.items():
        price = solution.prices["power"]
        print(
            f"capacity {C:g} h: {solution.iterations} Newton steps, price {price.min():.4f} to "
            f"{price.max():.4f}, excess demand {solution.excess['power']:.1e}, "
            f"an owner earns {SLOPE / 2 - solution.cost:.4f}"
        )

# The pictures: the price, and how full the batteries are.

if MPI.COMM_WORLD.rank == 0:
    import matplotlib
    from matplotlib.figure import Figure

    options.out.mkdir(parents=True, exist_ok=True)
    matplotlib.rcParams.update(mfg.plots.STYLE)
    figure = Figure((mfg.plots.WIDTH, 2.4), layout="constrained")
    prices, charge = figure.subplots(1, 2)
    times = runs[max(runs)].times
    middles = (times[1:] + times[:-1]) / 2
    prices.plot(middles, SLOPE * demand(middles), color="0.6", ls="--", label="no storage")
    for C, solution in runs.items():
        prices.plot(middles, solution.prices["power"], label=f"C = {C:g} h")
    for low, high, shade in ((0, 4, 0.2), (1, 3, 0.4)):
        charge.fill_between(times, fan[low], fan[high], color="C0", alpha=shade, lw=0)
    charge.plot(times, fan[2], color="C0")
    prices.set(xlabel="t [h]", ylabel="price of power", xlim=(0, DAY), ylim=(0.5, 1.8))
    charge.set(xlabel="t [h]", ylabel="charge: 5, 25, 50, 75, 95 %", xlim=(0, DAY), ylim=(0, 1))
    prices.legend(frameon=False, loc="upper center", ncols=2)
    for ax in (prices, charge):
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(options.out / "storage.png", dpi=200)
