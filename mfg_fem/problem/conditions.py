"""Checks of boundary conditions, with the same verdict on every rank."""

from mpi4py import MPI

import numpy as np

import ufl
from dolfinx import fem

from mfg_fem.errors import MeshError, ProblemError
from mfg_fem.mesh.domain import boundary_dofs
from mfg_fem.problem.boundary import Condition, Door, Wall, data_name, given
from mfg_fem.problem.data import InTime, WithCrowd
from mfg_fem.problem.moments import check_not_negative
from mfg_fem.validate import flag, is_number, number

BOUNDS = {"rate": 0.0, "capacity": 0.0, "flux": 0.0}  # the least values of data of boundaries


def check_outer(domain, names: list[str], what: str):
    """Refuse boundaries without facets or inside the domain; `what` they are to be. Collective."""
    found = np.array([len(domain.facets(name)) for name in names], dtype=np.int64)
    domain.comm.Allreduce(MPI.IN_PLACE, found, MPI.SUM)
    for name, facets in zip(names, found, strict=True):
        if facets == 0:
            raise MeshError(f"The boundary {name!r} has no facets in this mesh.")
        if name in domain.inside:
            raise MeshError(
                f"boundary[{name!r}] lies inside the domain, and {what} must lie on its outer "
                "boundary. Let the domain end there, or take a side of it."
            )


def check_condition(boundary: str, condition):
    """Refuse what is no boundary condition, or one with data that make no sense."""
    if not isinstance(condition, Condition):
        raise ProblemError(
            f"boundary[{boundary!r}] is {condition!r}; it must be an Exit, Open, Door, Entry "
            "or Wall. Boundaries that are not named reflect."
        )
    if isinstance(condition, Door) and condition.rate is None and condition.capacity is None:
        raise ProblemError(
            f"boundary[{boundary!r}] is a Door without limits: give rate=, capacity= or both, or "
            "let it be an Exit."
        )
    if isinstance(condition, Wall):
        flag(f"boundary[{boundary!r}].pushes", condition.pushes)
    for name, value in given(condition).items():
        full = data_name(boundary, name)
        if isinstance(value, WithCrowd) and not isinstance(condition, Door):
            raise ProblemError(
                f"{full} sees the crowd, and there is none at an exit, where m = 0, nor does an "
                "entry wait for it: a Door can see the crowd in front of it."
            )
        if isinstance(value, InTime) and name == "density":
            raise ProblemError(f"{full} cannot depend on time.")
        check_datum(full, value, BOUNDS.get(name, -np.inf))


def check_datum(name: str, value, least: float = -np.inf):
    """Refuse what is neither a number >= least nor a callable, marked or not."""
    if isinstance(value, InTime | WithCrowd):
        if not callable(value.data):
            raise ProblemError(f"{name}: {type(value).__name__} takes a callable, not {value!r}.")
    elif not callable(value):
        if not is_number(value):
            raise ProblemError(
                f"{name} must be a number, a callable that returns UFL, or a UFL expression, not "
                f"{value!r}."
            )
        number(name, value, least)


def check_boundaries(problem, m, t: fem.Constant, duration: float):
    """Rates, capacities and fluxes must not be negative at the nodes of their boundaries."""
    domain = problem.domain
    V = fem.functionspace(domain.mesh, ("Lagrange", 1))
    for boundary, condition in problem.boundary.items():
        there = fem.Function(V)
        there.x.array[boundary_dofs(domain, V, boundary)] = 1.0
        for name in filter(BOUNDS.__contains__, given(condition)):
            value = problem.at_boundary(boundary, name, problem.x, t, m)
            value = ufl.conditional(ufl.gt(there, 0.5), value, 1.0)
            check_not_negative(domain.mesh, data_name(boundary, name), value, t, duration)
