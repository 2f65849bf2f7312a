"""The nodes of a space on rank 0, in an order that knows nothing of ranks; gather and scatter."""

from typing import Any

from mpi4py import MPI

import numpy as np

from dolfinx import fem, la

from mfg_fem._compat import geometry_dofmap
from mfg_fem.mesh.locate import COINCIDE, anything_twice, canonical_order
from mfg_fem.mesh.periodic import wrap


class Nodes:
    """The nodes of a space on a Domain on rank 0, in an order that knows nothing of ranks.

    Collective.

    Attributes:
        x: coordinates of all nodes in that order, shape (nodes, d), on rank 0; None elsewhere.
        number: place of each global dof in that order, on rank 0; None elsewhere.
    """

    def __init__(self, domain, V: fem.FunctionSpace):
        self.comm = domain.comm
        self.owned = V.dofmap.index_map.size_local
        points = wrap(V.tabulate_dof_coordinates()[: self.owned, : domain.dim], domain.seams)
        self.x: Any = None
        self.number: Any = None
        twice = None
        parts = self.comm.gather(points)
        if self.comm.rank == 0:
            points = np.concatenate(parts)
            self._order = canonical_order(points)
            near = COINCIDE * np.ptp(points, axis=0)
            twice = anything_twice(points[self._order], near)
        if self.comm.bcast(twice):  # both sides of a crack: their cells tell them apart
            parts = self.comm.gather(_middles_around(V))
            if self.comm.rank == 0:
                self._order = canonical_order(np.hstack([points, np.concatenate(parts)]))
        if self.comm.rank == 0:
            self._counts = [len(part) for part in parts]
            self.x = points[self._order]
            self.number = np.empty_like(self._order)
            self.number[self._order] = np.arange(len(points))

    def gather(self, values: np.ndarray) -> np.ndarray | None:
        """All values on rank 0 from each rank's owned ones (first axis: nodes). Collective."""
        parts = self.comm.gather(np.ascontiguousarray(values[: self.owned]))
        return np.concatenate(parts)[self._order] if self.comm.rank == 0 else None

    def scatter(self, values: np.ndarray | None) -> np.ndarray:
        """Owned values on each rank from all values on rank 0. Collective."""
        owned = np.empty(self.owned)
        if values is not None:
            pieces = [np.ascontiguousarray(values[self.number]), self._counts, None, MPI.DOUBLE]
            self.comm.Scatterv(pieces, owned)
        else:
            self.comm.Scatterv(None, owned)
        return owned


def _middles_around(V: fem.FunctionSpace) -> np.ndarray:
    """Mean of the middles of the cells around each owned dof, shape (dofs, d). Collective."""
    mesh, d = V.mesh, V.mesh.geometry.dim
    cells = mesh.topology.index_map(mesh.topology.dim).size_local
    middles = mesh.geometry.x[geometry_dofmap(mesh)[:cells], :d].mean(axis=1)
    sums = la.vector(V.dofmap.index_map, d + 1)
    terms = np.column_stack([middles, np.ones(cells)])
    np.add.at(sums.array.reshape(-1, d + 1), V.dofmap.list[:cells], terms[:, None])
    sums.scatter_reverse(la.InsertMode.add)
    sums = sums.array.reshape(-1, d + 1)[: V.dofmap.index_map.size_local]
    return sums[:, :d] / sums[:, d:]
