# # Schroedinger's bridge, and optimal transport
#
# Particles that diffuse are seen to be spread like $N(3, 0.5^2)$ at $t = 0$ and, against all odds,
# like $N(5, 0.4^2)$ at $t = 1$. What have they most likely done between? Schroedinger asked that
# in 1931. The answer, his bridge, is also a control problem: of all velocities $a$ with
#
# $$ dX = a\, dt + \sqrt{2 D}\, dW, \qquad X_0 \sim m_0, \quad X_1 \sim m_1, $$
#
# take those of the least $E \int \frac12 |a|^2 dt$. So it is a `MeanFieldControl` in which moving
# is all that costs, with a `terminal_density` in the place of a terminal cost. Between Gaussians it
# is Gaussian, with the mean $\mu = 3 + 2 t$, the variance
#
# $$ v = (1 - t)^2 s_0^2 + t^2 s_1^2 + 2 t (1 - t) \sqrt{s_0^2 s_1^2 + D^2},
#    \qquad a = -u_x = \mu' + \frac{v' / 2 - D}{v} (x - \mu), $$
#
# $s_0 = 0.5$, $s_1 = 0.4$ (Bunne et al. 2023 have it in any dimension). As $D$ falls to 0 it
# becomes the optimal transport of Benamou and Brenier (2000), and its cost half the square of
# Wasserstein's distance, $\frac12 W_2^2 = \frac12 (5 - 3)^2 + \frac12 (0.5 - 0.4)^2 = 2.005$.

import argparse
import sys
from pathlib import Path

from mpi4py import MPI

import numpy as np

import ufl

import mfg_fem as mfg

parser = argparse.ArgumentParser(description="The bridge between two Gaussians on a line.")
parser.add_argument("--cells", type=int, default=256)
parser.add_argument("--steps", type=int, default=64)
parser.add_argument(
    "--diffusion", type=float, nargs="+", default=[0.4, 0.2, 0.06, 0.02, 6e-3, 2e-3, 2e-4]
)
parser.add_argument("--out", default="results/bridge", type=Path)
options = parser.parse_args([] if "ipykernel" in sys.argv[0] else None)

LENGTH, START, END, WIDE, NARROW = 8.0, 3.0, 5.0, 0.5, 0.4
LIMIT = ((END - START) ** 2 + (WIDE - NARROW) ** 2) / 2
comm, line = MPI.COMM_WORLD, mfg.box((LENGTH,), options.cells)


def bridge(D):
    """The problem. Densities are scaled to the same mass, 1."""
    return mfg.MeanFieldControl(
        line,
        horizon=1.0,
        diffusion=D,
        hamiltonian=mfg.hamiltonians.quadratic(),
        running_cost=lambda x, t, m: 0.0,
        initial_density=lambda x: ufl.exp(-((x[0] - START) ** 2) / (2 * WIDE**2)),
        terminal_density=lambda x: ufl.exp(-((x[0] - END) ** 2) / (2 * NARROW**2)),
    )


def exact(x, t, D):
    """Density and velocity of the bridge."""
    mixed = np.sqrt(WIDE**2 * NARROW**2 + D**2)
    v = (1 - t) ** 2 * WIDE**2 + t**2 * NARROW**2 + 2 * t * (1 - t) * mixed
    half = t * NARROW**2 - (1 - t) * WIDE**2 + (1 - 2 * t) * mixed  # of the derivative of v
    y = x - START - t * (END - START)
    return np.exp(-(y**2) / (2 * v)) / np.sqrt(2 * np.pi * v), END - START + (half - D) / v * y


def exact_cost(D):
    """Half the mean square of the velocity."""
    x, t = np.linspace(-10, 18, 2801), (np.arange(500)[:, None] + 0.5) / 500
    density, velocity = exact(x, t, D)
    return float(np.sum(density * velocity**2) / 2 * (x[1] - x[0]) / len(t))


