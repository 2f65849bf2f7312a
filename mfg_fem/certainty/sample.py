"""Drawing points from a density that is given as an expression, and from a flux at entries."""

import numpy as np

import ufl

from mfg_fem._compat import evaluate
from mfg_fem.certainty.touch import Facets
from mfg_fem.certainty.walk import Floor
from mfg_fem.compilation import pointwise
from mfg_fem.forms.cell import edges, reference_vertices
from mfg_fem.mesh.refine import parts_of

CUTS = 4  # parts of an edge on which a density is linear


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

    def shares(self) -> np.ndarray:
        """How many there are by corner of a part, (cells, parts, corners). Collective.

        A negative density counts as zero.
        """
        own = np.arange(self.floor.own, dtype=np.int32)
        found = self.floor.of_all(evaluate(self.expression, self.mesh, own)[..., 0])
        values = np.take_along_axis(found, self.place, axis=1)[:, self.of_parts]
        size = self.floor.volumes / np.prod(values.shape[1:])
        return np.maximum(values, 0.0) * size[:, None, None]

    def draw(self, shares: np.ndarray, random: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points of the density with these shares.

        Args:
            shares: as from `shares`.
            random: uniform numbers, shape (points, d + 3).

        Returns:
            Cells and barycentric coordinates, shapes (points,) and (points, d + 1).
        """
        (cell, part, _), weights = _mixture(shares, random)
        return cell, self.floor.at(self.parts, part, weights)


class FluxSampler:
    """Draws points on entries from a flux that is given by entry, linear on each facet."""

    def __init__(self, floor: Floor, fluxes: dict):
        self.facets = Facets(floor, [*fluxes])
        self.table = floor.table(ufl.as_vector([*fluxes.values(), ufl.zero()]))
        self._which = [[*fluxes].index(floor.names[name]) for name in self.facets.name]

    def shares(self) -> np.ndarray:
        """How many come in per unit of time, by corner of a facet, (facets, d). Collective."""
        facets = self.facets
        flux = self.table()[facets.cells[:, None], facets.places, np.c_[self._which]]
        return np.maximum(flux, 0.0) * facets.sizes[:, None] / flux.shape[1]

    def draw(self, shares: np.ndarray, random: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points of the flux with these shares: as those of a `Sampler`."""
        (facet, _), on_facet = _mixture(shares, random[:, :-1])
        return self.facets.cells[facet], self.facets.weights(facet, on_facet)


def _mixture(shares: np.ndarray, random: np.ndarray) -> tuple[tuple, np.ndarray]:
    """Where points of a density are that is linear on simplices.

    There it is a mixture of the barycentric coordinates, each of which is the density of the
    distribution Dirichlet(1, .., 2, .., 1).

    Args:
        shares: by corner of the simplices, which is the last axis.
        random: uniform numbers, shape (points, corners + 2).

    Returns:
        Indices of the corners that were drawn, and barycentric coordinates, (points, corners).
    """
    sums = np.cumsum(shares)
    which = np.searchsorted(sums, random[:, 0] * sums[-1], side="right")
    where = np.unravel_index(which.clip(max=len(sums) - 1), shares.shape)
    weights = -np.log1p(-random[:, 1:-1])
    weights[np.arange(len(weights)), where[-1]] -= np.log1p(-random[:, -1])
    return where, weights / weights.sum(axis=1, keepdims=True)
