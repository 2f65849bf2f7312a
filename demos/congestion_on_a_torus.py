# # Two published games with congestion, on a torus
#
# Who walks out of the unit square on one side comes in on the opposite one. Moving in a crowd is
# hard: with a congestion factor $F(m)$ that grows,
#
# $$ -u_t - \varepsilon \Delta u + \frac{|\nabla u|^2}{2 F(m)} = V + m, \qquad u(T) = u_T, $$
# $$ m_t - \varepsilon \Delta m - \nabla \cdot \Bigl( m \frac{\nabla u}{F(m)} \Bigr) = 0,
#    \qquad m(0) = m_0. $$
#
# The data are `OneDimTest1` and `TwoDimTest3` of
# [MfgSolvers.jl](https://github.com/songjhaha/MfgSolvers.jl), where policy iteration with finite
# differences takes 10 and 58 iterations. Here Newton takes both equations and all times at once.
# The *reference* is a Newton method of upwind finite differences with as many points and steps.
# All are of first order in dt with the same dt, so that they differ by their errors in space only;
# those of `Galerkin` are of order 2, the others' of order 1.

import argparse
import sys
from pathlib import Path

from mpi4py import MPI

import numpy as np

import ufl

import mfg_fem as mfg

parser = argparse.ArgumentParser(description="Two published games with congestion on a torus.")
parser.add_argument("--line", type=int, nargs=2, default=[200, 200], help="cells, steps in 1D")
parser.add_argument("--square", type=int, nargs=2, default=[50, 100], help="cells, steps in 2D")
parser.add_argument("--out", default="results/congestion_on_a_torus", type=Path)
options = parser.parse_args([] if "ipykernel" in sys.argv[0] else None)

pi, comm = np.pi, MPI.COMM_WORLD


# In 1D a crowd in the middle has two places to go to, and $F = 20 (1 + 4 m)^{3/2}$ lets nobody
# hurry.


def line(cells):
    """The game on the circle of length 1."""

    def initial(x):
        inside = ufl.And(ufl.ge(x[0], 0.375 - 1e-9), ufl.le(x[0], 0.625 + 1e-9))
        return ufl.conditional(inside, 4.0, 0.0)

    return mfg.MeanFieldGame(
        mfg.box(1.0, cells, periodic=True),
        horizon=1.0,
        diffusion=0.05,
        hamiltonian=lambda x, p, m: ufl.dot(p, p) / (40 * (1 + 4 * m) ** 1.5),
        running_cost=lambda x, t, m: 0.1 + m,
        terminal_cost=lambda x, m: 100 * ufl.min_value((x[0] - 0.3) ** 2, (x[0] - 0.7) ** 2),
        initial_density=initial,
    )


# In 2D the crowd begins where $u_T$ is least, spreads, and comes back in time to pay little;
# $F = (1 + m)^{3/4}$.


def square(cells):
    """The game on the torus of sides 1."""

    def V(x):
        return -(ufl.sin(2 * pi * x[0]) + ufl.sin(2 * pi * x[1]) + ufl.cos(4 * pi * x[0]))

    return mfg.MeanFieldGame(
        mfg.box((1.0, 1.0), cells, periodic=True),
        horizon=1.0,
        diffusion=0.8,
        hamiltonian=mfg.hamiltonians.congestion(1.0, 0.75),
        running_cost=lambda x, t, m: V(x) + m,
        terminal_cost=lambda x, m: 5 * (ufl.cos(2 * pi * x[0]) + ufl.cos(2 * pi * x[1])),
        initial_density=lambda x: ufl.exp(-40 * ((x[0] - 0.5) ** 2 + (x[1] - 0.5) ** 2)),
    )


# The table: smallest and largest value at the start and of the density at the end.

REFERENCE = {"line": (3.161938, 3.569958, 0.481013, 1.249320)}
REFERENCE["square"] = (-2.160216, -2.007515, 0.012942, 4.481744)


def extremes(solution):
    """Smallest and largest u(0) and m(T), over all ranks."""
    u, m = solution.nodal_values[0], solution.nodal_densities[-1]
    ends = comm.allgather([-u.min(), u.max(), -m.min(), m.max()])
    return np.max(ends, axis=0) * [-1, 1, -1, 1]


SCHEMES = {"Monotone": mfg.Monotone(), "Galerkin": mfg.Galerkin()}
if comm.rank == 0:
    print("                          u(0) from          to   m(T) from          to   Newton steps")
for name, game, (cells, steps) in (
    ("line", line, options.line),
    ("square", square, options.square),
):
    rows = {"reference": (REFERENCE[name], "")}
    problem = game(cells)
    for scheme in SCHEMES:
        solution = mfg.solve(problem, steps, SCHEMES[scheme])
        rows[scheme] = (extremes(solution), solution.iterations)
    for row, (numbers, count) in rows.items():
        if comm.rank == 0:
            print(f"{name:8}{row:16}" + "".join(f"{y:12.6f}" for y in numbers) + f"   {count}")

# The picture: the crowd of the square.

mfg.plots.plot_density(
    solution, options.out / "density.png", t=[0, 0.02, 0.1, 0.5, 0.98, 1], length="L", time="T"
)