def on_the_line(solution):
    """Nodes in order, values and densities at all times; on rank 0."""
    parts = comm.gather((solution.coordinates.T, solution.nodal_values, solution.nodal_densities))
    if comm.rank > 0:
        return None
    x, u, m = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
    order = np.argsort(x[0])
    return x[0, order], u[:, order], m[:, order]


def errors(D, x, u, m):
    """Largest L1 error of the density, L2 error of u_x at T / 2 weighted by the density."""
    times = np.linspace(0, 1, len(m))[:, None]
    off = np.sum(abs(m - exact(x, times, D)[0]), axis=1) * (x[1] - x[0])
    middle = (x[1:] + x[:-1]) / 2
    density, velocity = exact(middle, 0.5, D)
    defect = np.diff(u[len(u) // 2]) / np.diff(x) + velocity
    return off.max(), np.sqrt(np.sum(density * defect**2) / np.sum(density))


# With little diffusion a bridge is a good guess for the next. With much, tails change too much, and
# each is solved anew: `solve` then walks down on its own, in about 40 Newton steps. The midpoint
# rule is of second order and, where the mesh resolves the Gaussians, the most accurate here; where
# it does not, its equations may have no positive density, and Newton stops. The default scheme,
# `Sharp()`, does the same with densities that are positive on any mesh; if people hardly diffuse it
# takes more steps, and may stop nearer to first order, with a warning.

found, solution = {}, None
if comm.rank == 0:
    print("D         cost       exact cost   error of m   error of u_x   Newton steps")
for D in options.diffusion:
    scheme = mfg.Galerkin(1, "midpoint")
    guess = solution if D < 0.1 else None
    solution = mfg.solve(bridge(D), options.steps, scheme, guess=guess)
    if (levels := on_the_line(solution)) is not None:
        found[D] = solution.cost, levels
        density, slope = errors(D, *levels)
        print(
            f"{D:<8g}  {solution.cost:.6f}   {exact_cost(D):.6f}     {density:.1e}      "
            f"{slope:.1e}        {solution.iterations:4d}"
        )
if comm.rank == 0:
    print(f"0                    {LIMIT:.6f}     (half the square of Wasserstein's distance)")

# The cost falls to that of optimal transport. Noise makes the bridge wider half way, and gathering
# again is what costs more.

if comm.rank == 0:
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update(mfg.plots.STYLE)
    figure = Figure((mfg.plots.WIDTH, 2.4), layout="constrained")
    cost, *panels = figure.subplots(1, 3, width_ratios=(1.1, 1, 1))
    D = np.geomspace(min(found) / 2, max(found) * 1.25, 100)
    cost.semilogx(D, [exact_cost(d) for d in D], "-", color="0.6", lw=1.2, label="exact")
    cost.plot([*found], [y for y, _ in found.values()], "o", color="black", ms=3, label="computed")
    cost.axhline(LIMIT, ls="--", lw=0.8, color="#c05020", label="limit, $W_2^2 / 2$")
    cost.set(xlabel="diffusion D", ylabel="cost", title="cost of the bridge")
    cost.legend(frameon=False, loc="upper left")
    times = (0, 0.25, 0.5, 0.75, 1)
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, len(times)))
    for ax, D in zip(panels, (max(found), min(found)), strict=True):
        x, _, m = found[D][1]
        for t, colour in zip(times, colours, strict=True):
            ax.plot(x, m[round(t * options.steps)], color=colour, lw=1.2, label=f"t = {t:g}")
        ax.plot(x[::4], exact(x[::4], 0.5, D)[0], "k.", ms=2.5, label="t = 0.5, exact")
        ax.set(xlabel="x", ylabel="density", title=f"D = {D:g}", xlim=(1, 7), ylim=(0, 1.05))
    figure.legend(*ax.get_legend_handles_labels(), loc="outside right center", frameon=False)
    for ax in (cost, *panels):
        ax.spines[["top", "right"]].set_visible(False)
    options.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out / "bridge.png", dpi=200)
