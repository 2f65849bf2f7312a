# # What a solve costs
#
# A benchmark, not a demonstration: counts of iterations, seconds of processor time and bytes, so
# that they can be compared with those of another version of the package or of another solver.
#
# * **Mdof**: a million unknowns, 2 x time steps x nodes of the mesh.
# * **reference sweep**: to assemble, factor and solve one linear HJB and one linear Fokker-Planck
#   equation over all steps, with the same scheme.
# * **GMRES**: iterations of one Newton step. **H-form**: of how many steps.
#
# The test problem: unit square or cube, no flux, T = 1, H = |p|²/2, g = 0, a Gaussian crowd and the
# running cost c m + (sin 2πx + cos 2πy)/2, from a cold start. What misses its target has a `!`.
#
#     docker/run python3 demos/benchmark.py                     # all that takes minutes
#     docker/run python3 demos/benchmark.py --only size --full  # the largest ones too
#
# Processor time of one process is measured, which others on the machine disturb little. `ranks` is
# about wall time: run that one on an idle machine.

import argparse
import gc
import json
import math
import subprocess
import sys
import time
from functools import partial
from itertools import product
from pathlib import Path

from mpi4py import MPI

import matplotlib
import numpy as np
from crowd_evacuation import MESH, evacuation
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from race import SCHEMES, race

import ufl
from dolfinx import fem

import mfg_fem as mfg
from mfg_fem.discrete.spacetime import SpaceTime
from mfg_fem.nonlinear.newton import NewtonSolver
from mfg_fem.plots.style import STYLE

BOTH = ("Monotone", "Galerkin")
EASY, HARD = {"D": 0.1, "c": 1.0}, {"D": 0.005, "c": 100.0}


# ## One solve


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


def hall_game(n, D):
    """People leave a hall (`crowd_evacuation.py`); the mesh is what it is."""
    return evacuation(mfg.MeanFieldGame, mfg.read_mesh(MESH, MPI.COMM_WORLD), diffusion=D)


def memory(name):
    """Of this process: VmRSS now, VmHWM at most. (What getrusage says begins with the parent's.)"""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(name))


def measure(game="box", n=64, steps=64, scheme="Monotone", sweep=False, **data):
    """Solve once and count; forms are compiled before. Collective."""
    make, comm = partial({"box": box_game, "hall": hall_game}[game], **data), MPI.COMM_WORLD
    mfg.solve(make(n=2), 1, SCHEMES[scheme], mfg.Newton(max_it=1, continuation="none"), throw=False)
    before = memory("VmRSS")
    problem = make(n=n)
    gc.collect()  # of what was there before; one in the midst of a solve takes 50 ms
    comm.barrier()
    wall, cpu = time.perf_counter(), time.process_time()
    solution = mfg.solve(problem, steps, SCHEMES[scheme], throw=False)
    wall, cpu = time.perf_counter() - wall, comm.allreduce(time.process_time() - cpu)
    peak, counts = memory("VmHWM"), [r["krylov"] for r in solution.history if r["step"]]
    dofs = 2 * steps * problem.domain.mesh.topology.index_map(0).size_global
    row = {"Mdof": dofs / 1e6, "CPU s": cpu, "CPU s/Mdof": cpu * 1e6 / dofs}
    row |= {"wall s": wall, "B/dof": (peak - before) / dofs, "Newton": len(counts)}
    row |= {"GMRES max": max(counts), "GMRES mean": float(np.mean(counts))}
    row |= {"H-form": sum("H-form" in r["form"] for r in solution.history)}
    row |= {"converged": "yes" if solution.converged else "NO"}
    return row | ({"sweep s": reference_sweep(solution)} if sweep else {})


def reference_sweep(solution):
    """Seconds of one with the matrices of this solution."""
    levels, system = solution.levels, SpaceTime(solution.discrete, solution.steps)
    X = np.stack([levels.u[:-1], levels.m[1:]])
    factors = {"sweep_ksp_type": "preonly", "sweep_pc_type": "lu"}
    newton = NewtonSolver(system, mfg.Newton(petsc_options=factors), lambda row, X: None)
    right, cpu = np.zeros_like(X), time.process_time()
    for n in reversed(range(system.steps)):
        right[0, n] = system.hjb_row(X, n, levels.u[n + 1])
        system.fill_hjb(system.A[n])
    system.linearise_fp(X)
    right[1, 0] = system.mult_mass(levels.m[0]) / system.dt
    newton.sweeps.backward(right[0])
    newton.sweeps.forward(right[1])
    cpu = time.process_time() - cpu
    newton.destroy()
    system.destroy()
    return cpu


