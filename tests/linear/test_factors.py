"""Levels whose blocks hardly differ share factors; a block that differs gets its own.

Run as a script, this module leaves what it finds on its ranks.
"""

import numpy as np
import pytest
from cases import default
from parts import level_plan, system_of
from ranks import leave_numbers, numbers_on, once, serial_only

import mfg_fem as mfg
from mfg_fem.discrete.spacetime import SpaceTime
from mfg_fem.linear.level.factors import SHARED
from mfg_fem.linear.level.sweeps import Sweeps
from mfg_fem.linear.plan import incomplete, iterative

STEPS = 8


def system_with_waves(diffusion: float) -> SpaceTime:
    """Linearised where the drift grows in time from nothing."""
    problem = default(mfg.box((1, 1), 48), diffusion=diffusion)
    system = system_of(problem, STEPS)
    x = system.discrete.V.tabulate_dof_coordinates()[: system.owned]
    X = system.even_crowd()
    X[0] += np.linspace(0, 1, STEPS)[:, None] * np.cos(3 * x[:, 0]) * np.sin(4 * x[:, 1])
    system.linearise(X)
    return system


def sweeps_of(system: SpaceTime, **changes) -> Sweeps:
    options = iterative(2, system.comm.size, 1e-8) | changes
    with level_plan(**options) as plan:
        return Sweeps(system.jacobian, plan)


def solve_all(system: SpaceTime, share: float, **changes) -> dict:
    """Iterations of all levels, which factors they took, the largest relative residual."""
    sweeps = sweeps_of(system, **changes)
    x = system.discrete.V.tabulate_dof_coordinates()[: system.owned]
    rhs = np.sin(19 * x[:, 0]) * system.discrete.weights
    sweeps.factors["B"][0].share = share
    norm = lambda y: np.sqrt(system.comm.allreduce(y @ y))  # noqa: E731
    counts, worst = 0, 0.0
    for name in "BA":
        for n in range(STEPS):
            y = sweeps.solve_level(name, n, rhs[None])[0]
            counts += sweeps.ksp.getIterationNumber()
            block = getattr(system.jacobian, name)[0][n]
            worst = max(worst, norm(system.jacobian.product(block, y) - rhs) / norm(rhs))
    source = list(sweeps.factors["B"][0].source)
    sweeps.destroy()
    return {"iterations": counts, "source": source, "residual": worst}


@once
def on(ranks: int) -> dict:
    return numbers_on(ranks, __file__)


@serial_only
@pytest.mark.parametrize("ranks", (1, 2, 3))
def test_where_diffusion_rules_one_level_is_factored(ranks):
    shared, own = (on(ranks)["0.5"][k] for k in ("shared", "own"))
    assert shared["source"] == [0] * STEPS
    assert own["source"] == list(range(STEPS))
    assert shared["iterations"] <= 1.1 * own["iterations"]
    assert max(shared["residual"], own["residual"]) <= 2e-8


@serial_only
@pytest.mark.parametrize("ranks", (1, 2, 3))
def test_where_the_drift_changes_fast_each_level_is_factored(ranks):
    assert on(ranks)["0.005"]["shared"]["source"] == list(range(STEPS))


@serial_only
@pytest.mark.parametrize("ranks", (1, 2, 3))
def test_more_fill_where_diffusion_couples_more_nodes_halves_the_iterations(ranks):
    far, near = (on(ranks)[D] for D in ("0.5", "0.005"))
    assert far["more fill"]["iterations"] <= 0.6 * far["own"]["iterations"]
    assert near["more fill"]["iterations"] == near["own"]["iterations"]


@serial_only
def test_all_ranks_share_as_in_serial():
    assert all(on(r)[D]["shared"]["source"] == on(1)[D]["shared"]["source"]
               for r in (2, 3) for D in on(1))  # fmt: skip


@serial_only
def test_change_is_the_largest_of_all_rows():
    system = system_with_waves(0.05)
    B = system.jacobian.B[0]
    first, last = (B[n].getValuesCSR() for n in (0, STEPS - 1))
    difference = np.add.reduceat(np.abs(last[2] - first[2]), first[0][:-1])
    expected = (difference / B[STEPS - 1].getDiagonal().array_r).max()
    pattern = system.discrete.pattern
    assert pattern.change(B[-1], pattern.entries(B[0])) == pytest.approx(expected)
    assert pattern.change(B[0], pattern.entries(B[0])) == 0.0
    assert expected > SHARED
    system.destroy()


@serial_only
def test_new_blocks_get_new_factors():
    system = system_with_waves(0.05)
    sweeps = sweeps_of(system)
    rhs = np.array(system.discrete.weights)
    before = sweeps.forward(np.tile(rhs, (1, STEPS, 1)))
    system.linearise(system.even_crowd())
    still = sweeps.forward(np.tile(rhs, (1, STEPS, 1)))
    assert sweeps.factors["B"][0].source == [0] * STEPS  # no drift at all
    fresh = sweeps_of(system)
    np.testing.assert_allclose(still, fresh.forward(np.tile(rhs, (1, STEPS, 1))), rtol=1e-12)
    assert np.abs(before - still).max() > 1e-3 * np.abs(still).max()
    sweeps.destroy()
    fresh.destroy()
    system.destroy()


@serial_only
def test_factorisations_that_solve_are_not_shared():
    system = system_with_waves(0.5)
    sweeps = sweeps_of(system, ksp_type="preonly", pc_type="lu")
    sweeps.forward(np.ones((1, STEPS, system.owned)))
    assert sweeps.plan.exact
    assert sweeps.factors["B"][0].source == list(range(STEPS))
    sweeps.destroy()
    system.destroy()


if __name__ == "__main__":
    found = {}
    for diffusion in (0.5, 0.005):
        system = system_with_waves(diffusion)
        more = incomplete(2, system.comm.size, system.jacobian.diffusion_number)
        found[diffusion] = {
            "shared": solve_all(system, SHARED),
            "own": solve_all(system, 0.0),
            "more fill": solve_all(system, 0.0, **more),
        }
        system.destroy()
    leave_numbers(found)
