"""The verb `solve`."""

import logging
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, overload

from petsc4py import PETSc

from mfg_fem import petsc
from mfg_fem.descent.solve import Descent, LagrangeGalerkin, Particles, descend
from mfg_fem.discrete.monotone import Monotone
from mfg_fem.discrete.schemes import SCHEMES, Scheme
from mfg_fem.discrete.sharp import Sharp
from mfg_fem.errors import ProblemError, SolutionWarning, alike, together
from mfg_fem.io.files import file_path, holding
from mfg_fem.nonlinear.method import Newton
from mfg_fem.nonlinear.resume import Checkpoint
from mfg_fem.nonlinear.sinkhorn import Sinkhorn
from mfg_fem.nonlinear.table import Table
from mfg_fem.problem.game import MeanField
from mfg_fem.problem.populations import Member, Populations
from mfg_fem.problem.shared import SharedControl
from mfg_fem.schroedinger.evolve import evolve
from mfg_fem.schroedinger.problem import NonlinearSchroedinger
from mfg_fem.schroedinger.schemes import WAVE_SCHEMES, Relaxation, WaveScheme
from mfg_fem.schroedinger.solution import WaveSolution
from mfg_fem.solution.populations import PopulationsSolution
from mfg_fem.solution.shared import SharedSolution
from mfg_fem.solution.solution import Solution
from mfg_fem.solution.solve_field import solve_field
from mfg_fem.solution.stationary import StationarySolution
from mfg_fem.validate import count, flag, is_integer, time_levels

log = logging.getLogger(__name__)


@overload
def solve(
    problem: MeanField,
    steps: int | Sequence[float],
    scheme: Scheme | None = None,
    method: Newton | Sinkhorn | None = None,
    *,
    guess: Solution | None = None,
    checkpoint: Checkpoint | str | Path | None = None,
    throw: bool = True,
    progress: bool | None = None,
    on_step: Callable[[dict], None] | None = None,
) -> Solution: ...


@overload
def solve(
    problem: MeanField,
    steps: None = None,
    scheme: Scheme | None = None,
    method: Newton | None = None,
    *,
    guess: StationarySolution | None = None,
    checkpoint: Checkpoint | str | Path | None = None,
    throw: bool = True,
    progress: bool | None = None,
    on_step: Callable[[dict], None] | None = None,
) -> StationarySolution: ...


@overload
def solve(
    problem: Populations,
    steps: int | Sequence[float] | None = None,
    scheme: Scheme | None = None,
    method: Newton | None = None,
    *,
    guess: PopulationsSolution | None = None,
    checkpoint: Checkpoint | str | Path | None = None,
    throw: bool = True,
    progress: bool | None = None,
    on_step: Callable[[dict], None] | None = None,
) -> PopulationsSolution: ...


@overload
def solve(
    problem: SharedControl,
    steps: int,
    scheme: LagrangeGalerkin | Particles | None = None,
    method: Descent | None = None,
    *,
    throw: bool = True,
    progress: bool | None = None,
    on_step: Callable[[dict], None] | None = None,
) -> SharedSolution: ...


@overload
def solve(
    problem: NonlinearSchroedinger,
    steps: int | Sequence[float],
    scheme: WaveScheme | None = None,
    *,
    checkpoint: Checkpoint | str | Path | None = None,
    throw: bool = True,
    progress: bool | None = None,
    on_step: Callable[[dict], None] | None = None,
) -> WaveSolution: ...


