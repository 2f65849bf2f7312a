import gc
import os
import shutil
import tempfile

from mpi4py import MPI
from petsc4py import PETSc

import pytest


def pytest_configure(config):
    """A folder of the run, where its workers leave what they found: see `ranks.once`."""
    if not hasattr(config, "workerinput"):
        os.environ["MFG_FEM_TEST_RUN"] = tempfile.mkdtemp()


def pytest_unconfigure(config):
    """Remove it."""
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop("MFG_FEM_TEST_RUN"))


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
