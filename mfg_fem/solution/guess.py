"""A solution as the start of another solve."""

from typing import Any

import numpy as np

from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.errors import require
from mfg_fem.io.archive import SAME_POINT
from mfg_fem.io.saved import crowds
from mfg_fem.solution.populations import PopulationsSolution
from mfg_fem.solution.stationary import StationarySolution


def start_of(guess: Any, discrete: Discretisation) -> tuple[np.ndarray, ...]:
    """The time levels of a guess, the values of all populations there, and prices. Collective."""
    if isinstance(guess, PopulationsSolution):
        first = guess.whole[0]
    else:
        first = guess.whole if isinstance(guess, StationarySolution) else guess
    u, m = first.everybody.u, first.everybody.m
    known, here = crowds(first.discrete.problem), crowds(discrete.problem)
    for good, text in (
        (_same_nodes(first.discrete, discrete), "lives on another mesh or has another degree"),
        (known == here, f"has other crowds: {known} there and {here} here"),
        (np.isfinite([u, m]).all(), "contains numbers that are not finite"),
    ):
        require(discrete.comm, good, f"guess {text}.")
    paid, found = discrete.state.paid, first.prices
    starts = {name: np.full(first.steps, paid.prices.starts.get(name, 0.0)) for name in paid.prices}
    return first.times, u, m, np.array([found.get(name, y) for name, y in starts.items()])


def _same_nodes(guess: Discretisation, here: Discretisation) -> bool:
    """Whether this rank's nodes are the same points in both, up to a fraction of the mesh size."""
    one, other = (discrete.V.tabulate_dof_coordinates() for discrete in (guess, here))
    near = SAME_POINT * here.mesh_size
    return one.shape == other.shape and bool((abs(one - other) <= near).all())
