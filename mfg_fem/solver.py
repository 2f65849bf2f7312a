"""solve: the one verb."""

import sys
import time
from pathlib import Path

from mpi4py import MPI

import numpy as np

from mfg_fem import memory
from mfg_fem.archive import SAME_POINT
from mfg_fem.checkpoint import Checkpoint, Keeper
from mfg_fem.continuation import State, solve_stages
from mfg_fem.discretisation import Discretisation
from mfg_fem.errors import NotConverged, ProblemError, require
from mfg_fem.files import file_path, holding
from mfg_fem.newton import Newton, Outcome
from mfg_fem.problem import _MeanField
from mfg_fem.schemes import Galerkin, Monotone
from mfg_fem.shared_control import (
    Descent,
    LagrangeGalerkin,
    Particles,
    SharedControl,
    SharedSolution,
    solve_shared,
)
from mfg_fem.solution import Solution


def solve(
    problem: _MeanField | SharedControl,
    steps: int,
    scheme: Monotone | Galerkin | LagrangeGalerkin | Particles | None = None,
    method: Newton | Descent | None = None,
    *,
    guess: Solution | None = None,
    checkpoint: Checkpoint | str | Path | None = None,
    throw: bool = True,
) -> Solution | SharedSolution:
    """Solve a mean-field game or control problem. Collective.

    A MeanFieldGame or MeanFieldControl is solved all at once in space-time by Newton and gives a
    Solution. A SharedControl is solved by descent on its reduced problem (it takes no guess and no
    checkpoint, and ends at a local optimum whose `converged` and `reason` say how) and gives a
    SharedSolution.

    Args:
        problem: a MeanFieldGame, MeanFieldControl or SharedControl.
        steps: number of equal time steps on [0, horizon].
        scheme: the discretisation, Monotone() by default; LagrangeGalerkin() for a SharedControl.
        method: how the equations are solved, Newton() by default; Descent() for a SharedControl.
        guess: a solution on the same mesh and degree (another number of steps will do) to start
            from instead of a cold start: for parameter studies.
        checkpoint: a file to go on from if it is there, and to keep the state in, at most once a
            minute; in the end it holds the solution, and the same call returns that at once. A
            Checkpoint says how often, and sets a budget of wall time.
        throw: raise NotConverged when Newton fails; with False return the last iterate, whose
            `converged` is False.

    Raises:
        ProblemError: arguments that make no sense, before anything is started.
        NotConverged: Newton failed, with its history.
        FileError: the checkpoint cannot be written, is damaged, in use by another process or
            belongs to another solve.
        OutOfMemory: the solve would not fit, and was not started.
        OutOfTime: the budget of the checkpoint is used up, and the state is written.
    """
    _check(problem, steps, scheme, method, guess, checkpoint)
    if isinstance(problem, SharedControl):
        return solve_shared(problem, steps, scheme or LagrangeGalerkin(), method or Descent())
    arguments = (problem, steps, scheme or Monotone(), method or Newton(), guess)
    if checkpoint is None:
        return _solve(*arguments, None, throw)
    settings = checkpoint if isinstance(checkpoint, Checkpoint) else Checkpoint(checkpoint)
    with holding(problem.domain.comm, file_path(settings.path)):
        return _solve(*arguments, settings, throw)


def _solve(problem, steps, scheme, method, guess, settings, throw) -> Solution:
    """Solve all at once in space-time, with a checkpoint if there are settings for one."""
    began = time.perf_counter()
    comm = problem.domain.comm
    discrete = Discretisation(problem, scheme)
    require(
        comm,
        guess is None or _same_nodes(guess.discrete, discrete),
        "guess lives on another mesh or has another degree than this solve.",
    )
    keeper, history, resume = None, [], None
    if settings is not None:
        keeper = Keeper(settings, discrete, steps, method, began)
        if keeper.finished:
            return keeper.solution(problem)
        history = keeper.history
        resume = (keeper.state, keeper.rows) if keeper.state else None
    if method.check_memory:
        memory.check(discrete, steps, method)
    table = _Table(live=comm.rank == 0 and sys.stderr.isatty())

    def record(row: dict, state: State):
        if keeper and keeper.repeats(row):
            return
        history.append(row)
        table.print(row)
        if keeper:
            keeper.visit(state)

    start = None if guess is None else guess.levels
    system, outcome = solve_stages(discrete, steps, method, start, record, resume)
    if throw and not outcome.converged:
        raise NotConverged(outcome.reason, history, _sentence(outcome, history[-1]))
    seconds = comm.allreduce(time.perf_counter() - began, MPI.MAX)
    if keeper:
        seconds += keeper.seconds
    solution = Solution.of(system, outcome, history, seconds)
    if keeper and solution.converged:
        keeper.finish(solution)
    return solution


def _check(problem, steps, scheme, method, guess, checkpoint):
    shared = isinstance(problem, SharedControl)
    if not shared and not isinstance(problem, _MeanField):
        raise ProblemError(
            f"problem is a {type(problem).__name__}; pass a MeanFieldGame, a MeanFieldControl or a "
            "SharedControl."
        )
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 1:
        raise ProblemError(f"steps must be an integer >= 1, not {steps!r}.")
    for name, value, types in (
        ("scheme", scheme, (LagrangeGalerkin, Particles) if shared else (Monotone, Galerkin)),
        ("method", method, (Descent,) if shared else (Newton,)),
        ("guess", guess, () if shared else (Solution,)),
        ("checkpoint", checkpoint, () if shared else (Checkpoint, str, Path)),
    ):
        if value is not None and not isinstance(value, types):
            wanted = " or ".join(f"{t.__name__}(...)" for t in types) or "nothing"
            raise ProblemError(f"{name} is {value!r}; a {type(problem).__name__} takes {wanted}.")


def _sentence(outcome: Outcome, last: dict) -> str:
    """Why a solve ended, where, and what to try."""
    failed = f" ({outcome.failed})" if outcome.failed else ""
    return (
        f"Newton stopped: {outcome.reason}{failed} after {outcome.iterations} steps of the stage "
        f"{last['stage']!r} (HJB residual {last['hjb']:.1e}, FP residual {last['fp']:.1e}, of "
        f"about 1 at the start). {outcome.advice}, or throw=False to look at the last iterate."
    )


def _same_nodes(guess: Discretisation, here: Discretisation) -> bool:
    """Whether the nodes of this rank are the same points in both, to a part of the mesh size."""
    one, other = (discrete.V.tabulate_dof_coordinates() for discrete in (guess, here))
    near = SAME_POINT * here.mesh_size
    return one.shape == other.shape and bool((abs(one - other) <= near).all())


class _Table:
    """The iteration table, on a terminal only."""

    HEAD = " it  Krylov   |du|     |dm|     HJB      FP       mass         min m     step"

    def __init__(self, live: bool):
        self.live, self.stage = live, None

    def print(self, row: dict):
        """One Newton step."""
        if not self.live:
            return
        if row["stage"] != self.stage:
            self.stage = row["stage"]
            print(f"{self.stage}\n{self.HEAD}", file=sys.stderr)
        print(
            "{step:3d}  {krylov:6d}   {du:.1e}  {dm:.1e}  {hjb:.1e}  {fp:.1e}  {mass:.5e}  "
            "{min_density:+.1e}  {step_length:.2f}".format(**row),
            file=sys.stderr,
            flush=True,
        )
