"""Bilinear forms as PETSc matrices that share one sparsity pattern; expressions at points."""

from collections.abc import Sequence

from petsc4py import PETSc

import numpy as np

from dolfinx import fem
from dolfinx.fem import petsc as fem_petsc
from ufl.algorithms import expand_derivatives, strip_variables

SHARE = PETSc.Mat.DuplicateOption.SHARE_NONZERO_PATTERN


def pointwise(expression, points: np.ndarray) -> fem.Expression:
    """A UFL expression compiled for these points of the reference cell.

    Labels of `ufl.variable` are numbered through, and with them no compiled expression would be
    found again.
    """
    return fem.Expression(strip_variables(expand_derivatives(expression)), points)


class Assembler:
    """Sums of forms on V x V; what `assemble` leaves in `matrix` is to be copied.

    In serial DOLFINx's own matrix is assembled, in half the time that PETSc's insertion takes, and
    shares its arrays with PETSc's.
    """

    def __init__(self, form: fem.Form):
        self.csr = None
        if form.mesh.comm.size > 1:
            self.matrix = fem_petsc.create_matrix(form)
            self.assemble([form])  # PETSc knows the pattern from then on
            return
        self.csr = fem.create_matrix(form)
        arrays = (np.asarray(a, dtype=PETSc.IntType) for a in (self.csr.indptr, self.csr.indices))
        size = len(self.csr.indptr) - 1
        self.matrix = PETSc.Mat().createAIJWithArrays(
            (size, size), (*arrays, self.csr.data), comm=form.mesh.comm
        )

    def create(self) -> PETSc.Mat:
        """A matrix with the pattern, which in serial it shares, and no entries."""
        return self.matrix.duplicate(SHARE if self.csr is not None else False)

    def assemble(self, forms: list[fem.Form], bcs: Sequence[fem.DirichletBC] = ()) -> np.ndarray:
        """Sum the forms, rows and columns of the bcs held. Collective.

        Returns the owned part of the diagonal of the first form.
        """
        self.matrix.zeroEntries()
        diagonals = [np.zeros(self.matrix.getLocalSize()[0])]
        for form in forms:
            if self.csr is None:
                fem_petsc.assemble_matrix(self.matrix, form, bcs=bcs)
            else:
                fem.assemble_matrix(self.csr, form, bcs)
                self.matrix.stateIncrease()
            self.matrix.assemble()  # in PETSc the second of two forms may else be dropped
            diagonals.append(self.matrix.getDiagonal().array_r.copy())
        return diagonals[:2][-1]