def apart(ranks=0, bind="core", **case):
    """`measure` in a process of its own, or on ranks bound to a core each."""
    launch = ["mpirun", "-n", str(ranks), "--bind-to", bind] if ranks else []
    command = [*launch, sys.executable, __file__, "--case", json.dumps(case)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


# ## The sections: each makes the rows of a table. "limit" holds the targets of a row.


def cases(o, **choices):
    """All combinations; in a smoke test the first of each."""
    for values in product(*(v[: 1 if o.quick else None] for v in choices.values())):
        yield dict(zip(choices, values, strict=True))


def coupling(o):
    """GMRES iterations of a Newton step against diffusion and coupling."""
    n = 8 if o.quick else 64
    for case in cases(o, scheme=BOTH, D=(0.5, 0.1, 0.02, 0.005), c=(0.1, 1.0, 10.0, 100.0)):
        yield case | measure(n=n, steps=n, **case) | {"limit": {"GMRES max": 15}}


def growth(o):
    """Largest GMRES count with the mesh and with the steps."""
    sizes, fixed = ((4, 8), 8) if o.quick else ((32, 64, 128), 32)
    for case in cases(o, scheme=BOTH, problem=(HARD, EASY), varied=("n", "steps")):
        row = {"scheme": case["scheme"], **case["problem"]}
        sides = [{"n": fixed, "steps": fixed} | {case["varied"]: size} for size in sizes]
        counts = [measure(**row, **side)["GMRES max"] for side in sides]
        row |= {"varied": case["varied"]}
        row |= {str(size): count for size, count in zip(sizes, counts, strict=True)}
        yield row | {"growth %": 100 * (counts[-1] / counts[0] - 1), "limit": {"growth %": 20}}


def sweeps(o):
    """The whole nonlinear solve in reference sweeps."""
    n, steps = (8, 8) if o.quick else (128, 32)
    for case in cases(o, scheme=BOTH, problem=(EASY, HARD)):
        row = {"scheme": case["scheme"], **case["problem"]}
        row |= measure(n=n, steps=steps, sweep=True, **row)
        most = 8 if case["problem"] is EASY else 10
        yield row | {"in sweeps": row["CPU s"] / row["sweep s"], "limit": {"in sweeps": most}}


def size(o):
    """Cost and memory against size."""
    sides = {2: (32, 64, 128, 256), 3: (16, 24, 32, 50)}
    limits = {2: {"CPU s/Mdof": 8}, 3: {"CPU s/Mdof": 15, "B/dof": 600}}
    for case in cases(o, dim=(3, 2), c=(1.0, 100.0), scheme=BOTH):
        for n in (4,) if o.quick else sides[case["dim"]][: None if o.full else -1]:
            row = apart(n=n, steps={2: 64, 3: 16}[case["dim"]], **case)
            yield case | {"n": n} | row | {"limit": limits[case["dim"]]}


def diffusion(o):
    """Cost against diffusion."""
    n = 8 if o.quick else 64
    for case in cases(o, scheme=BOTH, c=(1.0, 100.0), D=(0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005)):
        yield case | measure(n=n, steps=n, **case) | {"limit": {"CPU s/Mdof": 8}}


def ranks(o):
    """Wall time on one and two ranks, the better of two runs."""
    shapes = ((3, 4, 4),) if o.quick else ((3, 24, 16), (2, 128, 32))
    repeats, bind = (1, "none") if o.quick else (2, "core")
    for case in cases(o, shape=shapes, c=(1.0, 100.0)):
        case, first = dict(zip(("dim", "n", "steps"), case["shape"], strict=True), c=case["c"]), 0.0
        for count in (1, 2):
            runs = [apart(ranks=count, bind=bind, **case) for _ in range(repeats)]
            row = min(runs, key=lambda run: run["wall s"])
            first = first or row["wall s"]
            yield case | {"ranks": count} | row | {"speed-up": first / row["wall s"]}


def hard(o):
    """Congestion, exits."""
    n = 8 if o.quick else 64
    problems = [{"exponent": 1.5, "D": D, "c": c} for D, c in product((0.02, 0.1), (100.0, 1.0))]
    problems += [
        {"exponent": a, "D": D, "exits": True} for a, D in product((0.5, 1.5), (0.05, 0.01))
    ]
    problems += [{"game": "hall", "D": D} for D in (0.08, 0.02)]
    for case in cases(o, problem=problems):
        name = ", ".join(k if v is True else f"{k} {v}" for k, v in case["problem"].items())
        row = measure(n=n, steps=n, **case["problem"])
        yield {"problem": name} | row | {"limit": {"GMRES max": 20}}


SECTIONS = {f.__name__: f for f in (coupling, growth, sweeps, size, diffusion, ranks, hard, race)}


# ## Tables and figures


def table(title, rows):
    """Aligned columns; a value above its target has a `!`."""
    columns = dict.fromkeys(name for row in rows for name in row if name != "limit")

    def cell(row, name):
        value, most = row.get(name, ""), row.get("limit", {}).get(name, math.inf)
        text = f"{value:.3g}" if isinstance(value, float) else str(value)
        return text + ("!" if name in row.get("limit", {}) and value > most else "")

    lines = [list(columns), *([cell(row, name) for name in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print(f"\n{title}")
    for line in lines:
        print("  " + "  ".join(text.rjust(w) for text, w in zip(line, widths, strict=True)))


def groups(rows, *names):
    """Rows with the same values of these columns."""
    found = {}
    for row in rows:
        found.setdefault(tuple(row.get(name) for name in names), []).append(row)
    return found


def named(names, values):
    """Words, and numbers with their names."""
    pairs = zip(names, values, strict=True)
    return ", ".join(v if isinstance(v, str) else f"{name} {v:g}" for name, v in pairs)


def heat_map(figure, rows):
    """Counts and cost on the plane of D and c."""
    schemes = groups(rows, "scheme")
    columns = ("GMRES max", "CPU s/Mdof")
    for axes, column in zip(figure.subplots(2, len(schemes), squeeze=False), columns, strict=True):
        top = max(row[column] for row in rows)
        for ax, ((scheme,), part) in zip(axes, schemes.items(), strict=True):
            Ds, cs = (list(dict.fromkeys(row[k] for row in part)) for k in "Dc")
            values = np.array([row[column] for row in part]).reshape(len(Ds), len(cs))
            ax.imshow(values, cmap="Blues", vmin=0, vmax=1.4 * top)
            for (i, j), value in np.ndenumerate(values):
                ax.text(j, i, f"{value:.3g}", ha="center", va="center")
            ax.set_xticks(range(len(cs)), [f"{c:g}" for c in cs])
            ax.set_yticks(range(len(Ds)), [f"{D:g}" for D in Ds])
            ax.set(title=f"{column}, {scheme}", xlabel="coupling c", ylabel="D")


def curves(figure, rows, x, columns, by, logs="x"):
    """Columns against x, a line for each value of the columns `by`; logarithmic in axes `logs`."""
    rows = [row for row in rows if x in row]
    for ax, column in zip(np.atleast_1d(figure.subplots(1, len(columns))), columns, strict=True):
        styles = product(("-", "--"), "os^vD")
        for (key, part), (line, mark) in zip(groups(rows, *by).items(), styles, strict=False):
            part = sorted((row[x], row[column]) for row in part)
            ax.plot(*np.array(part).T, mark + line, ms=4, lw=1, label=named(by, key))
        ax.set(xlabel=x, ylabel=column, **({} if "y" in logs else {"ylim": (0, None)}))
        for name in logs:
            axis = getattr(ax, f"{name}axis")
            getattr(ax, f"set_{name}scale")("log")
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(NullFormatter())
        ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)


def bars(figure, rows, column, names):
    """A bar for each row, a tick at its target."""
    ax = figure.subplots()
    labels = [named(names, [row[name] for name in names]) for row in rows]
    ax.barh(range(len(rows)), [row[column] for row in rows], color="tab:blue", alpha=0.6)
    for k, row in enumerate(rows):
        ax.plot([row.get("limit", {}).get(column, np.nan)] * 2, [k - 0.4, k + 0.4], "k", lw=1.5)
    ax.set_yticks(range(len(rows)), labels)
    ax.invert_yaxis()
    ax.set(xlabel=column)
    ax.spines[["top", "right"]].set_visible(False)


FIGURES = {
    "coupling": heat_map,
    "growth": partial(bars, column="growth %", names=("scheme", "D", "c", "varied")),
    "sweeps": partial(bars, column="in sweeps", names=("scheme", "D", "c")),
    "size": partial(curves, x="Mdof", columns=("CPU s/Mdof", "B/dof"), by=("dim", "scheme", "c")),
    "diffusion": partial(curves, x="D", columns=("CPU s/Mdof", "GMRES max"), by=("scheme", "c")),
    "ranks": partial(bars, column="wall s", names=("n", "c", "ranks")),
    "hard": partial(bars, column="GMRES max", names=("problem",)),
    "race": partial(curves, x="CPU s", columns=("error",), by=("solver",), logs="xy"),
}
SHOWN = {"size": {"B/dof"}, "ranks": {"wall s"}}  # elsewhere these two mean nothing


def main():
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description="What a solve costs.")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--full", action="store_true", help="the largest sizes too, 6 GB")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a smoke test")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)  # see `apart`
    parser.add_argument("--out", default="results/benchmark", type=Path)
    o = parser.parse_args()
    if o.case is not None:
        row = measure(**o.case)
        if MPI.COMM_WORLD.rank == 0:
            print(json.dumps(row))
        return
    if MPI.COMM_WORLD.size > 1:
        parser.error("start it on one rank: it starts others itself")
    o.out.mkdir(parents=True, exist_ok=True)
    for name in o.only:
        rows, hidden = [], {"wall s", "B/dof"} - SHOWN.get(name, set())
        for row in SECTIONS[name](o):
            rows.append({k: value for k, value in row.items() if k not in hidden})
            (o.out / f"{name}.json").write_text(json.dumps(rows, indent=2))  # what there is so far
        table(f"{name}: {SECTIONS[name].__doc__}", rows)
        sys.stdout.flush()
        with matplotlib.rc_context(STYLE):
            figure = Figure((7.0, 5.0 if name == "coupling" else 3.4), layout="constrained")
            FIGURES[name](figure, rows)
            figure.savefig(o.out / f"{name}.png", dpi=200)


if __name__ == "__main__":
    main()
