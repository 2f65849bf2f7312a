"""The same problem on a finer mesh, and the value function of a solution there."""

from dataclasses import replace
from typing import Any

import numpy as np

from dolfinx import fem

from mfg_fem.errors import MeshError, ProblemError
from mfg_fem.mesh.refine import Refinement
from mfg_fem.problem.boundary import data_name
from mfg_fem.problem.boundary import given as given_at
from mfg_fem.problem.data import Data
from mfg_fem.problem.game import MeanField
from mfg_fem.problem.market import price
from mfg_fem.problem.market import title as market_name
from mfg_fem.problem.populations import Populations


def refuse_open(problem: MeanField):
    """Refuse boundaries where it is not known what people do there."""
    if problem.limits:
        raise ProblemError(
            f"Nobody leans on {', '.join(map(repr, problem.limits))}: what players do there is not "
            "-H_p of the value function. Players, and what they could save, need walls that push."
        )
    if problem.open:
        raise ProblemError(
            f"The boundaries {', '.join(map(repr, problem.open))} are open: nobody knows what "
            "people pay who come in there. Players, and what they could save, need exits instead."
        )


def finer(problem: MeanField | Populations, refinement: Refinement) -> Any:
    """The problem on the refined mesh. Collective.

    Callables are not called again: in what they returned, the coordinate, Constants and Functions
    are replaced by those of the refined mesh, on which P1 Functions are the same functions.

    Raises:
        ProblemError: a Function that cannot be carried over.
    """
    found = counterparts(problem.data, refinement)
    market = {name: problem.data.replaced(market_name(name), found) for name in problem.prices}
    changes: dict[str, Any]
    if isinstance(problem, MeanField):
        changes = _carried(problem, found)
    else:
        crowds = {
            own.name: replace(
                problem.crowds[own.name], **_carried(own, counterparts(own.data, refinement))
            )
            for own in problem.populations
        }
        changes = {"crowds": crowds, "switching": problem.replaced_rates(found)}
    return replace(problem, domain=refinement.domain, market=market, **changes)


def _carried(problem: MeanField, found: dict) -> dict:
    """The data of one population on the refined mesh, by its `counterparts`."""

    def same(name: str):
        return problem.data.replaced(name, found)

    def same_condition(boundary: str, condition):
        names = {y: same(data_name(boundary, y)) for y in given_at(condition)}
        return replace(condition, **names)

    given = {
        "diffusion": same("diffusion"),
        "hamiltonian": same("hamiltonian(x, p, m)"),
        "running_cost": same("running_cost(x, t, m)"),
        "boundary": {name: same_condition(name, y) for name, y in problem.boundary.items()},
    }
    optional = {
        "initial_density": "initial_density(x)",
        "terminal_cost": "terminal_cost(x, m)",
        "terminal_density": "terminal_density(x)",
        "source": "source(x, t)",
    }
    present = {key: name for key, name in optional.items() if getattr(problem, key) is not None}
    return given | {key: same(name) for key, name in present.items()}


def counterparts(data: Data, refinement: Refinement) -> dict:
    """What stands for the Functions, the Constants and the geometry of data. Collective.

    For the Constant of a price it is the price, of which the refined problem has its own.
    """
    prices = {y: price(name, data.prices.starts.get(name)) for name, y in data.prices.items()}
    return {y: prices.get(y) or _counterpart(y, refinement) for y in data.terminals}


def _counterpart(terminal, refinement: Refinement):
    """What stands for a Function, a Constant or the geometry on the refined mesh. Collective."""
    mesh = refinement.domain.mesh
    if isinstance(terminal, fem.Constant):
        return fem.Constant(mesh, terminal.value.copy())
    if isinstance(terminal, fem.Function):
        try:
            return refinement.function(terminal)
        except MeshError as error:
            raise ProblemError(f"The data on a finer mesh: {error}.") from error
    return type(terminal)(mesh.ufl_domain())


def halved(times: np.ndarray) -> np.ndarray:
    """Time levels of steps half as long."""
    return np.sort(np.concatenate([times, (times[1:] + times[:-1]) / 2]))
