"""Mean-field problems solved at all time levels at once, and gone on with from a checkpoint."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mpi4py import MPI

import numpy as np

from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.discrete.stationary import LONG
from mfg_fem.errors import NotConverged, ProblemError
from mfg_fem.linear import plan
from mfg_fem.nonlinear import memory
from mfg_fem.nonlinear.grids import solve_stages
from mfg_fem.nonlinear.newton import STALE, Outcome
from mfg_fem.nonlinear.planning import solve_planning
from mfg_fem.nonlinear.resume import Checkpoint, Keeper
from mfg_fem.nonlinear.sinkhorn import Sinkhorn, solve_by_sinkhorn
from mfg_fem.nonlinear.stages import State
from mfg_fem.nonlinear.table import Table
from mfg_fem.problem.game import MeanField
from mfg_fem.problem.populations import Populations
from mfg_fem.solution.guess import start_of
from mfg_fem.solution.solution import Solution


def solve_field(
    problem: MeanField | Populations,
    times: np.ndarray | None,
    scheme: Any,
    method: Any,
    guess: Any,
    settings: Checkpoint | None,
    throw: bool,
    table: Table,
) -> list[Solution]:
    """Solve for all time levels at once, with a checkpoint if there are settings for one.

    Returns a solution for each population.
    """
    began = time.perf_counter()
    comm = problem.domain.comm
    discrete = Discretisation(problem, scheme)
    if times is None:
        times = LONG * np.array([0.0, problem.units.time])
    start = None if guess is None else start_of(guess, discrete)
    plan.check(discrete, times, method.petsc_options)
    keeper, history, resume = None, [], None
    if settings is not None:
        keeper = Keeper(settings, discrete, times, method, began)
        if keeper.finished:
            return keeper.solution(lambda path: Solution.load_each(path, problem))
        history = keeper.history
        resume = (keeper.state, keeper.rows) if keeper.state else None
    if method.check_memory:
        memory.check(discrete, times, method)

    def record(row: dict, state: State | None) -> None:
        if keeper and keeper.repeats(row):
            return
        history.append(row)
        table.add(row)
        if keeper and state:
            keeper.visit(state)

    walk: Callable = solve_planning if discrete.ends.planned else solve_stages
    if isinstance(method, Sinkhorn):
        walk = solve_by_sinkhorn
    system, made, outcome = walk(discrete, times, method, start, record, resume)
    if not history:
        raise ProblemError(f"The residual is not finite at the guess ({outcome.reason}).")
    failed: tuple[str, ...] = () if outcome.converged else (_sentence(outcome, history[-1]),)
    if throw and failed:
        raise NotConverged(
            outcome.reason, history, f"{failed[0]} throw=False returns what is left."
        )
    seconds = comm.allreduce(time.perf_counter() - began, MPI.MAX)
    if keeper:
        seconds += keeper.seconds
    whole = Solution.each(system, outcome, history, seconds, str(made))
    solution, loose = whole[0], failed
    if solution.converged and solution.scheme != scheme:
        loose += (
            f"Newton has not succeeded with {scheme}: this is the solution of {solution.scheme}, "
            "nearer to first order. More steps or a finer mesh may help.",
        )
    if solution.converged and solution.norm > STALE * solution.tolerance:
        loose += (
            f"The residual is {solution.norm:.1e}, and {solution.tolerance:.1e} was asked for: "
            "PETSc's options have ended Newton earlier.",
        )
    whole[0] = replace(solution, warnings=(*loose, *solution.warnings))
    if keeper and solution.converged:
        keeper.finish(whole[0])
    return whole


def _sentence(outcome: Outcome, last: dict) -> str:
    """Why a solve ended, where, and what to try."""
    failed = f" ({outcome.failed})" if outcome.failed else ""
    return (
        f"Newton stopped: {outcome.reason}{failed} after {outcome.iterations} steps of the stage "
        f"{last['stage']!r} (HJB residual {last['hjb']:.1e}, FP residual {last['fp']:.1e}, of "
        f"about 1 at the start). {outcome.advice}"
    )
