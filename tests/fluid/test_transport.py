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
    x, m = ufl.SpatialCoordinate(domain.mesh), plan.solution.density(0)
    wrong = plan.displacement[0] - (2 - 0.2 * (x[0] - 3))
    square = fem.assemble_scalar(fem.form(m * wrong**2 * ufl.dx))
    assert np.sqrt(domain.comm.allreduce(square)) <= 0.05 * plan.distance
    assert "W2 = " in plan.report


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
