"""The errors of the package, and how a failure on one rank becomes the same error on all ranks."""

import importlib
from contextlib import contextmanager
from pathlib import Path

from mpi4py import MPI


class MFGError(Exception):
    """Base of every error this package raises on purpose."""


class ProblemError(MFGError, ValueError):
    """The problem, scheme or method as stated cannot be solved; nothing was started."""


class MeshError(MFGError, ValueError):
    """A mesh file is missing, unreadable or lacks what the problem needs."""


class FileError(MFGError, OSError):
    """A solution file is missing, damaged or belongs to another problem."""


class LevelError(MFGError, IndexError):
    """A solution has no such time level, step or class."""


class SolutionWarning(UserWarning):
    """A solution is suspect although Newton has converged: see `Solution.warnings`."""


class CompileError(MFGError, RuntimeError):
    """A form cannot be compiled: no C compiler, a full disk, or a term that FFCx does not know."""


class NotConverged(MFGError, RuntimeError):
    """Newton stopped before it reached its tolerance; str() says where, and what to try.

    Attributes:
        reason: PETSc's reason in words.
        history: one dict per Newton step, as in `Solution.history`.
    """

    def __init__(self, reason: str, history: list[dict], message: str = ""):
        self.reason, self.history = reason, history
        super().__init__(message or reason)

    def __reduce__(self):
        """Pickle all three arguments; exceptions by themselves keep the message only."""
        return type(self), (self.reason, self.history, str(self))


class OutOfMemory(MFGError, MemoryError):
    """The solve would not fit into the free memory; nothing was started."""


class OutOfTime(MFGError, RuntimeError):
    """The next Newton step would not fit into the budget; a checkpoint was written first.

    Attributes:
        path: the checkpoint file, from which the same call of `solve` continues.
    """

    def __init__(self, message: str, path: Path):
        self.path = path
        super().__init__(message)


class MissingPackage(MFGError, ImportError):
    """An optional package is not installed."""


def needs(module: str, package: str):
    """Import a module of an optional package, or say what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackage(
            f"This needs {package}, which is not installed: pip install {package}, "
            f"conda install {package}, or apt install python3-{package}."
        ) from error


def require(comm: MPI.Comm, holds: object, message: str, error: type[MFGError] = ProblemError):
    """Raise `error(message)` on every rank unless `holds` on every rank. Collective.

    The message must be the same on every rank: put only reduced numbers into it.
    """
    if not comm.allreduce(bool(holds), MPI.LAND):
        raise error(message)


def alike(comm: MPI.Comm, **values):
    """Raise ProblemError on every rank if a printed value differs between ranks. Collective."""
    found = comm.allgather([(name, str(value)) for name, value in values.items()])
    for rank, other in enumerate(found):
        for (name, here), (_, there) in zip(found[0], other, strict=True):
            if here != there:
                raise ProblemError(
                    f"{name} must be the same on every rank: it is {here} on rank 0 and {there} on "
                    f"rank {rank}."
                )


@contextmanager
def together(comm: MPI.Comm, error: type[MFGError] = ProblemError, context: str = ""):
    """Turn an exception of any rank into `error` on all ranks. Collective.

    The body runs foreign code (a user's callable, a file library) and must not communicate: a rank
    that failed would leave the others waiting. Without a context, errors of this package are raised
    unchanged. So are SystemExit and KeyboardInterrupt if every rank has raised one.
    """
    failure: BaseException | None = None
    try:
        yield
    except BaseException as exc:  # foreign code may raise anything
        failure = exc
    own = failure if isinstance(failure, MFGError) and not context else None
    verdict = own
    if failure is not None and own is None:
        text = _words(failure)
        verdict = error(f"{context}: {text}" if context else text)
    ends = isinstance(failure, SystemExit | KeyboardInterrupt)
    verdicts = comm.allgather((verdict, ends))
    if failure is not None and all(ends for _, ends in verdicts):
        raise failure
    for verdict, _ in verdicts:
        if verdict is not None:
            if own is not None and str(verdict) == str(own):
                raise own
            raise verdict from failure


def _words(exc: BaseException) -> str:
    """The text of an exception, with its type where the text alone would say little."""
    text = str(exc)
    if text and isinstance(exc, Exception) and not isinstance(exc, KeyError):
        return text
    return f"{type(exc).__name__} {text}".strip()
