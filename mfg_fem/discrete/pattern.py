"""Bilinear forms as PETSc matrices that share one sparsity pattern."""

from functools import cached_property

from mpi4py import MPI
from petsc4py import PETSc

import numpy as np

from dolfinx import fem

from mfg_fem.discrete.packing import Packed


class Assembler:
    """Sums of bilinear forms in DOLFINx's own matrix `csr`, assembled faster than PETSc's."""

    def __init__(self, form: fem.Form):
        self.csr = fem.create_matrix(form)
        size = self.csr.block_size[0]
        entries = self.csr.indptr[self.csr.index_map(0).size_local]
        self._owned = self.csr.data.reshape(-1, size, size)[:entries]

    def assemble(self, forms: list[fem.Form], packed: Packed | None = None) -> np.ndarray:
        """Sum the forms, with packed coefficients if there are any. Collective.

        Returns the entries of the owned rows, one block of the element per pair of nodes, shape
        (entries, size, size): a view, valid until the next call.
        """
        self.csr.data[:] = 0.0
        for form in forms:
            fem.assemble_matrix(self.csr, form, coeffs=packed.of(form) if packed else None)
        self.csr.scatter_reverse()  # adds ghost rows to their owners, and clears them
        return self._owned


class Pattern:
    """PETSc matrices of one sparsity pattern, filled by writing into their arrays.

    In serial all share the index arrays of the pattern, which PETSc's duplicate copies even if told
    to share. On several ranks a matrix has two parts: the columns of owned dofs, and the others.

    Attributes:
        rows, columns: local numbers of each entry in an owned row.
        overlapping: the subdomains that `schwarz.py` makes once for all matrices.
    """

    def __init__(self, csr):
        self.comm, self.overlapping = csr.index_map(0).comm, {}
        rows, columns = csr.index_map(0), csr.index_map(1)
        owned, self.size = rows.size_local, (rows.size_local, rows.size_global)
        starts = csr.indptr[: owned + 1]
        self.rows = np.repeat(np.arange(owned, dtype=np.int32), np.diff(starts))
        self.columns = csr.indices[: starts[-1]]
        if self.comm.size == 1:
            self.parts = [self._part(slice(None), self.columns)]
            return
        mine, numbers = self.columns < owned, columns.local_to_global(self.columns)
        others = np.flatnonzero(~mine)
        ascending = others[np.lexsort((numbers[others], self.rows[others]))]
        self.parts = [
            self._part(np.flatnonzero(mine), self.columns),
            self._part(ascending, numbers),
        ]

    def _part(self, where: np.ndarray | slice, names: np.ndarray) -> tuple:
        """The positions of its entries among all, the starts of its rows, and its columns."""
        starts = np.searchsorted(self.rows[where], np.arange(self.size[0] + 1))
        return where, starts.astype(PETSc.IntType), names[where].astype(PETSc.IntType, copy=False)

    def create(self, entries: np.ndarray | None = None) -> PETSc.Mat:
        """A matrix with these entries of the owned rows, or with zeros. Collective."""
        parts = [(starts, names, np.zeros(len(names))) for _, starts, names in self.parts]
        for part, (starts, names, values) in enumerate(parts[1:], 1):
            parts[part] = starts, names.copy(), values  # PETSc renumbers the columns in place
        csr = parts[0] if len(parts) == 1 else tuple(parts)
        matrix = PETSc.Mat().createAIJWithArrays((self.size, self.size), csr=csr, comm=self.comm)
        matrix.setAttr("values", [values for _, _, values in parts])
        if entries is not None:
            self.fill(matrix, entries)
        return matrix

    def free_parts(self):
        """Free the overlapping subdomains."""
        for part in self.overlapping.values():
            part.destroy()
        self.overlapping.clear()

    def split(self, entries: np.ndarray) -> list[np.ndarray]:
        """Entries of the owned rows, split into the parts of a matrix."""
        return [entries[where] for where, _, _ in self.parts]  # faster than np.take

    def fill(self, matrix: PETSc.Mat, entries: np.ndarray, more: list[np.ndarray] | None = None):
        """Write these entries of the owned rows into a matrix, plus `more`, already split."""
        values = matrix.getAttr("values")
        for k, (mine, part) in enumerate(zip(values, self.split(entries), strict=True)):
            np.add(part, more[k] if more else 0.0, out=mine)
        self._note(matrix)

    def add(self, matrix: PETSc.Mat, more: list[np.ndarray]):
        """Add entries of the owned rows, already split, to a matrix."""
        values = matrix.getAttr("values")
        for mine, part in zip(values, more, strict=True):
            mine += part
        self._note(matrix)

    def _note(self, matrix: PETSc.Mat):
        """Tell PETSc that the entries have changed."""
        if len(matrix.getAttr("values")) > 1:
            matrix.getDiagonalBlock().stateIncrease()
        matrix.stateIncrease()

    def entries(self, matrix: PETSc.Mat) -> list[np.ndarray]:
        """A copy of the entries of the owned rows, by parts."""
        return [values.copy() for values in matrix.getAttr("values")]

    def change(self, matrix: PETSc.Mat, before: list[np.ndarray]) -> float:
        """Largest sum over a row of |new - before|, relative to the diagonal. Collective."""
        changes, ones, sums, diagonal = self._scratch
        values = (y.getAttr("values") for y in (changes, matrix))
        for change, new, old in zip(*values, before, strict=True):
            np.abs(np.subtract(new, old, out=change), out=change)
        changes.mult(ones, sums)  # sums by rows, faster than np.add.reduceat
        matrix.getDiagonal(diagonal)
        largest = np.abs(sums.array_r / diagonal.array_r).max(initial=0.0)
        return self.comm.allreduce(largest, MPI.MAX)

    def free_scratch(self):
        """Free the work space of `change`, as large as a matrix."""
        for obj in self.__dict__.pop("_scratch", ()):
            obj.destroy()

    @cached_property
    def _scratch(self) -> tuple[PETSc.Mat, PETSc.Vec, PETSc.Vec, PETSc.Vec]:
        matrix = self.create()
        ones, sums = matrix.createVecs()
        ones.set(1.0)
        return matrix, ones, sums, sums.duplicate()
