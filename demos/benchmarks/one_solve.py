# # One solve, measured
#
# For `benchmark.py` and `race.py`. The test problem: unit square or cube, no flux, T = 1,
# H = |p|²/2, g = 0, a Gaussian crowd and the running cost c m + (sin 2πx + cos 2πy)/2; and those of
# several crowds, and of a density that players see smoothed.
#
# A reference sweep is measured as a Newton step from the solution, whose linear equation takes one
# iteration and whose time levels are factored: all blocks are assembled and factored, and one
# linear HJB and one linear Fokker-Planck equation solved over all steps. These alone, without what
# Newton does beside, took 0.9 to 1.2 times as long (64 and 128 cells a side, 32 steps, both
# schemes, easy and hard): within what times differ by from run to run.

import gc
import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from mpi4py import MPI

import numpy as np

import ufl
from dolfinx import fem

import mfg_fem as mfg

sys.path.append(str(Path(__file__).parents[1]))  # the demos
from crowd_evacuation import MESH, evacuation

SCHEMES = {
    "Sharp": mfg.Sharp(),
    "Monotone": mfg.Monotone(),
    "Galerkin": mfg.Galerkin(),
    "P1 midpoint": mfg.Galerkin(time="midpoint"),
    "P2 midpoint": mfg.Galerkin(degree=2, time="midpoint"),
}


def landscape(x):
    return (ufl.sin(2 * np.pi * x[0]) + ufl.cos(2 * np.pi * x[1])) / 2


def box_game(n, dim=2, D=0.1, c=1.0, exponent=0.0, exits=False):
    """The test problem; with an exponent of congestion or an exit on one side."""
    domain = mfg.box((1.0,) * dim, n)
    weight = fem.Constant(domain.mesh, float(c))  # a number would compile kernels of its own
    H = mfg.hamiltonians
    return mfg.MeanFieldGame(
        domain,
        horizon=1.0,
        diffusion=D,
        hamiltonian=H.congestion(4.0, exponent) if exponent else H.quadratic(),
        running_cost=lambda x, t, m: weight * m + (1.0 if exits else landscape(x)),
        terminal_cost=lambda x, m: 4.0 if exits else 0.0,
        initial_density=lambda x: ufl.exp(-sum((y - 0.5) ** 2 for y in list(x)) / 0.08),
        boundary={"right": mfg.Exit()} if exits else {},
    )


def crowds_game(n, D=0.1, own=1.0, cross=0.5, k=2):
    """So many crowds on the unit square, each on its way to the other side, who mind each other."""
    domain = mfg.box((1.0, 1.0), n)
    a, b = (fem.Constant(domain.mesh, float(y)) for y in (own, cross))

    def crowd(i):
        way, goal = i // 2 % 2, float(i % 2)
        return mfg.Crowd(
            diffusion=D,
            hamiltonian=mfg.hamiltonians.quadratic(),
            running_cost=lambda x, t, m: a * m[f"{i}"] + b * (m.all - m[f"{i}"]),
            terminal_cost=lambda x, m: 2 * (x[way] - goal) ** 2,
            initial_density=lambda x: ufl.exp(
                -((x[way] - 0.2 - 0.6 * (1 - goal)) ** 2 + (x[1 - way] - 0.45) ** 2) / 0.04
            ),
        )

    return mfg.Populations(domain, horizon=1.0, crowds={f"{i}": crowd(i) for i in range(k)})


def nonlocal_game(n, D=0.1, c=10.0, radius=0.1):
    """The test problem where players mind the smoothed density alone."""
    domain = mfg.box((1.0, 1.0), n)
    weight = fem.Constant(domain.mesh, float(c))
    return mfg.MeanFieldGame(
        domain,
        horizon=1.0,
        diffusion=D,
        hamiltonian=mfg.hamiltonians.quadratic(),
        running_cost=lambda x, t, m: weight * mfg.smooth(m, radius) + landscape(x),
        terminal_cost=lambda *_: 0.0,
        initial_density=lambda x: ufl.exp(-sum((y - 0.5) ** 2 for y in list(x)) / 0.02),
    )


GAMES = {"crowds": crowds_game, "nonlocal": nonlocal_game}


def hall_game(n, D):
    """People leave a hall (`crowd_evacuation.py --exits`); the mesh is what it is."""
    hall = mfg.read_mesh(MESH, MPI.COMM_WORLD)
    return evacuation(mfg.MeanFieldGame, hall, diffusion=D, q=None)


def memory(name):
    """Of this process: VmRSS now, VmHWM at most. (What getrusage says begins with the parent's.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


def measure(game="box", n=64, steps=64, scheme="Sharp", sweep=False, **data):
    """Solve once and count; forms are compiled before. Collective."""
    games = GAMES | {"box": box_game, "hall": hall_game}
    make, comm = partial(games[game], **data), MPI.COMM_WORLD
    mfg.solve(make(n=2), 1, SCHEMES[scheme], mfg.Newton(max_it=1, continuation="none"), throw=False)
    before = memory("VmRSS")
    problem = make(n=n)
    gc.collect()  # of what was there before; one in the midst of a solve takes 50 ms
    comm.barrier()
    wall, cpu = time.perf_counter(), time.process_time()
    solution = mfg.solve(problem, steps, SCHEMES[scheme], throw=False)
    wall, cpu = time.perf_counter() - wall, comm.allreduce(time.process_time() - cpu)
    peak, counts = memory("VmHWM"), [r["krylov"] for r in solution.history if r["step"]]
    dofs = 2 * steps * len(problem.populations)
    dofs *= problem.domain.mesh.topology.index_map(0).size_global
    row = {"Mdof": dofs / 1e6, "CPU s": cpu, "CPU s/Mdof": cpu * 1e6 / dofs}
    row |= {"wall s": wall, "B/dof": (peak - before) / dofs, "Newton": len(counts)}
    row |= {"GMRES max": max(counts), "GMRES mean": float(np.mean(counts))}
    row |= {"H-form": sum("H-form" in r["form"] for r in solution.history)}
    row |= {"converged": "yes" if solution.converged else "NO"}
    return row | ({"sweep s": reference_sweep(solution)} if sweep else {})


def reference_sweep(solution):
    """Seconds of a Newton step from the solution whose linear equation takes one iteration."""
    marks, options = [], {"sweep_ksp_type": "preonly", "sweep_pc_type": "lu", "ksp_max_it": 1}
    options |= {"snes_max_linear_solve_fail": 2, "snes_linesearch_type": "basic"}
    settings = {"continuation": "none", "krylov": "two-field", "petsc_options": options}
    mfg.solve(
        solution.problem,
        solution.steps,
        solution.scheme,
        mfg.Newton(rtol=1e-300, max_it=1, **settings),
        guess=solution,
        throw=False,
        on_step=lambda row: marks.append(time.process_time()),
    )
    return marks[1] - marks[0]


def apart(ranks=0, bind="core", **case):
    """`measure` in a process of its own, or on ranks bound to a core each."""
    launch = ["mpirun", "-n", str(ranks), "--bind-to", bind] if ranks else []
    command = [*launch, sys.executable, __file__, json.dumps(case)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":  # in a process of its own
    found = measure(**json.loads(sys.argv[1]))
    if MPI.COMM_WORLD.rank == 0:
        print(json.dumps(found))
