"""What makes a job on ranks end when one of them fails, and run alike each time."""

import os
import sys
import traceback

from mpi4py import MPI

# With threads, SCOTCH shares out a mesh among ranks in another way at each start: counts of
# iterations and last digits would change from run to run, and in a job that goes on from a file.
os.environ.setdefault("SCOTCH_PTHREAD_NUMBER", "1")


def abort_on_exceptions():
    """Print what nobody catches and abort, if there are several ranks and no other hook is set.

    The other ranks would wait for ever.
    """
    if MPI.COMM_WORLD.size > 1 and sys.excepthook is sys.__excepthook__:
        sys.excepthook = _abort


def _abort(kind, value, trace):
    lines = "".join(traceback.format_exception(kind, value, trace))
    sys.stderr.write(f"Rank {MPI.COMM_WORLD.rank} of {MPI.COMM_WORLD.size} stopped:\n{lines}")
    sys.stderr.flush()
    MPI.COMM_WORLD.Abort(1)
