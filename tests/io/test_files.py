"""Files with other processes beside, on full disks and in wrong places: whole, or as they were."""

import errno
import fcntl
import os
import random
import socket
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

from mpi4py import MPI

import numpy as np
import pytest
from cases import default
from faults import forked, no_file_grows_beyond
from ranks import run_on, serial_only

import dolfinx

import mfg_fem as mfg
from mfg_fem.io.files import holding, replacing
from mfg_fem.resnet.network import write_whole

COMM = MPI.COMM_WORLD
# One rank without MPI, for processes that are forked.
ALONE = SimpleNamespace(rank=0, bcast=lambda x: x, allgather=lambda x: [x])


def problem():
    return default(mfg.box((1, 1), 6))


@pytest.fixture(scope="module")
def solution():
    return mfg.solve(problem(), 4)


@pytest.fixture
def folder(tmp_path):
    """The same empty folder on every rank."""
    return COMM.bcast(tmp_path)


def names(folder) -> set[str]:
    return {path.name for path in contents(folder) if path.parent == folder}


def contents(folder) -> dict:
    """Paths, and what is in the files. Collective."""
    COMM.Barrier()
    found = {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}
    COMM.Barrier()
    return found


WRITERS = {
    "a.npz": lambda solution, path: solution.save(path),
    "a.bp": lambda solution, path: solution.write(path),
    "a.xdmf": lambda solution, path: solution.write(path),
    "a.png": lambda solution, path: mfg.plots.plot_density(solution, path, t=0.0, dpi=50),
    "a.gif": lambda solution, path: mfg.plots.animate(solution, path, every=4, dpi=50),
    "net.safetensors": lambda solution, path: write_whole(path, b"x" * 100_000),
}
MAY_WRITE_NOTHING = ("a.png", "a.gif")  # without a path


def writer(name):
    """One of them, if its library is there."""
    if name == "a.bp" and not dolfinx.has_adios2:
        pytest.skip("DOLFINx without ADIOS2")
    if name in ("a.png", "a.gif"):
        pytest.importorskip("matplotlib")
    return WRITERS[name]


# --- other processes ---

may_fork = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


def write_numbers(path):
    with replacing(ALONE, path) as temporary:
        np.savez(temporary, x=np.full(50_000, random.random()))


