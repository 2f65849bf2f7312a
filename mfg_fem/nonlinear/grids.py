"""The stages of a solve on one time grid after another: see `continuation.py`."""

from collections.abc import Callable

import numpy as np

from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.discrete.spacetime import SpaceTime
from mfg_fem.discrete.stationary import system_of
from mfg_fem.errors import ProblemError
from mfg_fem.linear.plan import Plan
from mfg_fem.nonlinear.continuation import Path
from mfg_fem.nonlinear.method import Newton
from mfg_fem.nonlinear.newton import Outcome
from mfg_fem.nonlinear.stages import State, coarsened

COARSENING = 4  # ratio of the steps of a fine and a coarse time grid
FEWEST_COARSE_STEPS = 8


def solve_stages(
    discrete: Discretisation,
    times: np.ndarray,
    method: Newton,
    guess: tuple[np.ndarray, ...] | None,
    record: Callable[[dict, State], None],
    resume: tuple[State, list[dict]] | None = None,
) -> tuple[SpaceTime, Plan, Outcome]:
    """Solve the discrete problem; returns its space-time system, the plan and the last outcome.

    Args:
        discrete: the problem on its mesh.
        times: time levels.
        method: Newton's settings.
        guess: initial guess: its time levels, u and m there, and prices in its steps.
        record: called after each Newton step with its row of the history and the state.
        resume: the state and the history of an earlier solve, to go on from there.
    """
    if discrete.problem.prices and method.krylov != "auto":
        raise ProblemError(
            f"Newton(krylov={method.krylov!r}): a problem with markets has one formulation of its "
            'linear equations alone. Leave it at "auto".'
        )
    steps, (state, rows) = len(times) - 1, resume or (None, [])
    grids = [steps]
    if state is not None:
        grids = sorted({state.stage.steps, steps})
    elif (
        method.continuation == "auto"
        and guess is None
        and discrete.forms.congested
        and steps >= COARSENING * FEWEST_COARSE_STEPS
    ):
        grids.insert(0, steps // COARSENING)
    nested, failed = None, ""
    for grid in grids:
        system = system_of(discrete, coarsened(times, grid))
        plan = Plan.of(system.jacobian, method.krylov, method.petsc_options)
        with plan.in_force():
            path = Path(system, plan, method, record, coarse=grid < steps)
            try:
                if state is None:
                    state = path.first(guess, nested, failed)
                outcome = path.walk(state, rows)
                outcome = path.close(outcome)
            finally:
                path.destroy()
                system.destroy()
        nested = None
        if outcome.converged:
            levels = system.levels(outcome.X)
            nested = system.times, levels.u, levels.m, discrete.state.paid.values
        failed = "" if outcome.converged else outcome.reason
        state, rows = None, []
    return system, plan, outcome
