"""An exception on one rank ends the job on all of them, soon, with its message.

Run as a script on two ranks, with a place as its argument, this module fails there on the last.
"""

import os
import re
import signal
import sys
import tempfile
from functools import partial
from pathlib import Path

from mpi4py import MPI

import numpy as np
import pytest
from cases import default
from ranks import launch, serial_only

import mfg_fem as mfg

COMM = MPI.COMM_WORLD
MESSAGE = "the map of the hall is missing"


def broken(good=0.0, error=RuntimeError):
    """A callable that fails on the last rank."""

    def given(*_):
        if COMM.rank == COMM.size - 1:
            raise error(MESSAGE)
        return good

    return given


def stated(**data):
    default(mfg.box((1, 1), 4), **data)


def solved(**keywords) -> mfg.Solution:
    return mfg.solve(default(mfg.box((1, 1), 4)), 2, **keywords)


def from_a_guess():
    guess = solved()
    if COMM.rank == COMM.size - 1:
        guess = MESSAGE
    solved(guess=guess)


class Target:
    """A terminal cost that fails where particles end."""

    at = staticmethod(broken())

    def __call__(self, x):
        return x[0]


def to_a_target():
    samples = [np.full((3, 2), 0.4), np.full((3, 2), 0.6)]
    control = mfg.SharedControl(mfg.box((1, 1), 4), densities=samples, terminal_costs=[Target(), 0])
    mfg.solve(control, 2, mfg.Particles())


def between():
    solved()
    broken()()
    solved()


def afterwards():
    solution = solved()
    broken()()
    solution.velocity(0)


def saved():
    solved().save(Path(os.devnull, "a.npz"))  # rank 0 alone touches the disk


def plotted():
    from matplotlib.figure import Figure

    solution = solved()

    def savefig(*_, **__):  # rank 0 alone draws
        raise RuntimeError(MESSAGE)

    Figure.savefig = savefig
    with tempfile.TemporaryDirectory() as folder:
        mfg.plots.plot_density(solution, Path(folder, "a.png"), t=0)


def fitted():
    from mfg_fem.resnet import fit

    samples = np.full((20, 2), 0.5)
    fit(solved(), MESSAGE if COMM.rank == COMM.size - 1 else samples, layers=2, width=2)


def interrupted():
    if COMM.rank == COMM.size - 1:
        os.kill(os.getpid(), signal.SIGINT)
    solved()


def interrupted_later():
    def interrupt(*_):
        raise KeyboardInterrupt

    if COMM.rank == COMM.size - 1:
        signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, 1.0)
    mfg.solve(default(mfg.box((1, 1), 48)), 200)


PLACES = {
    "diffusion": partial(stated, diffusion=broken(0.1)),
    "hamiltonian": partial(stated, hamiltonian=broken()),
    "running cost": partial(stated, running_cost=broken()),
    "terminal cost": partial(stated, terminal_cost=broken()),
    "initial density": partial(stated, initial_density=broken(1.0)),
    "exit cost": partial(stated, boundary={"left": mfg.Exit(broken())}),
    "source": partial(stated, source=broken()),
    "exit in a callable": partial(stated, source=broken(error=SystemExit)),
    "interrupt in a callable": partial(stated, source=broken(error=KeyboardInterrupt)),
    "on_step": lambda: solved(on_step=broken()),
    "exit in on_step": lambda: solved(on_step=broken(error=SystemExit)),
    "guess": from_a_guess,
    "target": to_a_target,
    "between two calls": between,
    "after the solve": afterwards,
    "saving": saved,
    "plotting": plotted,
    "network": fitted,
    "interrupt": interrupted,
    "interrupt in the solve": interrupted_later,
}
SPOKEN = {"saving": "cannot be written", "interrupt": "KeyboardInterrupt"}
SPOKEN |= {"interrupt in the solve": "(?i)interrupt"}
KINDS = ["hamiltonian", "exit in on_step", "target", "after the solve", "interrupt in the solve"]


@serial_only
@pytest.mark.parametrize("place", KINDS)
def test_an_exception_on_one_rank_ends_the_job(place):
    done = launch(2, __file__, place, timeout=30)
    assert done.returncode
    assert re.search(SPOKEN.get(place, MESSAGE), done.stdout + done.stderr)


if __name__ == "__main__":
    PLACES[sys.argv[1]]()
    print("nothing was raised")
