"""Data on the seams of a periodic domain, where a node has one value."""

from collections.abc import Callable
from functools import partial

import numpy as np

import ufl
from dolfinx import fem

from mfg_fem.errors import ProblemError
from mfg_fem.mesh.periodic import SAME_POINT
from mfg_fem.mesh.values import VertexValues
from mfg_fem.problem.boundary import data_name, given
from mfg_fem.problem.densities import spread


def check_periodic(problem, m):
    """Raise unless data that are interpolated at nodes agree on opposite sides. Collective.

    A node on a seam has one value. Data that are integrated cell by cell (running cost,
    Hamiltonian, diffusion, source) may jump there, as anywhere.
    """
    one = fem.Constant(problem.domain.mesh, 1.0)
    m = problem.crowd([one] * len(spread(m)), {y: one for *_, y in problem.quantities})
    data = {"initial_density(x)": problem.m0, "terminal_cost(x, m)": lambda y: problem.g(y, m)}
    if problem.terminal_density is not None:
        data["terminal_density(x)"] = problem.m_T
    for boundary, condition in problem.boundary.items():
        for name in given(condition):
            data[data_name(boundary, name)] = partial(_at_boundary, problem, boundary, name, one, m)
    check_alike(problem.domain, problem.x, data)


def _at_boundary(problem, boundary: str, name: str, t, m, y):
    return problem.at_boundary(boundary, name, y, t, m)


def check_alike(domain, x, data: dict[str, Callable]):
    """Raise unless each of the data, functions of x by name, agrees on opposite sides. Collective.

    The name is for the message.
    """
    if not domain.seams:
        return
    coordinates = list(x)
    for axis, (low, high) in domain.seams.items():
        near = SAME_POINT * (high - low)
        there = ufl.gt(x[axis], high - near)
        coordinates[axis] = ufl.conditional(there, x[axis] - (high - low), x[axis])
    opposite = ufl.as_vector(coordinates)
    for name, make in data.items():
        values = VertexValues(domain.mesh, make(x), make(opposite))
        ends = values.extremes(lambda here, there: (here - there, here))
        jump, size = np.abs(ends).max(axis=1)
        if not jump <= 1e-8 * size:
            raise ProblemError(
                f"{name} is not periodic: its values on opposite sides of the domain, which are "
                f"one place, differ by up to {jump:.3g}. Make them agree, as cos(2 pi x / L) does, "
                "or use a domain that is not periodic there."
            )
