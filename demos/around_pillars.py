# # Around pillars, in time
#
# Thirty people stand at one end of a hall. In twelve seconds they have to stand at the other end,
# and between are pillars. Who walks where, and when? A planning problem: the density is prescribed
# at both ends of time, and the cost at the end is found with the rest, such that it is met. The
# planner of a `MeanFieldControl` moves all of them so that the sum of
#
# $$ \int_0^T (1 + \alpha m) \tfrac12 |a|^2\, dt, \qquad dX = a\, dt + \sqrt{2 D}\, dW, $$
#
# is least, where $m$ is the density where one is and $a$ the velocity one takes. At $\alpha = 0$
# nobody minds the others: a Schroedinger bridge in a hall, with detours. With $\alpha > 0$ it costs
# more to walk where it is crowded (Achdou, Camilli, Capuzzo-Dolcetta 2012; Lions 2011), and it
# pays to spread first, take every gap, and gather at the end. Then
#
# $$ H = \frac{|p|^2}{2 (1 + \alpha m)}. $$
#
# Without noise, pillars and others, all would walk straight on, $d = 10.8$ m at the same speed
# $d / T$, and pay $d^2 / (2 T)$ each: the least there is.

import argparse
import sys
from pathlib import Path

from mpi4py import MPI

import numpy as np

import ufl

import mfg_fem as mfg

MESHES = Path(globals().get("__file__", "notebook")).resolve().parents[1] / "meshes"
parser = argparse.ArgumentParser(description="A crowd has to be elsewhere in time.")
parser.add_argument("--mesh", default=MESHES / "pillars.msh")
parser.add_argument("--steps", type=int, default=32, help="a multiple of 4")
parser.add_argument("--people", type=float, default=30.0)
parser.add_argument("--crowding", type=float, default=1.0, help="alpha, m²")
parser.add_argument("--diffusion", type=float, default=0.08, help="m²/s")
parser.add_argument("--horizon", type=float, default=12.0, help="s")
parser.add_argument("--out", default="results/around_pillars", type=Path)
options = parser.parse_args([] if "ipykernel" in sys.argv[0] else None)

LENGTH, HEIGHT, START, END, RADIUS = 16.0, 9.0, (2.6, 4.5), (13.4, 4.5), 1.1  # m
comm, hall = MPI.COMM_WORLD, mfg.read_mesh(options.mesh)


def blob(x, at):
    """People around a place."""
    return ufl.exp(-sum((x[i] - at[i]) ** 2 for i in range(2)) / (2 * RADIUS**2))


def walk(crowding):
    """The planning problem. Walls and pillars reflect."""
    return mfg.MeanFieldControl(
        hall,
        horizon=options.horizon,
        diffusion=options.diffusion,
        hamiltonian=mfg.hamiltonians.congestion(crowding, 1.0),
        running_cost=lambda x, t, m: 0.0,
        initial_density=lambda x: blob(x, START),
        terminal_density=lambda x: blob(x, END),
        population=options.people,
        floor=1e-3,  # 2 % of the people are spread evenly: less would take more Newton steps
    )


# `Monotone` is of first order: on this mesh it adds a viscosity of about $h |a| / 2 = 0.15$ m²/s
# where people walk, more than their own. A picture needs no better. The default, `Sharp()`, takes
# many times the Krylov iterations where a crowd parts and gathers, and with crowding it stops
# nearer to first order, with a warning.

rows = []
if comm.rank == 0:
    straight = options.people * (END[0] - START[0]) ** 2 / (2 * options.horizon)
    print(f"{options.people:g} people straight on: {straight:.4f} m²/s")
    print("alpha [m²]  cost [m²/s]  largest density [1/m²]: at T/2, at all  gap at T  Newton steps")
for crowding in (0.0, options.crowding):
    solution = mfg.solve(walk(crowding), options.steps, mfg.Monotone())
    half = solution.nodal_densities[options.steps // 2].max(initial=0.0)
    half = comm.allreduce(half, MPI.MAX)
    if comm.rank == 0:
        print(
            f"{crowding:<10g}  {solution.cost:.4f}     {half:16.4f}  {solution.max_density:16.4f}  "
            f"{solution.terminal_gap:13.1e}  {solution.iterations:6d}"
        )
    fluid, shots = mfg.hydrodynamics(solution), []
    for quarter in (1, 2, 3):
        n = quarter * options.steps // 4
        m, flux = solution.density(n), fluid.flux(n)
        V = m.function_space
        cells = V.dofmap.list[: hall.mesh.topology.index_map(2).size_local]
        x = V.tabulate_dof_coordinates()[:, :2]
        shots.append(comm.gather((x, cells, m.x.array, flux.x.array.reshape(-1, 2)[: len(cells)])))
    rows.append(shots)

# The figure: density, and the flux $-m H_p - D \nabla m$ that the mass balance of each step sees,
# with the viscosity of the scheme. Each rank has sent its part of the hall.


def show(ax, parts, colours, largest):
    """One time: colours of the density, arrows of the flux on a regular grid."""
    middles = np.concatenate([x[cells].mean(axis=1) for x, cells, _, _ in parts])
    flux = np.concatenate([part[-1] for part in parts])
    for x, cells, m, _ in parts:
        shown = ax.tripcolor(*x.T, cells, m, shading="gouraud", rasterized=True, **colours)
    X = np.stack(np.meshgrid(np.arange(0.4, LENGTH, 0.8), np.arange(0.5, HEIGHT, 0.8)), axis=-1)
    X = X.reshape(-1, 2)
    near = np.linalg.norm(X[:, None] - middles, axis=2)
    near = near.argmin(axis=1)[near.min(axis=1) < 0.2]
    near = near[np.linalg.norm(flux[near], axis=1) > 0.05 * largest]
    scale = {"scale": largest / 1.7, "scale_units": "x", "width": 0.005, "pivot": "mid"}
    arrows = ax.quiver(*middles[near].T, *flux[near].T, **scale)
    ax.set(
        xlim=(0, LENGTH), ylim=(0, HEIGHT), aspect="equal", facecolor="0.55", yticks=(0, 3, 6, 9)
    )
    return shown, arrows


if comm.rank == 0:
    import matplotlib
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    matplotlib.rcParams.update(mfg.plots.STYLE)
    figure = Figure((mfg.plots.WIDTH, 3.1), layout="compressed")
    axes = figure.subplots(2, 3, sharex=True, sharey=True)
    highest = max(part[2].max() for row in rows for parts in row for part in parts)
    colours = {"norm": PowerNorm(0.5, 0, highest), "cmap": "Oranges"}
    for row, shots, alpha in zip(axes, rows, (0.0, options.crowding), strict=True):
        largest = max(np.linalg.norm(part[-1], axis=1).max() for parts in shots for part in parts)
        for quarter, (ax, parts) in enumerate(zip(row, shots, strict=True), 1):
            shown, arrows = show(ax, parts, colours, largest)
            ax.set_title(
                f"t = {quarter * options.horizon / 4:g} s, $\\alpha$ = {alpha:g} m$^2$", loc="left"
            )
        size = float(f"{largest / 2:.1g}")
        ax.quiverkey(arrows, 0.68, 1.09, size, f"{size:g}/(m s)", labelpos="E", labelsep=0.05)
        row[0].set_ylabel("y [m]")
    for ax in axes[-1]:
        ax.set_xlabel("x [m]")
    figure.colorbar(shown, ax=axes, label="density [1/m$^2$]", aspect=30, pad=0.015)
    options.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out / "crowd.png", dpi=200)
