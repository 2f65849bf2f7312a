"""The preconditioner of one time level on several ranks: optimised additive Schwarz.

Each rank factors a subdomain: the rows of its own nodes and of some layers of its neighbours'. Rows
at its edge lose entries, which amounts to a Dirichlet condition just outside: ranks would exchange
information slowly. TRANSMISSION times the sum of the lost entries, put on the diagonal, makes it a
Robin condition, near to the exact one for what decays over several cells. St-Cyr, Gander, Thomas
2007.

In the overlap solutions are blended by a partition of unity that falls to zero towards the edge. If
each rank kept its own nodes instead (restricted Schwarz), solutions would jump: residuals are then
large though errors are small, and solvers that stop by the residual iterate longer.
"""

from typing import Any

from petsc4py import PETSc

import numpy as np

from mfg_fem.linear.level.modified_ilu import Relaxation

REVERSE, ADD = PETSc.ScatterMode.REVERSE, PETSc.InsertMode.ADD_VALUES
TRANSMISSION = 0.8  # weight of the lost entries; 1 would be no flux through the edge


class Part:
    """The subdomain of this rank, for all matrices of one sparsity pattern.

    Attributes:
        rows: their global numbers.
        scatter: takes a vector to the subdomain.
        weights: its partition of unity.
    """

    def __init__(self, A: PETSc.Mat, overlap: int):
        first, last = A.getOwnershipRange()
        self.rows = PETSc.IS().createStride(last - first, first, 1, comm=PETSc.COMM_SELF)
        A.increaseOverlap(self.rows, overlap)
        self.rows.sort()
        self.matrices = A.createSubMatrices(self.rows)
        self.sums = A.createVecLeft()
        self.x, self.y = self.matrices[0].createVecs()
        self.scatter = PETSc.Scatter().create(self.sums, self.rows, self.x, None)
        rows = self.rows.getIndices()
        own = (first <= rows) & (rows < last)
        # Squared, so that weights are smooth where those of others end.
        near = (1 - self._layers(own, overlap) / (overlap + 1)) ** 2
        self.x.array[:] = near
        self.add_up(self.x, self.sums)
        self.scatter.scatter(self.sums, self.x)
        self.weights = near / self.x.array_r

    def _layers(self, own: np.ndarray, overlap: int) -> np.ndarray:
        """How far each row is from this rank's own rows, in layers of nodes."""
        starts, columns, _ = self.matrices[0].getValuesCSR()
        layers, reached = np.zeros(len(own)), own
        for _ in range(overlap):
            layers[~reached] += 1
            reached = np.logical_or.reduceat(reached[columns], starts[:-1])
        return layers

    def add_up(self, x: PETSc.Vec, y: PETSc.Vec):
        """Make y the sum of all subdomains' x. Collective."""
        y.set(0.0)
        self.scatter.scatter(x, y, addv=ADD, mode=REVERSE)

    def of(self, A: PETSc.Mat) -> PETSc.Mat:
        """The subdomain of A with its Robin condition, valid until the next call. Collective."""
        A.createSubMatrices(self.rows, submats=self.matrices)
        part = self.matrices[0]
        A.getRowSum(self.sums)
        self.scatter.scatter(self.sums, self.x)
        part.getRowSum(self.y)
        diagonal = part.getDiagonal()
        diagonal.axpy(TRANSMISSION, self.x - self.y)
        part.setDiagonal(diagonal)
        return part

    def destroy(self):
        """Free PETSc's objects."""
        for obj in (self.rows, *self.matrices, self.sums, self.x, self.y, self.scatter):
            obj.destroy()


class OptimisedSchwarz:
    """A PETSc PC of type python; the factors of a subdomain have options with the prefix `sub_`.

    The option `pc_asm_overlap`, of PETSc's own Schwarz method, sets the layers of nodes. `part` is
    shared by all levels (see `share`), which keep their factors only, in the PC `local`.
    """

    part: Any = None  # a Part
    relaxation = Relaxation()

    def setFromOptions(self, pc: PETSc.PC):  # noqa: D102
        prefix = pc.getOptionsPrefix() or ""
        self.overlap = PETSc.Options(prefix).getInt("pc_asm_overlap", 1)
        self.local = PETSc.PC().create(PETSc.COMM_SELF)
        self.local.setOptionsPrefix(prefix + "sub_")
        self.local.setType("ilu")
        self.local.setFromOptions()

    def setUp(self, pc: PETSc.PC):
        """Factor this rank's subdomain. Collective."""
        _, A = pc.getOperators()
        self.part = self.part or Part(A, self.overlap)
        self.local.setReusePreconditioner(False)
        self.local.setOperators(self.part.of(A))
        self.relaxation.set_up(self.local)
        self.local.setReusePreconditioner(True)  # other levels will overwrite the part

    def reset(self, pc: PETSc.PC):
        """Free the factors."""
        self.local.reset()

    def apply(self, pc: PETSc.PC, x: PETSc.Vec, y: PETSc.Vec):
        """Solve in the subdomains and blend. Collective."""
        self._blend(self.local.apply, x, y)

    def applyTranspose(self, pc: PETSc.PC, x: PETSc.Vec, y: PETSc.Vec):
        """Do so with the transposed matrix; it is not the transpose of `apply`. Collective."""
        self._blend(self.local.applyTranspose, x, y)

    def _blend(self, solve, x: PETSc.Vec, y: PETSc.Vec):
        part = self.part
        part.scatter.scatter(x, part.x)
        solve(part.x, part.y)
        solution = part.y.array
        solution *= part.weights
        part.add_up(part.y, y)


def share(pc: PETSc.PC, A: PETSc.Mat, parts: dict[int, Part], relaxation: Relaxation):
    """Give a PC its relaxation, and its subdomain of `parts`, made of A if new. Collective."""
    context = pc.getPythonContext()
    if context.overlap not in parts:
        parts[context.overlap] = Part(A, context.overlap)
    context.part, context.relaxation = parts[context.overlap], relaxation
