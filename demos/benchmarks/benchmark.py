# # What a solve costs
#
# A benchmark, not a demonstration: counts of iterations, seconds of processor time and bytes, so
# that they can be compared with those of another version of the package or of another solver.
#
# * **Mdof**: a million unknowns, 2 x time steps x nodes of the mesh.
# * **reference sweep**: to assemble, factor and solve one linear HJB and one linear Fokker-Planck
#   equation over all steps, with the same scheme: see `one_solve.py`.
# * **GMRES**: iterations of one Newton step. **H-form**: of how many steps.
#
# The test problem is that of `one_solve.py`, from a cold start. What misses its target has a `!`.
#
#     docker/run python3 demos/benchmarks/benchmark.py                     # all that takes minutes
#     docker/run python3 demos/benchmarks/benchmark.py --only size --full  # the largest ones too
#
# Processor time of one process is measured, which others on the machine disturb little. `ranks` is
# about wall time: run that one on an idle machine.

import argparse
import json
import sys
from functools import partial
from itertools import product
from pathlib import Path

from mpi4py import MPI

import matplotlib
from matplotlib.figure import Figure
from one_solve import apart, measure
from race import race
from tables import bars, curves, heat_map, table

from mfg_fem.plots import STYLE

COMPARED = ("Sharp", "Monotone", "Galerkin")
EASY, HARD = {"D": 0.1, "c": 1.0}, {"D": 0.005, "c": 100.0}


# ## The sections
#
# Each makes the rows of a table. "limit" holds the targets of a row.


def cases(o, **choices):
    """All combinations; in a smoke test the first of each."""
    for values in product(*(v[: 1 if o.quick else None] for v in choices.values())):
        yield dict(zip(choices, values, strict=True))


def coupling(o):
    """GMRES iterations of a Newton step against diffusion and coupling."""
    n = 8 if o.quick else 64
    for case in cases(o, scheme=COMPARED, D=(0.5, 0.1, 0.02, 0.005), c=(0.1, 1.0, 10.0, 100.0)):
        yield case | measure(n=n, steps=n, **case) | {"limit": {"GMRES max": 15}}


def growth(o):
    """Largest GMRES count with the mesh and with the steps."""
    sizes, fixed = ((4, 8), 8) if o.quick else ((32, 64, 128), 32)
    for case in cases(o, scheme=COMPARED, problem=(HARD, EASY), varied=("n", "steps")):
        row = {"scheme": case["scheme"], **case["problem"]}
        sides = [{"n": fixed, "steps": fixed} | {case["varied"]: size} for size in sizes]
        counts = [measure(**row, **side)["GMRES max"] for side in sides]
        row |= {"varied": case["varied"]}
        row |= {str(size): count for size, count in zip(sizes, counts, strict=True)}
        yield row | {"growth %": 100 * (counts[-1] / counts[0] - 1), "limit": {"growth %": 20}}


def sweeps(o):
    """The whole nonlinear solve in reference sweeps."""
    n, steps = (8, 8) if o.quick else (128, 32)
    for case in cases(o, scheme=COMPARED, problem=(EASY, HARD)):
        row = {"scheme": case["scheme"], **case["problem"]}
        row |= measure(n=n, steps=steps, sweep=True, **row)
        most = 8 if case["problem"] is EASY else 10
        yield row | {"in sweeps": row["CPU s"] / row["sweep s"], "limit": {"in sweeps": most}}


def size(o):
    """Cost and memory against size."""
    sides = {2: (32, 64, 128, 256), 3: (16, 24, 32, 50)}
    limits = {2: {"CPU s/Mdof": 8}, 3: {"CPU s/Mdof": 15, "B/dof": 600}}
    for case in cases(o, dim=(3, 2), c=(1.0, 100.0), scheme=COMPARED):
        for n in (4,) if o.quick else sides[case["dim"]][: None if o.full else -1]:
            row = apart(n=n, steps={2: 64, 3: 16}[case["dim"]], **case)
            yield case | {"n": n} | row | {"limit": limits[case["dim"]]}


def diffusion(o):
    """Cost against diffusion."""
    n, numbers = 8 if o.quick else 64, (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005)
    for case in cases(o, scheme=COMPARED, c=(1.0, 100.0), D=numbers):
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


def crowds(o):
    """Several crowds, whose coupling is monotone up to cross = own, and smoothed densities."""
    n = 8 if o.quick else 32
    problems = [{"D": 0.1, "own": 1.0, "cross": cross} for cross in (0.0, 0.5, 1.0)]
    problems += [{"D": 0.02, "own": c, "cross": c / 2} for c in (1.0, 10.0, 100.0)]
    problems += [{"D": 0.02, "own": 10.0, "cross": 5.0, "k": 4}, {"D": 0.1, "cross": 3.0}]
    problems = [{"game": "crowds"} | problem for problem in problems]
    data = product((0.1, 0.02), (10.0, 100.0), (0.05, 0.2))
    problems += [{"game": "nonlocal", "D": D, "c": c, "radius": r} for D, c, r in data]
    for case in cases(o, scheme=COMPARED[:2], problem=problems):
        name = ", ".join(v if k == "game" else f"{k} {v:g}" for k, v in case["problem"].items())
        row = measure(n=n, steps=n, scheme=case["scheme"], **case["problem"])
        yield {"scheme": case["scheme"], "problem": name} | row | {"limit": {"GMRES max": 40}}


SECTIONS = {
    f.__name__: f for f in (coupling, growth, sweeps, size, diffusion, ranks, hard, crowds, race)
}


# ## Pictures, and all of it

FIGURES = {
    "coupling": heat_map,
    "growth": partial(bars, column="growth %", names=("scheme", "D", "c", "varied")),
    "sweeps": partial(bars, column="in sweeps", names=("scheme", "D", "c")),
    "size": partial(curves, x="Mdof", columns=("CPU s/Mdof", "B/dof"), by=("dim", "scheme", "c")),
    "diffusion": partial(curves, x="D", columns=("CPU s/Mdof", "GMRES max"), by=("scheme", "c")),
    "ranks": partial(bars, column="wall s", names=("n", "c", "ranks")),
    "hard": partial(bars, column="GMRES max", names=("problem",)),
    "crowds": partial(bars, column="GMRES max", names=("scheme", "problem")),
    "race": partial(curves, x="CPU s", columns=("error",), by=("solver",), logs="xy"),
}
SHOWN = {"size": {"B/dof"}, "ranks": {"wall s"}}  # elsewhere these two mean nothing


def main():
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description="What a solve costs.")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), default=list(SECTIONS))
    parser.add_argument("--full", action="store_true", help="the largest sizes too, 6 GB")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a smoke test")
    parser.add_argument("--out", default="results/benchmark", type=Path)
    o = parser.parse_args()
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
