"""What data range over on a mesh, found some cells at a time."""

from mpi4py import MPI

import numpy as np
import pytest

import ufl
from dolfinx import fem

import mfg_fem as mfg
from mfg_fem.mesh import values
from mfg_fem.mesh.values import VertexValues


@pytest.fixture(params=[3, 8192])
def mesh(request, monkeypatch):
    monkeypatch.setattr(values, "CELLS", request.param)
    return mfg.box((1.0, 2.0), 4, MPI.COMM_WORLD).mesh


def test_ends_are_the_least_and_the_largest_of_all_cells(mesh):
    x = ufl.SpatialCoordinate(mesh)
    values = VertexValues(mesh, x[0] - 2 * x[1], ufl.as_vector([x[1], -x[0]]), 3 * x[0] / x[0])
    first, both, _ = values.extremes()
    np.testing.assert_allclose(first, [-4.0, 1.0], atol=1e-14)
    np.testing.assert_allclose(both, [-1.0, 2.0], atol=1e-14)
    (sums,) = values.extremes(lambda a, b, c: (a + b[..., :1],))
    np.testing.assert_allclose(sums, [-2.0, 1.0], atol=1e-14)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_number_in_one_cell_is_found_on_every_rank(mesh, bad):
    values = fem.Function(fem.functionspace(mesh, ("DG", 0)))
    if mesh.comm.rank == mesh.comm.size - 1:
        values.x.array[mesh.topology.index_map(2).size_local - 1] = bad
    good, found = VertexValues(mesh, ufl.SpatialCoordinate(mesh)[0], values).extremes()
    assert np.isfinite(good).all() and not np.isfinite(found).all()


def test_integral_is_exact_for_linear_functions(mesh):
    x = ufl.SpatialCoordinate(mesh)
    assert VertexValues(mesh, 3 * x[0] + x[1]).integral() == pytest.approx(5.0, rel=1e-13)
