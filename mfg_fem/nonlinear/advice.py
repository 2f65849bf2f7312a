"""Advice to the user on a problem for which Newton has failed."""

import numpy as np

import ufl
from dolfinx import fem

from mfg_fem.mesh.values import VertexValues
from mfg_fem.problem.checks import REMEDY
from mfg_fem.problem.game import MeanFieldControl
from mfg_fem.problem.populations import Populations

DENSITIES = (0.1, 0.3, 1.0, 3.0, 10.0)  # times the uniform density, where convexity is tested
GENERAL = "Try more diffusion, more time steps, or a solution of an easier problem as guess=."


def advice(problem) -> str:
    """What to try. Collective."""
    if problem.infinite:
        name = problem.infinite[0]
        return f"{name} or its derivative is infinite at m = 0. {REMEDY} {GENERAL}"
    if isinstance(problem, Populations) and problem.doubt:
        return f"{problem.doubt} {GENERAL}"
    if isinstance(problem, MeanFieldControl) and not _is_convex(problem):
        return (
            "The planner's problem is not convex, as m H(x, p, m) is not concave in m (with a "
            "congestion (c0 + c1 m)^a that is so for a > 1): it may have no solution, or many. "
            f"{GENERAL}"
        )
    return GENERAL


def _is_convex(problem) -> bool:
    """Whether m H is concave in m, tested for one p and some densities. Collective."""
    mesh, units = problem.domain.mesh, problem.units
    p = fem.Constant(mesh, np.full(problem.domain.dim, units.cost / units.length))
    t = fem.Constant(mesh, problem.duration / 2)
    density = fem.Constant(mesh, 1.0)
    m = ufl.variable(density)
    H = problem.H(problem.x, t, ufl.variable(p), m)
    second, first = ufl.diff(ufl.diff(m * H, m), m), ufl.diff(H, m)
    values = VertexValues(mesh, second, first)
    for factor in DENSITIES:
        density.value = factor * units.density
        (_, highest), slopes = values.extremes()
        if highest > 1e-9 * np.abs(slopes).max():
            return False
    return True
