# # A train comes in
#
# The doors of a train open, and people stream out onto a platform that has two ways out. What
# comes in and what goes out are conditions on the boundary of a mean-field game. With the flux $F$
# of the crowd, $F = -(D \nabla m + m H_p)$,
#
# $$ -F \cdot n = j(t) \; \text{ at the train}, \qquad
#    F \cdot n = \frac{q \, m}{m + q / k} \; \text{ at a way out}. $$
#
# The doors of the train let people pass for half a minute, and a way out at most $q$ people per
# metre and second, half of that at $q / k$ = 0.1 people/m². So a queue grows while more come than
# can leave. A player does not change it, but knows how long it will be, and takes the better way.
# An absorbing boundary, `mfg.Exit`, lets through whoever arrives: the same crowd, drawn beside it,
# is gone too early. How people walk is that of `crowd_evacuation.py`. Metres, seconds, people.

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from mpi4py import MPI

import numpy as np
from crowd_evacuation import CAPACITY, evacuation

import ufl

import mfg_fem as mfg

MESHES = Path(globals().get("__file__", "notebook")).resolve().parents[1] / "meshes"
parser = argparse.ArgumentParser(description="People leave a train and a platform.")
parser.add_argument("--mesh", default=MESHES / "station.msh")
parser.add_argument("--steps", type=int, default=60)
parser.add_argument("--out", default="results/station_doors", type=Path)
options = parser.parse_args([] if "ipykernel" in sys.argv[0] else None)

WAITING, HORIZON = 20.0, 75.0  # people on the platform before; s
OPENING, OPEN, FLUX = 2.0, 32.0, 1.3  # s; s; people per metre of the train's doors and second

# 1. The train: a smooth pulse of FLUX OPEN / 2 = 20.8 people per metre of its doors.


def pulse(x, t):
    """People per metre and second who leave the train."""
    now = (t - OPENING) / OPEN
    return ufl.conditional(abs(now - 0.5) < 0.5, FLUX * ufl.sin(ufl.pi * now) ** 2, 0.0)


platform = mfg.read_mesh(options.mesh, MPI.COMM_WORLD)
train = {"train": mfg.Entry(flux=mfg.InTime(pulse))}


def leave(q):
    """The crowd with ways out of this capacity, or with absorbing ones."""
    game = evacuation(mfg.MeanFieldGame, platform, WAITING, horizon=HORIZON, groups=(), q=q)
    return mfg.solve(replace(game, boundary=game.boundary | train), options.steps)


# 2. The crowd, and one whom no door holds up.

runs = {"doors": leave(CAPACITY), "exits": leave(None)}


metres = {name: platform.measure(name) for name in runs["doors"].gone}

# 3. The numbers. Everybody is somewhere: inside, or gone, to round-off.

queues = {name: door.density for name, door in mfg.crowd.doors(runs["doors"]).items()}
rates = {}
for kind, solution in runs.items():
    dt, gone = np.diff(solution.times), sum(solution.gone.values())
    rates[kind] = {name: np.diff(people) / dt for name, people in solution.gone.items()}
    last = np.interp(0.99 * gone[-1], gone, solution.times)
    if platform.comm.rank == 0:
        print(f"{kind}: {solution.iterations} Newton steps, {solution.seconds:.0f} s")
        print(f"  entered {solution.entered[-1]:.4f}, inside at the end {solution.masses[-1]:.4f}")
        print(f"  balance {abs(solution.balance).max() / gone[-1]:.1e} of all")
        print(f"  most inside {solution.masses.max():.4f}, 99 % gone at {last:.4f} s")
        for name, people in solution.gone.items():
            most = rates[kind][name].max() / metres[name]
            print(f"  {name}: {people[-1]:.4f} gone, at most {most:.5f} per metre and second")
if platform.comm.rank == 0:
    print(f"capacity {CAPACITY}; at a queue", {k: f"{v.max():.3f}/m2" for k, v in queues.items()})

# 4. The pictures.

out, times = options.out, runs["doors"].times
mfg.plots.plot_density(runs["doors"], out / "platform.png", t=[10, 20, 35, 45])

if platform.comm.rank == 0:
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update(mfg.plots.STYLE)
    figure = Figure((mfg.plots.WIDTH, 2.6), layout="constrained")
    inside, rate, queue = figure.subplots(1, 3)
    inside.plot(times, runs["doors"].entered, color="0.6", label="came in")
    colours = dict(zip(queues, ("tab:blue", "tab:orange"), strict=True))
    for (kind, solution), line in zip(runs.items(), ("-", ":"), strict=True):
        inside.plot(times, solution.masses, color="k", ls=line, label=f"inside, {kind}")
        for name, colour in colours.items():
            inside.plot(times, solution.gone[name], color=colour, ls=line)
            rate.stairs(rates[kind][name], times, baseline=None, color=colour, ls=line)
    for name, colour in colours.items():
        rate.axhline(CAPACITY * metres[name], color=colour, lw=0.8, ls="--")
        queue.plot(times, queues[name], color=colour, label=name)
    inside.set(ylabel="people; coloured: gone")
    rate.set(ylabel="people per s; dashed: capacity")
    queue.set(ylabel="density at the doors [1/m$^2$]")
    for ax in (inside, rate, queue):
        ax.set(xlabel="t [s]", xlim=(0, HORIZON), ylim=(0, None))
        ax.spines[["top", "right"]].set_visible(False)
    inside.legend(frameon=False)
    queue.legend(frameon=False)
    figure.savefig(out / "counts.png", dpi=200)
