# # An intruder in a dense crowd
#
# A cylinder is pushed through a standing crowd. In the experiments of Nicolas and others (2019)
# people step aside and come back behind it: they look ahead. Bonnemain, Butano and others (2023)
# explain that by a mean-field game which is stationary in the frame of the intruder,
#
# $$ -D \Delta u + \tfrac12 |\nabla u|^2 + s\, \partial_y u + \gamma u = V - g\, (m - m_0), \qquad
#    -D \Delta m - \nabla \cdot \bigl( m (\nabla u + s\, e_y) \bigr) = 0, $$
#
# with $u = 0$, $m = m_0$ far away. Who does not look ahead, with a large discount $\gamma$, is
# pushed instead: the crowd piles up before the intruder (Butano and others 2024).

import argparse
import sys
from pathlib import Path

from mpi4py import MPI

import numpy as np
from scipy.interpolate import LinearNDInterpolator
from scipy.spatial import Delaunay

import ufl
from dolfinx import fem

import mfg_fem as mfg

MESHES = Path(globals().get("__file__", "notebook")).resolve().parents[1] / "meshes"
parser = argparse.ArgumentParser(description="A crowd around an intruder, for several discounts.")
parser.add_argument("--mesh", default=MESHES / "intruder.msh")
parser.add_argument("--discounts", type=float, nargs="+", default=[0.0, 0.5, 2.0, 6.0])
parser.add_argument("--out", default="results/intruder", type=Path)
options = parser.parse_args([] if "ipykernel" in sys.argv[0] else None)

DENSITY, SPEED, RADIUS, D, G, WALL = 2.5, 2.0, 0.37, 0.25, -0.2, 1000.0
AWAY = (1.0, 1.5, 2.0)
# What the authors found on 100 x 100 cells, and finite differences on 199 x 199; the disc is a
# staircase in both.
KNOWN = {"authors": (0.962, 1.368, 1.597), "finer": (0.9149, 1.3293, 1.5645)}

# The street is a tube: who leaves in the west comes in in the east. The mesh is fitted to the disc,
# where it costs much to be.

comm = MPI.COMM_WORLD
street = mfg.glue(mfg.read_mesh(options.mesh), [True, False])
cells = fem.functionspace(street.mesh, ("DG", 0))
V = fem.Function(cells)
middles = cells.tabulate_dof_coordinates() - 3
V.x.array[:] = np.where(np.hypot(middles[:, 0], middles[:, 1]) < RADIUS, WALL, 0.0)


def game(discount):
    """The crowd in the frame of the intruder, which goes in the direction of y."""
    far = mfg.Open(value=0.0, density=DENSITY)
    return mfg.MeanFieldGame(
        street,
        discount=discount,
        diffusion=D,
        hamiltonian=lambda x, p, m: ufl.dot(p, p) / 2 + SPEED * p[1],
        running_cost=lambda x, t, m: V - G * (m - DENSITY),
        population=36 * DENSITY,
        boundary={"south": far, "north": far},
    )


def on_one_rank(state):
    """Coordinates from the middle of the disc, and density, of all nodes, on rank 0."""
    parts = comm.gather((state.coordinates - 3, state.nodal_densities))
    return None if parts is None else [np.concatenate(part) for part in zip(*parts, strict=True)]


found, state = {}, None
if comm.rank == 0:
    print("discount  Newton steps  m before and behind the intruder, at |y| =", *AWAY)
for discount in options.discounts:
    state = mfg.solve(game(discount), guess=state)
    found[discount] = gathered = on_one_rank(state)
    if gathered is not None:
        density, at = LinearNDInterpolator(*gathered), np.array(AWAY)
        before, behind = (density(0 * at, side * at) for side in (1, -1))
        print(f"{discount:8g}  {state.iterations:12d} ", *(f"{v:.4f}" for v in (*before, *behind)))
if comm.rank == 0:
    for name, values in KNOWN.items():
        print(f"{name:>8}               ", *(f"{v:.4f}" for v in values), "(no discount)")

if comm.rank == 0:
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.tri import Triangulation

    matplotlib.rcParams.update(mfg.plots.STYLE)
    figure = Figure((mfg.plots.WIDTH, 4.2), layout="constrained")
    count = len(found)
    axes = figure.subplot_mosaic([[f"{k}" for k in range(count)], ["line"] * count])
    along = np.linspace(-2.9, 2.9, 117)
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, count))
    for k, ((discount, (points, m)), colour) in enumerate(zip(found.items(), colours, strict=True)):
        mesh, ax = Triangulation(*points.T, Delaunay(points).simplices), axes[f"{k}"]
        shown = ax.tripcolor(
            mesh, m, shading="gouraud", cmap="Oranges", vmin=0, vmax=1.5 * DENSITY, rasterized=True
        )
        ax.add_patch(matplotlib.patches.Circle((0, 0), RADIUS, color="0.4"))
        ax.set(aspect="equal", xlim=(-2, 2), ylim=(-2.5, 2.5), title=rf"$\gamma$ = {discount:g}")
        ax.set(xlabel="x [m]", ylabel="y [m]" if k == 0 else "")
        line = LinearNDInterpolator(points, m)(0 * along, along)
        axes["line"].plot(along, line, color=colour, lw=1, label=rf"$\gamma$ = {discount:g}")
    for (name, values), marker in zip(KNOWN.items(), "ox", strict=True):
        both = np.array([*AWAY, *(-np.array(AWAY))])
        axes["line"].plot(both, values * 2, marker, color="k", ms=4, mfc="none", label=name)
    axes["line"].set(xlabel="y [m], the intruder goes to the right", ylabel="m(0, y) [1/m$^2$]")
    axes["line"].legend(frameon=False, ncols=2)
    axes["line"].spines[["top", "right"]].set_visible(False)
    figure.colorbar(shown, ax=[axes[f"{k}"] for k in range(count)], label="density [1/m$^2$]")
    options.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out / "intruder.png", dpi=200)
