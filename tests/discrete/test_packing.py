"""Coefficients that are packed once and renewed in place are those that DOLFINx packs."""

from itertools import chain

from mpi4py import MPI

import numpy as np
import pytest
from cases import default

from dolfinx import cpp, fem

import mfg_fem as mfg
from mfg_fem.discrete.discretisation import Discretisation

NAMES = ("residual", "jacobian", "coupling", "hjb", "fp", "hjb in u", "fp in m")
SCHEMES = [mfg.Monotone(), mfg.Galerkin(), mfg.Galerkin(degree=2, time="midpoint")]


def discretised(scheme, dim=2, own_cost=True) -> Discretisation:
    domain = mfg.box((1.0,) * dim, 4, MPI.COMM_WORLD)
    hill = fem.Function(fem.functionspace(domain.mesh, ("DG", 0)))  # older than all the others
    hill.interpolate(lambda x: 1 + x[0] ** 2)
    changes = {"running_cost": lambda x, t, m: hill * m**2 + t} if own_cost else {}
    return Discretisation(default(domain, **changes), scheme)


def state(d: Discretisation, seed: int) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.random.default_rng(seed).random((2, 1, d.owned)))


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("own_cost", (True, False))
def test_they_are_those_of_dolfinx_after_each_change(scheme, own_cost):
    d = discretised(scheme, own_cost=own_cost)
    for seed in (1, 2):
        d.set_state(*state(d, seed), 0.1 * seed)
        for form in chain.from_iterable(map(d.compiled, NAMES)):
            kept, fresh = d.packed.of(form), cpp.fem.pack_coefficients(form._cpp_object)
            assert kept.keys() == fresh.keys()
            for key, values in fresh.items():
                np.testing.assert_array_equal(kept[key][:, : values.shape[1]], values)


def test_forms_whose_coefficients_begin_alike_share_an_array():
    d = discretised(mfg.Monotone(), own_cost=False)
    arrays = [
        next(iter(d.packed.of(form).values())).__array_interface__["data"][0]
        for form in (*d.compiled("residual"), *d.compiled("jacobian"), *d.compiled("fp"))
    ]
    assert len(set(arrays)) == 1


@pytest.mark.parametrize("dim", (1, 2, 3))
def test_rows_follow_the_state(dim):
    d = discretised(mfg.Monotone(), dim)
    rows = []
    for seed in (1, 2, 1):
        d.set_state(*state(d, seed), 0.5)
        rows.append(d.assemble_rows("residual").copy())
        np.testing.assert_allclose(
            rows[-1], [d.assemble_rows(k) for k in ("hjb", "fp")], atol=1e-13
        )
    np.testing.assert_array_equal(rows[0], rows[2])
    assert d.comm.allreduce(float(np.abs(rows[0] - rows[1]).max(initial=0.0)), MPI.MAX) > 1e-3
