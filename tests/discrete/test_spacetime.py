"""Steps that see the same are assembled once, to the same numbers; the even crowd."""

from mpi4py import MPI

import numpy as np
import pytest
from cases import default, evacuation
from parts import system_of

import mfg_fem as mfg
from mfg_fem.discrete.spacetime import SpaceTime

STEPS = 6


def system_with(scheme=None, **changes) -> SpaceTime:
    problem = default(mfg.box((1.0, 1.0), 6, MPI.COMM_WORLD), coupling=10.0, **changes)
    return system_of(problem, STEPS, scheme)


def in_time(x, t, m):
    return (1 + t) * (m + x[0])


def start(system: SpaceTime, kind: str) -> np.ndarray:
    X = system.even_crowd()
    wave = np.cos(3 * system.discrete.V.tabulate_dof_coordinates()[: system.owned, 0])
    if kind == "shifted":  # constants in space do not matter
        X[0] += wave + np.linspace(0, 2, STEPS)[:, None]
    elif kind == "growing":
        X[0] += np.linspace(0, 2, STEPS)[:, None] * wave
    elif kind == "two crowds":
        X[1, :, STEPS // 2 :] *= 1 + 0.1 * wave
    return X


def counted(system: SpaceTime, monkeypatch, name: str) -> list:
    calls, assemble = [], getattr(system.discrete, name)
    monkeypatch.setattr(system.discrete, name, lambda *a: calls.append(a) or assemble(*a))
    return calls


@pytest.mark.parametrize(
    "kind, changes, times",
    [
        ("even", {}, 1),
        ("shifted", {}, 1),
        ("growing", {}, STEPS),
        ("two crowds", {}, 2),
        ("even", {"running_cost": in_time}, STEPS),
    ],
)
@pytest.mark.parametrize("scheme", [mfg.Monotone(), mfg.Galerkin()], ids=str)
def test_steps_that_see_the_same_are_assembled_once(kind, changes, times, scheme, monkeypatch):
    system = system_with(scheme, **changes)
    X = start(system, kind)
    rows, blocks = (counted(system, monkeypatch, f"assemble_{k}") for k in ("rows", "jacobian"))
    once = system.residual(X)
    assert len(rows) == times
    system.linearise(X)
    assert len(blocks) == times
    found = system.mult_jacobian(np.cos(X))
    monkeypatch.setattr(system, "_alike", lambda levels: np.zeros(STEPS, bool))
    np.testing.assert_allclose(once, system.residual(X), rtol=0, atol=1e-13)
    assert len(rows) > times or times == STEPS
    system.linearise(X)
    np.testing.assert_allclose(found, system.mult_jacobian(np.cos(X)), rtol=1e-12, atol=1e-12)
    system.destroy()


@pytest.mark.parametrize("changes", [{}, {"running_cost": in_time}], ids=["steady", "in time"])
def test_hjb_rows_of_the_even_crowd_add_up_to_zero(changes):
    system = system_with(**changes)
    rows, _ = system.residual(system.even_crowd())
    assert np.abs(system.comm.allreduce(rows.sum(axis=2))).max() < 1e-13
    assert system.comm.allreduce(float(np.abs(rows).max(initial=0.0)), MPI.MAX) > 1e-3
    system.destroy()


def test_the_even_crowd_keeps_what_exits_cost():
    domain = mfg.box((1.0, 1.0), 6, MPI.COMM_WORLD)
    system = system_of(evacuation(domain), STEPS)
    X, (exits,) = system.even_crowd(), system.discrete.exits
    assert np.all(X[0, 0][:, exits.held] == exits.cost(0.0))
    assert np.all(X[1, 0][:, exits.held] == 0.0)
    system.destroy()
