"""Files under MPI: rank 0 touches the disk, every rank hears of a failure, no half-written file."""

import os
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from mpi4py import MPI

from mfg_fem.errors import FileError, together


def on_root(comm: MPI.Comm, context: str, action: Callable):
    """Call action() on rank 0: its result there, None elsewhere, FileError everywhere. Collective.

    The action must not communicate.
    """
    result = None
    with together(comm, FileError, context):
        if comm.rank == 0:
            result = action()
    return result


def make_folder(comm: MPI.Comm, path: Path):
    """Make the folder that `path` goes into. Collective."""
    on_root(
        comm,
        f"The folder of {path} cannot be made",
        lambda: path.parent.mkdir(parents=True, exist_ok=True),
    )


def beside(path: Path, mark: str) -> Path:
    """A hidden name in the folder of `path`."""
    return path.with_name(f".{path.stem}.{mark}{path.suffix}")


@contextmanager
def replacing(comm: MPI.Comm, path: Path, mark: str | None = None):
    """A temporary name beside `path` that becomes `path` if all went well. Collective.

    If not, the old file is left as it was. The name contains the mark, by default the process id.
    """
    make_folder(comm, path)
    temporary = beside(path, mark or str(comm.bcast(os.getpid())))

    def replace():
        with temporary.open("rb") as stream:
            os.fsync(stream)  # a machine that goes down must not leave the name without the data
        os.replace(temporary, path)

    try:
        yield temporary
        on_root(comm, f"{path} cannot be written", replace)
    finally:
        if comm.rank == 0:
            temporary.unlink(missing_ok=True)
