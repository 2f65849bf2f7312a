"""Running a script on several MPI ranks from a test."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache, wraps
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


def launch(
    ranks: int, script: str | Path, *arguments, timeout: float = 240
) -> subprocess.CompletedProcess:
    """Run a script to its end, on one rank without mpirun; fails the test if it does not end.

    Nothing stays behind: the script and its ranks are in a session of their own, which a time-out
    ends as a whole.
    """
    environment = os.environ | SETTINGS
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    )
    mpirun = ["mpirun", "-n", ranks] if ranks > 1 else []
    command = [str(word) for word in [*mpirun, sys.executable, script, *arguments]]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, start_new_session=True, **pipes) as process:
        try:
            output, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.terminate()  # mpirun takes its ranks along
            try:
                output, errors = process.communicate(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                output, errors = process.communicate()
            printed = (output + errors)[-4000:]
            pytest.fail(f"{script} did not end on {ranks} ranks in {timeout} s:\n{printed}")
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def run_on(ranks: int, script: str | Path, *arguments, timeout: float = 240) -> str:
    """Output of the script on so many ranks; fails the test if it fails or does not end in time."""
    done = launch(ranks, script, *arguments, timeout=timeout)
    output = done.stdout + done.stderr
    if done.returncode:
        pytest.fail(f"exit code {done.returncode} on {ranks} ranks:\n{output[-4000:]}")
    return output


def numbers_on(ranks: int, script: str | Path, *arguments, timeout: float = 240):
    """What the script left with `leave_numbers`; the file is its first argument.

    Not by its output: mpirun passes on the parts of a long line in any order.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "numbers.json")
        run_on(ranks, script, path, *arguments, timeout=timeout)
        return json.loads(path.read_text())


def once(function):
    """As functools.cache, for all workers of a test run: for what goes through JSON unchanged."""

    @cache
    @wraps(function)
    def found(*arguments):
        script = Path(function.__code__.co_filename).stem
        words = [script, function.__name__, *map(str, arguments)]
        with Path(os.environ["MFG_FEM_TEST_RUN"], "-".join(words)).open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # another worker may be about it
            file.seek(0)
            if not (text := file.read()):
                text = json.dumps(function(*arguments))
                file.write(text)
                file.flush()
        return json.loads(text)

    return found


def raised(attempts: dict[str, Callable]) -> dict[str, list[str]]:
    """What each attempt raised on each rank, known to rank 0. Collective."""
    found = {}
    for name, attempt in attempts.items():
        try:
            attempt()
            said = "nothing was raised"
        except Exception as exc:
            said = f"{type(exc).__name__}: {exc}"
        found[name] = MPI.COMM_WORLD.gather(said)
        print(name, file=sys.stderr, flush=True)
    return found


def leave_numbers(found):
    """In the script: leave what rank 0 has found to `numbers_on`."""
    if MPI.COMM_WORLD.rank == 0:
        Path(sys.argv[1]).write_text(json.dumps(found))
