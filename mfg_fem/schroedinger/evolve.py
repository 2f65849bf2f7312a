"""From level to level: all steps of a wave, with a checkpoint if there is to be one."""

import logging
import sys
import time
from collections.abc import Callable

import numpy as np

from mfg_fem.errors import NotConverged, OutOfTime
from mfg_fem.io.files import clear, file_path, on_root
from mfg_fem.nonlinear.resume import Checkpoint, attempt
from mfg_fem.schroedinger import saved
from mfg_fem.schroedinger.problem import NonlinearSchroedinger
from mfg_fem.schroedinger.run import Run
from mfg_fem.schroedinger.schemes import WaveScheme
from mfg_fem.schroedinger.solution import WaveSolution

log = logging.getLogger(__name__)

LINES = 20  # of the table of a solve
ROW = "{step:6d}  t {t:.4e}  mass {mass:.8e}  energy {energy:+.8e}  Newton {newton}  GMRES {krylov}"


def evolve(
    problem: NonlinearSchroedinger,
    times: np.ndarray,
    scheme: WaveScheme,
    settings: Checkpoint | None = None,
    throw: bool = True,
    shown: bool = False,
    call: Callable[[dict], None] = lambda row: None,
) -> WaveSolution:
    """Solve the equation step by step: see `mfg_fem.solve`. Collective."""
    keeper = _Keeper(problem, times, scheme, settings)
    run = Run(problem, scheme, times)
    comm = problem.domain.comm
    try:
        if keeper.about:
            run.read(keeper.path, keeper.about)
        else:
            run.begin()
        steps, failed = len(times) - 1, ""
        while len(run.waves) <= steps:
            keeper.visit(run)
            wave, taken = run.stepper.advance()
            failed = taken.failed and f"{taken.failed} in the step to t = {times[len(run.waves)]:g}"
            if failed:
                break
            row = run.add(wave, taken)
            if comm.rank == 0:
                log.info(ROW.format(**row))
                if shown and row["step"] % -(-steps // LINES) == 0:
                    print(ROW.format(**row), file=sys.stderr, flush=True)
            call(row)
        solution = WaveSolution.of(run, failed)
    finally:
        run.stepper.destroy()
    if failed and throw:
        raise NotConverged(
            failed,
            run.history,
            f"The wave stopped: {failed}. Take more steps; a wave that collapses has no solution "
            "beyond. throw=False returns the levels that were reached.",
        )
    if not failed:
        keeper.finish(run)
    return solution


class _Keeper:
    """The checkpoint file of one solve, if there is one. All methods are collective."""

    def __init__(self, problem, times, scheme, settings: Checkpoint | None):
        self.comm, self.settings, self.about = problem.domain.comm, settings, None
        self.last = self.began = time.perf_counter()
        self.longest = 0.0
        if settings is None:
            return
        self.path = path = file_path(settings.path)

        def try_out() -> bool:
            clear(path, everything=True)
            if path.is_dir():
                raise IsADirectoryError("it is a folder")
            return path.exists()

        exists = on_root(self.comm, f"The checkpoint {path} cannot be written", try_out)
        if self.comm.bcast(exists):
            self.about = saved.about(self.comm, path)
            saved.refuse_others(path, self.about, saved.description(problem, scheme, times))
            if self.comm.rank == 0:
                log.info("%s: going on after level %d", path, self.about["levels"] - 1)
        self.step = time.perf_counter()
        self.levels = 0 if self.about is None else self.about["levels"]

    def visit(self, run: Run):
        """Save before a step if it is time; raise OutOfTime if the step would not fit."""
        if self.settings is None:
            return
        now, budget = time.perf_counter(), self.settings.budget
        made = len(run.waves) > max(self.levels, 1)
        self.longest = max(self.longest, now - self.step) if made else 0.0
        self.step = now
        stop = made and budget is not None and now - self.began + self.longest > budget
        due = stop or (made and now - self.last >= self.settings.every)
        due, stop, longest = self.comm.bcast((due, stop, self.longest))
        if due:
            self._write(run, necessary=stop)
        if stop:
            raise OutOfTime(
                f"Out of time: the next step (the longest so far: {longest:.3g} s) does not fit "
                f"into the budget of {budget:g} s. {self.path} holds the levels so far: run the "
                "same again to go on.",
                self.path,
            )

    def finish(self, run: Run):
        """Save the solution, unless it is there."""
        if self.settings is not None and len(run.waves) > self.levels:
            self._write(run, necessary=False)

    def _write(self, run: Run, necessary: bool):
        def write():
            saved.write(self.path, run, run.times, run.waves, run.history)

        attempt(self.comm, write, necessary)
        self.last = time.perf_counter()
