"""The linear equations of waves: symmetric definite ones, and the pair of a time step by PRESB."""

from collections.abc import Callable
from typing import Any

from petsc4py import PETSc

import numpy as np

from mfg_fem import petsc
from mfg_fem.linear.plan import direct

FACTORED = {1: 1_000_000, 2: 40_000, 3: 2_000}  # nodes up to which a matrix is, by dimension
PAIR, DEFINITE = "wave_", "definite_"  # options
PIVOTS = dict.fromkeys(("pc_factor_zeropivot", "redundant_pc_factor_zeropivot"), 1e-300)  # any unit
MULTIGRID = {"pc_type": "gamg"}


def definite_solver(A: PETSc.Mat, dim: int, *, cycle: bool = False) -> PETSc.KSP:
    """A solver of A x = b with A symmetric and positive definite. Collective.

    It is a factorisation, or for a large matrix CG with multigrid, to two digits, for the use in
    preconditioners; with `cycle` it is one cycle of multigrid, which is a symmetric matrix.
    """
    iterative = MULTIGRID | {"ksp_type": "cg", "ksp_rtol": 1e-2, "ksp_atol": 0.0}
    if cycle:
        iterative |= {"ksp_type": "preonly"}
    nodes, ranks = A.getSize()[0], A.getComm().size
    given = direct(nodes, ranks) | PIVOTS if nodes <= FACTORED[dim] else iterative
    solver = PETSc.KSP().create(A.getComm())
    solver.setOptionsPrefix(petsc.PREFIX + DEFINITE)
    with petsc.options({DEFINITE + key: value for key, value in given.items()}):
        solver.setOperators(A)
        solver.setFromOptions()
        solver.setUp()
    return solver


class PairSolver:
    """The equations of a time step in the pair (a, b), real and imaginary part. Collective.

    With S symmetric, Mass > 0 and c = 2 hbar / dt they are, up to small terms,

        S a + c Mass b = f,    S b - c Mass a = g,

    which is the block [[S, -c Mass], [c Mass, S]] of (a, -b) and (f, -g). The preconditioner of
    GMRES is PRESB: two solves with B = S + c Mass. If S >= 0 it leaves eigenvalues in [1/2, 1],
    whatever dt and the mesh (Axelsson, Neytcheva, Ahmad 2014): about 12 iterations for 8 digits. In
    1D, factors of the pair in its place would take two thirds of the time of a step. B serves
    many steps; it is made anew when GMRES needs AGED iterations more than with a new one.

    Args:
        A: the matrix of the pair, with the two components of each node side by side.
        mass: Mass of one component.
        assemble: returns B, made definite.
        dim: dimension of space.
    """

    RTOL, MOST, AGED = 1e-8, 200, 6

    def __init__(self, A: PETSc.Mat, mass: PETSc.Mat, assemble: Callable[[], PETSc.Mat], dim: int):
        self.mass, self.assemble, self.dim = mass, assemble, dim
        self.c, self.fresh, self.aged = 0.0, 0, True
        self.definite: Any = None
        self.rhs, self.h = mass.createVecs()
        self.y, self.product = mass.createVecs()
        given = {"ksp_type": "fgmres", "ksp_rtol": self.RTOL, "ksp_max_it": self.MOST}
        given["ksp_atol"] = 0.0
        self.ksp = PETSc.KSP().create(A.getComm())
        self.ksp.setOptionsPrefix(petsc.PREFIX + PAIR)
        self.ksp.setOperators(A)
        self.ksp.getPC().setType("python")
        self.ksp.getPC().setPythonContext(_Preconditioner(self))
        with petsc.options({PAIR + key: value for key, value in given.items()}):
            self.ksp.setFromOptions()

    def solve(self, c: float, b: PETSc.Vec, x: PETSc.Vec) -> int:
        """Solve with the present matrix; the number of iterations, or -1 if it failed."""
        for _ in range(2):
            renewed = self.aged
            if renewed:
                self._free()
                self.c, self.definite = c, definite_solver(self.assemble(), self.dim)
            self.ksp.solve(b, x)
            taken = self.ksp.getIterationNumber()
            if renewed:
                self.fresh = taken
            converged = self.ksp.getConvergedReason() > 0
            self.aged = not converged or taken > self.fresh + self.AGED
            if converged:
                return taken
        return -1

    def precondition(self, f: np.ndarray, g: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """PRESB of a right-hand side: (a, b). Collective."""
        self.rhs.array[:] = f - g
        self.definite.solve(self.rhs, self.h)
        self.mass.mult(self.h, self.product)
        self.rhs.array[:] = -g - self.c * self.product.array_r
        self.definite.solve(self.rhs, self.y)
        return self.h.array_r - self.y.array_r, -self.y.array_r

    def _free(self):
        if self.definite is not None:
            self.definite.destroy()

    def destroy(self):
        """Free PETSc's objects."""
        self.ksp.destroy()
        self._free()


class _Preconditioner:
    """A PETSc PC of type python."""

    def __init__(self, solver: PairSolver):
        self.precondition = solver.precondition

    def apply(self, pc: PETSc.PC, x: PETSc.Vec, y: PETSc.Vec):
        found = y.array
        found[0::2], found[1::2] = self.precondition(x.array_r[0::2], x.array_r[1::2])
