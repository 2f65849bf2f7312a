"""Relaxed incomplete factors: fewer iterations, the matrix as it was, and no bad pivots."""

from petsc4py import PETSc

import numpy as np
import pytest
from cases import default
from ranks import serial_only

import mfg_fem as mfg
from mfg_fem import relaxation
from mfg_fem.discretisation import Discretisation
from mfg_fem.spacetime import SpaceTime

pytestmark = serial_only


def block(*cells: int, diffusion: float) -> PETSc.Mat:
    """That of the Fokker-Planck equation for one of two time steps."""
    problem = default(mfg.box((1.0,) * len(cells), cells), diffusion=diffusion)
    system = SpaceTime(Discretisation(problem, mfg.Monotone()), 2)
    system.linearise_fp(system.even_crowd())
    return system.B[0]


def factored(A: PETSc.Mat, levels: int, share: float) -> PETSc.PC:
    pc = PETSc.PC().create(A.getComm())
    pc.setType("ilu")
    pc.setFactorLevels(levels)
    pc.setOperators(A)
    relaxation.set_up(pc, share)
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


def test_a_quarter_of_the_iterations_is_saved_and_the_matrix_stays_as_it_is():
    A = block(16, 16, 16, diffusion=0.1)
    before = A.copy()
    plain, relaxed = (iterations(A, factored(A, 0, share)) for share in (0.0, 0.1))
    assert relaxed <= 0.8 * plain
    assert A.equal(before)


def test_the_share_is_taken_from_the_diagonal():
    A = block(4, 4, 4, diffusion=0.1)
    diagonal, sums = A.getDiagonal(), A.createVecLeft()
    A.getRowSum(sums)
    first = factored(A, 0, 0.1).getFactorMatrix().getDiagonal().array[0]  # nothing comes before it
    off_diagonal = sums.array[0] - diagonal.array[0]
    assert off_diagonal < 0
    assert first == pytest.approx(diagonal.array[0] + 0.1 * off_diagonal, rel=1e-12)


def test_bad_pivots_give_the_factors_of_the_matrix_itself():
    A = block(48, 48, diffusion=1.0)
    plain, relaxed = (
        factored(A, 2, share).getFactorMatrix().getDiagonal().array for share in (0.0, 0.1)
    )
    np.testing.assert_array_equal(relaxed, plain)
