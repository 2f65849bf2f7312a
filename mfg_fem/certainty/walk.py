"""Walking on a mesh: from cell to cell, back from walls, out through exits, across seams.

A point is a cell and barycentric coordinates there, so that nothing has to be searched, and the
seams of a periodic domain are facets like others. The mesh is whole on every rank, with cells and
corners in an order that knows nothing of ranks.
"""

from collections.abc import Sequence
from math import factorial

import numpy as np

from dolfinx import fem

from mfg_fem._compat import evaluate, geometry_dofmap
from mfg_fem.compilation import pointwise
from mfg_fem.forms.cell import reference_vertices
from mfg_fem.mesh.domain import Domain
from mfg_fem.mesh.locate import gradients_of, neighbours_of

MOST_CELLS = 500  # on the way of one step; who has crossed as many stays there
TINY = 1e-300  # slower barycentric coordinates do not change


class Floor:
    """A domain to walk on. Collective.

    Attributes:
        corners: coordinates of the corners of each cell, shape (cells, d + 1, d).
        cell, corner: the place of each cell and of its corners among those of all ranks, in theirs.
        gradients: of the barycentric coordinates, shape (cells, d + 1, d).
        volumes: of the cells.
        nodes: the P1 dofs of all ranks at the corners of each cell, shape (cells, d + 1).
        V: their space.
        across: the cell across the facet opposite to each corner, -1 at the boundary.
        boundary: which boundary lies opposite to each corner, by its place among the names; -1
            elsewhere.
        names: of the exits, which let people out who walk into them, of the doors and of the
            entries, which mirror.
    """

    def __init__(
        self,
        domain: Domain,
        exits: Sequence[str] = (),
        doors: Sequence[str] = (),
        entries: Sequence[str] = (),
    ):
        self.domain, mesh, d = domain, domain.mesh, domain.dim
        self.names, self._exits = [*exits, *doors, *entries], len(exits)
        self._ways_out = self._exits + len(doors)
        self.V = V = fem.functionspace(mesh, ("Lagrange", 1))
        self.own = mesh.topology.index_map(d).size_local
        dofs = V.dofmap.index_map.local_to_global(V.dofmap.list[: self.own].ravel())
        nodes = geometry_dofmap(mesh)[: self.own, : d + 1]  # curved edges count as straight
        corners = np.concatenate(domain.comm.allgather(mesh.geometry.x[nodes, :d]))
        # Corners in lexicographic order, and then the cells.
        keys = tuple(np.moveaxis(corners, 2, 0)[::-1])
        corner = np.lexsort(keys, axis=-1)
        corners = np.take_along_axis(corners, corner[..., None], axis=1)
        self.cell = np.lexsort(corners.reshape(len(corners), -1).T[::-1])
        self.corners, self.corner = corners[self.cell], corner[self.cell]
        self.gradients = gradients_of(self.corners)
        self.volumes = abs(np.linalg.det(self.corners[:, 1:] - self.corners[:, :1])) / factorial(d)
        self.nodes = nodes = self.by_corner(dofs.reshape(-1, d + 1))
        self.across = neighbours_of(nodes)
        # The place of each corner in the cell across the facet opposite to a corner; that corner
        # itself, which is not there, gets the place that is left.
        others = nodes[self.across]
        self._place = (others[:, :, None] == nodes[:, None, :, None]).argmax(axis=3)
        k = np.arange(d + 1)
        self._place[:, k, k] = 0
        self._place[:, k, k] = d * (d + 1) // 2 - self._place.sum(axis=2)
        self.boundary = self.by_corner(self._named())

    def of_all(self, own: np.ndarray) -> np.ndarray:
        """The rows of all cells, in our order, from what each rank has for its own. Collective."""
        return np.concatenate(self.domain.comm.allgather(own))[self.cell]

    def by_corner(self, own: np.ndarray) -> np.ndarray:
        """The same of rows by corner, in our order of corners. Collective."""
        rows = self.of_all(own)
        corner = self.corner.reshape(*self.corner.shape, *[1] * (rows.ndim - 2))
        return np.take_along_axis(rows, corner, axis=1)

    def _named(self) -> np.ndarray:
        d, topology = self.domain.dim, self.domain.mesh.topology
        topology.create_connectivity(d, d - 1)
        facets = topology.index_map(d - 1).size_local + topology.index_map(d - 1).num_ghosts
        of_facet = np.full(facets, -1, dtype=np.int64)
        for which, name in reversed([*enumerate(self.names)]):  # the first of two wins
            of_facet[self.domain.facets(name)] = which
        found = of_facet[topology.connectivity(d, d - 1).array.reshape(-1, d + 1)[: self.own]]
        return found[:, ::-1] if d == 1 else found  # a facet of an interval is a corner itself

    def table(self, expression) -> "Table":
        """The values of a vector at the corners of cells, again and again. Collective."""
        return Table(self, expression)

    def places(self, cell: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Coordinates of points, shape (points, d)."""
        return self.at(self.corners, cell, weights)

    @staticmethod
    def at(values: np.ndarray, cell: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Values given at the corners of cells, (cells, d + 1, ...), at points."""
        return np.einsum("nc,nc...->n...", weights, values[cell])

    def walk(
        self, cell: np.ndarray, weights: np.ndarray, step: np.ndarray, D: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Take a step, shape (points, d), from these points.

        Walls mirror what is left of the step, in the metric of the diffusion D, shape (points, d,
        d), so that nothing flows through them.

        Returns:
            Cells, barycentric coordinates, and the exit or the door that each has met last, or -1:
            at an exit the point stays there.
        """
        cell, weights, step = cell.copy(), weights.copy(), step.copy()
        met, who = np.full(len(cell), -1), np.arange(len(cell))
        for _ in range(MOST_CELLS):
            c, y = cell[who], weights[who]
            rate = np.einsum("nij,nj->ni", self.gradients[c], step[who])
            with np.errstate(divide="ignore", invalid="ignore"):
                time = np.where(rate < -TINY, y / -rate, np.inf)
            k = time.argmin(axis=1)
            share = np.minimum(time[np.arange(len(who)), k], 1.0)
            weights[who] = np.maximum(y + share[:, None] * rate, 0.0)
            step[who] *= 1 - share[:, None]
            going = share < 1
            who, c, k = who[going], c[going], k[going]
            if not len(who):
                break
            weights[who, k] = 0.0
            beyond = self.across[c, k]
            inner = beyond >= 0
            a, place = who[inner], self._place[c[inner], k[inner]]
            moved = np.zeros((len(a), weights.shape[1]))
            np.put_along_axis(moved, place, weights[a], axis=1)
            cell[a], weights[a] = beyond[inner], moved
            a, c, k = who[~inner], c[~inner], k[~inner]
            here = self.boundary[c, k]
            met[a] = np.where((here >= 0) & (here < self._ways_out), here, met[a])
            g = self.gradients[c, k]
            Dg = np.einsum("nij,nj->ni", D[a], g)
            back = np.sum(step[a] * g, axis=1) / np.sum(g * Dg, axis=1)
            step[a] -= 2 * back[:, None] * Dg
            who = who[np.logical_not(self.is_exit(met[who]))]
        return cell, weights / weights.sum(axis=1, keepdims=True), met

    def is_exit(self, boundary: np.ndarray) -> np.ndarray:
        """Whether these are exits, by their places among the names."""
        return (boundary >= 0) & (boundary < self._exits)


class Table:
    """A vector at the corners of all cells, in the order of a Floor."""

    def __init__(self, floor: Floor, expression):
        mesh = floor.domain.mesh
        self.floor, self.mesh = floor, mesh
        self.expression = pointwise(expression, reference_vertices(mesh))

    def __call__(self) -> np.ndarray:
        """Its values at present, shape (cells, d + 1, components). Collective."""
        cells = np.arange(self.floor.own, dtype=np.int32)
        return self.floor.by_corner(evaluate(self.expression, self.mesh, cells))
