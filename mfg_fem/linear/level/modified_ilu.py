"""Modified ILU: incomplete factors that compensate for the entries they drop.

If A has the off-diagonal signs of an M-matrix, the entries that ILU drops are negative, so that the
product of its factors is larger than A on smooth functions, and corrections are too small. Axelsson
and Lindskog 1986 subtract what a row drops from its diagonal. Here all rows drop the same share of
the sum of their off-diagonal entries, which needs no factorisation of our own and also over-relaxes
on uniform meshes. If the share is too large, pivots come near to zero or are negative; then the
factors are those of A itself.
"""

from dataclasses import dataclass

from petsc4py import PETSc

import numpy as np

LEAST_PIVOT = 0.1  # relative to the diagonal


@dataclass(frozen=True)
class Relaxation:
    """The share that rows are taken to drop, and the ordering in which PETSc factors them."""

    share: float = 0.0
    ordering: str = "natural"

    @classmethod
    def of(cls, prefix: str) -> "Relaxation":
        """Read the options `pc_factor_relaxation` and `pc_factor_mat_ordering_type`."""
        options = PETSc.Options(prefix)
        return cls(
            options.getReal("pc_factor_relaxation", cls.share),
            options.getString("pc_factor_mat_ordering_type", cls.ordering),
        )

    def set_up(self, pc: PETSc.PC):
        """Set up the PC of a sequential matrix."""
        _, A = pc.getOperators()
        if not self.share or pc.getType() != "ilu":
            pc.setUp()
            return
        diagonal, sums = A.getDiagonal(), A.createVecLeft()
        A.getRowSum(sums)
        less = diagonal.copy()
        less.array[:] -= self.share * np.maximum(diagonal.array_r - sums.array_r, 0.0)
        A.setDiagonal(less)
        pc.setUp()
        A.setDiagonal(diagonal)
        order, _ = A.getOrdering(self.ordering)
        pivots = pc.getFactorMatrix().getDiagonal().array_r / diagonal.array_r[order.getIndices()]
        if not (np.isfinite(pivots) & (pivots >= LEAST_PIVOT)).all():
            pc.setUp()  # with the diagonal of A itself
