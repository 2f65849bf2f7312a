"""Bilinear forms as PETSc matrices that share one sparsity pattern; expressions at points."""

from collections.abc import Sequence

from petsc4py import PETSc

import numpy as np

from dolfinx import fem, jit
from ufl.algorithms import expand_derivatives, strip_variables

# What DOLFINx compiles with, and what takes a quarter of the time from kernels with many roots:
# sums may be reordered and roots set no errno. NaN stays NaN, and no CPU's own instructions are
# used, as a folder of compiled forms may be shared.
PLAIN = ["-O2", "-g0"]
FAST = [
    "-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros",
    "-fassociative-math", "-freciprocal-math",
]  # fmt: skip


def compiled(form):
    """UFL forms, one or a list, compiled for speed unless the user has set flags of his own."""
    options = jit.get_options()
    if options["cffi_extra_compile_args"] == PLAIN:
        options["cffi_extra_compile_args"] = FAST
    return fem.form(form, jit_options=options)


def pointwise(expression, points: np.ndarray) -> fem.Expression:
    """A UFL expression compiled for these points of the reference cell.

    Labels of `ufl.variable` are numbered through, and with them no compiled expression would be
    found again.
    """
    return fem.Expression(strip_variables(expand_derivatives(expression)), points)


class Assembler:
    """Sums of forms on V x V; what `assemble` leaves in `matrix` is to be copied.

    DOLFINx's own matrix is assembled, in half the time that PETSc's insertion takes. In serial it
    shares its arrays with PETSc's; on several ranks whole rows are handed over.
    """

    def __init__(self, form: fem.Form):
        self.csr, self.comm = fem.create_matrix(form), form.mesh.comm
        self.serial = self.comm.size == 1
        owned = self.csr.index_map(0).size_local
        indptr = self.csr.indptr[: owned + 1].astype(PETSc.IntType)
        columns = self.csr.index_map(1).local_to_global(self.csr.indices[: indptr[-1]])
        self.pattern = indptr, columns.astype(PETSc.IntType)
        self.values = self.csr.data[: indptr[-1]]
        self.matrix = self._matrix(self.values)

    def _matrix(self, values: np.ndarray) -> PETSc.Mat:
        create = PETSc.Mat().createAIJWithArrays if self.serial else PETSc.Mat().createAIJ
        size = (len(self.pattern[0]) - 1, self.csr.index_map(0).size_global)
        return create((size, size), csr=(*self.pattern, values), comm=self.comm)

    def create(self) -> PETSc.Mat:
        """A matrix with the pattern and no entries.

        In serial all such matrices have the pattern's own arrays in common, a third of their
        memory. (PETSc's duplicate copies them, though told to share.)
        """
        if self.serial:
            return self._matrix(np.zeros_like(self.values))
        return self.matrix.duplicate()

    def assemble(self, forms: list[fem.Form], bcs: Sequence[fem.DirichletBC] = ()) -> np.ndarray:
        """Sum the forms, rows and columns of the bcs held. Collective.

        Returns the owned part of the diagonal of the first form.
        """
        self.csr.data[:] = 0.0
        diagonals = [np.zeros(self.matrix.getLocalSize()[0])]
        for form in forms:
            fem.assemble_matrix(self.csr, form, bcs)
            self._hand_over()
            diagonals.append(self.matrix.getDiagonal().array_r.copy())
        if not forms:
            self._hand_over()  # zeros
        return diagonals[:2][-1]

    def _hand_over(self):
        if self.serial:
            self.matrix.stateIncrease()
        else:
            self.csr.scatter_reverse()  # leaves nothing in the rows of others
            self.matrix.setValuesCSR(*self.pattern, self.values)
        self.matrix.assemble()
