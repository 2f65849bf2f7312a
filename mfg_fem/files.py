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


@contextmanager
def replacing(comm: MPI.Comm, path: Path):
    """A temporary name beside `path` that becomes `path` if all went well. Collective.

    If not, the old file is left as it was.
    """
    make_folder(comm, path)
    temporary = path.with_name(f".{path.stem}.{comm.bcast(os.getpid())}{path.suffix}")
    try:
        yield temporary
        on_root(comm, f"{path} cannot be written", lambda: os.replace(temporary, path))
    finally:
        if comm.rank == 0:
            temporary.unlink(missing_ok=True)
