"""Files under MPI: rank 0 touches the disk, every rank hears of a failure, no half-written file.

What is written is made in a hidden folder beside its place and moved there when it is complete. The
folder is new, so that no two processes, on one host or on several, write into one file; its name
tells the host and the process. What a killed process left goes when the same file is written next.
"""

import fcntl
import logging
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path

from mpi4py import MPI

from mfg_fem.errors import FileError, ProblemError, together

log = logging.getLogger(__name__)

ABANDONED = 24 * 3600.0  # seconds after which the folder of another host's process is a leftover


def file_path(path: str | Path, name: str = "path") -> Path:
    """The path of a file as the user gave it, with ~ expanded.

    Raises:
        ProblemError: it is no path, or names no file.
        FileError: ~ stands for nobody's home.
    """
    if not isinstance(path, str | os.PathLike) or not Path(path).name:
        raise ProblemError(f"{name} must be the name of a file, not {path!r}.")
    try:
        return Path(path).expanduser()
    except RuntimeError as exc:
        raise FileError(f"{path}: {exc}") from exc


def on_root(comm: MPI.Comm, context: str, action: Callable):
    """Call action() on rank 0: its result there, None elsewhere, FileError everywhere. Collective.

    The action must not communicate.
    """
    result = None
    with together(comm, FileError, context):
        if comm.rank == 0:
            result = action()
    return result


@contextmanager
def replacing(comm: MPI.Comm, path: Path, folder: bool = False):
    """A temporary name that becomes `path` if all went well. Collective.

    If not, an older file is left as it was. Other files that are written into the folder of the
    temporary name are moved with it. A symbolic link at `path` is replaced, not followed.

    Args:
        comm: the ranks that write.
        path: the file.
        folder: whether `path` is a folder of the kind that ADIOS2 writes.
    """
    context = f"{path} cannot be written"
    place = comm.bcast(on_root(comm, context, lambda: _new_folder(path, folder)))
    try:
        yield place / path.name
        on_root(comm, context, lambda: _move(place, path))
    finally:
        if comm.rank == 0:
            shutil.rmtree(place, ignore_errors=True)


def clear(path: Path, everything: bool = False):
    """Remove what killed processes left of this file; everything, if no other process writes it."""
    for name in os.listdir(path.parent):
        file, *owner = name.rsplit("~", 3)
        if file == f".{path.name}" and len(owner) == 3 and owner[1].isdigit():
            leftover = path.with_name(name)
            if everything or _is_abandoned(leftover, *owner[:2]):
                shutil.rmtree(leftover, ignore_errors=True)


def _new_folder(path: Path, folder: bool) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir() and not (folder and (path / "md.idx").exists()):
        raise IsADirectoryError("it is a folder")
    if folder and path.exists() and not path.is_dir():
        raise NotADirectoryError("it is a file, and a folder would be written")
    clear(path)
    prefix = f".{path.name}~{socket.gethostname()}~{os.getpid()}~"
    return Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))


def _is_abandoned(leftover: Path, host: str, process: str) -> bool:
    try:
        if host != socket.gethostname():
            return time.time() - leftover.stat().st_mtime > ABANDONED
        os.kill(int(process), 0)  # signal 0 asks whether the process exists
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):  # the folder has gone, or the process is another user's
        pass
    return False


def _move(place: Path, path: Path):
    """Move everything out of the folder into the folder of `path`, which itself comes last."""
    for file in place.rglob("*"):
        if file.is_file():
            with file.open("rb") as stream:
                os.fsync(stream)  # a machine that goes down must not leave the name without data
    others = set(place.iterdir()) - {place / path.name}
    for new in others:
        if path.with_name(new.name).is_dir():
            raise IsADirectoryError(f"{new.name} is a folder")
    if others:  # `path` refers to them: it must never be the old file beside new companions
        path.unlink(missing_ok=True)
    for new in (*others, place / path.name):
        _replace(new, path.with_name(new.name))


def _replace(new: Path, path: Path):
    """Rename. A folder cannot replace a folder, so an old one is renamed first."""
    for attempt in range(10):  # as another process may do the same
        try:
            return os.replace(new, path)
        except OSError:
            if attempt == 9 or not (new.is_dir() and path.is_dir()):
                raise
            with suppress(FileNotFoundError):
                os.rename(path, f"{new}.old{attempt}")


@contextmanager
def holding(comm: MPI.Comm, path: Path):
    """Keep other processes, on this host or another, from holding the same file. Collective.

    The locked companion file says which process holds it. flock's lock ends with the process in any
    case, and network file systems pass it on to their server. Where a file system has no locks,
    there is a warning: the file is whole even so, but two solves would take turns in replacing it.

    Raises:
        FileError: another process holds it; on every rank.
    """
    companion = path.with_name(f".{path.name}.lock")
    handle = on_root(comm, f"{path} cannot be written", lambda: _lock(path, companion))
    try:
        yield
    finally:
        if handle is not None:
            with suppress(OSError):
                companion.unlink()
            os.close(handle)


def _lock(path: Path, companion: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        handle = os.open(companion, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            _flock(handle, path)
            # Its last holder may have removed it meanwhile.
            if companion.exists() and os.path.samestat(os.fstat(handle), companion.stat()):
                host, since = socket.gethostname(), time.strftime("%Y-%m-%d %H:%M:%S")
                os.ftruncate(handle, 0)
                os.write(handle, f"process {os.getpid()} on {host} since {since}".encode())
                return handle
        except OSError:
            os.close(handle)
            raise
        os.close(handle)


def _flock(handle: int, path: Path):
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        holder = os.read(handle, 1000).decode() or "another process"
        raise OSError(f"it is in use by {holder}") from exc
    except OSError as exc:
        log.warning("%s cannot be locked (%s): let no other solve use it", path, exc.strerror)


@contextmanager
def reserving(comm: MPI.Comm, context: str, place: Path, size: int):
    """Occupy `size` bytes of a disk, and give a function that frees some of them. Collective.

    For libraries that end the process, or hang, where a disk is full.

    Raises:
        FileError: there is no room for it; on every rank.
    """
    context = f"{context}: it may take {size / 1e6:.1f} MB"
    handle = on_root(comm, context, lambda: os.open(place, os.O_CREAT | os.O_EXCL | os.O_RDWR))

    def free(share: int):
        nonlocal size
        size = max(size - share, 0)
        on_root(comm, context, lambda: os.ftruncate(handle, size))

    try:
        if hasattr(os, "posix_fallocate"):  # not on macOS
            on_root(comm, context, lambda: os.posix_fallocate(handle, 0, size))
        yield free
    finally:
        if handle is not None:
            os.close(handle)
            place.unlink()
