# # Who is rich, and at what rate of interest
#
# Huggett's economy (1993), in continuous time as Achdou, Han, Lasry, Lions and Moll (2022) have it.
# Incomes are low or high and change at random; people save for bad times and may borrow up to a
# limit. Savings are loans to others, and the rate of interest $r$ is that for which they cancel.
# With wealth $a$, incomes $z_i$ and consumption $c$, everybody maximises his discounted utility,
#
# $$ \rho v_i = \max_c \; -1/c + v_i' (z_i + r a - c) + \lambda (v_j - v_i), \qquad
#    a \ge -b, \qquad \int a \, (m_1 + m_2) \, da = 0. $$
#
# This is a mean-field game without a horizon: the value function is $u = -v$, the two incomes are
# crowds that switch, the limit of credit is a wall that does not push, the rate is a price, and the
# last equation is its market. Newton solves for all of it at once. At the limit there is an atom:
# many of the poor have borrowed all they can. Years, and incomes of a year.
#
# Then all incomes fall by a part that recovers in some years, which nobody had expected: with the
# lasting solution at both ends of a horizon, the rate of each step is found with the rest.

import argparse
import sys
from pathlib import Path

from mpi4py import MPI

import numpy as np

import ufl

import mfg_fem as mfg

parser = argparse.ArgumentParser(description="Savings, and the rate of interest that clears them.")
parser.add_argument("--cells", type=int, nargs="+", default=[50, 100, 200])
parser.add_argument("--shock", type=float, default=0.1, help="fall of all incomes; 0: none")
parser.add_argument("--steps", type=int, default=40, help="of the time after the shock")
parser.add_argument("--out", default="results/wealth", type=Path)
options = parser.parse_args([] if "ipykernel" in sys.argv[0] else None)

INCOMES, CHANGES = {"poor": 0.1, "rich": 0.2}, 1.2  # of a year; per year
PATIENCE, DEBT, RICHEST = 0.05, 0.15, 1.85  # per year; b; largest wealth
NOISE = 1e-5  # of wealth, per year: nearly none
HORIZON, RECOVERY = 10.0, 2.0  # years


def economy(cells, lasting=None):
    """For ever, or after a shock to what has lasted; x[0] is the wealth above the limit."""
    rate = mfg.price("r", start=0.03)

    def saver(name):
        def hamiltonian(x, t, p, m):
            shock = options.shock * ufl.exp(-t / RECOVERY) if lasting else 0
            income = INCOMES[name] * (1 - shock) + rate * (x[0] - DEBT)
            return mfg.hamiltonians.consumption(lambda _: income, largest=0.5)(x, p, m)

        ends = {}
        if lasting:
            ends = {"initial_density": lasting.density(name), "terminal_cost": lasting.value(name)}
        return mfg.Crowd(
            diffusion=NOISE,
            hamiltonian=mfg.InTime(hamiltonian),
            running_cost=lambda *_: 0.0,
            discount=PATIENCE,
            population=0.5,
            boundary={end: mfg.Wall(pushes=False) for end in ("left", "right")},
            **ends,
        )

    return mfg.Populations(
        lasting.problem.domain if lasting else mfg.box((DEBT + RICHEST,), cells),
        horizon=HORIZON if lasting else None,
        crowds={name: saver(name) for name in INCOMES},
        switching={("poor", "rich"): CHANGES, ("rich", "poor"): CHANGES},
        market={"r": lambda x, t, m, v: m.all * (x[0] - DEBT)},
    )


# 1. The rate against the number of cells: the scheme is of first order.

runs = {n: mfg.solve(economy(n), scheme=mfg.Monotone()) for n in options.cells}
finest = runs[max(runs)]


def gathered(solution, name):
    """Wealth, density and drift at all nodes of all ranks, by wealth."""
    part, comm = solution[name], MPI.COMM_WORLD
    drift = part.velocity()  # constant on each cell: of its nodes the mean
    cells = drift.function_space.dofmap.list.ravel()
    left = drift.function_space.tabulate_dof_coordinates()[cells, 0]
    pairs = (
        [part.coordinates[:, 0] - DEBT, part.nodal_densities],
        [left - DEBT, drift.x.array[cells]],
    )
    found = []
    for pair in pairs:
        values = np.concatenate(comm.allgather(np.stack(pair)), axis=1)
        found.append(values[:, np.unique(values[0], return_index=True)[1]])
    return found


def at_the_limit(solution, name):
    """The share of a crowd that is at the limit of credit: of its node."""
    (wealth, density), _ = gathered(solution, name)
    return density[0] * (wealth[1] - wealth[0]) / 2 / solution[name].mass


limits = {n: at_the_limit(solution, "poor") for n, solution in runs.items()}
if MPI.COMM_WORLD.rank == 0:
    for n, solution in runs.items():
        print(
            f"{n} cells: {solution.iterations} Newton steps, rate {solution.prices['r']:.6f}, "
            f"of the poor at the limit {limits[n]:.4f}"
        )
    print(finest)

# 2. After the shock, on the coarsest grid but one.

before = runs[sorted(runs)[min(1, len(runs) - 1)]]
after = None
if options.shock:
    after = mfg.solve(economy(0, before), options.steps, mfg.Monotone())
    path = after.prices["r"]
    if MPI.COMM_WORLD.rank == 0:
        print(
            f"after the shock: {after.iterations} Newton steps, rate {path[0]:.5f} at first, "
            f"{path[options.steps // 2]:.5f} after {HORIZON / 2:g} years"
        )

# 3. The pictures: who owns what, and who saves.

lines = {name: gathered(finest, name) for name in INCOMES}
if MPI.COMM_WORLD.rank == 0:
    import matplotlib
    from matplotlib.figure import Figure

    options.out.mkdir(parents=True, exist_ok=True)
    matplotlib.rcParams.update(mfg.plots.STYLE)
    figure = Figure((mfg.plots.WIDTH, 4.4), layout="constrained")
    (owned, saved), (rates, later) = figure.subplots(2, 2)
    for (name, (density, drift)), colour in zip(lines.items(), ("C3", "C0"), strict=True):
        owned.plot(density[0][1:], density[1][1:], color=colour, label=name)
        saved.plot(*drift[:, 1:], color=colour)  # the slope of u is not right in the first cell
        if name == "poor":
            owned.annotate(
                f"atom: {limits[max(runs)]:.0%} of the poor",
                (0.0, 0.95),
                (0.35, 0.95),
                xycoords="axes fraction",
                va="center",
                arrowprops={"arrowstyle": "->"},
            )
    saved.axhline(0, color="0.7", lw=0.8)
    rates.plot([1 / n for n in runs], [y.prices["r"] for y in runs.values()], "o-", color="k")
    owned.set(xlabel="wealth", ylabel="density", xlim=(-DEBT, 0.6))
    owned.set_ylim(0, 1.2 * max(density[1][1:].max() for density, _ in lines.values()))
    saved.set(xlabel="wealth", ylabel="savings per year", xlim=(-DEBT, 1))
    rates.set(xlabel="1 / cells", ylabel="rate of interest [1/year]", xlim=(0, None))
    if after:
        middles = (after.times[1:] + after.times[:-1]) / 2
        later.plot(middles, after.prices["r"], color="k")
        later.axhline(before.prices["r"], color="0.7", lw=0.8)
        later.set(xlabel="years after the shock", ylabel="rate of interest [1/year]")
        later.set_xlim(0, HORIZON)
    owned.legend(frameon=False, loc="center right")
    for ax in (owned, saved, rates, later):
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(options.out / "wealth.png", dpi=200)
