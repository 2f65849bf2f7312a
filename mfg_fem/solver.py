"""solve: the one verb."""

import sys
import time

from mpi4py import MPI

import numpy as np

from mfg_fem.continuation import solve_stages
from mfg_fem.errors import NotConverged, ProblemError, require
from mfg_fem.newton import Newton
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
from mfg_fem.spacetime import Discretisation


def solve(
    problem: _MeanField | SharedControl,
    steps: int,
    scheme: Monotone | Galerkin | LagrangeGalerkin | Particles | None = None,
    method: Newton | Descent | None = None,
    *,
    guess: Solution | None = None,
    throw: bool = True,
) -> Solution | SharedSolution:
    """Solve a mean-field game or control problem. Collective.

    A MeanFieldGame or MeanFieldControl is solved all at once in space-time by Newton and gives a
    Solution. A SharedControl is solved by descent on its reduced problem (it takes no
    guess, and ends at a local optimum whose `converged` and `reason` say how) and gives a
    SharedSolution.

    Args:
        problem: a MeanFieldGame, MeanFieldControl or SharedControl.
        steps: number of equal time steps on [0, horizon].
        scheme: the discretisation, Monotone() by default; LagrangeGalerkin() for a SharedControl.
        method: how the equations are solved, Newton() by default; Descent() for a SharedControl.
        guess: a solution on the same mesh and degree (another number of steps will do) to start
            from instead of a cold start: for parameter studies.
        throw: raise NotConverged when Newton fails; with False return the last iterate, whose
            `converged` is False.

    Raises:
        ProblemError: arguments that make no sense, before anything is started.
        NotConverged: Newton failed, with its history.
    """
    _check(problem, steps, scheme, method, guess)
    if isinstance(problem, SharedControl):
        return solve_shared(problem, steps, scheme or LagrangeGalerkin(), method or Descent())
    scheme, method = scheme or Monotone(), method or Newton()
    began = time.perf_counter()
    comm = problem.domain.comm
    discrete = Discretisation(problem, scheme)
    require(
        comm,
        guess is None or _same_nodes(guess.discrete.V, discrete.V),
        "guess lives on another mesh or has another degree than this solve.",
    )
    history: list[dict] = []
    table = _Table(live=comm.rank == 0 and sys.stderr.isatty())

    def record(row: dict):
        history.append(row)
        table.print(row)

    start = None if guess is None else guess.levels
    system, outcome = solve_stages(discrete, steps, method, start, record)
    if throw and not outcome.converged:
        last = history[-1]
        raise NotConverged(
            f"Newton stopped: {outcome.reason} after {outcome.iterations} steps "
            f"(HJB residual {last['hjb']:.1e}, FP residual {last['fp']:.1e}). Try more "
            "diffusion, more time steps, a solution of an easier problem as guess=, or "
            "throw=False to look at the last iterate.",
            history,
        )
    seconds = comm.allreduce(time.perf_counter() - began, MPI.MAX)
    return Solution.of(system, outcome, history, seconds)


def _check(problem, steps, scheme, method, guess):
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
    ):
        if value is not None and not isinstance(value, types):
            wanted = " or ".join(f"{t.__name__}(...)" for t in types) or "nothing"
            raise ProblemError(f"{name} is {value!r}; a {type(problem).__name__} takes {wanted}.")


def _same_nodes(V, W) -> bool:
    """Whether the nodes of this rank are the same points in both spaces."""
    one, other = (space.tabulate_dof_coordinates() for space in (V, W))
    return one.shape == other.shape and np.allclose(one, other)


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
