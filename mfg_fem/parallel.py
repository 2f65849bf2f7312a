"""An exception on one rank of a job ends the job: the others would wait for it for ever."""

import sys
import traceback

from mpi4py import MPI


def abort_on_exceptions():
    """Print what nobody catches and abort, if there are several ranks and no other hook is set."""
    if MPI.COMM_WORLD.size > 1 and sys.excepthook is sys.__excepthook__:
        sys.excepthook = _abort


def _abort(kind, value, trace):
    lines = "".join(traceback.format_exception(kind, value, trace))
    sys.stderr.write(f"Rank {MPI.COMM_WORLD.rank} of {MPI.COMM_WORLD.size} stopped:\n{lines}")
    sys.stderr.flush()
    MPI.COMM_WORLD.Abort(1)
