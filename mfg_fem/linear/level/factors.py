"""Preconditioners of the blocks of all time levels, shared by levels that hardly differ.

A level needs no more iterations with the factors of another block that differs by less than SHARED.
If players diffuse far, one or two levels are factored in all; if the drift changes fast in time,
most of them.
"""

from petsc4py import PETSc

import numpy as np

from mfg_fem.discrete.pattern import Pattern
from mfg_fem.linear.level.schwarz import share

SHARED = 0.1  # largest change of a row, relative to its diagonal


class Factors:
    """Preconditioners of blocks of one sparsity pattern, one block per time level.

    They are updated at the first use after a block has changed. If one matrix holds the blocks of
    all levels in turn, its owner calls `update`. The options of `plan`, a `LevelPlan`, must be in
    PETSc's database. `source` has for each level the level whose factors it takes.
    """

    def __init__(self, pattern: Pattern, blocks: list[PETSc.Mat], plan):
        self.pattern, self.blocks, self.plan = pattern, blocks, plan
        self.own = [self._create(block) for block in blocks]
        self.share = 0.0 if plan.exact else SHARED
        self.source = list(range(len(blocks)))
        self.states: list[int | None] = [None] * len(blocks)
        self.in_turn = len(blocks) > 1 and blocks[0] is blocks[1]
        # The level factored last, and its entries.
        self.latest: tuple[int, list[np.ndarray]] | None = None

    def _create(self, block: PETSc.Mat) -> PETSc.PC:
        pc = PETSc.PC().create(block.getComm())
        pc.setOptionsPrefix(self.plan.prefix)
        pc.setOperators(block)
        pc.setFromOptions()
        if self.plan.schwarz:
            share(pc, block, self.pattern.overlapping, self.plan.relaxation)
        return pc

    def of(self, n: int) -> PETSc.PC:
        """The preconditioner of the block of level n. Collective."""
        if not self.in_turn and self.states[n] != self.blocks[n].stateGet():
            self.latest = None
            for k in range(len(self.blocks)):
                self.update(k)
            self.pattern.free_scratch()
            self._free_unused()
        return self.own[self.source[n]]

    def update(self, n: int):
        """Factor the present block of level n, unless it is close to the latest. Collective."""
        block, pc = self.blocks[n], self.own[n]
        if self.latest and self.pattern.change(block, self.latest[1]) <= self.share:
            self.source[n] = self.latest[0]
        else:
            pc.setReusePreconditioner(False)
            pc.setOperators(block)
            self.plan.relaxation.set_up(pc)
            pc.setReusePreconditioner(True)  # for any block that KSP is given
            self.source[n] = n
            self.latest = (n, self.pattern.entries(block)) if self.share else None
        self.states[n] = block.stateGet()

    def _free_unused(self):
        for n in set(range(len(self.own))) - set(self.source):
            self.own[n].reset()

    def reset(self):
        """Free the factors."""
        self.latest, self.states = None, [None] * len(self.blocks)
        for pc in self.own:
            pc.reset()

    def destroy(self):
        """Free PETSc's objects."""
        for pc in self.own:
            pc.destroy()


class TransposedFactors:
    """The factors of B, transposed, for A."""

    def __init__(self, factors: Factors):
        self.factors = factors
        self.own = [
            PETSc.PC().createPython(_Transposed(pc), comm=pc.getComm()) for pc in factors.own
        ]

    def of(self, n: int) -> PETSc.PC:
        """The preconditioner of the block of level n. Collective."""
        self.factors.of(n)
        return self.own[self.factors.source[n]]

    def destroy(self):
        """Free PETSc's objects, but not the factors of B."""
        for pc in self.own:
            pc.destroy()


class _Transposed:
    """A PETSc PC of type python: the transpose of another."""

    def __init__(self, other: PETSc.PC):
        self.other = other

    def apply(self, pc: PETSc.PC, x: PETSc.Vec, y: PETSc.Vec):
        self.other.applyTranspose(x, y)
