"""A solve that was stopped ends as if it had not been; a file that does not fit is refused.

Run as a script, this module solves a problem with a checkpoint, and may be killed while it does.
"""

import logging
import os
import shutil
import signal
import sys
from functools import cache

from mpi4py import MPI

import numpy as np
import pytest
from cases import default, evacuation
from ranks import run_on, serial_only

import mfg_fem as mfg
from mfg_fem.discrete.spacetime import SpaceTime
from mfg_fem.nonlinear.newton import Patience

COMM = MPI.COMM_WORLD
STEPS = 32


def hard(diffusion=0.002, cells=8) -> mfg.MeanFieldGame:
    """A coarser grid in time first; and easier problems, where stages end after a few steps."""
    return evacuation(mfg.box((1, 1), cells), diffusion, 1.0)


def easy(cells=6, coupling=1.0, **changes) -> mfg.MeanFieldGame:
    return default(mfg.box((1, 1), cells), coupling=coupling, **changes)


@cache
def uninterrupted() -> mfg.Solution:
    return mfg.solve(hard(), STEPS)


@pytest.fixture
def path(tmp_path):
    """The same new file on every rank."""
    return COMM.bcast(tmp_path) / "run.npz"


def begun(path):
    """Leave the checkpoint of a solve that was stopped."""
    with pytest.raises(mfg.OutOfTime):
        mfg.solve(easy(), 4, checkpoint=mfg.Checkpoint(path, budget=0.0))


def same_steps_if_stopped_after_each(problem, steps: int, path) -> mfg.Solution:
    """Compare with a solve that is never stopped, which is returned."""
    runs, whole = 0, mfg.solve(problem, steps)
    while True:
        runs += 1
        try:
            settings = mfg.Checkpoint(path, budget=0.0)
            solution = mfg.solve(problem, steps, checkpoint=settings)
            break
        except mfg.OutOfTime as stop:
            assert stop.path == path and "run the same again" in str(stop)
    assert runs > whole.iterations / 2
    keys = ("stage", "step", "krylov")
    taken, wanted = ([[row[k] for k in keys] for row in s.history] for s in (solution, whole))
    assert taken == wanted
    assert np.allclose(solution.levels.u, whole.levels.u, rtol=0, atol=1e-10)
    assert np.allclose(solution.levels.m, whole.levels.m, rtol=0, atol=1e-10)
    return whole


@pytest.mark.parametrize("patience, cells", [(Patience(steps=3), 8), (Patience(length=1.5), 6)])
def test_stopped_after_every_step_a_solve_takes_the_same_steps(path, monkeypatch, patience, cells):
    # To be on the path soon: stages end early, one way or the other.
    monkeypatch.setattr("mfg_fem.nonlinear.continuation.PATIENCE", patience)
    whole = same_steps_if_stopped_after_each(hard(cells=cells), STEPS, path)
    assert len({row["stage"] for row in whole.history}) >= 4


def test_stopped_at_first_order_a_solve_takes_the_same_steps(path):
    """Whose tolerance follows from what it started from."""
    whole = same_steps_if_stopped_after_each(evacuation(mfg.box((1, 1), 8), 0.05, 1.0), 6, path)
    assert whole.history[0]["stage"] == "6 steps, cold, sharpness 0"


@serial_only
def test_killed_in_the_middle_of_a_step_it_ends_the_same_on_any_ranks(path):
    with pytest.raises(pytest.fail.Exception, match="exit code"):
        run_on(2, __file__, path, 6)
    for ranks in (1, 3):
        copy = path.with_name(f"{ranks}.npz")
        shutil.copy(path, copy)
        assert "going on after 5 Newton steps" in run_on(ranks, __file__, copy, 0)
        solution = mfg.Solution.load(copy, hard())
        assert len(solution.history) == len(uninterrupted().history)
        assert np.allclose(solution.levels.u, uninterrupted().levels.u, rtol=0, atol=1e-10)
        assert np.allclose(solution.levels.m, uninterrupted().levels.m, rtol=0, atol=1e-10)


def test_a_finished_solve_returns_at_once_what_solution_load_reads(path, monkeypatch):
    problem = easy()
    first = mfg.solve(problem, 4, checkpoint=path)
    monkeypatch.setattr("mfg_fem.solution.solve_field.solve_stages", None)
    again = mfg.solve(problem, 4, checkpoint=str(path))
    loaded = mfg.Solution.load(path, problem)
    for other in (again, loaded):
        assert np.array_equal(other.levels.u, first.levels.u)
        assert np.array_equal(other.levels.m, first.levels.m)
        assert other.history == first.history
        assert other.converged


def test_more_steps_of_newton_go_on_where_fewer_were_not_enough(path):
    method = {"continuation": "none", "rtol": 1e-10}
    settings = mfg.Checkpoint(path, every=0.0)
    with pytest.raises(mfg.NotConverged):
        mfg.solve(easy(), 4, method=mfg.Newton(max_it=2, **method), checkpoint=settings)
    more = mfg.solve(easy(), 4, method=mfg.Newton(**method), checkpoint=settings)
    whole = mfg.solve(easy(), 4, method=mfg.Newton(**method))
    assert [row["step"] for row in more.history] == [row["step"] for row in whole.history]
    assert np.allclose(more.levels.u, whole.levels.u, rtol=0, atol=1e-12)


