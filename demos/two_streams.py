# # Two streams that cross
#
# Two crowds walk towards each other in a corridor. A person of one crowd minds its own crowd a
# little and the other crowd more: with the densities $m_e$ and $m_w$ of those who walk east and
# west, everybody pays
#
# $$ \int 1 + a \, m_{own} + c \, m_{other} + \frac{|v|^2}{2 \mu} \, dt $$
#
# until the far end of the corridor, and nobody can do better by another way, `mfg.Populations`. The
# aversion $c$ makes lanes, though the corridor is the same all along and the crowds differ only by
# a slight tilt at the start. For $c > a$ the game is not monotone: there are other equilibria, with
# the lanes elsewhere, and the path from $c = 0$ chooses this one. Metres, seconds, people.

import argparse
import sys
from pathlib import Path

import numpy as np

import ufl
from dolfinx import fem

import mfg_fem as mfg

parser = argparse.ArgumentParser(description="Two crowds walk towards each other.")
parser.add_argument("--cells", type=int, default=16, help="cells across the corridor")
parser.add_argument("--steps", type=int, default=40)
parser.add_argument("--aversions", type=float, nargs="+", default=[0.0, 0.25, 0.5, 1.0])
parser.add_argument("--out", default="results/two_streams", type=Path)
options = parser.parse_args([] if "ipykernel" in sys.argv[0] else None)

LENGTH, WIDTH, HORIZON = 12.0, 4.0, 14.0  # m; m; s
PEOPLE, SPEED, NOISE, OWN = 12, 1.3, 0.05, 0.2  # each; m/s; m^2/s; a [m^2]
TILT = 0.2  # of the densities across the corridor

corridor = mfg.box((LENGTH, WIDTH), (3 * options.cells, options.cells))


def stream(own, other, end, tilt, aversion):
    """A crowd that walks to the end of this name."""
    left = lambda x: LENGTH - x[0] if end == "right" else x[0]  # noqa: E731  # metres to go
    return mfg.Crowd(
        diffusion=NOISE,
        hamiltonian=mfg.hamiltonians.quadratic(SPEED**2 / 2),  # who pays 1 per s walks at SPEED
        running_cost=lambda x, t, m: 1 + OWN * m[own] + aversion * m[other],
        terminal_cost=lambda x, m: 3 * left(x) / SPEED,
        initial_density=lambda x: (
            ufl.exp(-(((LENGTH - 2 - left(x)) / 1.5) ** 2))
            * (1 + tilt * ufl.cos(ufl.pi * x[1] / WIDTH))
        ),
        population=PEOPLE,
        boundary={end: mfg.Exit()},
    )


def streams(aversion):
    """Both of them."""
    crowds = {
        "east": stream("east", "west", "right", TILT, aversion),
        "west": stream("west", "east", "left", -TILT, aversion),
    }
    return mfg.Populations(corridor, horizon=HORIZON, crowds=crowds)


# 1. One aversion after the other, each from the solution before.

runs: dict[float, mfg.PopulationsSolution] = {}
for c in options.aversions:
    guess = runs[max(runs)] if runs else None
    runs[c] = mfg.solve(streams(c), options.steps, guess=guess)


# 2. How far the crowds are in each other's way: those of one crowd who stand where as many of the
# other stand, the integral of min(m_e, m_w).


def overlap(solution):
    """The integral of min(m_e, m_w) at all times."""
    east, west = solution.density(0, "east"), solution.density(0, "west")
    form, found = fem.form(ufl.min_value(east, west) * ufl.dx), []
    for n in range(solution.steps + 1):
        east.x.array[:] = solution.density(n, "east").x.array
        west.x.array[:] = solution.density(n, "west").x.array
        found.append(corridor.comm.allreduce(fem.assemble_scalar(form)))
    return np.array(found)


mixed = {c: overlap(solution) for c, solution in runs.items()}
gone = {c: solution.gone["east"]["right"] for c, solution in runs.items()}
if corridor.comm.rank == 0:
    for c, solution in runs.items():
        flux = np.diff(gone[c]) / np.diff(solution.times)
        half = np.interp(PEOPLE / 2, gone[c], solution.times)
        print(f"aversion {c:g}: {solution.iterations} Newton steps, {solution.seconds:.0f} s")
        print(f"  at most {mixed[c].max():.3f} people among as many of the others")
        print(f"  half gone at {half:.3f} s, flux at most {flux.max():.3f} per s")
        print(f"  cost {solution.cost / 2 / PEOPLE:.4f} s a person")
        print(f"  balance {np.abs(solution.balance).max() / 2 / PEOPLE:.1e} of all")

# 3. The pictures: the lanes of the strongest aversion, and what aversion does.

out, last = options.out, runs[max(runs)]
mfg.plots.plot_density(last, out / "lanes.png", t=[2, 3.5, 5])
last.write(out / "lanes.bp")

if corridor.comm.rank == 0:
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update(mfg.plots.STYLE)
    figure = Figure((mfg.plots.WIDTH, 2.4), layout="constrained")
    among, left, price = figure.subplots(1, 3)
    for c, solution in runs.items():
        among.plot(solution.times, mixed[c], label=f"c = {c:g}")
        flux = np.diff(gone[c]) / np.diff(solution.times)
        left.stairs(flux, solution.times, baseline=None)
    costs = [solution.cost / 2 / PEOPLE for solution in runs.values()]
    price.plot([*runs], costs, "o-", color="k")
    among.set(ylabel="people among others", xlabel="t [s]", xlim=(0, HORIZON), ylim=(0, None))
    left.set(ylabel="flux to the east [1/s]", xlabel="t [s]", xlim=(0, HORIZON), ylim=(0, None))
    price.set(ylabel="cost of a person [s]", xlabel="aversion c [m$^2$]")
    among.legend(frameon=False)
    for ax in (among, left, price):
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(out / "aversion.png", dpi=200)
