"""What a picture needs on rank 0: the floor plan, and the fields of one level on its points.

In 3D the plan is a horizontal cut: each tetrahedron that the plane meets gives a triangle or a
quadrilateral, so that a P1 field on it is exact.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

import dolfinx

from mfg_fem.errors import ProblemError, together
from mfg_fem.mesh.nodes import Nodes
from mfg_fem.mesh.periodic import unfold


@dataclass(frozen=True)
class Plan:
    """An interval or a triangulation with named boundary pieces, in the plane of the picture.

    Attributes:
        x: coordinates of the points, shape (points, 1 or 2).
        cells: points of each interval or triangle.
        walls: boundary pieces that nobody crosses, points of each, shape (pieces, dim).
        exits: name -> the same for each exit.
        height: the third coordinate of a cut through a 3D mesh, else None.
        blend: point k of a cut lies at (1 - w) of node i and w of node j: (i, j, w).
    """

    x: np.ndarray
    cells: np.ndarray
    walls: np.ndarray
    exits: dict[str, np.ndarray]
    height: float | None = None
    blend: tuple | None = field(default=None, repr=False)

    def values(self, nodal: np.ndarray) -> np.ndarray:
        """Values at the points from those at the nodes of the mesh."""
        if self.blend is None:
            return nodal
        i, j, w = self.blend
        w = w.reshape(-1, *[1] * (nodal.ndim - 1))
        return (1 - w) * nodal[i] + w * nodal[j]

    def chains(self, pieces: np.ndarray) -> list[np.ndarray]:
        """Segments joined to lines as long as can be (2D): coordinates of the points of each."""
        neighbours: dict[int, list[int]] = {}
        for a, b in pieces.tolist():
            neighbours.setdefault(a, []).append(b)
            neighbours.setdefault(b, []).append(a)
        lines = []
        for start in sorted(neighbours, key=lambda k: len(neighbours[k]) % 2 == 0):  # ends first
            line = [start]
            while neighbours[line[-1]]:
                following = neighbours[line[-1]].pop()
                neighbours[following].remove(line[-1])
                line.append(following)
            if len(line) > 1:
                lines.append(self.x[line])
        return lines

    def outline(self) -> list[np.ndarray]:
        """The closed lines of the whole boundary (2D)."""
        return self.chains(np.concatenate([self.walls, *self.exits.values()]))


@dataclass(frozen=True)
class Snapshot:
    """Values at the points of a plan: velocity with as many components as the plan has.

    The crowd is the name of one of several.
    """

    crowd: str
    time: float
    density: np.ndarray
    value: np.ndarray
    velocity: np.ndarray


class Scene:
    """The plan of a solution's domain and its fields level by level. Collective.

    Attributes:
        plan: on rank 0; None elsewhere.
        crowd: its name, if it is one of several.
    """

    def __init__(self, solution, height: float | None = None, crowd: str = ""):
        self.solution, self.frames, self.crowd = solution, solution.frames(1), crowd
        domain = solution.problem.domain
        self.nodes = Nodes(domain, self.frames.value.function_space)
        self.vector_nodes = Nodes(domain, self.frames.velocity.function_space)
        cells, walls, exits = self._gather_mesh()
        self.plan: Any = None
        if self.nodes.comm.rank == 0:
            x, self._node, (cells, walls, *pieces) = unfold(
                self.nodes.x, domain.seams, cells, walls, *exits.values()
            )
            plan = Plan(x, cells, walls, dict(zip(exits, pieces, strict=True)))
            self.plan = plan
        with together(self.nodes.comm):
            if self.plan is not None and self.plan.x.shape[1] == 3:
                self.plan = _cut(self.plan, height)

    def at(self, n: int) -> Snapshot | None:
        """The fields of level n on rank 0, None elsewhere. Collective."""
        self.frames.show(n)
        d = self.solution.problem.domain.dim
        gathered = [self.vector_nodes.gather(self.frames.velocity.x.array.reshape(-1, d))]
        for function in (self.frames.value, self.frames.density):
            gathered.append(self.nodes.gather(function.x.array))
        if self.plan is None:
            return None
        velocity, u, m = (self.plan.values(v[self._node]) for v in gathered if v is not None)
        time, velocity = float(self.solution.times[n]), velocity[:, : self.plan.x.shape[1]]
        return Snapshot(self.crowd, time, m, u, velocity)

    def of(self, function) -> np.ndarray | None:
        """A scalar Function of space at the points on rank 0, None elsewhere. Collective."""
        self.frames.value.interpolate(function)
        values: Any = self.nodes.gather(self.frames.value.x.array)
        return None if self.plan is None else self.plan.values(values[self._node])

    def _gather_mesh(self):
        """Cells, walls and the pieces of each exit as node numbers on rank 0."""
        domain, V = self.solution.problem.domain, self.frames.value.function_space
        mesh, tdim, comm = domain.mesh, domain.dim, domain.comm
        for entities in ((tdim - 1, tdim), (tdim - 1, 0), (tdim, 0)):
            mesh.topology.create_connectivity(*entities)
        corners = mesh.topology.connectivity(tdim, 0).array
        dof = np.zeros(corners.max(initial=-1) + 1, dtype=np.int32)
        dof[corners] = V.dofmap.list.ravel()  # P1: one dof a vertex

        def numbers(dofs: np.ndarray, corners: int) -> np.ndarray | None:
            dofs = V.dofmap.index_map.local_to_global(dofs.ravel().astype(np.int32))
            parts = comm.gather(dofs.reshape(-1, corners))
            return self.nodes.number[np.concatenate(parts)] if comm.rank == 0 else None

        cells = V.dofmap.list[: mesh.topology.index_map(tdim).size_local]
        outer = dolfinx.mesh.exterior_facet_indices(mesh.topology)
        vertices = mesh.topology.connectivity(tdim - 1, 0).array.reshape(-1, tdim)
        exits, pieces = np.zeros(len(vertices), dtype=bool), {}
        for name in self.solution.problem.boundary:
            facets = np.intersect1d(domain.facets(name), outer)
            facets = facets[~exits[facets]]
            exits[facets] = True
            pieces[name] = numbers(dof[vertices[facets]], tdim)
        walls = numbers(dof[vertices[outer[~exits[outer]]]], tdim)
        return numbers(cells, tdim + 1), walls, pieces


def _cut(plan: Plan, height: float | None) -> Plan:
    """The plan where the plane z = height meets a mesh of tetrahedra; by default half way up."""
    z = plan.x[:, 2]
    height = (z.min() + z.max()) / 2 if height is None else height
    if not z.min() < height < z.max():
        raise ProblemError(
            f"height: the plane z = {height:g} does not cut the domain, which lies between "
            f"{z.min():g} and {z.max():g}."
        )
    on = abs(z - height) < 1e-9 * np.ptp(z)
    below = (z < height) & ~on
    edges: dict[tuple[int, int], int] = {}

    def section(simplices: np.ndarray, corners: int) -> np.ndarray:
        """Triangles (or segments) in which the plane meets tetrahedra (or triangles)."""
        found = []
        for simplex in simplices[below[simplices].any(1) & ~below[simplices].all(1)].tolist():
            low = [k for k in simplex if below[k]]
            high = [k for k in simplex if not below[k]]
            ends = [(j if on[j] else i, j) for i in low for j in high]
            points = [edges.setdefault(pair, len(edges)) for pair in ends]
            found.append(points[:corners])
            if len(points) > corners:  # a quadrilateral with the diagonals 0-3 and 1-2
                found.append(points[1:])
        found = [points for points in found if len(set(points)) == corners]
        return np.array(found, dtype=np.int64).reshape(-1, corners)

    cells = section(plan.cells, 3)
    walls = section(plan.walls, 2)
    exits = {name: section(pieces, 2) for name, pieces in plan.exits.items()}
    i, j = np.array(list(edges)).T
    w = (height - z[i]) / np.where(i == j, 1.0, z[j] - z[i])
    x = (1 - w)[:, None] * plan.x[i, :2] + w[:, None] * plan.x[j, :2]
    return Plan(x, cells, walls, exits, float(height), (i, j, w))
