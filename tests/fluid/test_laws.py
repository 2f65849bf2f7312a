"""Symplectic and multisymplectic laws, momentum: which schemes and problems keep them."""

from functools import cache

import numpy as np
import pytest
from cases import default, evacuation, gaussian, jittered

import ufl

import mfg_fem as mfg

GALERKIN = [mfg.Galerkin(k, time) for k in (1, 2) for time in ("euler", "midpoint")]
TIGHT = mfg.Newton(rtol=1e-11)
CONGESTION = mfg.hamiltonians.congestion(2.0, 0.75)
PROBLEMS = {
    "game": lambda domain: default(domain),
    "control": lambda domain: default(domain, mfg.MeanFieldControl, hamiltonian=CONGESTION),
    "exits": lambda domain: evacuation(
        domain,
        0.3,
        0.0,
        source=lambda x, t: gaussian(x, 0.3),
        terminal_cost=lambda x, m: x[0] * (1 + m),
    ),
    "congested": lambda domain: default(domain, hamiltonian=CONGESTION),
}


@cache
def laws(name: str, scheme) -> mfg.Structure:
    return mfg.structure(mfg.solve(PROBLEMS[name](jittered(2, 5)), 6, scheme, TIGHT))


SYMPLECTIC = [("game", scheme) for scheme in GALERKIN]
SYMPLECTIC += [(name, GALERKIN[k]) for name in ("control", "exits") for k in (0, -1)]


@pytest.mark.parametrize("name, scheme", SYMPLECTIC, ids=str)
def test_galerkin_is_symplectic_and_multisymplectic(name, scheme):
    found = laws(name, scheme)
    assert found.residual <= 1e-12
    assert found.symplectic <= 1e-13 and found.patch <= 1e-13
    assert found.mass <= 1e-12


@pytest.mark.parametrize(
    "name, scheme",
    [("congested", mfg.Galerkin()), ("game", mfg.Monotone()), ("game", mfg.Sharp())],
    ids=str,
)
def test_congested_games_and_positive_schemes_are_not(name, scheme):
    """Else the test above would test nothing."""
    found = laws(name, scheme)
    assert found.residual <= 1e-12
    assert found.symplectic >= 1e-5 and found.patch >= 1e-5


def test_uneven_steps_and_a_line_are_symplectic_too():
    solution = mfg.solve(default(mfg.box(1, 12)), [0.0, 0.1, 0.3, 0.4, 1.0], mfg.Galerkin())
    found = mfg.structure(solution, seed=3)
    assert found.symplectic <= 1e-13 and found.patch <= 1e-13
    assert found.drift is None and "length" in str(found)


def test_what_flows_into_a_patch_is_what_it_gains():
    """The patch law adds up two terms, neither of which vanishes: with no border it fails."""
    from mfg_fem.fluid import structure

    solution = mfg.solve(default(jittered(2, 5)), 6, mfg.Galerkin())
    tangents = structure.Tangents(solution, np.random.default_rng(0))
    patch = structure.Patch(solution, lambda x: x[:, 0] < 0.5)
    assert patch.defect(tangents) <= 1e-13
    patch.border[:] = False
    assert patch.defect(tangents) >= 1e-2


@pytest.mark.parametrize("chosen", [lambda x: x[:, 0] > 2, lambda x: x[:, 0] < 2, lambda x: x.z])
def test_a_patch_has_some_cells_and_not_all(chosen):
    solution = mfg.solve(default(mfg.box(1, 4)), 2)
    with pytest.raises(mfg.ProblemError, match="patch"):
        mfg.structure(solution, chosen)


def test_momentum_on_a_torus_is_of_order_four():
    drifts = []
    for cells in (16, 32):
        ring = mfg.MeanFieldGame(
            mfg.box(1.0, cells, periodic=True),
            horizon=0.5,
            diffusion=0.05,
            hamiltonian=mfg.hamiltonians.quadratic(),
            running_cost=lambda x, t, m: m,
            terminal_cost=lambda x, m: 0.2 * ufl.sin(2 * ufl.pi * x[0]),
            initial_density=lambda x: 1 + 0.5 * ufl.cos(2 * ufl.pi * x[0]),
        )
        scheme, method = mfg.Galerkin(1, "midpoint"), mfg.Newton(rtol=1e-12)
        found = mfg.structure(mfg.solve(ring, cells, scheme, method))
        assert "total_momentum" not in found.reasons
        drifts.append(found.momentum)
    assert drifts[1] <= 1e-5 and np.log2(drifts[0] / drifts[1]) >= 3.5


def test_momentum_is_not_promised_where_places_differ():
    found = mfg.structure(mfg.solve(default(mfg.box(1, 8)), 2))
    assert found.momentum is None and "walls" in found.reasons["total_momentum"]
