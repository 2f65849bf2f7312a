# # A first game, with its exact solution
#
# A mean-field game on the unit square, nobody leaves, $H = |p|^2/2$ and no running cost:
#
# $$ -u_t - D \Delta u + \tfrac12 |\nabla u|^2 = 0, \qquad u(T) = g, $$
# $$ m_t - D \Delta m - \nabla \cdot (m \nabla u) = 0, \qquad m(0) = m_0. $$
#
# The change of variables of Hopf and Cole, $u = -2 D \log \varphi$ and $m = \varphi \psi$, makes
# two heat equations of it, one backward and one forward in time. So for instance
#
# $$ \varphi = 1 + \tfrac12 e^{-2 D \pi^2 (T - t)} \cos \pi x \cos \pi y, \qquad
#    \psi = 1 + \tfrac12 e^{-D \pi^2 t} \cos \pi x $$
#
# give an exact solution, and every scheme can be measured against it.

import argparse
import sys
from pathlib import Path

from mpi4py import MPI

import numpy as np

import ufl
from dolfinx import fem

import mfg_fem as mfg

parser = argparse.ArgumentParser(description="A game with an exact solution.")
parser.add_argument("--cells", type=int, nargs="+", default=[8, 16, 32])
parser.add_argument("--out", default="results/first_game", type=Path)
options = parser.parse_args([] if "ipykernel" in sys.argv[0] else None)

T, D, pi = 0.5, 0.2, np.pi


def phi(x, t):
    """Backward heat equation."""
    return 1 + 0.5 * np.exp(-2 * D * pi**2 * (T - t)) * ufl.cos(pi * x[0]) * ufl.cos(pi * x[1])


def psi(x, t):
    """Forward heat equation."""
    return 1 + 0.5 * np.exp(-D * pi**2 * t) * ufl.cos(pi * x[0])


def value(x, t):
    """Exact value function."""
    return -2 * D * ufl.ln(phi(x, t))


def density(x, t):
    """Exact density; its integral is 1, the default population."""
    return phi(x, t) * psi(x, t)


# The game is stated once for each mesh.


def game(cells):
    """The problem on a mesh of cells x cells squares."""
    return mfg.MeanFieldGame(
        mfg.box((1.0, 1.0), cells),
        horizon=T,
        diffusion=D,
        hamiltonian=mfg.hamiltonians.quadratic(),
        running_cost=lambda x, t, m: 0.0,
        terminal_cost=lambda x, m: value(x, T),
        initial_density=lambda x: density(x, 0.0),
    )


def error(computed, exact):
    """L2 norm of the difference on the whole domain."""
    mesh = computed.function_space.mesh
    square = (computed - exact(ufl.SpatialCoordinate(mesh))) ** 2 * ufl.dx(degree=6)
    return np.sqrt(mesh.comm.allreduce(fem.assemble_scalar(fem.form(square)), MPI.SUM))


# Three schemes on finer and finer meshes. Sharp, the default, and the midpoint rule take time steps
# like h. Implicit Euler takes steps like h², so that its error in time shrinks as fast as that of
# P1 in space; Monotone is of order 2 where diffusion rules and 1 where transport does.

SCHEMES = {
    "Sharp": (mfg.Sharp(), lambda cells: cells),
    "Monotone": (mfg.Monotone(), lambda cells: cells**2 // 8),
    "Galerkin P2, midpoint": (mfg.Galerkin(degree=2, time="midpoint"), lambda cells: 2 * cells),
}
comm = MPI.COMM_WORLD
errors = {}
for name, (scheme, steps) in SCHEMES.items():
    rows = []
    for cells in options.cells:
        solution = mfg.solve(game(cells), steps(cells), scheme)
        # The value function is least accurate at t = 0 and the density at t = T.
        u = error(solution.value(0), lambda x: value(x, 0.0))
        m = error(solution.density(solution.steps), lambda x: density(x, T))
        rows.append((1 / cells, u, m))
    errors[name] = np.array(rows)

# The table: errors, and their orders between one mesh and the next.

if comm.rank == 0:
    for name, rows in errors.items():
        print(f"{name}\n     h        error of u(0)  order   error of m(T)  order")
        orders = np.diff(np.log(rows[:, 1:]), axis=0) / np.diff(np.log(rows[:, :1]), axis=0)
        orders = np.vstack([[np.nan, np.nan], orders])
        for (h, u, m), (order_u, order_m) in zip(rows, orders, strict=True):
            print(f"  {h:.5f}      {u:.2e}    {order_u:5.2f}       {m:.2e}    {order_m:5.2f}")

# And the figure.

if comm.rank == 0:
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    figure = Figure((7.0, 2.8), layout="constrained")
    for ax, column, title in zip(figure.subplots(1, 2), (1, 2), ("u(0)", "m(T)"), strict=True):
        for (name, rows), style in zip(errors.items(), ("o-", "s--", "^-."), strict=True):
            ax.loglog(rows[:, 0], rows[:, column], style, label=name, ms=4)
        ax.set(xlabel="h", ylabel=f"L² error of {title}")
        ax.set_xticks(rows[:, 0], [f"1/{cells}" for cells in options.cells])
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.spines[["top", "right"]].set_visible(False)
    names = ax.get_legend_handles_labels()
    figure.legend(*names, loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    options.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out / "errors.png", dpi=200)
