"""Whether an equilibrium is isolated and stable: the smallest eigenvalue of the Schur form."""

from dataclasses import dataclass

from petsc4py import PETSc

import numpy as np

from mfg_fem.errors import ProblemError
from mfg_fem.fluid.linearised import linearised
from mfg_fem.linear.coupled.formulations import SchurForm
from mfg_fem.problem.alone import refuse_crowds
from mfg_fem.solution.solution import Solution
from mfg_fem.validate import count

SMOOTHED = 8  # products that bring out the eigenvalues far from 1 in the start
SOLVED = 1e-14  # residual at which Krylov's method has seen neighbouring eigenvalues, too


@dataclass(frozen=True)
class Stability:
    """Eigenvalues of I + D A^-1 F B^-1, where the Newton equation is A du - F dm, D du + B dm.

    The operator adds to a change of the flow of people what they would answer to it. Its
    determinant is that of the Jacobian, up to the factors of A and B, which are those without
    coupling: it changes sign, and a conjugate point is on [0, T], where a real eigenvalue passes
    through 0. If all are positive, a planner's solution is a strict minimum.

    Attributes:
        smallest: the smallest real part of the Ritz values.
        negative: number of real Ritz values below 0; odd where det J has changed sign.
        products: products with the operator that were made, one sweep to and fro each.
    """

    smallest: float
    negative: int
    products: int

    @property
    def stable(self) -> bool:
        """Whether all eigenvalues found have positive real parts."""
        return self.smallest > 0


def stability(solution: Solution, max_it: int = 60) -> Stability:
    """Look for directions in which a game or a control is not stable. Collective.

    By GMRES without restart for a random right side, smoothed by the coupling, whose Ritz values
    find first what is far from 1: neighbours to 1e-4, an eigenvalue of its own to round-off. It
    takes about the time of a Newton step. With few time steps the threshold is seen too far:
    by 6 % with 4 steps, 3 % with 16, for H = |p|^2 / 2 and f = -kappa m on a line.

    Args:
        solution: of a MeanFieldGame or MeanFieldControl with a terminal cost, in any scheme.
        max_it: largest number of products.

    Raises:
        ProblemError: what is no such solution.
    """
    refuse_crowds("stability", solution)
    if not isinstance(solution, Solution):
        raise ProblemError(f"stability takes a Solution, not {type(solution).__name__}.")
    count("max_it", max_it)
    if solution.discrete.ends.planned:
        raise ProblemError("stability: with a terminal density u(T) is an unknown too, left out.")
    with linearised(solution, "schur") as form:
        values, products = _ritz_values(form, max_it)
    real = np.abs(values.imag) <= 1e-8 * np.abs(values)
    negative = int(np.sum(real & (values.real < 0)))
    return Stability(float(values.real.min()), negative, products)


def _ritz_values(form: SchurForm, max_it: int) -> tuple[np.ndarray, int]:
    """Of the operator, and the number of products."""
    krylov, size = form.krylov, (form.scale.size, PETSc.DETERMINE)
    b, x = (PETSc.Vec().createMPI(size, comm=form.J.comm) for _ in "bx")
    random = np.random.default_rng(form.J.comm.rank)
    b.array[:] = random.standard_normal(form.scale.size)
    for _ in range(SMOOTHED):
        form.operator.mult(b, x)
        x.axpy(-1.0, b)
        if not x.norm() > SOLVED * b.norm():  # no coupling
            return np.ones(1, dtype=complex), 1
        x.scale(1 / x.norm())
        b, x = x, b
    krylov.setType("gmres")
    krylov.setGMRESRestart(max_it)
    krylov.setComputeEigenvalues(True)
    krylov.setOperators(form.operator)
    krylov.setTolerances(rtol=SOLVED, atol=0.0, max_it=max_it)
    krylov.solve(b, x)
    found = krylov.computeEigenvalues(), SMOOTHED + krylov.getIterationNumber()
    b.destroy()
    x.destroy()
    return found
