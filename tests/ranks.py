"""Running a script on several MPI ranks from a test."""

import os
import subprocess
import sys
from pathlib import Path

from mpi4py import MPI

import pytest

import mfg_fem

ROOT = Path(mfg_fem.__file__).parents[1]
# More ranks than cores, and root, are no errors here; each release of Open MPI has its own names.
SETTINGS = {
    "OMPI_ALLOW_RUN_AS_ROOT": "1",
    "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "OMPI_MCA_rmaps_base_oversubscribe": "1",
    "OMPI_MCA_mpi_yield_when_idle": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
    "OMP_NUM_THREADS": "1",
}

serial_only = pytest.mark.skipif(MPI.COMM_WORLD.size > 1, reason="starts mpirun itself")


def run_on(ranks: int, script: str | Path, *arguments, timeout: float = 240) -> str:
    """Output of the script on so many ranks; fails if it fails or does not end in time."""
    environment = os.environ | SETTINGS
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = ["mpirun", "-n", ranks, sys.executable, script, *arguments]
    process = subprocess.Popen(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.terminate()  # mpirun takes its ranks along
        try:
            output, _ = process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
        pytest.fail(f"hung on {ranks} ranks for {timeout} s:\n{output[-4000:]}")
    if process.returncode:
        pytest.fail(f"exit code {process.returncode} on {ranks} ranks:\n{output[-4000:]}")
    return output
