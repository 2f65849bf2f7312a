"""Tori: opposite sides of a mesh glued together.

The topology is that of the torus: two opposite nodes are one vertex, so spaces, forms, ghosts and
solvers need no change. The geometry is that of the mesh before: each cell keeps its own corners,
and a node on the seam has a place on either side.
"""

import numpy as np

import basix.ufl
import dolfinx

from mfg_fem._compat import geometry_dofmap, with_corners
from mfg_fem.errors import MeshError, require
from mfg_fem.mesh import simplices
from mfg_fem.mesh.locate import anything_twice, canonical_order

SAME_POINT = 1e-6  # of the size of the domain along each axis: nodes opposite to each other


def glue(mesh, facet_tags, axes: list[int]):
    """The mesh and its facet tags with the sides low and high of these axes made one. Collective.

    Returns:
        mesh, facet tags (none are left where it was glued), axis -> (low, high).

    Raises:
        MeshError: the sides do not match node by node, or have too few cells between them.
    """
    comm, d, nodes = mesh.comm, mesh.geometry.dim, mesh.geometry.index_map()
    if mesh.ufl_domain().ufl_coordinate_element().embedded_superdegree != 1:
        raise MeshError("Only a mesh with straight edges can be made periodic.")
    x = mesh.geometry.x[:, :d]
    lows = np.min(comm.allgather(x.min(axis=0, initial=np.inf)), axis=0)
    highs = np.max(comm.allgather(x.max(axis=0, initial=-np.inf)), axis=0)
    seams = {axis: (float(lows[axis]), float(highs[axis])) for axis in axes}
    near = SAME_POINT * (highs - lows)
    cells = geometry_dofmap(mesh)[: mesh.topology.index_map(d).size_local]
    _check_cells(comm, x[cells], seams)

    numbers = nodes.local_to_global(np.arange(len(x), dtype=np.int32))
    twins = [_twins(comm, x, numbers, nodes.size_local, axis, seams[axis], near) for axis in axes]
    gone = np.unique(np.concatenate([high for high, _ in twins]))

    def glued(numbers: np.ndarray) -> np.ndarray:
        for high, low in twins:  # one after the other: a corner moves several times
            place = np.searchsorted(high, numbers).clip(max=len(high) - 1)
            numbers = np.where(high[place] == numbers, low[place], numbers)
        return numbers - np.searchsorted(gone, numbers)

    kept = ~np.isin(numbers[: nodes.size_local], gone)
    element = basix.ufl.element("Lagrange", mesh.topology.cell_name(), 1, shape=(d,))
    torus = dolfinx.mesh.create_mesh(
        comm, cells=glued(numbers[cells]), x=x[: nodes.size_local][kept], e=element
    )
    tags = None
    if facet_tags is not None:
        facets, values = _outside(mesh, facet_tags, seams, near)
        tags = simplices.facet_tags(torus, glued(numbers[facets]), values)
    return *unfolded(torus, tags, seams), seams


def unfolded(torus, tags, seams: dict):
    """A torus of nodes, and its facet tags, with cells that keep their own corners. Collective."""
    d, element = torus.geometry.dim, torus.ufl_domain().ufl_coordinate_element()
    points, _, (corners,) = unfold(
        torus.geometry.x[:, :d], seams, geometry_dofmap(torus).astype(np.int64)
    )
    torus = with_corners(torus, points, corners, element)
    if tags is not None:
        tags = dolfinx.mesh.meshtags(torus, d - 1, tags.indices, tags.values)
    return torus, tags


def _check_cells(comm, corners, seams):
    """Refuse cells as long as half a period, whose corners `unfold` would misplace. Collective."""
    for axis, (low, high) in seams.items():
        extent = np.ptp(corners[..., axis], axis=1).max(initial=0.0)
        require(
            comm,
            extent < 0.499 * (high - low),
            f"The mesh has too few cells along axis {axis} to be periodic there: "
            "it needs three or more.",
            MeshError,
        )


def _twins(comm, x, numbers, owned, axis, seam, near):
    """Global numbers of the nodes on the high side, sorted, and of those opposite to them."""
    sides = []
    for place in seam:
        there = np.flatnonzero(abs(x[:owned, axis] - place) < near[axis])
        points, names = x[there].copy(), numbers[there]
        points[:, axis] = 0.0
        points = np.concatenate(comm.allgather(points))
        order = canonical_order(points)
        points = points[order]
        if anything_twice(points, near):
            raise MeshError(
                f"Two nodes lie in one place on a side across axis {axis}, at the end of a crack: "
                "the mesh cannot be periodic there. End the crack before that side."
            )
        sides.append((points, np.concatenate(comm.allgather(names))[order]))
    (below, low), (above, high) = sides
    if below.shape != above.shape or (abs(below - above) > near).any():
        raise MeshError(
            f"The two sides across axis {axis} do not match ({len(low)} nodes and {len(high)}), so "
            "the mesh cannot be periodic there. In gmsh, `Periodic Curve` or `Periodic Surface` "
            "makes them match."
        )
    order = np.argsort(high)
    return high[order], low[order]


def _outside(mesh, facet_tags, seams, near):
    """Nodes and tags of the facets that this rank owns and that are not glued."""
    d = mesh.geometry.dim
    mesh.topology.create_connectivity(d - 1, d)
    own = facet_tags.indices < mesh.topology.index_map(d - 1).size_local
    facets, values = facet_tags.indices[own], facet_tags.values[own]
    nodes = np.empty((0, d), dtype=np.int32)
    if len(facets):  # without any, DOLFINx 0.9 divides by zero
        nodes = dolfinx.mesh.entities_to_geometry(mesh, d - 1, facets).reshape(-1, d)
    for axis, seam in seams.items():
        for place in seam:
            stay = (abs(mesh.geometry.x[nodes, axis] - place) >= near[axis]).any(axis=1)
            nodes, values = nodes[stay], values[stay]
    return nodes, values


def unfold(x: np.ndarray, seams: dict, *simplices: np.ndarray):
    """Points for simplices that are not torn apart by the seams.

    Args:
        x: coordinates of the nodes of a torus, each at the low side of a seam it is on.
        seams: axis -> (low, high).
        simplices: arrays of node numbers, shape (n, corners).

    Returns:
        The points: a node once for each place it is needed at; the node of each point; and the
        simplices in numbers of points.
    """
    keys = []
    for nodes in simplices:
        key = nodes
        for axis, (low, high) in seams.items():
            y = x[nodes, axis]
            torn = y < y.max(axis=1, keepdims=True, initial=-np.inf) - (high - low) / 2
            key = 2 * key + torn
        keys.append(key)
    unique, place = np.unique(np.concatenate([key.ravel() for key in keys]), return_inverse=True)
    node = unique >> len(seams)
    points = x[node].copy()
    for bit, (axis, (low, high)) in enumerate(reversed(seams.items())):
        points[:, axis] += (unique >> bit & 1) * (high - low)
    places = np.split(place.ravel(), np.cumsum([key.size for key in keys])[:-1])
    return points, node, [p.reshape(k.shape) for p, k in zip(places, keys, strict=True)]


def wrap(x: np.ndarray, seams: dict) -> np.ndarray:
    """Points, shape (n, d), of a torus with each coordinate in [low, high)."""
    x = x.copy()
    for axis, (low, high) in seams.items():
        period = high - low
        x[:, axis] -= period * np.floor((x[:, axis] - low) / period + SAME_POINT)
    return x