OTHERS = {
    "steps is 4 there and 5 here": lambda: (easy(), 5, mfg.Newton()),
    "rtol is 1e-08 there": lambda: (easy(), 4, mfg.Newton(rtol=1e-9)),
    "horizon": lambda: (easy(horizon=2.0), 4, mfg.Newton()),
    "its residual": lambda: (easy(coupling=1.01), 4, mfg.Newton()),
    "another mesh": lambda: (easy(cells=7), 4, mfg.Newton()),
}


@pytest.mark.parametrize("finished", [False, True], ids=["begun", "finished"])
@pytest.mark.parametrize("message", OTHERS)
def test_the_checkpoint_of_another_solve_is_refused(path, message, finished):
    if finished:
        mfg.solve(easy(), 4, checkpoint=path)
    else:
        begun(path)
    before = path.read_bytes()
    problem, steps, method = OTHERS[message]()
    with pytest.raises(mfg.FileError, match=f"{message}.*delete this one"):
        mfg.solve(problem, steps, method=method, checkpoint=path)
    COMM.Barrier()
    assert path.read_bytes() == before


@pytest.mark.parametrize("how", ["truncated", "text", "another zip"])
def test_a_damaged_checkpoint_is_refused(path, how):
    begun(path)
    if COMM.rank == 0:
        if how == "truncated":
            path.write_bytes(path.read_bytes()[:-500])
        elif how == "text":
            path.write_text("not a checkpoint")
        else:
            np.savez(path, a=np.ones(3))
    COMM.Barrier()
    with pytest.raises(mfg.FileError, match=r"run\.npz cannot be read as a checkpoint.*delete"):
        mfg.solve(easy(), 4, checkpoint=path)


def test_a_checkpoint_is_no_saved_solution(path):
    begun(path)
    with pytest.raises(mfg.FileError, match="has not finished"):
        mfg.Solution.load(path, easy())


def test_a_saved_solution_is_no_checkpoint(path):
    mfg.solve(easy(), 4).save(path)
    with pytest.raises(mfg.FileError, match="rtol is not known there"):
        mfg.solve(easy(), 4, checkpoint=path)


@pytest.mark.parametrize("how", ["no folder", "a folder", "full"])
def test_a_place_that_cannot_be_written_is_refused_before_the_solve(path, how, monkeypatch):
    if COMM.rank == 0:
        if how == "no folder":
            path.parent.joinpath("file").touch()
        elif how == "a folder":
            path.mkdir()
    COMM.Barrier()
    if how == "no folder":
        path = path.parent / "file" / "run.npz"
    elif how == "full":
        usage = type(shutil.disk_usage("/"))(10**9, 10**9, 10**3)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr("mfg_fem.solution.solve_field.solve_stages", None)
    with pytest.raises(mfg.FileError, match=r"run\.npz"):
        mfg.solve(easy(), 4, checkpoint=path)


def test_a_disk_that_fills_up_does_not_stop_the_solve(path, monkeypatch, caplog):
    begun(path)
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    assert mfg.solve(easy(), 4, checkpoint=mfg.Checkpoint(path, every=0.0)).converged
    assert COMM.rank > 0 or "No space left" in caplog.text
    COMM.Barrier()
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["run.npz"]


@pytest.mark.parametrize("every, unfinished", [(0.0, True), (3600.0, False)])
def test_it_is_written_as_often_as_asked(path, every, unfinished, monkeypatch):
    stages = []
    monkeypatch.setattr(
        "mfg_fem.nonlinear.resume.Keeper._save", lambda _, state: stages.append(state)
    )
    rows = mfg.solve(easy(), 4, checkpoint=mfg.Checkpoint(path, every=every)).history
    assert len(stages) == (len(rows) if unfinished else 0)


NO_NUMBERS = (-1, "1h", True, np.True_, float("nan"), 1j, np.array([1.0, 2.0]))


@pytest.mark.parametrize(
    "wrong",
    [{"path": path} for path in ("", None, 3)]
    + [{name: value} for name in ("every", "budget") for value in NO_NUMBERS],
    ids=repr,
)
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(mfg.ProblemError, match="Checkpoint"):
        mfg.Checkpoint(**{"path": "run.npz", **wrong})


def test_settings_may_be_numpys_numbers():
    mfg.Checkpoint("run.npz", every=np.int64(60), budget=np.float32(3600))


def test_a_checkpoint_has_to_be_a_file():
    with pytest.raises(mfg.ProblemError, match="checkpoint is 3"):
        mfg.solve(easy(), 4, checkpoint=3)


def main(path: str, step: int):
    """Solve; the last rank is killed while it is at this Newton step, if it is not 0."""
    logging.basicConfig(level=logging.INFO)
    linearise, count = SpaceTime.linearise, 0

    def counting(self, X):
        nonlocal count
        count += self.steps > 1  # the estimate of the memory takes one step
        if count == step and COMM.rank == COMM.size - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return linearise(self, X)

    if step:
        SpaceTime.linearise = counting
    left = 3600.0 + COMM.rank  # by the clock of a rank, no two of which agree
    mfg.solve(hard(), STEPS, checkpoint=mfg.Checkpoint(path, every=0.0, budget=left))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
