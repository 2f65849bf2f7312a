"""Dense products cell by cell are the sparse product."""

from mpi4py import MPI
from petsc4py import PETSc

import numpy as np
import pytest

from mfg_fem.linear.coupled import grid_products
from mfg_fem.linear.coupled.grid_products import Projection

FUNCTIONS, EACH = 12, 4


def grid(counts: list[int]):
    """Cells with so many dofs, in any order; the functions of each, and their values."""
    random = np.random.default_rng(3)
    cell = random.permutation(np.repeat(np.arange(len(counts)) + 5, counts))
    of_cell = np.array([random.choice(FUNCTIONS, EACH, replace=False) for _ in range(40)])
    return cell, of_cell[cell], random.standard_normal((len(cell), EACH))


def sparse(dofs: int, share: float) -> tuple[np.ndarray, PETSc.Mat]:
    random = np.random.default_rng(int(100 * share))
    M = random.standard_normal((dofs, FUNCTIONS)) * (random.random((dofs, FUNCTIONS)) < share)
    matrix = PETSc.Mat().createDense((dofs, FUNCTIONS), array=M, comm=MPI.COMM_SELF)
    return M, matrix.convert("aij")


@pytest.mark.parametrize("room", [1, 60, 1 << 16])
@pytest.mark.parametrize("counts", [[3, 3, 3], [1, 9, 2, 30, 4], [7], []], ids=str)
def test_products_are_those_of_dense_matrices(room, counts, monkeypatch):
    monkeypatch.setattr(grid_products, "ROOM", room)
    cell, columns, values = grid(counts)
    Z = np.zeros((len(cell), FUNCTIONS))
    np.put_along_axis(Z, columns, values, axis=1)
    product = Projection(cell, columns, values, FUNCTIONS)
    for share in (0.3, 0.7, 0.3):  # the first pattern again, after another
        M, matrix = sparse(len(cell), share)
        np.testing.assert_allclose(product.of(matrix), Z.T @ M, atol=1e-13)
    r, y = (np.random.default_rng(4).standard_normal((5, k)) for k in Z.shape)
    np.testing.assert_allclose(product.restrict(r), r @ Z, atol=1e-13)
    np.testing.assert_allclose(product.prolong(y), y @ Z.T, atol=1e-13)
