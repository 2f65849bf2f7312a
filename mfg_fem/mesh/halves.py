"""Triangles cut in halves where their edges are longer than they may be."""

from dataclasses import replace

import numpy as np

from mfg_fem.mesh.simplices import Simplices, pair_keys

NEXT = np.array([1, 2, 0])  # corner


def shortened(mesh: Simplices, longest: float) -> Simplices:
    """The triangles, cut until no edge is longer than that; named facets are cut with them.

    An edge is cut at its middle while it is the longest of both triangles beside it, so that they
    fit together and angles stay above half of the smallest (Rivara 1984). One that is not has a
    longer one beside it, whose turn comes before.
    """
    while True:
        points, cells = len(mesh.x), mesh.cells
        sides = np.stack([cells, cells[:, NEXT]], axis=2).reshape(-1, 2)
        edges, side = np.unique(pair_keys(sides, points), return_inverse=True)
        ends = np.column_stack(np.divmod(edges, points))
        lengths = np.linalg.norm(np.diff(mesh.x[ends], axis=1)[:, 0], axis=1)
        rank = np.empty(len(edges), dtype=int)
        rank[np.argsort(lengths, kind="stable")] = np.arange(len(edges))
        side = side.reshape(-1, 3)
        corner = rank[side].argmax(axis=1)  # where the longest side of each triangle begins
        base = side[np.arange(len(cells)), corner]
        is_base = np.bincount(base, minlength=len(edges)) == np.bincount(side.ravel())
        cut = is_base & (lengths > longest)
        if not cut.any():
            return mesh
        middle = np.where(cut, points - 1 + np.cumsum(cut), -1)
        halved = np.flatnonzero(cut[base])
        a, b, c = cells[halved[:, None], (corner[halved, None] + np.arange(3)) % 3].T
        m = middle[base[halved]]
        cells = cells.copy()
        cells[halved] = np.column_stack([a, m, c])
        groups = [
            (name, tag, _halved(facets, middle[np.searchsorted(edges, pair_keys(facets, points))]))
            for name, tag, facets in mesh.groups
        ]
        mesh = replace(
            mesh,
            x=np.concatenate([mesh.x, mesh.x[ends[cut]].mean(axis=1)]),
            cells=np.concatenate([cells, np.column_stack([m, b, c])]),
            groups=groups,
        )


def _halved(facets: np.ndarray, middle: np.ndarray) -> np.ndarray:
    """The facets, with two halves in the place of each that has a middle."""
    cut = middle >= 0
    halves = [np.column_stack([facets[cut, k], middle[cut]]) for k in (0, 1)]
    return np.concatenate([facets[~cut], *halves])
