# # A crowd leaves a hall
#
# Everybody in a hall walks to an exit, minds the crowd on the way, and knows that all the others
# do the same: a mean-field game. A player who walks with velocity $a$ where the density is $m$ pays
#
# $$ \frac23 \Bigl(1 + \Bigl(\frac{m}{m_c}\Bigr)^4\Bigr)
#    + \frac23 \Bigl(1 - \sqrt{1 - |a|^2 / W(m)^2}\Bigr), \qquad
#    W(m) = \frac{2}{\sqrt 3} \frac{v_0}{(1 + \alpha m)^\beta} $$
#
# per second: for the time, which is worse in a crowd, and for the effort, which grows with the
# speed up to the largest one, $W$. Alone, one walks at $v_0$ and pays 1 per second, so that the
# value function $u$ is about *the seconds to an exit*. The Hamiltonian is
# $H = \sqrt{4/9 + W^2 |p|^2} - 2/3$ and the velocity $-H_p$; while $u$ does not change in time, $H$
# equals the cost of the time and the speed is
#
# $$ v(m) = W(m) \sqrt{1 - (2 + (m / m_c)^4)^{-2}}, \quad
#    v_0 = 1.34, \; \alpha = 0.42, \; \beta = 1.5, \; m_c = 4, $$
#
# 0.79, 0.54, 0.33 m/s at 1, 2, 4 people/m². Weidmann (1993) measured 1.06, 0.61, 0.16. The flow
# $m v$ grows up to 1.39 people/(m s) among 6 people/m²; in real crowds it falls from about 2 on.
# Who foresees a long queue hurries to it, but not beyond $W$. Congestion of this kind for crowds:
# Lachapelle and Wolfram (2011); a crowd as a continuum: Hughes (2002).
#
# Where the density at a door is $m$, $q m / (m + q / k)$ people leave per metre and second: never
# more than the capacity $q$. The others queue; everybody foresees for how long, and where.
#
# **What this model cannot see.** People are a smooth density. Nobody pushes or arches across a
# door, so there is no clogging and no faster-is-slower (Helbing, Farkas, Vicsek 2000). Players also
# foresee the crowd; those in smoke or panic do not.
#
# Run `python3 demos/crowd_evacuation.py --help` for a floor plan of your own.

import argparse
import json
import sys
from pathlib import Path

from mpi4py import MPI

import numpy as np

import ufl

import mfg_fem as mfg

CAPACITY = mfg.crowd.CAPACITY  # 1.3 people per metre of door and second (Weidmann 1993)
MESHES = Path(globals().get("__file__", "notebook")).resolve().parents[1] / "meshes"
MESH = MESHES / "hall.msh"
GROUPS = [(8.0, 9.0, 2.2, 1.0), (20.0, 9.2, 2.0, 0.6)]  # x, y, radius in m; weight


def crowd_in(x, groups):
    """Gaussian groups of people, or an even crowd where there are none."""
    if not groups:
        return 1.0
    squares = [((x[0] - a) ** 2 + (x[1] - b) ** 2) / r**2 for a, b, r, _ in groups]
    return sum(g[3] / g[2] ** 2 * ufl.exp(-s / 2) for g, s in zip(groups, squares, strict=True))


def evacuation(kind, domain, people=80.0, diffusion=0.08, horizon=60.0, groups=GROUPS, q=CAPACITY):
    """The game (or the control: `kind`) of leaving by every boundary named "...exit..."."""
    exits = [name for name in domain.names if "exit" in name.lower()]
    if not exits:
        names = ", ".join(domain.names) or "none"
        raise mfg.MeshError(f"No boundary of the mesh has 'exit' in its name. Names: {names}.")
    return mfg.crowd.evacuation(
        domain,
        people,
        exits,
        kind=kind,
        initial_density=lambda x: crowd_in(x, groups),
        horizon=horizon,
        diffusion=diffusion,
        capacity=q,
    )


def numbers(solution):
    """What an engineer would quote; times are interpolated, None if not reached."""
    doors = mfg.crowd.doors(solution)
    times = mfg.crowd.exit_times(solution, (50, 90, 99))
    return {
        "people through": {name: float(door.count[-1]) for name, door in doors.items()},
        "people inside at the end": float(solution.masses[-1]),
        **{f"T{percent:g} [s]": t for percent, t in times.items()},
        "largest density [1/m2]": solution.max_density,
        "largest flow [1/(m s)]": {
            name: float(door.specific_flow.max()) for name, door in doors.items()
        },
    }


def arguments():
    """The command line; options of PETSc, -mfg_..., go to the solver."""
    parser = argparse.ArgumentParser(description="Evacuate a hall: a mean-field game.")
    parser.add_argument("--mesh", default=MESH, help="gmsh file, lengths in metres")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--people", type=float, default=80.0)
    parser.add_argument("--diffusion", type=float, default=0.08, help="m²/s")
    parser.add_argument("--horizon", type=float, default=60.0, help="s")
    parser.add_argument(
        "--group", type=float, nargs=4, action="append", metavar=("X", "Y", "RADIUS", "WEIGHT"),
        help="where people are; may be repeated (default: evenly spread in a mesh of yours)",
    )  # fmt: skip
    parser.add_argument("--exits", action="store_true", help="who reaches a door leaves at once")
    parser.add_argument("--out", default="results/crowd_evacuation", type=Path)
    options, others = parser.parse_known_args([] if "ipykernel" in sys.argv[0] else None)
    wrong = [word for word in others if word.startswith("-") and not word.startswith("-mfg_")]
    if wrong:
        parser.error(f"unknown: {' '.join(wrong)} (PETSc options for the solver begin with -mfg_)")
    return options


def main():
    """Solve, print, draw."""
    o = arguments()
    groups = o.group or (GROUPS if Path(o.mesh) == MESH else [])
    hall = mfg.read_mesh(o.mesh, MPI.COMM_WORLD)
    data = hall, o.people, o.diffusion, o.horizon, groups, None if o.exits else CAPACITY
    game = evacuation(mfg.MeanFieldGame, *data)
    solution = mfg.solve(game, steps=o.steps)

    found = numbers(solution)
    if hall.comm.rank == 0:
        print(solution.report)
        for key, value in found.items():
            print(f"{key}: {f'not reached in {game.horizon:g} s' if value is None else value}")
        print(f"capacity of a door: {CAPACITY} people/(m s)")
        o.out.mkdir(parents=True, exist_ok=True)
        (o.out / "numbers.json").write_text(json.dumps(found, indent=2))

    out = o.out
    end = found["T99 [s]"] or game.horizon
    mfg.plots.plot_density(solution, out / "density.png", t=np.linspace(0, end, 6))
    mfg.plots.plot_value(solution, out / "value.png", label="cost to an exit [s of free walking]")
    mfg.plots.plot_exits(solution, out / "exits.png", capacity=CAPACITY)
    mfg.plots.animate(solution, out / "crowd.gif", until=end, fps=8)
    solution.write(out / "crowd.bp")
    solution.save(out / "crowd.npz")


if __name__ == "__main__":
    main()
