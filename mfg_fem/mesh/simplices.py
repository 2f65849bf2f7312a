"""Simplex meshes as arrays on one rank: what is wrong with them, and the DOLFINx mesh of them.

Every mesh file goes through here, so that it is judged once and before ranks communicate.
"""

import itertools
import logging
from dataclasses import dataclass, field

from mpi4py import MPI

import numpy as np

import basix.ufl
import dolfinx
from dolfinx import graph, io

from mfg_fem.errors import MeshError

log = logging.getLogger(__name__)

SIMPLICES = ("interval", "triangle", "tetrahedron")
IN_PLANE = 1e-6  # of the size of the mesh: points closer to a plane lie in it
FLAT = 1e-12  # part of the box around a cell: cells that fill less of it count as flat
LATTICE = (basix.LatticeType.equispaced, True)


@dataclass(frozen=True)
class Simplices:
    """A mesh as a file gives it.

    Attributes:
        x: coordinates of the points, shape (points, 1 to 3); some may be in no cell.
        cells: points of each cell in DOLFINx's order, shape (cells, nodes of a cell).
        dim: dimension of the cells.
        degree: of their geometry; 1 if their edges are straight.
        groups: (name, number in the file, corners of each facet); groups may share facets or names.
    """

    x: np.ndarray
    cells: np.ndarray
    dim: int
    degree: int = 1
    groups: list[tuple[str, int, np.ndarray]] = field(default_factory=list)


@dataclass(frozen=True)
class Parts:
    """What `build` makes a mesh of: no unused points, and each facet once, as a side of a cell."""

    x: np.ndarray
    cells: np.ndarray
    degree: int
    facets: np.ndarray
    tags: np.ndarray
    names: dict[str, tuple[int, ...]]


def coordinate_element(dim: int, degree: int):
    """The element of the geometry of a mesh of simplices."""
    variant = basix.LagrangeVariant.equispaced
    return basix.ufl.element(
        "Lagrange", SIMPLICES[dim - 1], degree, shape=(dim,), lagrange_variant=variant
    )


def check(mesh: Simplices) -> Parts:
    """The mesh without unused points and duplicates, laid flat if it lies in a plane or on a line.

    Raises:
        MeshError: coordinates that are no numbers, a surface that is not plane, cells without
            volume or on top of each other, named facets that are not the side of a cell.
    """
    _, first = np.unique(_keys(mesh.cells[:, : mesh.dim + 1]), return_index=True)
    cells = mesh.cells[np.sort(first)]
    used, cells = np.unique(cells, return_inverse=True)
    cells, x = cells.reshape(-1, mesh.cells.shape[1]), mesh.x[used]
    if not np.isfinite(x).all():
        raise MeshError("it has coordinates that are not finite numbers.")
    corners = cells[:, : mesh.dim + 1]
    x = _in_plane(x, corners)
    bad = np.flatnonzero(degenerate(x[cells], coordinate_element(mesh.dim, mesh.degree)))
    if len(bad):
        raise MeshError(about_degenerate(len(bad), x[corners[bad[0]]]))

    sides = np.concatenate([np.delete(corners, i, axis=1) for i in range(corners.shape[1])])
    groups = [facets for _, _, facets in mesh.groups]
    group = np.repeat(np.arange(len(groups)), [len(facets) for facets in groups])
    facets = np.concatenate([np.empty((0, mesh.dim), dtype=np.int64), *groups])
    numbers = np.searchsorted(used, facets).clip(max=len(used) - 1)
    numbers[used[numbers] != facets] = -1  # a point in no cell
    keys = _keys(np.concatenate([sides, numbers]))
    keys_of_sides, keys = keys[: len(sides)], keys[len(sides) :]
    cells_at = np.bincount(keys_of_sides, minlength=keys.max(initial=0) + 1)
    if cells_at.max() > 2:
        place = x[sides[np.argmax(cells_at[keys_of_sides] > 2)]]
        raise MeshError(
            f"three cells or more share a side at {_place(place)}: parts of the mesh lie on top of "
            "each other. In gmsh, BooleanFragments makes them fit together."
        )
    strange = group[cells_at[keys] == 0]
    if len(strange):
        name, _, own = mesh.groups[strange[0]]
        raise MeshError(
            f"{np.sum(strange == strange[0])} of the {len(own)} facets named {name!r} are no sides "
            "of cells: either the mesh does not follow them (in gmsh, `Curve {..} In Surface {..}` "
            "or BooleanFragments makes it do so), or what they bound is in no physical group. Mend "
            "that, or take them out of their group."
        )
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    member = np.zeros((len(first), len(groups)), dtype=bool)
    member[which, group] = True
    tags, names = _tags(mesh.groups, member)
    return Parts(x, cells, mesh.degree, numbers[first], tags, names)


def build(comm: MPI.Comm, parts: Parts | None):
    """The DOLFINx mesh, its facet tags and the tags of each name. Collective.

    Args:
        comm: the communicator that shares the mesh.
        parts: all of it on rank 0, None elsewhere.
    """
    about = parts and (parts.x.shape[1], parts.degree, parts.cells.shape[1], parts.names)
    dim, degree, nodes, names = comm.bcast(about)
    cells, facets = np.empty((0, nodes), dtype=np.int64), np.empty((0, dim), dtype=np.int64)
    x, tags = np.empty((0, dim)), np.empty(0, dtype=np.int32)
    if parts:
        x, cells, facets, tags = parts.x, parts.cells, parts.facets, parts.tags
    mesh = dolfinx.mesh.create_mesh(comm, cells=cells, x=x, e=coordinate_element(dim, degree))
    return mesh, facet_tags(mesh, facets, tags), names


