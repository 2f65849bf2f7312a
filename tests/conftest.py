import gc

from mpi4py import MPI

import pytest


@pytest.fixture(autouse=True)
def leave_no_objects_behind():
    """Free PETSc's and MPI's objects on all ranks together: freeing some of them is collective."""
    yield
    gc.collect()
    MPI.COMM_WORLD.Barrier()
