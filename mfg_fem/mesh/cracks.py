"""Walls of no width: the mesh is cut along them, so that each side has nodes of its own."""

from dataclasses import replace

import numpy as np

from mfg_fem.mesh.parts import joined
from mfg_fem.mesh.simplices import Simplices, pair_keys


def crack(mesh: Simplices, closed: set[str]) -> Simplices:
    """The triangles, joined across their sides except those in the groups with these names.

    Triangles around a node that are not joined around it get nodes of their own. Where a wall ends
    inside, one walks around its end: there they stay joined. A group of facets gets both sides.
    """
    slots = np.arange(mesh.cells.size).reshape(-1, 3)  # a node for each corner of each cell
    sides = np.concatenate([slots[:, [0, 1]], slots[:, [1, 2]], slots[:, [2, 0]]])
    nodes = mesh.cells.ravel()[sides]
    sides = np.take_along_axis(sides, nodes.argsort(axis=1), axis=1)  # the same way in both cells
    keys = pair_keys(nodes, len(mesh.x))
    groups = [
        (name, number, pair_keys(facets, len(mesh.x))) for name, number, facets in mesh.groups
    ]
    shut = np.isin(keys, np.concatenate([[], *(own for name, _, own in groups if name in closed)]))
    order = np.argsort(keys, kind="stable")
    pairs = np.stack([order[:-1], order[1:]])
    pairs = pairs[:, (keys[pairs[0]] == keys[pairs[1]]) & ~shut[pairs[0]]]
    root = joined(np.arange(slots.size), sides[pairs[0]].ravel(), sides[pairs[1]].ravel())
    _, first, number = np.unique(root, return_index=True, return_inverse=True)
    facets = [(name, tag, number[sides[np.isin(keys, own)]]) for name, tag, own in groups]
    x = mesh.x[mesh.cells.ravel()[first]]
    return replace(mesh, x=x, cells=number.reshape(slots.shape), groups=facets)


def rooms(mesh: Simplices) -> np.ndarray:
    """The number of the connected part that each node is in."""
    first = np.repeat(mesh.cells[:, :1], mesh.cells.shape[1] - 1, axis=1)
    root = joined(np.arange(len(mesh.x)), first.ravel(), mesh.cells[:, 1:].ravel())
    return np.unique(root, return_inverse=True)[1]
