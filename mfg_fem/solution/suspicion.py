"""What makes a solution suspect although Newton has converged."""

import re
from collections.abc import Iterable

from mpi4py import MPI

import numpy as np

from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.discrete.step import Levels
from mfg_fem.mesh.parts import connected_parts

NEGATIVE = 0.01  # of the largest density: more below zero is no round-off and no small overshoot
SOMEBODY = 1e-9  # of the population


def reasons(
    discrete: Discretisation,
    i: int,
    levels: Levels,
    extremes: tuple[float, float],
    gone: dict[str, np.ndarray],
) -> tuple[str, ...]:
    """Sentences, of population i, its levels, extremes of m and who is gone. Collective."""
    problem, layers = discrete.problem.populations[i], discrete.state.layers[i]
    domain, exits = problem.domain, problem.ways_out
    (lowest, highest), found = extremes, []
    if lowest < -NEGATIVE * max(highest, SOMEBODY * problem.units.density):
        found.append(
            f"The density is negative, down to {lowest:.3g} where its largest is {highest:.3g}: "
            "the mesh or the time step is too coarse for this scheme. Sharp() keeps it positive."
        )
    people = (problem if problem.keeps_its_players else discrete.problem).population
    closed = {name: y for name, y in gone.items() if name not in problem.open}
    back = [name for name, number in closed.items() if number.min() < -NEGATIVE * people]
    if back:
        found.append(
            f"More people come in through the exits {_names(back)} than leave, where nobody can: "
            "the mesh is too coarse there for this scheme. Sharp() does not do that."
        )
    places = discrete.exits[i].dofs | {
        name: np.flatnonzero(rho.x.array[: discrete.owned]) for name, rho in layers.items()
    }
    sealed = 0.0
    if exits:
        sealed = _sealed(discrete, np.concatenate([places[y] for y in exits]), levels.m[-1])
    if sealed > SOMEBODY * people:
        found.append(
            f"{sealed:.3g} people are in parts of the domain from which no exit can be reached."
        )
    hidden = [name for name, dofs in places.items() if not _anywhere(discrete, dofs)]
    if hidden:
        found.append(
            f"Nobody can pass {_names(hidden)}: where boundaries meet, people pass the one that is "
            "named first."
        )
    if walked_through := [name for name in domain.inside if name not in domain.openings]:
        found.append(
            f"The boundaries {_names(walked_through)} lie inside the domain: people walk through "
            "them as if they were not there."
        )
    known = {name for own in discrete.problem.populations for name in own.boundary}
    others = [name for name in domain.names if name not in known]
    unused = [name for name in others if _is_like(name, exits)]
    if unused:
        found.append(f"The boundaries {_names(unused)} of the mesh are no exits, but reflect.")
    return tuple(found)


def _anywhere(discrete: Discretisation, dofs: np.ndarray) -> bool:
    return discrete.comm.allreduce(len(dofs), MPI.SUM) > 0


def _names(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _is_like(name: str, others: Iterable[str]) -> bool:
    """Whether it has a word in common with one of the others."""
    words = [set(re.findall(r"[^\W\d_]+", text.lower())) for text in (name, *others)]
    return bool(words[0] & set().union(*words[1:]))


def _sealed(discrete: Discretisation, ways_out: np.ndarray, m: np.ndarray) -> float:
    """People in connected parts of the mesh without exits. Collective."""
    comm, part = discrete.comm, connected_parts(discrete.V)
    count = comm.allreduce(part.max(initial=-1), MPI.MAX) + 1
    owned = part[: discrete.owned]
    people = np.bincount(owned, m * discrete.weights, count)
    exits = np.bincount(owned[ways_out], minlength=count)
    people, exits = comm.allreduce(np.array([people, exits]), MPI.SUM)
    return float(people[exits == 0].sum())
