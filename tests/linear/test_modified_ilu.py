"""Relaxed incomplete factors: fewer iterations, the matrix as it was, and no bad pivots."""

from petsc4py import PETSc

import numpy as np
import pytest
from cases import default
from parts import level_plan, system_of
from ranks import serial_only

import mfg_fem as mfg
from mfg_fem.discrete.spacetime import SpaceTime
from mfg_fem.linear.level.factors import Factors
from mfg_fem.linear.level.modified_ilu import Relaxation
from mfg_fem.linear.plan import incomplete

pytestmark = serial_only


def linearised(*cells: int, diffusion: float) -> SpaceTime:
    """Two steps in an even crowd, the blocks of the Fokker-Planck equation alone."""
    problem = default(mfg.box((1.0,) * len(cells), cells), diffusion=diffusion)
    system = system_of(problem, 2)
    system.linearise_fp(system.even_crowd())
    return system


def block(*cells: int, diffusion: float) -> PETSc.Mat:
    return linearised(*cells, diffusion=diffusion).jacobian.B[0][0]


def relaxed_pivot(A: PETSc.Mat, first: int = 0) -> float:
    """That of the first row, with nothing before it, of a share of .1."""
    diagonal, sums = A.getDiagonal(), A.createVecLeft()
    A.getRowSum(sums)
    off_diagonal = sums.array[first] - diagonal.array[first]
    assert off_diagonal < 0
    return pytest.approx(diagonal.array[first] + 0.1 * off_diagonal, rel=1e-12)


def factored(A: PETSc.Mat, levels: int, relaxation: Relaxation) -> PETSc.PC:
    pc = PETSc.PC().create(A.getComm())
    pc.setType("ilu")
    pc.setFactorLevels(levels)
    pc.setOperators(A)
    pc.setFactorOrdering(relaxation.ordering)
    relaxation.set_up(pc)
    return pc


def iterations(A: PETSc.Mat, pc: PETSc.PC) -> int:
    pc.setReusePreconditioner(True)
    ksp = PETSc.KSP().create(A.getComm())
    ksp.setType("fgmres")
    ksp.setPC(pc)
    ksp.setOperators(A)
    ksp.setTolerances(rtol=1e-6)
    x, rhs = A.createVecs()
    rhs.array[:] = np.random.default_rng(0).standard_normal(rhs.getLocalSize())
    ksp.solve(rhs, x)
    assert (rhs - A * x).norm() <= 1e-5 * rhs.norm()
    return ksp.getIterationNumber()


@pytest.mark.parametrize("ordering", ["natural", "rcm"])
def test_a_fifth_of_the_iterations_is_saved_and_the_matrix_stays_as_it_is(ordering):
    A = block(16, 16, 16, diffusion=0.1)
    before = A.copy()
    plain, relaxed = (
        iterations(A, factored(A, 0, Relaxation(share, ordering))) for share in (0.0, 0.1)
    )
    assert relaxed <= 0.8 * plain
    assert A.equal(before)


def test_the_share_is_taken_from_the_diagonal():
    A = block(4, 4, 4, diffusion=0.1)
    pivots = factored(A, 0, Relaxation(0.1)).getFactorMatrix().getDiagonal().array
    assert pivots[0] == relaxed_pivot(A)


@pytest.mark.parametrize("ranks", [1, 2])
def test_levels_in_3d_take_relaxed_factors(ranks):
    """Those of the options for so many ranks, whose part here is the whole."""
    system = linearised(4, 4, 4, diffusion=0.1)
    B = system.jacobian.B[0]
    with level_plan(ksp_type="fgmres", **incomplete(3, ranks)) as plan:
        factors = Factors(system.discrete.pattern, B, plan)
    pc, first = factors.of(0), 0
    if plan.schwarz:
        pc, part = pc.getPythonContext().local, pc.getPythonContext().part
        first = part.rows.getIndices()[part.matrices[0].getOrdering("rcm")[0].getIndices()[0]]
    assert pc.getFactorMatrix().getDiagonal().array[0] == relaxed_pivot(B[0], first)
    factors.destroy()


def test_bad_pivots_give_the_factors_of_the_matrix_itself():
    A = block(48, 48, diffusion=1.0)
    plain, relaxed = (
        factored(A, 2, Relaxation(share)).getFactorMatrix().getDiagonal().array
        for share in (0.0, 0.1)
    )
    np.testing.assert_array_equal(relaxed, plain)
