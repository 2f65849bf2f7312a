import gc

from mpi4py import MPI
from petsc4py import PETSc

import pytest


@pytest.fixture(autouse=True)
def leave_no_objects_behind():
    """Free PETSc's and MPI's objects on all ranks together: freeing some of them is collective."""
    yield
    gc.collect()
    MPI.COMM_WORLD.Barrier()


@pytest.fixture
def database():
    """PETSc's options; what a test puts there is taken out after it."""
    options, before = PETSc.Options(), PETSc.Options().getAll()
    yield options
    for key in options.getAll().keys() - before.keys():
        options.delValue(key)