def is_whole(path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return archive.testzip() is None


@serial_only
@may_fork
def test_a_file_is_whole_whenever_its_writers_are_killed_and_they_leave_nothing(folder):
    path, left = folder / "a.npz", set()
    write_numbers(path)
    for _ in range(20):
        with forked(lambda: write_numbers(path)), forked(lambda: write_numbers(path)):
            end = time.monotonic() + random.uniform(0.005, 0.03)
            while time.monotonic() < end:
                assert is_whole(path)
        assert is_whole(path)
        left |= names(folder)
    assert len(left) > 1  # some were killed while they wrote
    write_numbers(path)
    assert names(folder) == {"a.npz"}


@serial_only
@may_fork
def test_a_checkpoint_is_whole_at_every_look_from_another_process(folder):
    path, looks = folder / "run.npz", folder / "looks"

    def look():
        if path.exists():
            with looks.open("a") as file:
                file.write("." if is_whole(path) else "!")

    with forked(look):
        mfg.solve(problem(), 4, checkpoint=mfg.Checkpoint(path, every=0.0))
    assert set(looks.read_text()) == {"."}


def test_a_checkpoint_in_use_is_refused_and_its_holder_named(folder):
    path = folder / "run.npz"
    with holding(COMM, path):
        with pytest.raises(
            mfg.FileError, match=rf"in use by process \d+ on {socket.gethostname()}"
        ):
            mfg.solve(problem(), 4, checkpoint=path)
    mfg.solve(problem(), 4, checkpoint=path)
    assert names(folder) == {"run.npz"}


@serial_only
@may_fork
def test_a_holder_that_was_killed_holds_nothing(folder):
    path = folder / "run.npz"

    def hold():
        with holding(ALONE, path):
            time.sleep(100)

    with forked(hold):
        while not (folder / ".run.npz.lock").exists():
            time.sleep(0.01)
    assert names(folder) == {".run.npz.lock"}
    mfg.solve(problem(), 4, checkpoint=path)
    assert names(folder) == {"run.npz"}


def test_where_nothing_can_be_locked_a_solve_says_so_and_goes_on(folder, monkeypatch, caplog):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    mfg.solve(problem(), 4, checkpoint=folder / "run.npz")
    assert COMM.rank > 0 or "cannot be locked (No locks available)" in caplog.text
    assert names(folder) == {"run.npz"}


def test_what_killed_processes_left_goes_and_what_others_may_be_at_work_on_stays(solution, folder):
    path, here = folder / "run.npz", socket.gethostname()
    dead, elsewhere = f".run.npz~{here}~999999999~abc", ".run.npz~another.host~1~abc"
    alive, other = f".run.npz~{here}~{os.getpid()}~abc", f".other.npz~{here}~999999999~abc"
    kept = COMM.bcast({elsewhere, alive, other, ".run.npz~some~file~of the user"})
    if COMM.rank == 0:
        for name in (dead, *kept):
            (folder / name).mkdir()
    solution.save(path)
    assert names(folder) == {"run.npz", *kept}
    if COMM.rank == 0:
        path.unlink()
    COMM.Barrier()
    mfg.solve(problem(), 4, checkpoint=path)  # holds the file: all of them are leftovers
    assert names(folder) == {"run.npz", ".run.npz~some~file~of the user", other}


# --- full disks ---


@pytest.mark.parametrize("name", WRITERS)
def test_on_a_full_disk_there_is_an_error_and_the_old_file(solution, folder, name):
    write = writer(name)
    write(solution, folder / name)
    before = contents(folder)
    with no_file_grows_beyond(1000), pytest.raises(mfg.FileError, match=rf"{name}.*too large"):
        write(solution, folder / name)
    assert contents(folder) == before


@serial_only
def test_if_adios2_meets_a_full_disk_it_does_not_end_the_process(solution, folder, monkeypatch):
    write = writer("a.bp")
    write(solution, folder / "a.bp")
    before = contents(folder)
    monkeypatch.setattr("mfg_fem.io.paraview._sizes", lambda *_, **__: (1, 0))
    with no_file_grows_beyond(1000), pytest.raises(mfg.FileError, match=r"a\.bp cannot"):
        write(solution, folder / "a.bp")
    assert contents(folder) == before


ENCODER = """#!{python}
import sys
if "full" in sys.argv[-1]:
    sys.exit("No space left")
open(sys.argv[-1], "wb").write(sys.stdin.buffer.read())
"""


def test_a_film_is_there_if_its_encoder_succeeds(solution, folder, monkeypatch):
    pytest.importorskip("matplotlib")
    if COMM.rank == 0:
        encoder = folder / "bin" / "ffmpeg"
        encoder.parent.mkdir()
        encoder.write_text(ENCODER.format(python=sys.executable))
        encoder.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")
    COMM.Barrier()
    mfg.plots.animate(solution, folder / "a.mp4", dpi=50)
    with pytest.raises(mfg.FileError, match="ffmpeg failed: No space left"):
        mfg.plots.animate(solution, folder / "full.mp4", dpi=50)
    assert names(folder) == {"bin", "a.mp4"}


# --- places ---


@pytest.mark.parametrize("name", WRITERS)
def test_what_stands_in_the_way_is_an_error_and_stays(solution, folder, name):
    write = writer(name)
    if COMM.rank == 0:
        (folder / "file").write_text("a file")
        (folder / name).mkdir()
        (folder / name / "kept").write_text("of the user")
    before = contents(folder)
    for path in (folder / name, folder / "file" / name):
        with pytest.raises(mfg.FileError, match=name):
            write(solution, path)
    assert contents(folder) == before


def test_an_old_xdmf_stays_where_its_new_companion_cannot_go(solution, folder):
    if COMM.rank == 0:
        (folder / "a.xdmf").write_text("a file")
        (folder / "a.h5").mkdir()
    COMM.Barrier()
    with pytest.raises(mfg.FileError, match=r"a\.h5 is a folder"):
        solution.write(folder / "a.xdmf")
    assert names(folder) == {"a.xdmf", "a.h5"}
    assert (folder / "a.xdmf").read_text() == "a file"


def test_a_file_is_not_replaced_by_a_folder(solution, folder):
    if COMM.rank == 0:
        (folder / "a.bp").write_text("a file")
    COMM.Barrier()
    with pytest.raises(mfg.FileError, match=r"a\.bp.*it is a file"):
        writer("a.bp")(solution, folder / "a.bp")
    assert names(folder) == {"a.bp"}


@pytest.mark.parametrize("wrong", [None, 3, "", b"a.npz", Path("/")], ids=repr)
def test_what_names_no_file_is_refused(solution, wrong):
    optional = MAY_WRITE_NOTHING if wrong is None else ()
    writers = [write for name, write in WRITERS.items() if name not in optional]
    loaders = [lambda _, path: mfg.Solution.load(path, problem())]
    for write in [*writers, *loaders]:
        with pytest.raises(mfg.ProblemError, match="must be the name of a file"):
            write(solution, wrong)


def test_a_solution_is_loaded_with_its_problem(folder):
    with pytest.raises(mfg.ProblemError, match="problem must be the game or control"):
        mfg.Solution.load(folder / "a.npz", None)


@pytest.mark.parametrize("name", WRITERS)
def test_a_tilde_is_the_home_folder(solution, folder, name, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    writer(name)(solution, f"~/new/{name}")
    assert name in names(folder / "new")


def test_a_checkpoint_may_stand_in_the_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    mfg.solve(problem(), 4, checkpoint="~/run.npz")
    assert names(folder) == {"run.npz"}
    assert mfg.Solution.load("~/run.npz", problem()).converged
    with pytest.raises(mfg.FileError, match="nobody-of-this-name"):
        mfg.Checkpoint("~nobody-of-this-name/run.npz")


@pytest.mark.parametrize("every", ["1", 0, -1, 1.5, True, None], ids=repr)
def test_levels_are_chosen_by_whole_numbers(solution, folder, every):
    with pytest.raises(mfg.ProblemError, match="every must be an integer >= 1"):
        solution.write(folder / "a.xdmf", every=every)
    with pytest.raises(mfg.ProblemError, match="every must be an integer >= 1"):
        mfg.plots.animate(solution, folder / "a.gif", every=every)
    assert not names(folder)


def test_levels_are_chosen_by_numpys_numbers_too(solution, folder):
    solution.write(folder / "a.xdmf", every=np.int32(3))
    assert names(folder) == {"a.xdmf", "a.h5"}


@serial_only
def test_errors_are_the_same_on_two_ranks():
    modules = [__file__, Path(__file__).parents[1] / "test_compilation.py"]
    chosen = "full_disk or in_use or stands_in_the_way or without or damaged"
    run_on(2, "-m", "pytest", "-q", "-p", "no:cacheprovider", *modules, "-k", chosen)
