"""Checkpoints: a solve that was stopped, for whatever reason, goes on where it was.

After a Newton step rank 0 writes the iterate, its stage and the history under another name, and
then renames it: the file is complete or absent at any moment. Its content does not depend on ranks.
A finished solve leaves its solution there.
"""

import logging
import shutil
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from mfg_fem.discrete.clearing import joined, parted
from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.errors import FileError, OutOfTime, ProblemError
from mfg_fem.io import archive, saved
from mfg_fem.io.files import clear, file_path, on_root
from mfg_fem.mesh.nodes import Nodes
from mfg_fem.nonlinear.method import Newton
from mfg_fem.nonlinear.stages import PlanningStage, Stage, State

log = logging.getLogger(__name__)

SECONDS = int | float | np.integer | np.floating
RUN = {"history": [saved.ROW], "seconds": float, "longest": float}
STATE = {"atol": float, "started": bool, "prices": list, "start_prices": list}
SAME_RESIDUAL = 1e-6  # relative; on another number of ranks the last digits differ


@dataclass(frozen=True)
class Checkpoint:
    """Where `solve` saves its state to resume from, and when.

    If the file exists, `solve` goes on from it, on any number of ranks. At the end the file holds
    the solution: the same call returns it at once, and so does `Solution.load`. Delete the file to
    solve anew. A second process on the same file at the same time is refused. Settings that mean
    nothing raise ProblemError.

    Args:
        path: the file, such as "results/run.npz".
        every: seconds between saves, which follow a Newton step; 0 saves after each.
        budget: seconds of wall time for this call of `solve`. If the next Newton step would not
            fit, judged by the longest so far, `solve` saves and raises OutOfTime. One step is
            always made, so that a job that is restarted again and again arrives.
    """

    path: str | Path
    every: float = 60.0
    budget: float | None = None

    def __post_init__(self):
        """Refuse settings that mean nothing."""
        file_path(self.path, f"Checkpoint({self.path!r}): path")
        budget = 0.0 if self.budget is None else self.budget
        for name, value in (("every", self.every), ("budget", budget)):
            if isinstance(value, bool) or not isinstance(value, SECONDS) or not value >= 0:
                raise ProblemError(
                    f"Checkpoint({name}={value!r}): {name} must be a number of seconds, 0 or more."
                )


@contextmanager
def _advising():
    """Add advice to the error of a file that does not fit."""
    try:
        yield
    except FileError as exc:
        what = str(exc).rstrip(".")
        raise FileError(f"{what}. Name another file, or delete this one to begin anew.") from exc


def attempt(comm, action: Callable[[], None], necessary: bool):
    """Write a checkpoint; a solve of many hours can end without one that is not necessary."""
    try:
        action()
    except FileError as exc:
        if necessary:
            raise
        if comm.rank == 0:
            log.warning("%s; going on without this checkpoint", exc)


