"""One time level of all populations, where blocks of A or B between them join their rows.

Vectors have the owned dofs of one population after those of another.
"""

from petsc4py import PETSc

import numpy as np

from mfg_fem.discrete.jacobian import Jacobian
from mfg_fem.linear.level.factors import Factors, TransposedFactors


class JointRows:
    """The matrix of a level of A or B, by name, as a shell: `n` says which level."""

    def __init__(self, J: Jacobian, name: str):
        self.J, self.name, self.n = J, name, 0
        size = (J.k * J.owned, PETSc.DETERMINE)
        self.matrix = PETSc.Mat().createPython((size, size), self, comm=J.comm)
        self.matrix.setUp()
        self.vectors = self.matrix.createVecs()

    def mult(self, mat, x, y):
        """The product with x, called by PETSc."""
        x = x.array_r.reshape(self.J.k, -1)
        y.array[:] = self.J.product_of_level(self.name, self.n, x).ravel()


class JointFactors:
    """A factorisation of the rows of all populations together, for each level."""

    def __init__(self, J: Jacobian, name: str, plan):
        self.J, self.name = J, name
        self.own = [PETSc.PC().create(J.comm) for _ in range(J.steps)]
        for pc in self.own:
            pc.setOptionsPrefix(plan.prefix)
        self.states: list[list[int]] = [[]] * J.steps

    def of(self, n: int) -> PETSc.PC:
        """The preconditioner of level n, factored anew if a block has changed. Collective."""
        if self.states[n] != self._state(n):
            self.update(n)
        return self.own[n]

    def _state(self, n: int) -> list[int]:
        blocks = self.J.blocks_of_level(self.name, n)
        return [block.stateGet() for row in blocks for block in row if block]

    def update(self, n: int):
        """Factor the present blocks of level n. Collective."""
        J, pc, blocks = self.J, self.own[n], self.J.blocks_of_level(self.name, n)
        share, scaled = np.ones((J.k, J.owned)) * J.own_share(self.name, n), []
        for i, j in np.ndindex(J.k, J.k):
            if i != j and blocks[i][j]:
                blocks[i][j] = blocks[i][j].copy()
                J.scale_columns(blocks[i][j], share[j])
                scaled.append(blocks[i][j])
        nest = PETSc.Mat().createNest(blocks, comm=J.comm)
        whole = nest.convert("aij", PETSc.Mat())
        pc.setReusePreconditioner(False)
        pc.setOperators(whole)
        pc.setFromOptions()
        pc.setUp()
        pc.setReusePreconditioner(True)  # for the shell that KSP is given
        for matrix in (*scaled, nest, whole):
            matrix.destroy()
        self.states[n] = self._state(n)  # at the end, as making the nest counts as a change

    def reset(self):
        """Free the factors."""
        self.states = [[]] * self.J.steps
        for pc in self.own:
            pc.reset()

    def destroy(self):
        """Free PETSc's objects."""
        for pc in self.own:
            pc.destroy()


class GaussSeidel:
    """One pass over the populations, with the preconditioner of each: `factors`."""

    def __init__(self, J: Jacobian, name: str, factors: list[Factors] | list[TransposedFactors]):
        self.J, self.name, self.factors, self.n = J, name, factors, 0
        self.pc = PETSc.PC().createPython(_Pass(self), comm=J.comm)
        self.r, self.x = J.discrete.mass.createVecs()

    def of(self, n: int) -> PETSc.PC:
        """The preconditioner of level n. Collective."""
        self.n = n
        return self.pc

    def update(self, n: int):
        """Take over the present blocks of level n. Collective."""
        for own in self.factors:
            own.update(n)

    def apply(self, x: PETSc.Vec, y: PETSc.Vec):
        """Apply the preconditioner to x. Collective."""
        J, blocks = self.J, self.J.blocks_of_level(self.name, self.n)
        r, found = (z.reshape(J.k, -1) for z in (x.array_r, y.array))
        share = np.ones_like(r) * J.own_share(self.name, self.n)
        for i, own in enumerate(self.factors):
            self.r.array[:] = r[i]
            for j in range(i):
                if blocks[i][j]:
                    self.r.array[:] -= J.product(blocks[i][j], share[j] * found[j])
            own.of(self.n).apply(self.r, self.x)
            found[i] = self.x.array_r

    def reset(self):
        """Free the factors."""
        for own in self.factors:
            own.reset()

    def destroy(self):
        """Free PETSc's objects."""
        self.pc.destroy()
        for own in self.factors:
            own.destroy()


class _Pass:
    """A PETSc PC of type python: PETSc would call `GaussSeidel.destroy` with an argument."""

    def __init__(self, owner: GaussSeidel):
        self.owner = owner

    def apply(self, pc: PETSc.PC, x: PETSc.Vec, y: PETSc.Vec):
        self.owner.apply(x, y)
