"""Sweeps as preconditioners are rough: from some iterations on, a level has to be less exact.

Run as a script, this module leaves what it finds on its ranks.
"""

import numpy as np
import pytest
from cases import default
from parts import level_plan, system_of
from ranks import leave_numbers, numbers_on, serial_only

import mfg_fem as mfg
from mfg_fem.discrete.spacetime import SpaceTime
from mfg_fem.linear.level.sweeps import FEW, ROUGH, Sweeps
from mfg_fem.linear.plan import iterative

RTOL, STEPS = 1e-5, 6


def sweep(system: SpaceTime, sweeps: Sweeps, name: str, rough: bool) -> dict:
    """Iterations of each level, and its residual relative to what is right of it."""
    x = system.discrete.V.tabulate_dof_coordinates()[: system.owned]
    right = np.tile(np.sin(9 * x[:, 0]) * system.discrete.weights, (1, STEPS, 1))
    solve, counts = sweeps.solve_level, []

    def counted(*args):
        y = solve(*args)
        counts.append(sweeps.ksp.getIterationNumber())
        return y

    sweeps.solve_level = counted
    y = (sweeps.forward if name == "B" else sweeps.backward)(right, rough=rough)
    del sweeps.solve_level
    if name == "A":
        counts.reverse()
    J = system.jacobian
    (y,), (left,), (right,) = y, J.mult_B(y) if name == "B" else J.mult_A(y), right
    before = {"A": range(1, STEPS + 1), "B": range(-1, STEPS - 1)}[name]
    norms = []
    for n, k in enumerate(before):
        rhs = right[n]
        if 0 <= k < STEPS:
            rhs = rhs + J.other_level(name, n, y[None, k])[0]
        squares = np.array([z @ z for z in (left[n] - right[n], rhs)])
        residual, size = np.sqrt(system.comm.allreduce(squares))
        norms.append(residual / size)
    return {"counts": counts, "residuals": norms}


def sweeps_in_turn(**changes) -> list[dict]:
    """Forward and backward, each exactly, roughly and exactly again."""
    problem = default(mfg.box((1, 1), 32), diffusion=0.5)
    system = system_of(problem, STEPS)
    system.linearise(system.even_crowd())
    options = iterative(2, system.comm.size, RTOL) | changes
    with level_plan(**options) as plan:
        sweeps = Sweeps(system.jacobian, plan)
    found = [sweep(system, sweeps, name, rough) for name in "BA" for rough in (False, True, False)]
    sweeps.destroy()
    system.destroy()
    return found


@serial_only
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_rough_sweeps_take_fewer_iterations_and_are_as_exact_as_they_say(ranks):
    found = numbers_on(ranks, __file__)
    for fine, rough, again in (found[:3], found[3:]):
        assert again == fine
        assert max(fine["residuals"]) <= RTOL
        assert RTOL < max(rough["residuals"]) <= ROUGH * RTOL
        assert min(rough["counts"]) >= FEW
        assert sum(rough["counts"]) <= 0.9 * sum(fine["counts"])


@serial_only
def test_sweeps_that_see_preconditioned_residuals_only_are_never_rough():
    found = sweeps_in_turn(ksp_type="gmres", ksp_pc_side="left")
    for fine, rough, _ in (found[:3], found[3:]):
        assert rough == fine


if __name__ == "__main__":
    leave_numbers(sweeps_in_turn())
