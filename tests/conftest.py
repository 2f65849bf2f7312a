import gc

from mpi4py import MPI
from petsc4py import PETSc

import pytest


@pytest.fixture(autouse=True)
def leave_no_objects_behind():
    """Free PETSc's and MPI's objects on all ranks together: freeing some of them is collective.

    In serial that may wait, and to look at all objects after each test would take a third of the
    time of all tests.
    """
    yield
    gc.collect(2 if MPI.COMM_WORLD.size > 1 else 1)
    MPI.COMM_WORLD.Barrier()


@pytest.fixture
def database():
    """PETSc's options; what a test puts there is taken out after it."""
    options, before = PETSc.Options(), PETSc.Options().getAll()
    yield options
    for key in options.getAll().keys() - before.keys():
        options.delValue(key)
