"""Values at arbitrary points: a copy of a P1 mesh on every rank, and a vectorised search in it.

Flows and networks evaluate fields at points that lie anywhere, thousands at a time. The copy costs
memory on every rank (about 150 bytes a triangle), which is the price of no communication in the
search; meshes for which that is too much are not what this is for.
"""

from functools import cached_property

import numpy as np

from dolfinx import fem

from mfg_fem.errors import needs
from mfg_fem.validate import array

COINCIDE = 1e-9  # coordinates closer than this part of their range are the same
MAX_WALK = 200  # cells that a walk to a point may cross before the point is searched for
INSIDE = -1e-9  # barycentric coordinates of a point in a cell are not below this


class Replica:
    """The mesh of a P1 space, whole on every rank, nodes numbered by global dofs. Collective.

    Attributes:
        V: the space.
        x: coordinates of the nodes, shape (nodes, d).
        cells: nodes of each cell, shape (cells, d + 1).
        gradients: gradients of the barycentric coordinates, shape (cells, d + 1, d).
        neighbours: cell across the facet opposite to each corner, -1 at the boundary, shape
            (cells, d + 1).
        owned: slice of the nodes that this rank owns.
    """

    def __init__(self, V: fem.FunctionSpace):
        comm, index_map, d = V.mesh.comm, V.dofmap.index_map, V.mesh.geometry.dim
        tdim = V.mesh.topology.dim
        local_cells = V.dofmap.list[: V.mesh.topology.index_map(tdim).size_local]
        cells = index_map.local_to_global(local_cells.ravel().astype(np.int32))
        points = V.tabulate_dof_coordinates()[: index_map.size_local, :d]
        self.comm, self.V = comm, V
        self.x = np.concatenate(comm.allgather(points))
        self.cells = np.concatenate(comm.allgather(cells.reshape(-1, d + 1)))
        self.owned = slice(*index_map.local_range)
        self._low, self._high = self.x.min(axis=0), self.x.max(axis=0)
        corners = self.x[self.cells]
        self.gradients = gradients_of(corners)
        self._first_corner = corners[:, 0]
        self.neighbours = neighbours_of(self.cells)
        self._tree = needs("scipy.spatial", "scipy").cKDTree(corners.mean(axis=1))
        sizes = np.abs(corners[:, 1:] - corners[:, :1]).max(axis=1)  # of cells, along each axis
        self._nudge = 1e-10 * sizes.min(axis=0) * np.array([1.0, 0.7, 0.3])[:d]

    def gather(self, owned_values: np.ndarray) -> np.ndarray:
        """Values at all nodes from each rank's owned ones (first axis: nodes). Collective."""
        return np.concatenate(self.comm.allgather(owned_values))

    def function(self, nodal: np.ndarray, name: str) -> fem.Function:
        """The P1 Function of values (nodes,) or (nodes, d) at all nodes. Collective."""
        W = (
            self.V
            if nodal.ndim == 1
            else fem.functionspace(self.V.mesh, ("Lagrange", 1, nodal.shape[1:]))
        )
        found = fem.Function(W, name=name)
        found.x.array[: nodal[self.owned].size] = nodal[self.owned].ravel()
        found.x.scatter_forward()
        return found

    def locate(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Cell, barycentric coordinates and whether inside, shapes (n,), (n, d + 1), (n,).

        A point outside takes a cell at the boundary near it; some of its coordinates there are
        negative, and `clip` makes it a point of that cell.
        """
        # A point that several cells share goes to the one in a fixed direction, whatever the ranks.
        points = np.asarray(points, dtype=float)
        nudged = points + self._nudge
        cell = self._tree.query(nudged)[1]
        weights = self._barycentric(cell, nudged)
        walking = np.flatnonzero(weights.min(axis=1) < 0)
        for _ in range(MAX_WALK):
            if not len(walking):
                break
            step = self.neighbours[cell[walking], weights[walking].argmin(axis=1)]
            walking, step = walking[step >= 0], step[step >= 0]  # other walks end at the boundary
            cell[walking] = step
            weights[walking] = self._barycentric(step, nudged[walking])
            walking = walking[weights[walking].min(axis=1) < 0]
        weights = self._barycentric(cell, points)
        inside = weights.min(axis=1) >= INSIDE
        # A point inside the box around the mesh may be in a cell behind an obstacle or a corner.
        lost = np.flatnonzero(~inside & np.all((points >= self._low) & (points <= self._high), 1))
        if len(lost):
            cell[lost] = self._search(points[lost], cell[lost])
            weights[lost] = self._barycentric(cell[lost], points[lost])
            inside[lost] = weights[lost].min(axis=1) >= INSIDE
        return cell, weights, inside

    def _search(self, points: np.ndarray, near: np.ndarray) -> np.ndarray:
        """The cell that each point is in or, if there is none, the nearest that was tried.

        The cells tried for a point are the one near it, and all whose centre is no further from the
        point than from their own furthest corner: no other can contain the point.
        """
        who, cells = [np.arange(len(points))], [near]
        for tree, members, reach in self._by_size:
            found = tree.query_ball_point(points, reach)
            who.append(np.repeat(who[0], [len(some) for some in found]))
            cells.append(members[np.concatenate(found).astype(int)])
        who, cells = np.concatenate(who), np.concatenate(cells)
        weights = clip(self._barycentric(cells, points[who]))
        closest = np.einsum("ni,nid->nd", weights, self.x[self.cells[cells]])
        order = np.lexsort((np.linalg.norm(closest - points[who], axis=1), who))
        return cells[order][np.unique(who[order], return_index=True)[1]]

    @cached_property
    def _by_size(self) -> list:
        """Cells of similar size: a tree of their centres, their numbers, the largest reach."""
        corners = self.x[self.cells]
        centres = corners.mean(axis=1)
        reach = np.linalg.norm(corners - centres[:, None], axis=2).max(axis=1)
        size, tree = np.floor(np.log2(reach)), type(self._tree)
        groups = [np.flatnonzero(size == some) for some in np.unique(size)]
        return [(tree(centres[g]), g, (1 + 1e-6) * reach[g].max()) for g in groups]

    def interpolate(self, points: np.ndarray, nodal: np.ndarray) -> np.ndarray:
        """P1 interpolation of nodal values, shape (nodes, ...), at points: shape (n, ...)."""
        cell, weights, _ = self.locate(points)
        return np.einsum("ni,ni...->n...", clip(weights), nodal[self.cells[cell]])

    def _barycentric(self, cell, points):
        weights = np.einsum("nid,nd->ni", self.gradients[cell], points - self._first_corner[cell])
        weights[:, 0] += 1.0
        return weights


def as_points(x, dim: int) -> np.ndarray:
    """Check points: float64 of shape (n, dim), finite."""
    return array("points", x, ("n", dim))


def small_step(x: np.ndarray, part: float, size: float = 0.0) -> float:
    """A step for differences: this part of the extent of the points, or of a larger size."""
    if len(x):
        size = max(size, float(np.ptp(x, axis=0).max()))
    return max(part * size, 1e-8 * float(np.abs(x).max(initial=0.0))) or part


def gradients_of(corners: np.ndarray) -> np.ndarray:
    """Gradients of the barycentric coordinates of simplices, both of shape (cells, d + 1, d)."""
    inverse = np.linalg.inv((corners[:, 1:] - corners[:, :1]).transpose(0, 2, 1))
    return np.concatenate([-inverse.sum(axis=1, keepdims=True), inverse], axis=1)


def clip(weights: np.ndarray) -> np.ndarray:
    """Barycentric coordinates of a point in the cell: negative ones dropped, the sum one."""
    weights = np.maximum(weights, 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


def neighbours_of(cells: np.ndarray) -> np.ndarray:
    """Cell across the facet opposite to each corner, -1 at the boundary: shape (cells, d + 1)."""
    n, corners = cells.shape
    facets = np.stack([np.delete(cells, i, axis=1) for i in range(corners)], axis=1)
    facets = np.sort(facets.reshape(n * corners, -1), axis=1)
    order = np.lexsort(facets.T)
    same = (facets[order[1:]] == facets[order[:-1]]).all(axis=1)
    one, other = order[:-1][same], order[1:][same]
    result = np.full(n * corners, -1, dtype=np.int64)
    result[one], result[other] = other // corners, one // corners
    return result.reshape(n, corners)


def anything_twice(x: np.ndarray, near: np.ndarray) -> bool:
    """Whether two neighbours in this order are as near to each other as that along every axis."""
    return bool((abs(np.diff(x, axis=0)) <= near).all(axis=1).any())


def canonical_order(x: np.ndarray) -> np.ndarray:
    """Lexicographic order in which coordinates that differ by round-off count as equal."""
    keys = []
    for column in x.T:
        order = np.argsort(column, kind="stable")
        rank = np.empty(len(column), dtype=np.int64)
        steps = np.diff(column[order], prepend=column[order[0]])
        rank[order] = np.cumsum(steps > COINCIDE * np.ptp(column))
        keys.append(rank)
    return np.lexsort(keys[::-1])
