"""Walking on a mesh: from cell to cell, back from walls, out through exits, across seams.

A point is a cell and barycentric coordinates there, so that nothing has to be searched, and the
seams of a periodic domain are facets like others. The mesh is whole on every rank, with cells and
corners in an order that knows nothing of ranks.
"""

from math import factorial

import numpy as np

from dolfinx import fem

from mfg_fem._compat import evaluate, geometry_dofmap
from mfg_fem.compilation import pointwise
from mfg_fem.forms.cell import edges, reference_vertices
from mfg_fem.mesh.domain import Domain
from mfg_fem.mesh.locate import gradients_of, neighbours_of
from mfg_fem.mesh.refine import parts_of

CUTS = 4  # parts of an edge on which a density is linear
MOST_CELLS = 500  # on the way of one step; who has crossed as many stays there
FAR = 5.0  # standard deviations of a step beyond which nobody touches an exit unseen
TINY = 1e-300  # slower barycentric coordinates do not change


class Floor:
    """A domain to walk on, with exits. Collective.

    Attributes:
        corners: coordinates of the corners of each cell, shape (cells, d + 1, d).
        cell, corner: the place of each cell and of its corners among those of all ranks, in theirs.
        gradients: of the barycentric coordinates, shape (cells, d + 1, d).
        volumes: of the cells.
        exit: which exit lies opposite to each corner, by its place among the names; -1 elsewhere.
        names: of the exits.
    """

    def __init__(self, domain: Domain, names: list[str]):
        self.domain, self.names, mesh, d = domain, names, domain.mesh, domain.dim
        V = fem.functionspace(mesh, ("Lagrange", 1))
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
        nodes = self.by_corner(dofs.reshape(-1, d + 1))
        self._across = neighbours_of(nodes)
        # The place of each corner in the cell across the facet opposite to a corner; that corner
        # itself, which is not there, gets the place that is left.
        others = nodes[self._across]
        self._place = (others[:, :, None] == nodes[:, None, :, None]).argmax(axis=3)
        k = np.arange(d + 1)
        self._place[:, k, k] = 0
        self._place[:, k, k] = d * (d + 1) // 2 - self._place.sum(axis=2)
        self.exit = self.by_corner(self._exits())
        cells, corner = np.nonzero(self.exit >= 0)
        others = np.array([np.delete(k, i) for i in k])
        self._doors = self.corners[cells[:, None], others[corner]]  # (facets, d, d)
        self._door = self.exit[cells, corner]
        self._reach, self._near = -1.0, np.empty(0)

    def of_all(self, own: np.ndarray) -> np.ndarray:
        """The rows of all cells, in our order, from what each rank has for its own. Collective."""
        return np.concatenate(self.domain.comm.allgather(own))[self.cell]

    def by_corner(self, own: np.ndarray) -> np.ndarray:
        """The same of rows by corner, in our order of corners. Collective."""
        rows = self.of_all(own)
        corner = self.corner.reshape(*self.corner.shape, *[1] * (rows.ndim - 2))
        return np.take_along_axis(rows, corner, axis=1)

    def _exits(self) -> np.ndarray:
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
            Cells, barycentric coordinates, and the exit each has walked out through, or -1: there
            the point is on the exit.
        """
        cell, weights, step = cell.copy(), weights.copy(), step.copy()
        out, who = np.full(len(cell), -1), np.arange(len(cell))
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
            beyond = self._across[c, k]
            inner = beyond >= 0
            a, place = who[inner], self._place[c[inner], k[inner]]
            moved = np.zeros((len(a), weights.shape[1]))
            np.put_along_axis(moved, place, weights[a], axis=1)
            cell[a], weights[a] = beyond[inner], moved
            a, c, k = who[~inner], c[~inner], k[~inner]
            out[a] = self.exit[c, k]
            g = self.gradients[c, k]
            Dg = np.einsum("nij,nj->ni", D[a], g)
            back = np.sum(step[a] * g, axis=1) / np.sum(g * Dg, axis=1)
            step[a] -= 2 * back[:, None] * Dg
            who = who[out[who] < 0]
        return cell, weights / weights.sum(axis=1, keepdims=True), out

    def crossed(
        self,
        before: tuple[np.ndarray, np.ndarray],
        after: tuple[np.ndarray, np.ndarray],
        variance: np.ndarray,
        chance: np.ndarray,
    ) -> np.ndarray:
        """The exit that each point has touched between two places inside, or -1.

        Args:
            before: cells and barycentric coordinates.
            after: those a step later.
            variance: D dt of each point, shape (points, d, d).
            chance: uniform numbers, shape (points,).
        """
        out = np.full(len(chance), -1)
        if not len(chance) or not len(self._door):
            return out
        largest = np.einsum("nii->n", variance).max()
        near = self._near_doors(FAR * np.sqrt(2 * largest))
        who = np.flatnonzero((near[before[0], 0] >= 0) & (near[after[0], 0] >= 0))
        if not len(who):
            return out
        ways, doors = [], []
        for cell, weights in (before, after):
            way, door = self._to_doors(near[cell[who]], self.places(cell[who], weights[who]))
            ways.append(way)
            doors.append(door)
        d, e = (np.linalg.norm(way, axis=1) for way in ways)
        across = np.einsum("ni,nij,nj->n", ways[0], variance[who], ways[0])  # d^2 n.D n dt
        with np.errstate(divide="ignore", invalid="ignore"):
            touched = np.flatnonzero((d == 0) | (chance[who] < np.exp(-(d**3) * e / across)))
        out[who[touched]] = doors[0][touched]
        return out

    def _near_doors(self, reach: float) -> np.ndarray:
        """Facets of exits within reach of each cell, filled up with -1: shape (cells, most).

        Only of cells that are joined with one at an exit by such cells: not behind a wall.
        """
        if self._reach >= reach >= 0.9 * self._reach:
            return self._near
        centres, doors = self.corners.mean(axis=1), self._doors.mean(axis=1)
        far = reach + np.linalg.norm(self.corners - centres[:, None], axis=2).max(axis=1)
        size = np.linalg.norm(self._doors - doors[:, None], axis=2).max(axis=1)
        found = [
            np.flatnonzero(np.linalg.norm(centres - x, axis=1) < far + own)
            for x, own in zip(doors, size, strict=True)
        ]
        cells = np.concatenate(found)
        facets = np.repeat(np.arange(len(doors)), [len(some) for some in found])
        order = np.lexsort((facets, cells))
        cells, facets = cells[order], facets[order]
        place = np.arange(len(cells)) - np.searchsorted(cells, cells)
        near = np.full((len(centres), place.max(initial=0) + 1), -1)
        near[cells, place] = facets
        joined, size = np.any(self.exit >= 0, axis=1), 0
        while joined.sum() > size:
            size = joined.sum()
            beside = (joined[self._across] & (self._across >= 0)).any(axis=1)
            joined |= beside & (near[:, 0] >= 0)
        near[np.logical_not(joined)] = -1
        self._reach, self._near = reach, near
        return near

    def _to_doors(self, near: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The way from each point to the nearest of its facets, and the exit that this is of."""
        points, most = near.shape
        corners = self._doors[near.ravel()]
        ways = _nearest(np.repeat(x, most, axis=0), corners).reshape(points, most, -1)
        lengths = np.where(near >= 0, np.linalg.norm(ways, axis=2), np.inf)
        which = lengths.argmin(axis=1)
        every = np.arange(points)
        return ways[every, which], self._door[near[every, which]]


