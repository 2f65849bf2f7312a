"""One time level of all populations, where blocks of A or B between them join their rows.

Vectors have the owned dofs of one population after those of another.
"""

from typing import Any

from petsc4py import PETSc

import numpy as np

from mfg_fem.discrete.jacobian import Jacobian


def joined(own: list[PETSc.Mat], between: dict[tuple[int, int], PETSc.Mat], comm) -> PETSc.Mat:
    """One matrix of the blocks of populations, and of those between them. Collective."""
    blocks: list[list[PETSc.Mat | None]] = [[None] * len(own) for _ in own]
    for i, block in enumerate(own):
        blocks[i][i] = block
    for (i, j), block in between.items():
        blocks[i][j] = block
    nest = PETSc.Mat().createNest(blocks, comm=comm)
    whole = nest.convert("aij", PETSc.Mat())
    nest.destroy()
    return whole


class JointRows:
    """The matrix of a level of A or B, by name, as a shell: `n` says which level."""

    def __init__(self, J: Jacobian, name: str, blocks: list[list[PETSc.Mat]]):
        self.J, self.name, self.blocks, self.n = J, name, blocks, 0
        size = (J.k * J.owned, PETSc.DETERMINE)
        self.matrix = PETSc.Mat().createPython((size, size), self, comm=J.comm)
        self.matrix.setUp()
        self.vectors = self.matrix.createVecs()

    def mult(self, mat, x, y):
        """The product with x, called by PETSc."""
        x = x.array_r.reshape(self.J.k, self.J.owned)
        y.array[:] = self.J.product_of_level(self.name, self.n, x, self.blocks).ravel()


class JointFactors:
    """A factorisation of the rows of all populations together, for each level."""

    def __init__(self, J: Jacobian, name: str, blocks: list[list[PETSc.Mat]], plan):
        self.J, self.name, self.blocks = J, name, blocks
        self.in_turn = J.steps > 1 and blocks[0][0] is blocks[0][1]
        self.own = [PETSc.PC().create(J.comm) for _ in range(J.steps)]
        for pc in self.own:
            pc.setOptionsPrefix(plan.prefix)
        self.states: list[list[int]] = [[]] * J.steps

    def of(self, n: int) -> PETSc.PC:
        """The preconditioner of level n, factored anew if a block has changed. Collective."""
        if not self.in_turn and self.states[n] != self._state(n):
            self.update(n)
        return self.own[n]

    def _state(self, n: int) -> list[int]:
        blocks = [*(own[n] for own in self.blocks), *self.J.between(self.name, n).values()]
        return [block.stateGet() for block in blocks]

    def update(self, n: int):
        """Factor the present blocks of level n. Collective."""
        J, pc = self.J, self.own[n]
        share = np.ones((J.k, J.owned)) * J.own_share(self.name, n)
        scaled = {pair: block.copy() for pair, block in J.between(self.name, n).items()}
        for (_, j), block in scaled.items():
            J.scale_columns(block, share[j])
        whole = joined([own[n] for own in self.blocks], scaled, J.comm)
        pc.setReusePreconditioner(False)
        pc.setOperators(whole)
        pc.setFromOptions()
        pc.setUp()
        pc.setReusePreconditioner(True)  # for the shell that KSP is given
        for matrix in (*scaled.values(), whole):
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
    """One pass over the populations, with the preconditioner of each: `factors`.

    They are `Factors` of their blocks, or transposed ones.
    """

    def __init__(self, J: Jacobian, name: str, blocks: list[list[PETSc.Mat]], factors: list[Any]):
        self.J, self.name, self.blocks, self.factors, self.n = J, name, blocks, factors, 0
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
        J, between = self.J, self.J.between(self.name, self.n)
        r, found = (z.reshape(J.k, J.owned) for z in (x.array_r, y.array))
        share = np.ones_like(r) * J.own_share(self.name, self.n)
        for i, own in enumerate(self.factors):
            self.r.array[:] = r[i]
            for j in range(i):
                if (i, j) in between:
                    self.r.array[:] -= J.product(between[i, j], share[j] * found[j])
            pc = own.of(self.n)
            pc.setOperators(self.blocks[i][self.n])
            pc.apply(self.r, self.x)
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
