"""Where a line cuts the triangles of a mesh."""

from functools import cached_property

from mpi4py import MPI

import numpy as np

import basix
from dolfinx import fem, la

from mfg_fem._compat import geometry_dofmap
from mfg_fem.crowd.weights import owned
from mfg_fem.mesh.locate import gradients_of
from mfg_fem.mesh.values import volumes_of

ASIDE = 1e-9  # part of its length by which a line is moved, off the edges of cells
AROUND = 1e-6  # part of its length by which it is prolonged, to pass a corner that it ends at
GAUSS = np.array([-1.0, 1.0]) / np.sqrt(3)  # exact for cubics on a line
MIDDLES = np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2  # exact for quadratics on a triangle


class Cut:
    """A line from ends[0] to ends[1] and the triangles of this rank that it cuts. Collective.

    A line along edges cuts the triangles on its right, or those on its left if only there it ends
    at walls: at the mouth of a corridor it cuts those in the corridor.

    Attributes:
        cells: the triangles.
        share: of each, the part of its cut by the infinite line that the line itself makes.
        right: which of their corners are on the right of the line, shape (cells, 3).
        length: of the line inside the domain.
    """

    def __init__(self, V: fem.FunctionSpace, ends: np.ndarray):
        self.V, mesh = V, V.mesh
        every = geometry_dofmap(mesh)[: mesh.topology.index_map(2).size_local, :3]
        corners = mesh.geometry.x[every, :2]
        along = ends[1] - ends[0]
        size = np.linalg.norm(along)
        normal = np.array([along[1], -along[0]]) / size
        sides = [_inside(corners, ends + ASIDE * size * normal * side) for side in (1, -1)]
        parts = [_parts(enter, leave).sum() for _, enter, leave in sides]
        on_right, on_left = mesh.comm.allreduce(np.array(parts), MPI.SUM)
        left = on_right == 0 or 0 < on_left < on_right - AROUND / 2
        coordinates, enter, leave = sides[1 if left else 0]
        beyond = (corners - ends[0]) @ normal - ASIDE * size * (-1 if left else 1)
        right, covered = beyond > 0, _parts(enter, leave)
        cut = right.any(axis=1) & ~right.all(axis=1)  # the others are but touched
        self.cells = np.flatnonzero(cut & (covered > 0))
        self.beyond, self.right = beyond[self.cells], right[self.cells]
        self.share = covered[self.cells] / (leave - enter)[self.cells]
        self.first, self.last = coordinates[:, self.cells]
        self.enter = np.clip(enter[self.cells], 0.0, 1.0)
        self.leave = np.clip(leave[self.cells], 0.0, 1.0)
        self.size, self.corners = size, corners[self.cells]
        local = float(size * (self.leave - self.enter).sum())
        self.length = mesh.comm.allreduce(local, MPI.SUM)

    @property
    def on_line(self) -> np.ndarray:
        """Weights of the integral of a density along the line. Collective."""
        middle, half = (self.enter + self.leave) / 2, (self.leave - self.enter) / 2
        s = middle + GAUSS[:, None] * half  # (points, cells)
        points = self.first + s[..., None] * (self.last - self.first)
        return self._weights(np.einsum("pci,c->ci", self._values(points), self.size * half))

    @cached_property
    def step(self) -> np.ndarray:
        """On each of the triangles, the gradient of the function that is 1 at corners on the right.

        It is 0 at the others, and multiplied by the share: shape (cells, 2).
        """
        gradient = np.einsum("ci,cid->cd", self.right, gradients_of(self.corners))
        return self.share[:, None] * gradient

    def correction(self, lumped: bool) -> np.ndarray:
        """Weights of the people on the right of the line less those of that function. Collective.

        Lumped, the latter are those at its corners; else the integral of the function and m.
        """
        whole = self._values(np.repeat(MIDDLES[:, None], len(self.cells), axis=1)).mean(axis=0)
        # One corner is alone on its side, and the line cuts a small triangle off around it.
        few = self.right.sum(axis=1) == 1
        alone = np.argmax(self.right == few[:, None], axis=1)
        at = np.arange(len(alone))
        here = self.beyond[at, alone][:, None]
        parts = here / np.where(self.right == few[:, None], 1.0, here - self.beyond)
        parts[at, alone] = 1.0  # of the edges from there, and the point itself
        mine = np.eye(3)[alone]
        others = mine[:, None] + parts[..., None] * (np.eye(3) - mine[:, None])
        others[at, alone] = mine
        small = self._values(np.einsum("pk,ckj->pcj", MIDDLES, others)).mean(axis=0)
        small *= np.prod(parts, axis=1)[:, None]
        found = np.where(few[:, None], small, whole - small)
        if lumped:
            found = found - self.right / 3
        else:
            points, rule = basix.make_quadrature(basix.CellType.triangle, 3)
            corners = np.column_stack([1 - points.sum(axis=1), points])
            values = self.V.ufl_element().tabulate(0, points)[0]
            found = found - self.right @ (corners * (2 * rule)[:, None]).T @ values
        return self._weights(found * (self.share * self._volumes)[:, None])

    @cached_property
    def _volumes(self) -> np.ndarray:
        return volumes_of(self.V.mesh)[self.cells]

    def _values(self, points: np.ndarray) -> np.ndarray:
        """Basis functions at barycentric points (points, cells, 3): shape (points, cells, dofs)."""
        shape = *points.shape[:2], self.V.dofmap.list.shape[1]
        if not points.size:
            return np.zeros(shape)
        flat = points.reshape(-1, 3)[:, 1:]
        return self.V.ufl_element().tabulate(0, flat)[0].reshape(shape)

    def _weights(self, local: np.ndarray) -> np.ndarray:
        total = la.vector(self.V.dofmap.index_map)
        np.add.at(total.array, self.V.dofmap.list[self.cells], local)
        return owned(total)


def _inside(corners: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, ...]:
    """Barycentric coordinates of both ends, and where the infinite line is in each triangle.

    The latter from one part of the line to another: 0 is its first and 1 its second end.
    """
    offset = ends[:, None] - corners[:, 0]
    coordinates = np.einsum("cid,ecd->eci", gradients_of(corners), offset) + np.eye(3)[0]
    first, last = coordinates
    with np.errstate(divide="ignore", invalid="ignore"):
        zero = first / (first - last)
    enter = np.where(last > first, zero, -np.inf).max(axis=1, initial=-np.inf)
    leave = np.where(last < first, zero, np.inf).min(axis=1, initial=np.inf)
    missed = ((first == last) & (first < 0)).any(axis=1)
    return coordinates, np.where(missed, np.inf, enter), leave


def _parts(enter: np.ndarray, leave: np.ndarray) -> np.ndarray:
    """The part of the line, prolonged at both ends, in each triangle."""
    start, end = np.maximum(enter, -AROUND), np.minimum(leave, 1 + AROUND)
    return np.where(end > start, end - start, 0.0)
