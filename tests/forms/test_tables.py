"""What is known of an expression before it is assembled."""

from functools import partial

from mpi4py import MPI

import numpy as np
import pytest

import ufl
from dolfinx import fem

import mfg_fem as mfg
from mfg_fem.discrete.step import function_space
from mfg_fem.forms.tables import Tables

SCHEMES = [mfg.Monotone(), mfg.Galerkin(), mfg.Galerkin(degree=2, time="midpoint")]


def costly(x, t, m):
    """Costs of x alone in sums, products, a condition and a derivative; some of t and m too."""
    wave = ufl.sin(3 * x[0]) * ufl.exp(x[1])
    slope = ufl.grad(ufl.cos(x[0] * x[1]))
    here = ufl.conditional(ufl.lt(x[0], 0.45), x[0] ** 1.5, 2.0)
    return wave + t * wave * m + ufl.exp(-t) * ufl.sqrt(1 + m * here) + m * ufl.dot(slope, slope)


@pytest.fixture(params=SCHEMES, ids=str)
def setting(request):
    mesh = mfg.box((1.0, 1.0), 5, MPI.COMM_WORLD).mesh
    V, x = function_space(request.param, mesh), ufl.SpatialCoordinate(mesh)
    m, t = fem.Function(V), fem.Constant(mesh, 0.3)
    m.interpolate(lambda x: 1 + x[0] - x[1] ** 2)
    space = partial(request.param.points, mesh)
    return request.param, V, costly(x, t, m), space


def test_tabulated_costs_assemble_to_the_same_rows(setting):
    scheme, V, cost, space = setting
    _, values = scheme.measures(V.mesh)
    known, plain = (
        fem.assemble_vector(fem.form(f * ufl.TestFunction(V) * values)).array
        for f in (Tables(space)(cost), cost)
    )
    np.testing.assert_allclose(known, plain, rtol=0, atol=1e-15)


def test_functions_of_x_alone_are_not_computed_again(setting):
    *_, cost, space = setting
    sines = [
        str(e)
        for e in ufl.corealg.traversal.unique_pre_traversal(Tables(space)(cost))
        if isinstance(e, ufl.classes.Sin)
    ]
    assert sines == []


def test_a_cost_without_functions_of_x_alone_stays_as_it_is(setting):
    _, V, _, space = setting
    m = fem.Function(V)
    cost = m**2 + ufl.SpatialCoordinate(V.mesh)[0] * ufl.exp(m)
    assert Tables(space)(cost) is cost
