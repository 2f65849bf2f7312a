"""Optimal transport as the limit of bridges."""

import numpy as np
import pytest
from cases import gaussian

import ufl
from dolfinx import fem

import mfg_fem as mfg


def blob(x, centre, width):
    return ufl.exp(-((x[0] - centre) ** 2) / (2 * width**2))


def test_gaussians_on_a_line():
    domain = mfg.box((8.0,), 128)
    plan = mfg.optimal_transport(
        domain, lambda x: blob(x, 3.0, 0.5), lambda x: blob(x, 5.0, 0.4), accuracy=0.02
    )
    assert plan.distance == pytest.approx(np.sqrt(4.01), rel=1e-3)
    # The map is y = 5 + 0.8 (x - 3).
    assert plan.map(np.array([[2.5], [3.0], [3.5]])) == pytest.approx(
        np.array([[4.6], [5.0], [5.4]]), abs=5e-3
    )
    x, m = ufl.SpatialCoordinate(domain.mesh), plan.solution.density(0)
    for found in (plan.displacement[0], -ufl.grad(plan.potential)[0]):
        square = fem.assemble_scalar(fem.form(m * (found - (2 - 0.2 * (x[0] - 3))) ** 2 * ufl.dx))
        assert np.sqrt(domain.comm.allreduce(square)) <= 0.01 * plan.distance
    assert "W2 = " in plan.report


def test_ellipse_from_a_disc():
    """The map is (x, 0.6 y), W2^2 = 0.01 and the potential 0.2 y^2, though both densities jump."""
    domain = mfg.Domain(mfg.box((1.2, 1.2), 32).mesh)

    def inside(x, half_axis):
        y = ((x[0] - 0.6) / 0.5) ** 2 + ((x[1] - 0.6) / half_axis) ** 2
        return ufl.conditional(ufl.lt(y, 1.0), 1.0, 0.0)

    plan = mfg.optimal_transport(domain, lambda x: inside(x, 0.5), lambda x: inside(x, 0.3), 8)
    assert 2 * plan.cost == pytest.approx(0.01, rel=0.03)
    x = ufl.SpatialCoordinate(domain.mesh)
    exact = ufl.as_vector((0.0, -0.4 * (x[1] - 0.6)))
    wrong, size = (
        domain.comm.allreduce(
            fem.assemble_scalar(fem.form(inside(x, 0.5) * ufl.dot(v, v) * ufl.dx))
        )
        for v in (-ufl.grad(plan.potential) - exact, exact)
    )
    assert wrong <= 0.08**2 * size


def test_what_the_mesh_cannot_do_is_said():
    with pytest.raises(mfg.ProblemError, match="accuracy"):
        mfg.optimal_transport(mfg.box(1, 8), gaussian, gaussian, accuracy=0.0)
    with pytest.raises(mfg.NotConverged, match="optimal_transport: after 8 diffusions"):
        mfg.optimal_transport(
            mfg.box(1, 16),
            lambda x: blob(x, 0.3, 0.15),
            lambda x: blob(x, 0.7, 0.1),
            4,
            mfg.Monotone(),
            accuracy=1e-3,
            floor=1e-3,
        )
