"""What makes a solution suspect although Newton has converged."""

import re
from collections.abc import Iterable

from mpi4py import MPI

import numpy as np

from dolfinx import fem, la

from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.discrete.spacetime import Levels

NEGATIVE = 0.01  # of the largest density: more below zero is no round-off and no small overshoot
SOMEBODY = 1e-9  # of the population


def reasons(
    discrete: Discretisation,
    levels: Levels,
    extremes: tuple[float, float],
    gone: dict[str, np.ndarray],
) -> tuple[str, ...]:
    """Sentences, of all levels, the extremes of m and who is gone by each level. Collective."""
    domain, exits = discrete.problem.domain, discrete.problem.boundary
    (lowest, highest), found = extremes, []
    if lowest < -NEGATIVE * highest:
        found.append(
            f"The density is negative, down to {lowest:.3g} where its largest is {highest:.3g}: "
            "the mesh or the time step is too coarse for this scheme. Sharp() keeps it positive."
        )
    people = discrete.problem.population
    back = [name for name, number in gone.items() if number.min() < -NEGATIVE * people]
    if back:
        found.append(
            f"More people come in through the exits {_names(back)} than leave, where nobody can: "
            "the mesh is too coarse there for this scheme. Sharp() does not do that."
        )
    sealed = _sealed(discrete, levels.m[-1]) if exits else 0.0
    if sealed > SOMEBODY * people:
        found.append(
            f"{sealed:.3g} people are in parts of the domain from which no exit can be reached."
        )
    hidden = [
        name for name, dofs in discrete.exits[0].dofs.items() if not _anywhere(discrete, dofs)
    ]
    if hidden:
        found.append(
            f"Nobody can leave through {_names(hidden)}: where exits meet, people leave through "
            "the one that is named first."
        )
    if domain.inside:
        found.append(
            f"The boundaries {_names(domain.inside)} lie inside the domain: people walk through "
            "them as if they were not there."
        )
    unused = [name for name in domain.names if name not in exits and _is_like(name, exits)]
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


def _sealed(discrete: Discretisation, m: np.ndarray) -> float:
    """People in connected parts of the mesh without exits. Collective."""
    comm, part = discrete.comm, connected_parts(discrete.V)
    count = comm.allreduce(part.max(initial=-1), MPI.MAX) + 1
    owned = part[: discrete.owned]
    people = np.bincount(owned, m * discrete.weights, count)
    exits = np.bincount(owned[discrete.exits[0].held], minlength=count)
    people, exits = comm.allreduce(np.array([people, exits]), MPI.SUM)
    return float(people[exits == 0].sum())


def connected_parts(V: fem.FunctionSpace) -> np.ndarray:
    """The number of the connected part that each local dof is in, alike on all ranks. Collective.

    Parts are those that people can walk in, from cell to cell.
    """
    index_map, mesh = V.dofmap.index_map, V.mesh
    cells = V.dofmap.list[: mesh.topology.index_map(mesh.topology.dim).size_local]
    local = index_map.size_local + index_map.num_ghosts
    first = np.repeat(cells[:, :1], cells.shape[1] - 1, axis=1)
    root = _joined(np.arange(local), first.ravel(), cells[:, 1:].ravel())
    root = index_map.local_to_global(root.astype(np.int32))
    owners = la.vector(index_map)
    owners.array[:] = root
    owners.scatter_forward()
    # A ghost is in a part of this rank and in one of its owner's, which are one.
    pairs = np.unique(np.column_stack([root, owners.array.astype(np.int64)]), axis=0)
    pairs = np.concatenate(mesh.comm.allgather(pairs))
    names, places = np.unique(pairs, return_inverse=True)
    places = places.reshape(pairs.shape)
    joined = _joined(np.arange(len(names)), *places.T)
    _, number = np.unique(joined, return_inverse=True)
    return number[np.searchsorted(names, root)]


def _joined(root: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The least number in the part of each, where pairs of one and other are in the same part."""
    while (root[one] != root[other]).any():
        low, high = np.sort([root[one], root[other]], axis=0)
        np.minimum.at(root, high, low)
        while (root[root] != root).any():
            root = root[root]
    return root
