"""Walls of no width: the mesh is cut along them, so that each side has nodes of its own."""

from dataclasses import replace

import numpy as np

from mfg_fem.mesh.parts import joined
from mfg_fem.mesh.simplices import Simplices


def crack(mesh: Simplices, closed: set[str]) -> Simplices:
    """The triangles, joined across their sides except those in the groups with these names.

    Triangles around a node that are not joined around it get nodes of their own. Where a wall ends
    inside, one walks around its end: there they stay joined. A group of facets gets both sides.
    """
    corners = mesh.cells[:, :3]
    slots = np.arange(corners.size).reshape(corners.shape)  # a node for each corner of each cell
    sides = [np.roll(slots, -k, axis=1)[:, :2].reshape(-1, 2) for k in range(3)]
    sides = np.concatenate(sides)
    nodes = corners.ravel()[sides]
    turned = nodes[:, 0] > nodes[:, 1]
    sides[turned], nodes[turned] = sides[turned, ::-1], nodes[turned, ::-1]
    keys = _keys(nodes, len(mesh.x))
    groups = [
        (name, number, _keys(np.sort(f, axis=1), len(mesh.x))) for name, number, f in mesh.groups
    ]
    shut = np.isin(keys, np.concatenate([[], *(k for name, _, k in groups if name in closed)]))
    order = np.argsort(keys, kind="stable")
    same = keys[order[1:]] == keys[order[:-1]]
    one, other = order[:-1][same], order[1:][same]
    one, other = one[~shut[one]], other[~shut[one]]
    root = joined(np.arange(corners.size), sides[one].ravel(), sides[other].ravel())
    _, first, number = np.unique(root, return_index=True, return_inverse=True)
    facets = [(name, tag, number[sides[np.isin(keys, own)]]) for name, tag, own in groups]
    x = mesh.x[corners.ravel()[first]]
    return replace(mesh, x=x, cells=number.reshape(corners.shape), groups=facets)


def rooms(mesh: Simplices) -> np.ndarray:
    """The number of the connected part that each node is in."""
    first = np.repeat(mesh.cells[:, :1], mesh.cells.shape[1] - 1, axis=1)
    root = joined(np.arange(len(mesh.x)), first.ravel(), mesh.cells[:, 1:].ravel())
    return np.unique(root, return_inverse=True)[1]


def _keys(pairs: np.ndarray, count: int) -> np.ndarray:
    return pairs[:, 0] * count + pairs[:, 1]
