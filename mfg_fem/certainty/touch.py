"""Who touches facets of the boundary in a step of a walk: exits and doors.

An exit lets everybody out who has been there. At a door who walks is pushed back: a player at the
distance d before a step and at the signed distance e after it, without the door, has been as far as

    low = (d + e - sqrt((d - e)^2 + 2 s^2 E)) / 2,        s^2 = 2 n.D n dt,

with an exponential number E, as a Brownian bridge is (Asmussen, Glynn, Pitman 1995). It is pushed
by l = max(0, -low), to e + l, and let out with the probability 1 - exp(-kappa l / n.D n). The
player's local time there is l / n.D n (Skorokhod; Gobet 2001).
"""

import numpy as np

from mfg_fem.certainty.walk import Floor
from mfg_fem.mesh.locate import clip

FAR = 5.0  # standard deviations of a step beyond which nobody touches a facet unseen
ASIDE = 1e-9  # of a domain: who is in front of a facet is at most so far aside

Points = tuple[np.ndarray, np.ndarray]  # cells, and barycentric coordinates


class Facets:
    """The facets of some boundaries of a floor.

    Attributes:
        name: the boundary of each facet, by its place among the names of the floor.
        cells: the cell at each facet.
        places: of the facet's corners among those of the cell, shape (facets, d).
        corners: their coordinates, shape (facets, d, d).
        inward: unit normals into the domain, shape (facets, d).
        sizes: lengths of the facets (areas in 3D, 1 in 1D).
    """

    def __init__(self, floor: Floor, names: list[str]):
        self.floor, k = floor, np.arange(floor.corners.shape[1])
        wanted = [floor.names.index(name) for name in names]
        self.cells, corner = np.nonzero(np.isin(floor.boundary, wanted))
        self.name = floor.boundary[self.cells, corner]
        self.places = np.array([np.delete(k, i) for i in k])[corner]
        self.corners = floor.corners[self.cells[:, None], self.places]
        gradients = floor.gradients[self.cells, corner]
        heights = 1 / np.linalg.norm(gradients, axis=1)
        self.inward = heights[:, None] * gradients
        self.sizes = floor.volumes[self.cells] * floor.domain.dim / heights
        self._middles = self.corners.mean(axis=1)
        offsets = self.corners - self._middles[:, None]
        self._radii = np.linalg.norm(offsets, axis=2).max(axis=1, initial=0.0)
        self._aside = ASIDE * np.ptp(floor.corners, axis=(0, 1)).max()
        self._reach, self._near = -1.0, np.empty(0)

    def weights(self, facet: np.ndarray, on_facet: np.ndarray) -> np.ndarray:
        """Barycentric coordinates in the cells of facets of points with these on the facets."""
        weights = np.zeros((len(facet), self.floor.corners.shape[1]))
        np.put_along_axis(weights, self.places[facet], on_facet, axis=1)
        return weights

    def near(self, cell: np.ndarray, variance: np.ndarray) -> np.ndarray:
        """Whether points in these cells may be touching a facet in steps with this D dt."""
        return self._within(variance)[cell, 0] >= 0

    def touched(
        self, before: Points, after: Points, variance: np.ndarray, chance: np.ndarray
    ) -> np.ndarray:
        """The boundary that each point has touched between two places inside, or -1.

        Args:
            before: places before a step.
            after: places after it.
            variance: D dt of each point, shape (points, d, d).
            chance: uniform numbers, shape (points,).
        """
        out = np.full(len(chance), -1)
        near = self._within(variance)
        who = np.flatnonzero((near[before[0], 0] >= 0) & (near[after[0], 0] >= 0))
        if not len(who):
            return out
        ways, facets = [], []
        for cell, weights in (before, after):
            way, facet = self._to(near[cell[who]], self.floor.places(cell[who], weights[who]))
            ways.append(way)
            facets.append(facet)
        d, e = (np.linalg.norm(way, axis=1) for way in ways)
        across = np.einsum("ni,nij,nj->n", ways[0], variance[who], ways[0])  # d^2 n.D n dt
        with np.errstate(divide="ignore", invalid="ignore"):
            touched = np.flatnonzero((d == 0) | (chance[who] < np.exp(-(d**3) * e / across)))
        out[who[touched]] = self.name[facets[0][touched]]
        return out

    def pushed(
        self,
        before: Points,
        after: Points,
        mirrored: np.ndarray,
        variance: np.ndarray,
        exponential: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Who has been pushed back by a boundary in a step: see above.

        Args:
            before: places before a step.
            after: places after it, where those who would be outside are mirrored.
            mirrored: whether they are, shape (points,).
            variance: D dt of each point, shape (points, d, d).
            exponential: numbers E, shape (points,); 0 in steps without noise.

        Returns:
            The places in the list of those who have been pushed; the facets by which; l / n.D n dt;
            and the way from where they are to where they are pushed to, shape (pushed, d).
        """
        near = self._within(variance)
        who = np.flatnonzero(near[after[0], 0] >= 0)
        x, y = (self.floor.places(cell[who], weights[who]) for cell, weights in (before, after))
        way, facet = self._to(near[after[0][who]], y)
        n, variance = self.inward[facet], variance[who]
        height = np.sum(-way * n, axis=1)
        before_it = np.sum((x - y - way) * n, axis=1)
        beyond = np.where(mirrored[who], -height, height)
        Dn = np.einsum("nij,nj->ni", variance, n)
        across = np.sum(n * Dn, axis=1)
        bridge = np.sqrt((before_it - beyond) ** 2 + 4 * across * exponential[who])
        push = np.maximum((bridge - before_it - beyond) / 2, 0.0)
        in_front = np.linalg.norm(way + height[:, None] * n, axis=1) <= self._aside
        chosen = np.flatnonzero(in_front & (push > 0))
        back = (beyond + push - height) / across
        return who[chosen], facet[chosen], (push / across)[chosen], (back[:, None] * Dn)[chosen]

    def foot(self, facet: np.ndarray, x: np.ndarray) -> Points:
        """The points of these facets that are nearest to points, by cells and weights."""
        way = _nearest(x, self.corners[facet])
        cell = self.cells[facet]
        gradients, first = self.floor.gradients[cell], self.floor.corners[cell, 0]
        weights = np.einsum("nij,nj->ni", gradients, x + way - first)
        weights[:, 0] += 1
        on_facet = np.take_along_axis(weights, self.places[facet], axis=1)
        return cell, self.weights(facet, clip(on_facet))

    def _within(self, variance: np.ndarray) -> np.ndarray:
        """Facets within reach of each cell, filled up with -1: shape (cells, most).

        Only of cells that are joined with one at a facet by such cells: not behind a wall.

        Args:
            variance: of the steps that are taken, shape (points, d, d).
        """
        floor = self.floor
        if not len(self.cells) or not len(variance):
            return np.full((len(floor.corners), 1), -1)
        reach = FAR * np.sqrt(2 * np.einsum("nii->n", variance).max())
        if self._reach >= reach >= self._reach / 2:
            return self._near
        centres, middles = floor.corners.mean(axis=1), self._middles
        far = reach + np.linalg.norm(floor.corners - centres[:, None], axis=2).max(axis=1)
        found = [
            np.flatnonzero(np.linalg.norm(centres - x, axis=1) < far + own)
            for x, own in zip(middles, self._radii, strict=True)
        ]
        cells = np.concatenate(found)
        facets = np.repeat(np.arange(len(middles)), [len(some) for some in found])
        order = np.lexsort((facets, cells))
        cells, facets = cells[order], facets[order]
        place = np.arange(len(cells)) - np.searchsorted(cells, cells)
        near = np.full((len(centres), place.max(initial=0) + 1), -1)
        near[cells, place] = facets
        joined, size = np.zeros(len(centres), dtype=bool), 0
        joined[self.cells] = True
        while joined.sum() > size:
            size = joined.sum()
            beside = (joined[floor.across] & (floor.across >= 0)).any(axis=1)
            joined |= beside & (near[:, 0] >= 0)
        near[np.logical_not(joined)] = -1
        self._reach, self._near = reach, near
        return near

    def _to(self, near: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The way from each point to the nearest of its facets, and which that is."""
        far = np.linalg.norm(x[:, None] - self._middles[near], axis=2)
        far[near < 0] = np.inf
        # Those whose middles are so far that another facet must be nearer need no closer look.
        who, place = np.nonzero(far - self._radii[near] <= far.min(axis=1, keepdims=True))
        ways = _nearest(x[who], self.corners[near[who, place]])
        far[:], which = np.inf, np.full(near.shape, -1)
        far[who, place], which[who, place] = np.linalg.norm(ways, axis=1), np.arange(len(who))
        best = np.arange(len(x)), far.argmin(axis=1)
        return ways[which[best]], near[best]


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
