# # A race: error of m(T) against processor time
#
# A section of `benchmark.py`, against the solvers of `yardstick.py`.
#
# Errors are relative, in the mean square at each method's own points, against the midpoint rule
# with P2 elements extrapolated in time. The first row is what another mesh and other steps make of
# this reference, the last columns are times over the package's at the same error.

import importlib.util
import math
import time
from functools import partial

import numpy as np
import yardstick
from one_solve import SCHEMES
from scipy.interpolate import RectBivariateSpline

import ufl

import mfg_fem as mfg


def race_game(n):
    """The game of `yardstick.py`."""
    return mfg.MeanFieldGame(
        mfg.box((1.0, 1.0), n),
        horizon=yardstick.T,
        diffusion=yardstick.D,
        hamiltonian=mfg.hamiltonians.quadratic(),
        running_cost=lambda x, t, m: m,
        terminal_cost=lambda x, m: yardstick.end(x[0], x[1], ufl.cos),
        initial_density=lambda x: yardstick.crowd(x[0], x[1], ufl.exp),
    )


def finite_elements(scheme, n, steps, rtol=1e-6):
    """The package, from the statement of the problem on."""
    cpu = time.process_time()
    solution = mfg.solve(race_game(n), steps, SCHEMES[scheme], mfg.Newton(rtol=rtol))
    cpu = time.process_time() - cpu
    side = n * solution.scheme.degree
    m = np.empty((side + 1, side + 1))
    m[tuple(np.rint(solution.coordinates * side).astype(int).T)] = solution.nodal_densities[-1]
    return yardstick.Run(np.linspace(0, 1, side + 1), m, cpu, solution.iterations)


def extrapolated(n, steps):
    """A smooth m(T), of fourth order in dt."""
    one, two = (finite_elements("P2 midpoint", n, k * steps, rtol=1e-9) for k in (1, 2))
    return RectBivariateSpline(one.x, one.x, (4 * two.m - one.m) / 3)


def race(o):
    """Error of m(T) against processor time, and the package's at equal error."""
    exact = extrapolated(8, 8) if o.quick else extrapolated(24, 32)
    other = extrapolated(6, 8) if o.quick else extrapolated(20, 24)

    def error(run):
        m = exact(run.x, run.x)
        return float(np.linalg.norm(run.m - m) / np.linalg.norm(m))

    x = np.linspace(0, 1, 65)
    doubt = error(yardstick.Run(x, other(x, x), 0.0, 0))
    yield {"solver": "reference, another", "error": doubt}
    solvers = {name: partial(finite_elements, name) for name in SCHEMES}
    solvers["scipy"] = yardstick.finite_differences
    # Of first order in dt as they are, these do best with about four times as many steps as cells.
    sizes = dict.fromkeys(("Monotone", "Galerkin"), ((8, 32), (16, 64), (24, 96), (32, 128)))
    sizes["scipy"] = (*sizes["Monotone"], (48, 192))
    sizes["Sharp"] = (8, 8), (16, 16), (24, 24), (32, 32)
    sizes["P1 midpoint"] = (8, 8), (16, 16), (24, 24), (32, 32)
    sizes["P2 midpoint"] = (4, 6), (4, 8), (6, 12), (8, 16), (12, 24), (16, 32)
    if importlib.util.find_spec("mfgarchon"):
        solvers["MFGArchon"], sizes["MFGArchon"] = yardstick.mfgarchon, ((25, 25), (50, 50))
    else:
        print("MFGArchon is not installed: no race against it.")
    points = {}
    for name, solve in solvers.items():
        if name in SCHEMES:
            solve(4, 2)  # compiles the forms
        for n, steps in sizes[name][: 1 if o.quick else None]:
            runs = [solve(n, steps)]
            while sum(run.cpu for run in runs) < 1 and len(runs) < 5:
                runs.append(solve(n, steps))
            run = min(runs, key=lambda run: run.cpu)
            points.setdefault(name, []).append((error(run), run.cpu))
            row = {"solver": name, "n": n, "steps": steps, "iterations": run.iterations}
            row |= {"error": points[name][-1][0], "CPU s": run.cpu}
            if name not in SCHEMES:
                for scheme in SCHEMES:
                    row[f"/ {scheme}"] = run.cpu / at_error(points[scheme], row["error"])
            yield row


def at_error(points, error):
    """Seconds at this error between those measured, in logarithms; nan at a smaller error."""
    errors, seconds = np.log(np.array(sorted(points))).T
    return float(np.exp(np.interp(math.log(error), errors, seconds, left=np.nan)))