class Keeper:
    """The checkpoint file of one solve. All methods are collective.

    Attributes:
        history: the rows of this solve and of those it resumes.
        state: where to go on, None at the beginning.
        finished: whether the file holds the solution.
        seconds: wall time of the earlier runs.
    """

    def __init__(
        self,
        settings: Checkpoint,
        discrete: Discretisation,
        times: np.ndarray,
        method: Newton,
        began: float,
    ):
        self.began, self.last, self.written = began, time.perf_counter(), began
        self.settings, self.path = settings, file_path(settings.path)
        self.comm, self.nodes = discrete.comm, Nodes(discrete.problem.domain, discrete.V)
        about = saved.description(discrete.problem, discrete.scheme, times, "population")
        self.about = about | {
            "discount": saved.discount(discrete.problem),
            "rtol": method.rtol,
            "continuation": method.continuation,
        }
        # The scheme of the solution may be less sharp than the one that was asked.
        self.about["asked"] = self.about.pop("scheme_fields")
        self.history: list[dict] = []
        self.state: Any = None
        self.finished, self.seconds = False, 0.0
        self.longest, self.writing = 0.0, 0.0
        self.k, self.markets = discrete.k, len(discrete.problem.prices)
        self.kind: Any = PlanningStage if discrete.ends.planned else Stage
        self._prepare(len(times) - 1)
        if self.comm.bcast(on_root(self.comm, f"{self.path} cannot be read", self.path.exists)):
            with _advising():
                self._read()
        self._resumed = self.state is not None

    def _prepare(self, steps: int):
        """Fail now rather than after hours if the file cannot be written."""

        def try_out():
            clear(self.path, everything=True)
            if self.path.is_dir():
                raise IsADirectoryError("it is a folder")
            # Two fields of the iterate, and at worst of what its stage started from.
            needed = 4 * 8 * self.k * (steps + 1) * len(self.nodes.x)
            free = shutil.disk_usage(self.path.parent).free
            if free < needed:
                raise OSError(
                    f"its disk has {free / 1e6:.0f} MB left, and a checkpoint takes up to "
                    f"{needed / 1e6:.0f} MB; use another folder or fewer steps"
                )

        on_root(self.comm, f"The checkpoint {self.path} cannot be written", try_out)

    def _read(self):
        about = saved.EARLIER | archive.about(self.comm, self.path, "checkpoint")
        if differ := saved.differences(about, self.about):
            raise self._foreign(differ)
        self.finished = "stage" not in about
        kind = {"stage": {part.name: part.type for part in fields(self.kind)}}
        archive.fit(self.path, about, RUN | ({} if self.finished else STATE | kind))
        self.history, self.seconds = about["history"], about["seconds"]
        self.longest = about["longest"]
        if not self.finished:
            with archive.read(self.path, self.nodes) as get:
                count = about["stage"]["steps"]
                if not 1 <= count <= self.about["steps"]:
                    raise FileError(f"{self.path} is damaged: a stage has {count} steps")
                stage = self.kind(**about["stage"])
                X, start = (
                    self._unknowns(get, prefix, stage.levels, about)
                    for prefix in ("", "start_" if about["started"] else "")
                )
            self.state = State(stage, about["atol"], start, X)
        if self.comm.rank == 0:
            taken = sum(row["step"] > 0 for row in self.history)
            log.info("%s: going on after %d Newton steps", self.path, taken)

    def _unknowns(self, get: Callable, prefix: str, count: int, about: dict) -> np.ndarray:
        names = [saved.members(prefix + field, self.k) for field in "um"]
        X = np.array([[get(name, count) for name in own] for own in names])
        shape, prices = (self.markets, count), np.array(about[prefix + "prices"], float)
        if prices.size != self.markets * count:
            raise self._foreign(f"it has {prices.size} prices, and this one {shape}")
        return joined(X, prices.reshape(shape), self.comm)

    def _foreign(self, why: str) -> FileError:
        return FileError(f"The checkpoint {self.path} belongs to another solve: {why}")

    @property
    def rows(self) -> list[dict]:
        """The history of the present stage."""
        first = max((k for k, row in enumerate(self.history) if row["step"] == 0), default=0)
        return self.history[first:]

    def repeats(self, row: dict) -> bool:
        """Whether this first row of a resumed solve repeats the last of the history.

        Only its residual tells another Hamiltonian or cost, which are code.
        """
        if not self._resumed:
            return False
        self._resumed = False
        known = self.history[-1]
        with _advising():
            self._compare({k: known[k] for k in ("hjb", "fp")}, row, self.state.atol)
        return True

    def _compare(self, known: dict, here: dict, atol: float):
        largest = max(known.values())
        for name, value in known.items():
            if not abs(here[name] - value) <= SAME_RESIDUAL * largest + 0.1 * atol:
                raise self._foreign(
                    f"its residual ({name}) was {value:.3e} and is {here[name]:.3e} in this "
                    "problem, so that the costs, the Hamiltonian, the diffusion or the initial "
                    "density differ"
                )

    def visit(self, state: State):
        """Save after a Newton step if it is time; raise OutOfTime if the next would not fit."""
        now, budget = time.perf_counter(), self.settings.budget
        if self.history[-1]["step"] > 0:
            self.longest = max(self.longest, now - self.last)
        self.last = now
        self.state = state
        ahead = now - self.began + self.longest + self.writing
        stop = budget is not None and ahead > budget
        due = stop or now - self.written >= self.settings.every
        due, stop, longest = self.comm.bcast((due, stop, self.longest))
        if not due:
            return
        self._write(lambda: self._save(state), necessary=stop)
        if stop:
            raise OutOfTime(
                f"Out of time: the next Newton step (the longest so far: {longest:.3g} s) does not "
                f"fit into the budget of {budget:g} s. {self.path} holds the present state: run "
                "the same again to go on.",
                self.path,
            )

    def finish(self, solution):
        """Save the solution."""
        more = self.about | {"longest": self.longest}
        self._write(lambda: saved.save(solution, self.path, **more), necessary=False)

    def solution(self, load: Callable[[Path], list]) -> list:
        """What `load` finds in the file, of each population; refused if it is of another solve."""
        with _advising():
            whole = load(self.path)
            if not whole[0].converged:
                raise self._foreign(f"{whole[0].reason}, where {whole[0].tolerance:.1e} was asked")
        return whole

    def _write(self, action: Callable[[], None], necessary: bool):
        began = time.perf_counter()
        attempt(self.comm, action, necessary)
        self.written = time.perf_counter()
        self.writing = self.written - began

    def _save(self, state: State):
        started = state.stage.needs_start
        X, prices = parted(state.X, self.markets, self.comm)
        start, earlier = parted(state.start, self.markets, self.comm)
        about = self.about | {
            "stage": asdict(state.stage),
            "atol": state.atol,
            "started": started,
            "prices": prices.tolist(),
            "start_prices": earlier.tolist(),
            "history": self.history,
            "longest": self.longest,
            "seconds": self.seconds + time.perf_counter() - self.began,
        }
        with archive.write(self.path, self.nodes, about) as put:
            for prefix, X in [("", X)] + [("start_", start)] * started:
                for field, values in zip("um", X, strict=True):
                    for name, own in zip(
                        saved.members(prefix + field, self.k), values, strict=True
                    ):
                        put(name, own)
