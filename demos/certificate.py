# # How good is an answer, and what would people do?
#
# Forty people leave a room of 10 m x 5 m, which is open on the right. Everybody is in a hurry and
# minds the others: a second costs $1 + m / 2$, with $m$ the people per square metre, and
#
# $$ -u_t - D \Delta u + \tfrac12 |\nabla u|^2 = 1 + \tfrac12 m, \qquad a = -\nabla u. $$
#
# **A certificate.** Let everybody follow the drift $a$ that was computed, on a mesh and with steps
# twice as fine. That makes a density $\mu$. What could one of them still save, who knows it?
#
# $$ \varepsilon = \mathrm{cost}(a; \mu) - \int V(0)\, m_0
#    = \int\!\!\int \mu\, \tfrac12 |\nabla V - \nabla u|^2 \ge 0, $$
#
# with $V$ the best response to $\mu$: the exploitability, for any $H$ with its Bregman distance in
# the place of the square. It knows nothing of how $a$ was found. Errors of $\nabla u$ are of order
# $h$, and it is their square.
#
# **Players.** Forty people are no density. `players` lets so many walk as one likes, each with a
# noise of its own, and says how far their numbers scatter.

import argparse
import sys
from pathlib import Path

from mpi4py import MPI

import numpy as np

import ufl

import mfg_fem as mfg

parser = argparse.ArgumentParser(description="Exploitability, and finitely many players.")
parser.add_argument("--cells", type=int, nargs="+", default=[5, 10, 20], help="across the room")
parser.add_argument("--players", type=int, nargs="+", default=[40, 1000, 40000])
parser.add_argument("--out", default="results/certificate", type=Path)
options = parser.parse_args([] if "ipykernel" in sys.argv[0] else None)

PEOPLE, LENGTH, WIDTH, HORIZON = 40, 10.0, 5.0, 10.0  # persons, metres, seconds
comm = MPI.COMM_WORLD


def room(domain, minds=0.5):
    """The game; `minds` is how much a second costs for each person per square metre."""
    return mfg.MeanFieldGame(
        domain,
        horizon=HORIZON,
        diffusion=0.15,
        hamiltonian=mfg.hamiltonians.quadratic(),
        running_cost=lambda x, t, m: 1 + minds * m,
        terminal_cost=lambda x, m: LENGTH - x[0],
        initial_density=lambda x: ufl.exp(-((x[0] - 3) ** 2 + (x[1] - 2.5) ** 2) / 2),
        population=PEOPLE,
        boundary={"right": mfg.Exit()},
    )


# Both sides of the formula are computed. That they agree says that the certificate itself is good.

rows: list[tuple[float, float]] = []
if comm.rank == 0:
    print("  h [m]   exploitability   by costs   of the cost   L1 of m   order")
for cells in options.cells:
    game = room(mfg.box((LENGTH, WIDTH), (2 * cells, cells)))
    solution = mfg.solve(game, 4 * cells)
    found, h = solution.exploitability(), WIDTH / cells
    order = np.log2(rows[-1][1] / found.bregman) / np.log2(rows[-1][0] / h) if rows else np.nan
    rows.append((h, found.bregman))
    if comm.rank == 0:
        print(
            f"{h:7.4f}   {found.bregman:.4e}       {found.costs:.3e}  {found.relative:.3e}     "
            f"{found.crowd:.3e} {order:6.2f}"
        )

# Who takes no notice of the others has another drift. Judged in the same game, on the same mesh, it
# is not a coarse answer but a wrong one.

alone = mfg.solve(room(game.domain, minds=0.0), 4 * cells).exploitability(game)
if comm.rank == 0:
    print(f"who minds nobody: {alone.bregman:.4e}, {alone.bregman / found.bregman:.0f} times")

# With the number of players their scatter falls as $1 / \sqrt N$; the density that the certificate
# has is what they tend to.

runs = {number: solution.players(number, seed=1) for number in options.players}
half = solution.steps // 2
expected = PEOPLE - found.gone["right"][::2]
if comm.rank == 0:
    print(f"players   inside at {HORIZON / 2:g} s ({expected[half]:.3f})   cost ({found.cost:.2f})")
    for number, run in runs.items():
        print(
            f"{number:7d}   {run.inside[half]:8.3f} +- {run.inside_error[half]:.3f}       "
            f"{run.cost:8.2f} +- {run.standard_error:.2f}"
        )

early = round(0.25 * solution.steps)
dots = {number: run.positions(early) for number, run in runs.items()}
nodes = comm.gather((solution.coordinates, solution.nodal_densities[early]))

if nodes is not None:
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update(mfg.plots.STYLE)
    figure = Figure((mfg.plots.WIDTH, 4.0), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(1.5, 1))
    errors, crowd = above.subplots(1, 2)
    h, eps = np.array(rows).T
    errors.loglog(h, eps, "o-", color="black", ms=4, lw=1, label="exploitability")
    errors.loglog(h, eps[-1] * (h / h[-1]) ** 2, "--", color="0.6", lw=1, label="slope 2")
    errors.axhline(alone.bregman, color="#c05020", lw=1, ls="-.", label="who minds nobody")
    errors.set(xlabel="h [m]", ylabel="cost", title="what players could save")
    errors.set_xticks(h, [f"{y:g}" for y in h])
    errors.set_xticks([], minor=True)
    errors.legend(frameon=False)
    t = solution.times
    for (number, run), colour in zip(runs.items(), ("#c05020", "#00708a", "0.4"), strict=False):
        width = 3 * PEOPLE * np.sqrt(expected / PEOPLE * (1 - expected / PEOPLE) / number)
        crowd.fill_between(t, expected - width, expected + width, color=colour, alpha=0.2, lw=0)
        crowd.plot(t, run.inside, color=colour, lw=1, label=f"{number:,} players")
    crowd.plot(t, expected, "k--", lw=1, label="density")
    crowd.set(xlabel="t [s]", ylabel="people", title="people inside, 3 sigma", xlim=(0, HORIZON))
    crowd.legend(frameon=False)
    x, m = (np.concatenate(part) for part in zip(*nodes, strict=True))
    panels = below.subplots(1, len(dots), sharey=True, squeeze=False)[0]
    for ax, (number, points) in zip(panels, dots.items(), strict=True):
        image = ax.tripcolor(*x.T, m, cmap="viridis", shading="gouraud", rasterized=True)
        size = np.clip(60 / number**0.5, 0.05, 6)
        ax.plot(*points.T, ".", color="white", ms=size, mew=0, rasterized=True)
        ax.set(aspect="equal", xlabel="x [m]", title=f"{number:,} players", xlim=(0, LENGTH))
    panels[0].set_ylabel("y [m]")
    below.colorbar(image, ax=panels, label="people per m$^2$", shrink=0.8)
    options.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out / "certificate.png", dpi=200)
