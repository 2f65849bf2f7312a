"""A coarse space for the operator H of `matched_sweeps.py`: smooth functions at each time level.

H is of fourth order in space, so its coarse functions have to be C1: a hat has a kink, whose energy
(D laplace hat)^2 grows with the mesh. They are quadratic B-splines on a uniform grid of the
bounding box, mirrored at its faces so that their normal derivative vanishes there, restricted to
the nodes of the mesh (columns of Z; any geometry will do) and zero at Dirichlet dofs. In time there
is no coarsening.

The operator is the Galerkin projection Z^T H Z, block tridiagonal in time and factored by
`block_tridiagonal.py`. It is computed at SAMPLES levels and linear between them. With the Euler
pair, W = w / dt and step n counting from 0,

    (H v)_n = B_n g_n - W g_{n-1} + D_n v_n,      g_n = F0_n^-1 (A_n v_n - W v_{n+1}).

Averages with weights c_n (`discrete/step.py`) have T*^-1 F0^-1 A in the place of F0^-1 A, a full
matrix in time. As T* and differences in time commute, so to speak, it goes if rows are combined by

    (L R)_n = (1 - c_n) R_n + c_{n-1} dt_{n-1} / dt_n R_{n-1}:

with g_n = F0_n^-1 (A v)_n, (L H v)_n = W (g_n - g_{n-1}) + (1 - c_n) K_n g_n + c_{n-1} dt_{n-1} /
dt_n K_{n-1} g_{n-1} + (L D T v)_n is block tridiagonal again. L acts on time alone, so that it is
the same for the projected rows. Weights that are limited at single nodes count as c_n here.

Populations that exchange people have one operator for all of them: at high rates their value
functions are nearly one, which those of each by itself do not see.
"""

from functools import reduce
from itertools import permutations
from typing import Any

from mpi4py import MPI
from petsc4py import PETSc

import numpy as np

from mfg_fem.discrete.jacobian import Jacobian
from mfg_fem.linear.coupled import block_tridiagonal
from mfg_fem.linear.coupled.grid_products import Projection
from mfg_fem.linear.level.joint import joined

SAMPLES = {1: 16, 2: 8, 3: 3}  # levels with a projection, by dimension: products are expensive
LONGER = 0.1  # relative change of dt that makes a level one of the samples
SAME, SUBSET = (
    getattr(PETSc.Mat.Structure, f"{name}_NONZERO_PATTERN") for name in ("SAME", "SUBSET")
)


