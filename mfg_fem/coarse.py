"""A coarse space for the operator H of `coupling.py`: a few smooth functions at each time level.

H is of fourth order in space, so its coarse functions have to be C1: a hat has a kink, whose energy
(D laplace hat)^2 grows with the mesh. Quadratic B-splines on a uniform grid of the bounding box,
mirrored at its faces so that their normal derivative vanishes there, restricted to the nodes of
the mesh (columns of Z; any geometry will do) and zero at exits. In time, every level.

The operator is the Galerkin projection Z^T H Z, block tridiagonal in time and factored by block
elimination on every rank. With the Euler pair, W = w / dt and step n counting from 0,

    (H v)_n = B_n g_n - W g_{n-1} + D_n v_n,      g_n = F0_n^-1 (A_n v_n - W v_{n+1}).

For the midpoint rule the Euler steps with the same operators in space stand in: the coarse space
is for waves that are long in time too.
"""

from functools import reduce

from mpi4py import MPI
from petsc4py import PETSc

import numpy as np

from mfg_fem.spacetime import SpaceTime


class CoarseSpace:
    """Z and the factored Z^T H Z.

    Attributes:
        size: number of functions of a time level.
        spacing: of the grid, its longest direction having the number of cells asked for.
    """

    def __init__(self, system: SpaceTime, cells: int):
        self.system = system
        columns, values = self._splines(cells)
        comm = system.comm
        whole = np.bincount(columns.ravel(), values.ravel(), columns.max(initial=0) + 1)
        length = comm.allreduce(len(whole), MPI.MAX)
        used = comm.allreduce(np.pad(whole, (0, length - len(whole))), MPI.SUM) > 0
        self.size = int(used.sum())
        columns = np.maximum(np.cumsum(used) - 1, 0)[columns]  # holes: a function without nodes
        self.local = np.zeros((system.owned, self.size))
        np.add.at(self.local, (np.arange(system.owned)[:, None], columns), values)
        self.Z = self._matrix()

    def _splines(self, cells: int) -> tuple[np.ndarray, np.ndarray]:
        """Numbers and values of the 3^dim splines at each owned dof, shapes (owned, 3^dim)."""
        d = self.system.discrete
        x = d.V.tabulate_dof_coordinates()[: d.owned, : d.problem.domain.dim]
        low = np.array([d.comm.allreduce(y.min(initial=np.inf), MPI.MIN) for y in x.T])
        high = np.array([d.comm.allreduce(y.max(initial=-np.inf), MPI.MAX) for y in x.T])
        sides = high - low
        counts = np.maximum(1, np.rint(sides / sides.max() * cells)).astype(int)
        self.spacing = float(np.max(sides / counts))
        s = (x - low) / sides * counts
        left = np.clip(s.astype(int), 0, counts - 1)
        s -= left
        pieces = np.stack([(1 - s) ** 2 / 2, 0.5 + s - s**2, s**2 / 2])
        numbers = np.clip(left + np.array([-1, 0, 1])[:, None, None], 0, counts - 1)  # mirrored
        strides = np.cumprod([1, *counts[:-1]])

        def outer(one, other, combine):
            return combine(one[:, :, None], other[:, None, :]).reshape(len(one), -1)

        axes = range(x.shape[1])
        values = reduce(lambda y, z: outer(y, z, np.multiply), [pieces[:, :, i].T for i in axes])
        columns = reduce(
            lambda y, z: outer(y, z, np.add), [numbers[:, :, i].T * strides[i] for i in axes]
        )
        values[d.held] = 0.0
        return columns, values

    def _matrix(self) -> PETSc.Mat:
        """Z as a parallel sparse matrix."""
        comm, owned = self.system.comm, self.system.owned
        rows, columns = np.nonzero(self.local)
        start = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=owned))])
        csr = (
            start.astype(PETSc.IntType),
            columns.astype(PETSc.IntType),
            self.local[rows, columns],
        )
        size = ((owned, PETSc.DETERMINE), (PETSc.DECIDE, self.size))
        return PETSc.Mat().createAIJ(size, csr=csr, comm=comm)

    def destroy(self):
        """Free Z."""
        self.Z.destroy()

    def refresh(self, coupling):
        """Project and factor H at the coefficients of `coupling`. Collective."""
        system, Z = self.system, self.Z
        s, N = system.half, system.steps
        inverse = Z.createVecLeft()
        WZ = system.discrete.free_mass.matMult(Z)
        WZ.scale(1 / system.dt)
        diagonal, lower, upper = np.zeros((3, N, self.size, self.size))
        for n in range(N):
            inverse.array[:] = 1 / coupling.F0[n]
            AZ, BtZ = system.A[n].matMult(Z), system.B[n].transposeMatMult(Z)
            for M in (AZ, BtZ) if s else ():  # 2 (W / 2 + K / 2) - W
                M.scale(2)
                M.axpy(-1.0, WZ)
            DZ, gA, gW = system.D[n].matMult(Z), AZ.copy(), WZ.copy()
            for M in (gA, gW):
                M.diagonalScale(inverse, None)
            diagonal[n] += self._product(BtZ, gA) + self._product(Z, DZ)
            upper[n] = -self._product(BtZ, gW)
            if n + 1 < N:
                diagonal[n + 1] = self._product(WZ, gW)
                lower[n + 1] = -self._product(WZ, gA)
            for M in (AZ, BtZ, DZ, gA, gW):
                M.destroy()
        WZ.destroy()
        diagonal, lower, upper = (
            system.comm.allreduce(M, MPI.SUM) for M in (diagonal, lower, upper)
        )
        self.inverse = np.empty_like(diagonal)
        for n in range(N):
            coupled = lower[n] @ self.inverse[n - 1] @ upper[n - 1] if n else 0.0
            # Splines cut off by the domain may be dependent at the nodes.
            self.inverse[n] = np.linalg.pinv(diagonal[n] - coupled, rcond=1e-12)
        self.lower, self.upper = lower, upper

    def _product(self, left: PETSc.Mat, right: PETSc.Mat) -> np.ndarray:
        """left^T right, small and dense; on each rank the rows that PETSc gives it."""
        result = np.zeros((self.size, self.size))
        product = left.transposeMatMult(right)
        dense = product.convert("dense")
        result[slice(*product.getOwnershipRange())] = dense.getDenseArray()
        product.destroy()
        dense.destroy()
        return result

    def solve(self, r: np.ndarray) -> np.ndarray:
        """Z (Z^T H Z)^-1 Z^T r. One reduction."""
        y = self.system.comm.allreduce(r @ self.local, MPI.SUM)
        for n in range(len(y)):
            y[n] = self.inverse[n] @ (y[n] - self.lower[n] @ y[n - 1] if n else y[n])
        for n in reversed(range(len(y) - 1)):
            y[n] -= self.inverse[n] @ (self.upper[n] @ y[n + 1])
        return y @ self.local.T
