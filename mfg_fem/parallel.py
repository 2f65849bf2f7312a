"""A failed rank aborts the whole MPI job; meshes are partitioned alike in every run."""

import os
import sys
import traceback

from mpi4py import MPI

# With threads, SCOTCH partitions a mesh differently at each start: iteration counts and last digits
# would change from run to run, and where a solve resumes from a file.
os.environ.setdefault("SCOTCH_PTHREAD_NUMBER", "1")


def abort_on_exceptions():
    """Print an uncaught exception and abort all ranks, which would otherwise wait for ever.

    Nothing changes on a single rank, or if the program has an exception hook of its own.
    """
    if MPI.COMM_WORLD.size > 1 and sys.excepthook is sys.__excepthook__:
        sys.excepthook = _abort


def _abort(kind, value, trace):
    lines = "".join(traceback.format_exception(kind, value, trace))
    sys.stderr.write(f"Rank {MPI.COMM_WORLD.rank} of {MPI.COMM_WORLD.size} stopped:\n{lines}")
    sys.stderr.flush()
    MPI.COMM_WORLD.Abort(1)