class CoarseSpace:
    """Z and the factored Z^T H Z, of populations that exchange people, or of one: `members`.

    Attributes:
        owners: the population of each function.
        size: number of functions per time level.
        spacing: largest spacing of the grid, whose longest direction has `cells` cells.
        places: positions of entries in a block of Z^T H Z, known after the first product.
        unit: largest entry, by which all are divided for the factorisation.
    """

    def __init__(self, J: Jacobian, members: list[int], cells: int):
        self.J, self.members = J, members
        columns, values, count = self._splines(cells)
        cell, comm = columns[:, columns.shape[1] // 2], J.comm  # named by its middle spline
        whole = np.bincount(columns.ravel(), values.ravel(), columns.max(initial=0) + 1)
        length = comm.allreduce(len(whole), MPI.MAX)
        used = comm.allreduce(np.pad(whole, (0, length - len(whole))), MPI.SUM) > 0
        self.size, self.owners = int(used.sum()), np.take(members, np.flatnonzero(used) // count)
        columns = np.maximum(np.cumsum(used) - 1, 0)[columns]  # splines without nodes are left out
        where = values != 0.0
        starts = np.cumsum([0, *np.count_nonzero(where, axis=1)], dtype=PETSc.IntType)
        csr = starts, columns[where].astype(PETSc.IntType), values[where]
        size = ((len(values), PETSc.DETERMINE), (PETSc.DECIDE, self.size))
        self.Z = PETSc.Mat().createAIJ(size, csr=csr, comm=comm)
        self.projection = Projection(cell, columns, values, self.size)
        self.products: dict[str, PETSc.Mat] = {}  # reused by all levels, whose patterns are equal
        self.operator: Any = None  # an Elimination
        self.unit = 1.0
        self.places: Any = None  # an array
        self.passing: list[PETSc.Mat] = []  # made for the present level

    def _splines(self, cells: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Numbers and values of the 3^dim splines at each owned dof, and how many a member has.

        Both have the shape (members owned, 3^dim).
        """
        d = self.J.discrete
        x = d.V.tabulate_dof_coordinates()[: d.owned, : d.problem.domain.dim]
        low, high = d.bounding_box
        sides = high - low
        counts = np.maximum(1, np.rint(sides / sides.max() * cells)).astype(int)
        self.spacing = float(np.max(sides / counts))
        s = (x - low) / sides * counts
        left = np.clip(s.astype(int), 0, counts - 1)
        s -= left
        pieces = np.stack([(1 - s) ** 2 / 2, 0.5 + s - s**2, s**2 / 2])
        for piece, end in ((0, left == 0), (2, left == counts - 1)):  # mirrored onto the middle one
            pieces[1, end] += pieces[piece, end]
            pieces[piece, end] = 0.0
        numbers = np.clip(left + np.array([-1, 0, 1])[:, None, None], 0, counts - 1)
        strides = np.cumprod([1, *counts[:-1]])

        def outer(one, other, combine):
            return combine(one[:, :, None], other[:, None, :]).reshape(len(one), -1)

        axes = range(x.shape[1])
        values = reduce(lambda y, z: outer(y, z, np.multiply), [pieces[:, :, i].T for i in axes])
        columns = reduce(
            lambda y, z: outer(y, z, np.add), [numbers[:, :, i].T * strides[i] for i in axes]
        )
        values[values < np.finfo(float).eps] = 0.0  # at grid lines, where squares are denormal
        count, places = int(counts.prod()), range(len(self.members))
        values = np.stack([values for _ in places])
        for i, own in zip(self.members, values, strict=True):
            own[d.exits[i].held] = 0.0
        columns = np.concatenate([columns + place * count for place in places])
        return columns, values.reshape(columns.shape), count

    def destroy(self):
        """Free the matrices."""
        self._free_products()
        self.Z.destroy()

    def _free_products(self):
        for M in self.products.values():
            M.destroy()
        self.products = {}

    def refresh(self, coupling):
        """Project and factor H with the coefficients of `coupling`. Collective."""
        self.operator = None  # frees the old one first
        J, samples = self.J, self._samples(coupling.sloped)
        made = samples[:1] if coupling.uniform else samples
        blocks = np.stack([self.blocks(coupling, n) for n in made], axis=1)
        largest = np.abs(blocks).max(initial=np.finfo(float).tiny)
        self.unit = J.comm.allreduce(largest, MPI.MAX)  # single precision ends at 1e38
        blocks = (blocks / self.unit).astype(block_tridiagonal.PRECISION)
        self._free_products()
        J.comm.Allreduce(MPI.IN_PLACE, blocks, MPI.SUM)
        self.operator = block_tridiagonal.Elimination(
            J.comm, J.steps, samples, self.size, self.places, blocks
        )

    def _samples(self, sloped: bool) -> np.ndarray:
        """The time levels at which blocks are computed."""
        N, dim, dt = self.J.steps, self.J.discrete.problem.domain.dim, self.J.dt
        # If the terminal cost depends on the density, the last level differs from the others.
        samples = [*np.rint(np.linspace(0, N - 1, min(N, SAMPLES[dim]))), max(N - 1 - sloped, 0)]
        c = self.J.rule.c
        latest, weight = dt[0], c[0]
        for n in range(1, N):  # both sides of a change of dt or c
            if abs(dt[n] / latest - 1) > LONGER or abs(c[n] - weight) > LONGER / 2:
                samples += [n - 1, n]
                latest, weight = dt[n], c[n]
        return np.unique(samples).astype(int)

    def blocks(self, coupling, n: int) -> np.ndarray:
        """What step n adds to the blocks (n, n), (n, n + 1), (n + 1, n) and (n + 1, n + 1).

        With gA = F0^-1 A Z and gW = F0^-1 W Z the Euler pair has Z^T (B gA + D Z), - Z^T B gW,
        - Z^T W gA and Z^T W gW of this rank's rows, each by its entries at `places`; averages
        combine the same products.
        """
        J, after = self.J, min(n + 1, self.J.steps - 1)
        c, B = J.rule.c[n], self._rows("B", n)
        gA = self._times("gA", self._rows("A", n).matMult, self.Z)
        gW = self._mass_times("gW", self.Z.copy(), n)
        inverse = gA.createVecLeft()
        inverse.array[:] = 1 / coupling.F0[self.members, n].ravel()
        for M in (gA, gW):
            M.diagonalScale(inverse, None)
        HZ = self._times("HZ", B.matMult, gA)
        DZ = self._times("DZ", self._rows("D", n).matMult, self.Z)
        D = self.projection.of(DZ) if c else 0.0
        HZ.axpy(1.0, DZ, SUBSET)
        BgA = self.projection.of(HZ) - D
        if self.places is None:  # HZ has the widest pattern of the four
            taken = self.projection.taken(HZ)
            J.comm.Allreduce(MPI.IN_PLACE, taken, MPI.LOR)
            self.places = np.flatnonzero(taken)
        BgW = 0.0 if self.adjoint else self.projection.of(self._times("BgW", B.matMult, gW))
        WgA = self.projection.of(self._mass_times("WgA", gA, n))
        WgW = self.projection.of(self._mass_times("WgW", gW, n))
        # With r = c / (1 - c) step n has r A - (1 + r) W on the level n + 1, discounted, and row
        # n + 1 of L H has r B - (1 + r) W in the place of B.
        r, longer = c / (1 - c), J.dt[n] / J.dt[after]
        lower = r * BgA - (1 + r) * WgA + c * (1 - c) * D
        BgO = lower.T - c * (1 - c) * D if self.adjoint else r * BgA - (1 + r) * BgW
        next_own = r * BgO - (1 + r) * (r * WgA - (1 + r) * WgW) + c**2 * D
        own = BgA + ((1 - c) ** 2 * D if c else 0.0)
        upper, discount = BgO + c * (1 - c) * D, J.rule.discount[self.owners, n]
        found = own, discount * upper, longer * lower, longer * discount * next_own
        for M in self.passing:
            M.destroy()
        self.passing = []
        return np.array([y.ravel()[self.places] for y in found])

    @property
    def adjoint(self) -> bool:
        """Whether the upper blocks are the transposes of the lower ones, but for a discount."""
        return self.J.discrete.adjoint and self.J.even and len(self.members) == 1

    def _rows(self, name: str, n: int) -> PETSc.Mat:
        """Rows of step n by name, with the blocks between members. Collective."""
        own = [self._block(name, i, n) for i in self.members]
        if len(own) == 1:
            return own[0]
        found = self.J.between(name, n) if name in "AB" else {}
        between = {
            (i, j): found[pair].copy()
            for (i, one), (j, other) in permutations(enumerate(self.members), 2)
            if (pair := (one, other)) in found
        }
        for block in between.values():
            block.scale(1 - self.J.rule.c[n])
        whole = joined(own, between, self.J.comm)
        self.passing += [*between.values(), whole]
        return whole

    def _block(self, name: str, i: int, n: int) -> PETSc.Mat:
        """The block of population i; B as if it saw (1 - c) m^{n+1} at all nodes."""
        J, mass = self.J, self.J.discrete.free_mass[i]
        block = mass if name == "mass" else getattr(J, name)[i][n]
        if not (name == "B" and J.rule.limited and J.rule.c[n]):
            return block
        B, rate = block.copy(), 1 / J.dt[n]
        B.axpy(-rate, mass, SAME)
        J.scale_columns(B, (1 - J.rule.c[n]) / J.after[i, n])
        B.axpy(rate, mass, SAME)
        self.passing.append(B)
        return B

    def _mass_times(self, name: str, M: PETSc.Mat, n: int) -> PETSc.Mat:
        """W M of step n without Dirichlet dofs; it overwrites M if mass is lumped. Collective."""
        d = self.J.discrete
        if not d.scheme.lumped:
            M = self._times(name, self._rows("mass", n).matMult, M)
            M.scale(1 / self.J.dt[n])
            return M
        weights = M.createVecLeft()
        weights.array[:] = d.free_weights[self.members].ravel() / self.J.dt[n]
        M.diagonalScale(weights, None)
        return M

    def _times(self, name: str, multiply, right: PETSc.Mat) -> PETSc.Mat:
        """A matrix product, written over that of another level."""
        self.products[name] = multiply(right, self.products.get(name))
        return self.products[name]

    def solve(self, r: np.ndarray) -> np.ndarray:
        """Z (Z^T H Z)^-1 Z^T r of the members, shape (members, N, owned). Collective."""
        rows = r.swapaxes(0, 1).reshape(self.J.steps, -1)
        y = np.ascontiguousarray(self.projection.restrict(rows))
        if self.J.rule.averages:
            y = self._combined(y)
        self.J.comm.Allreduce(MPI.IN_PLACE, y, MPI.SUM)
        v = self.projection.prolong(self.operator.solve(y / self.unit))
        return v.reshape(self.J.steps, *r[:, 0].shape).swapaxes(0, 1)

    def _combined(self, y: np.ndarray) -> np.ndarray:
        """L y, for rows of time levels."""
        c, dt = self.J.rule.c[:, None], self.J.dt[:, None]
        found = (1 - c) * y
        found[1:] += c[:-1] * dt[:-1] / dt[1:] * y[:-1]
        return found