class Sampler:
    """Draws points from a density that is given as an expression.

    Each cell is cut into 4^d parts, on which the density is taken as linear: that widens it by a
    variance of h^2 / 96, where one that is linear on whole cells has h^2 / 6 more.
    """

    def __init__(self, floor: Floor, density):
        self.floor, self.mesh = floor, floor.domain.mesh
        corners = floor.domain.dim + 1
        parts = [part for half in self._halves(np.eye(corners)) for part in self._halves(half)]
        self.parts = np.array(parts)  # the barycentric coordinates of their corners
        numbers = np.rint(CUTS * self.parts).astype(np.int64)
        places = np.unique(numbers.reshape(-1, corners), axis=0)
        base = CUTS + 1
        keys = places @ base ** np.arange(corners)
        places, keys = places[np.argsort(keys)], np.sort(keys)
        self.of_parts = np.searchsorted(keys, numbers @ base ** np.arange(corners))
        # Places in our order of corners, among those in the order of the cell.
        self.place = np.searchsorted(keys, base**floor.corner @ places.T)
        x = places / CUTS @ reference_vertices(self.mesh)
        self.expression = pointwise(density, x)

    def _halves(self, simplex: np.ndarray) -> np.ndarray:
        """The corners of the parts of a simplex whose edges are halved."""
        middles = [(simplex[i] + simplex[j]) / 2 for i, j in edges(self.mesh)]
        return np.array([*simplex, *middles])[parts_of(tuple(range(len(simplex))))]

    def values(self) -> np.ndarray:
        """The density at present at the corners of parts, (cells, parts, corners). Collective."""
        own = np.arange(self.floor.own, dtype=np.int32)
        found = self.floor.of_all(evaluate(self.expression, self.mesh, own)[..., 0])
        return np.take_along_axis(found, self.place, axis=1)[:, self.of_parts]

    def draw(self, values: np.ndarray, random: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points of the density with these values.

        Args:
            values: as from `values`; negative ones count as zero.
            random: uniform numbers, shape (points, d + 3).

        Returns:
            Cells and barycentric coordinates, shapes (points,) and (points, d + 1).
        """
        shares = np.maximum(values, 0.0) * self.floor.volumes[:, None, None]
        # On a part it is a mixture of the coordinates, each of which is Dirichlet(1, .., 2, .., 1).
        sums = np.cumsum(shares)
        which = np.searchsorted(sums, random[:, 0] * sums[-1], side="right")
        cell, part, corner = np.unravel_index(which.clip(max=len(sums) - 1), shares.shape)
        weights = -np.log1p(-random[:, 1:-1])
        weights[np.arange(len(cell)), corner] -= np.log1p(-random[:, -1])
        weights /= weights.sum(axis=1, keepdims=True)
        return cell, self.floor.at(self.parts, part, weights)


def _nearest(x: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """The way from each point, (n, d), to the nearest one of its simplex, (n, corners, d)."""
    first, size = corners[:, 0] - x, corners.shape[1]
    if size == 1:
        return first
    sides = corners[:, 1:] - corners[:, :1]
    products = sides @ sides.transpose(0, 2, 1)
    share = np.linalg.solve(products, -np.einsum("nij,nj->ni", sides, first)[..., None])[..., 0]
    way = first + np.einsum("ni,nij->nj", share, sides)
    beside = np.flatnonzero((share < 0).any(axis=1) | (share.sum(axis=1) > 1))
    if len(beside):
        faces = [_nearest(x[beside], np.delete(corners[beside], i, axis=1)) for i in range(size)]
        which = np.argmin([np.linalg.norm(face, axis=1) for face in faces], axis=0)
        way[beside] = np.array(faces)[which, np.arange(len(beside))]
    return way


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