def facet_tags(mesh, facets: np.ndarray, values: np.ndarray) -> dolfinx.mesh.MeshTags:
    """Facet tags from the input numbers of the corners of facets, on whatever rank. Collective."""
    d = mesh.topology.dim
    mesh.topology.create_entities(d - 1)
    mesh.topology.create_connectivity(d - 1, 0)
    mesh.topology.create_connectivity(d - 1, d)
    local, values = io.distribute_entity_data(mesh, d - 1, facets, values)
    return dolfinx.mesh.meshtags_from_entities(mesh, d - 1, graph.adjacencylist(local), values)


def degenerate(nodes: np.ndarray, element) -> np.ndarray:
    """Which cells have no volume, or fold over if they are curved.

    Args:
        nodes: coordinates of the nodes of each cell, shape (cells, nodes, d).
        element: the element of the geometry.
    """
    cell = getattr(basix.CellType, element.cell_type.name)
    points = basix.create_lattice(cell, 2 * element.embedded_superdegree - 2, *LATTICE)
    slopes = element.basix_element.tabulate(1, points)[1:, :, :, 0]
    extent = np.ptp(nodes, axis=1, keepdims=True)
    nodes = (nodes - nodes[:, :1]) / np.where(extent > 0, extent, 1.0)
    volumes = np.linalg.det(np.einsum("cni,jpn->cpij", nodes, slopes))
    one_sign = volumes.min(axis=1) * volumes.max(axis=1) > 0
    return ~(one_sign & (np.abs(volumes).min(axis=1) > FLAT))  # also where they are not numbers


def about_degenerate(count: int, corners: np.ndarray) -> str:
    """The message about cells without volume, one of which has these corners."""
    return (
        f"{count} of the cells have no volume or fold over, one of them at {_place(corners)}. Mesh "
        "the geometry again, with smaller cells if it has thin parts."
    )


def _place(corners: np.ndarray) -> str:
    return "(" + ", ".join(f"{number:.6g}" for number in corners.mean(axis=0)) + ")"


def pair_keys(pairs: np.ndarray, points: int) -> np.ndarray:
    """The number low * points + high of each pair of points, whatever their order."""
    return np.sort(pairs, axis=1) @ (points, 1)


def _keys(rows: np.ndarray) -> np.ndarray:
    """An integer for each row of point numbers (-1 or more), equal where the points are."""
    rows = np.sort(rows, axis=1) + 1
    keys, base = rows[:, 0], rows.max(initial=0) + 1
    for column in rows.T[1:]:
        keys = np.unique(keys * base + column, return_inverse=True)[1]
    return keys


def _tags(groups, member: np.ndarray) -> tuple[np.ndarray, dict[str, tuple[int, ...]]]:
    """A tag for each facet, by the groups it is a member of, and the tags that make up each name.

    A facet in one group has the number of that group; each combination of groups has a new tag.
    """
    if not len(member):
        return np.empty(0, dtype=np.int32), {name: () for name, _, _ in groups}
    combinations, which = np.unique(member, axis=0, return_inverse=True)
    numbers = [number for _, number, _ in groups]
    new = itertools.count(max(numbers) + 1)
    tags = [numbers[row.argmax()] if row.sum() == 1 else next(new) for row in combinations]
    names: dict[str, tuple[int, ...]] = {}
    for (name, _, _), holds in zip(groups, combinations.T, strict=True):
        own = {tag for tag, held in zip(tags, holds, strict=True) if held}
        names[name] = tuple(sorted(own.union(names.get(name, ()))))
    return np.array(tags, dtype=np.int32)[which.ravel()], names


def _in_plane(x: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Coordinates along the line or plane in which all points lie; lengths stay as they are.

    Args:
        x: coordinates in space, shape (points, n).
        corners: points of each cell, of dimension d <= n.

    Raises:
        MeshError: the points lie in no common line or plane.
    """
    d = corners.shape[1] - 1
    edges = x[corners[:, 1:]] - x[corners[:, :1]]
    largest = np.linalg.det(edges @ edges.transpose(0, 2, 1)).argmax()
    tangents = np.linalg.qr(edges[largest].T)[0]
    projection = tangents @ tangents.T
    # The coordinate axes that are the least steep, in their order, so that x stays x if it can.
    axes = np.sort(np.argsort(-np.diag(projection).round(6), kind="stable")[:d])
    frame, scale = np.linalg.qr(projection[:, axes])
    frame = frame * np.sign(np.diag(scale)) + 0.0
    away = (x - x[0]) - (x - x[0]) @ frame @ frame.T
    if np.abs(away).max() > IN_PLANE * np.ptp(x, axis=0).max():
        raise MeshError(
            f"its {SIMPLICES[d - 1]}s do not lie in one {'line' if d == 1 else 'plane'}: they "
            f"bend, or lie above each other. A domain in {d}D is flat; unfold it into the plane, "
            "floor beside floor."
        )
    if np.abs(frame - frame.round()).max() < IN_PLANE:  # along the axes: not a digit is changed
        frame = frame.round()
    if not np.array_equal(frame, np.eye(*frame.shape)):
        along = ", ".join(
            f"x[{i}] along {(v.round(6) + 0.0).tolist()}" for i, v in enumerate(frame.T)
        )
        log.warning("The mesh is tilted in space; its coordinates are now lengths %s.", along)
    return x @ frame
