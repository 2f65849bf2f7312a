"""Whom a count is of: one crowd, or all crowds of a solution together."""

from typing import Any

from mpi4py import MPI

import numpy as np

from mfg_fem.discrete.totals import by_boundary
from mfg_fem.errors import ProblemError
from mfg_fem.solution.populations import PopulationsSolution
from mfg_fem.solution.solution import Solution


def crowds_of(solution: Any, what: str) -> list[Solution]:
    """The crowds that are counted together; `what` is counted, for the message."""
    if isinstance(solution, Solution):
        return [solution]
    if isinstance(solution, PopulationsSolution) and not solution.problem.stationary:
        return solution.whole
    raise ProblemError(
        f"{what} takes the solution of a problem with a horizon, or one of its crowds, not "
        f"{type(solution).__name__}."
    )


def densities(crowds: list[Solution]) -> np.ndarray:
    """The density of all of them at this rank's nodes, shape (steps + 1, owned)."""
    return sum((part.levels.m for part in crowds[1:]), crowds[0].levels.m)


def gone(solution: Any) -> dict[str, np.ndarray]:
    """Boundary -> people of all crowds who have left through it by each time level."""
    return by_boundary([part.gone for part in crowds_of(solution, "gone")])


def inside(solution: Any) -> np.ndarray:
    """People of all crowds inside the domain at each time level."""
    return np.sum([part.masses for part in crowds_of(solution, "inside")], axis=0)


def entered(solution: Any) -> np.ndarray:
    """People of all crowds who have entered by each time level."""
    return np.sum([part.entered for part in crowds_of(solution, "entered")], axis=0)


def largest_density(solution: Any) -> float:
    """The largest density of all crowds together at any node and time level. Collective."""
    crowds = crowds_of(solution, "largest_density")
    here = float(densities(crowds).max(initial=-np.inf))
    return crowds[0].discrete.comm.allreduce(here, MPI.MAX)