def solve(
    problem: MeanField | Populations | SharedControl | NonlinearSchroedinger,
    steps: int | Sequence[float] | None = None,
    scheme: Scheme | LagrangeGalerkin | Particles | WaveScheme | None = None,
    method: Newton | Sinkhorn | Descent | None = None,
    *,
    guess: Solution | StationarySolution | PopulationsSolution | None = None,
    checkpoint: Checkpoint | str | Path | None = None,
    throw: bool = True,
    progress: bool | None = None,
    on_step: Callable[[dict], None] | None = None,
) -> Solution | StationarySolution | PopulationsSolution | SharedSolution | WaveSolution:
    """Solve a mean-field game or control problem, or follow a wave. Collective.

    A MeanFieldGame or MeanFieldControl is discretised by the scheme and solved for all time levels
    at once by Newton. With the drift -H_p, the game is

        -u_t - div(D grad u) + H(x, grad u, m) = f(x, t, m),    u(T) = g(x, m(T)),
         m_t - div(D grad m) - div(m H_p(x, grad u, m)) = s,    m(0) = m0;

    for a control the derivatives of m H, m f and m g in m replace H, f and g. Lasry, Lions 2007;
    Achdou, Capuzzo-Dolcetta 2010. With a terminal density m(T) is given in the place of u(T). A
    SharedControl is solved by descent on its reduced problem, without guess and checkpoint. A
    NonlinearSchroedinger is solved step by step, without guess and method. A problem without a
    horizon is stationary: see MeanFieldGame.
    Lengths, times, costs and people may be in any units; the decisions of the solver do not change.

    Args:
        problem: a MeanFieldGame, MeanFieldControl, Populations, SharedControl or
            NonlinearSchroedinger.
        steps: number N of equal time steps on [0, horizon]; or, except for a SharedControl, the
            increasing time levels from 0 to the horizon themselves. None without a horizon.
        scheme: the discretisation, Sharp() by default; Monotone() for Sinkhorn(),
            LagrangeGalerkin() for a SharedControl, Relaxation() for a wave.
        method: how the equations are solved, Newton() by default; Descent() for a SharedControl.
            Sinkhorn() is another for a terminal density.
        guess: a solution on the same mesh and degree, with any number of steps, as initial guess in
            the place of a cold start: for parameter studies.
        checkpoint: a file to resume from if it exists, and to save the state in at most once a
            minute; at the end it holds the solution, which the same call then returns at once. A
            Checkpoint sets the interval and a budget of wall time.
        throw: raise NotConverged if Newton fails; with False return the last iterate, or of a wave
            the levels before, whose `converged` is False.
        progress: print a table of the Newton steps, or of time steps of a wave; by default on a
            terminal only. Each step is a line of the log in any case (`logging`, level INFO).
        on_step: called on every rank with the row of the history after each such step. What it
            raises on any rank ends the solve on all ranks.

    Returns:
        A Solution, with u and m at the time levels 0..N; a StationarySolution without a horizon; a
        PopulationsSolution of several crowds; a WaveSolution; or a SharedSolution, a local optimum,
        whose `converged` and `reason` say how the descent ended.

    Raises:
        ProblemError: an argument makes no sense and nothing was started, or PETSc meets extreme
            numbers.
        NotConverged: Newton failed; the error has its history.
        FileError: the checkpoint cannot be written, is damaged, in use by another process or
            belongs to another solve.
        OutOfMemory: the solve would not fit and was not started.
        OutOfTime: the budget of the checkpoint is used up; the state is saved.
    """
    if isinstance(problem, Member):
        raise ProblemError(
            f"{problem.title} is one of several, which are solved together: pass the Populations."
        )
    if not isinstance(problem, MeanField | Populations | SharedControl | NonlinearSchroedinger):
        raise ProblemError(
            f"problem is a {type(problem).__name__}; pass a MeanFieldGame, a MeanFieldControl, "
            "Populations, a SharedControl or a NonlinearSchroedinger."
        )
    comm = problem.domain.comm
    with together(comm):
        times = _times(problem, steps)
        _check(problem, scheme, method, guess, checkpoint, throw, progress, on_step)
        settings = checkpoint
        if settings is not None and not isinstance(settings, Checkpoint):
            settings = Checkpoint(settings)
        path = None if settings is None else file_path(settings.path)
        shown = steps if times is None else int(steps) if is_integer(steps) else times.tolist()
    given = {"scheme": scheme, "method": method, "checkpoint": path, "throw": throw}
    alike(comm, steps=shown, **given, guess="none" if guess is None else "a solution")
    table = Table(comm, progress, on_step)
    try:
        arguments: Any
        if isinstance(problem, SharedControl):
            arguments = times, scheme or LagrangeGalerkin(), method or Descent(), table.call
            return SharedSolution.of(problem, descend(problem, *arguments))
        problem.check()
        if isinstance(problem, NonlinearSchroedinger):
            arguments = times, scheme or Relaxation(), settings, throw, table.shown, table.call
            with nullcontext() if path is None else holding(comm, path):
                return evolve(problem, *arguments)
        default = Monotone() if isinstance(method, Sinkhorn) else Sharp()
        made = scheme or default, method or Newton()
        with nullcontext() if path is None else holding(comm, path):
            whole = solve_field(problem, times, *made, guess, settings, throw, table)
    except (PETSc.Error, ArithmeticError) as error:
        said = petsc.words(error) if isinstance(error, PETSc.Error) else error
        raise ProblemError(
            f"This cannot be solved: {said}. Look for numbers that are extremely large or small, "
            "and at PETSc's options."
        ) from error
    solution = _as_asked(problem, whole)
    if solution.converged and solution.warnings and comm.rank == 0:
        warnings.warn(" ".join(solution.warnings), SolutionWarning, stacklevel=2)
    return solution


def _as_asked(problem, whole: list[Solution]) -> Any:
    """What `solve` returns, of the solutions of all populations."""
    if isinstance(problem, Populations):
        return PopulationsSolution(problem, whole)
    return StationarySolution.of(whole[0]) if problem.stationary else whole[0]


def _times(problem, steps) -> Any:
    """The steps of a SharedControl, or the time levels; None without a horizon."""
    if isinstance(problem, SharedControl):
        return count("steps", steps)
    if isinstance(problem, NonlinearSchroedinger) or not problem.stationary:
        return time_levels("steps", steps, problem.horizon)
    if steps is not None:
        raise ProblemError(
            f"steps={steps!r}: a problem without a horizon has no time steps; leave them out, or "
            "give the problem a horizon."
        )
    return None


def _check(problem, scheme, method, guess, checkpoint, throw, progress, on_step):
    shared, wave = (isinstance(problem, kind) for kind in (SharedControl, NonlinearSchroedinger))
    crowds = isinstance(problem, Populations)
    field = isinstance(problem, MeanField) or crowds
    planned = field and problem.terminal_density is not None
    guesses: tuple[type, ...] = ()
    if field:
        one = StationarySolution if problem.stationary else Solution
        guesses = (PopulationsSolution if crowds else one,)
    schemes = WAVE_SCHEMES if wave else SCHEMES
    newton = () if wave else (Newton, *[Sinkhorn] * planned)
    flag("throw", throw)
    if progress is not None:
        flag("progress, unless None,", progress)
    if not (on_step is None or callable(on_step)):
        raise ProblemError(f"on_step must be a callable that takes a row, not {on_step!r}.")
    for name, value, types in (
        ("scheme", scheme, (LagrangeGalerkin, Particles) if shared else tuple(schemes.values())),
        ("method", method, (Descent,) if shared else newton),
        ("guess", guess, guesses),
        ("checkpoint", checkpoint, () if shared else (Checkpoint, str, Path)),
    ):
        if value is not None and not isinstance(value, types):
            wanted = " or ".join(f"{t.__name__}(...)" for t in types) or "nothing"
            raise ProblemError(f"{name} is {value!r}; a {type(problem).__name__} takes {wanted}.")
