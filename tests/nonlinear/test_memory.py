"""What a solve will take is foreseen, and refused where it is not there."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cases import default
from crowds import two
from ranks import run_on, serial_only

import mfg_fem as mfg
from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.nonlinear import memory

SMALL = 1e6  # bytes


def problem(n: int = 8):
    return default(mfg.box((1, 1), n))


@pytest.mark.parametrize("coupling", [5.0, 10.0, 20.0])
def test_crowds_that_start_thinner_than_all_together_need_memory_too(coupling):
    """The density that couplings are measured by is that of all who change into each other."""
    even = {"running_cost": lambda x, t, m: coupling * m.all, "initial_density": lambda x: 1.0}
    crowds = two(mfg.box(1.0, 8), a=even, b=even, switching={("a", "b"): 1.0})
    discrete = Discretisation(crowds, mfg.Sharp())
    assert 1e4 < memory.estimate(discrete, np.linspace(0, 1, 5), mfg.Newton()) < 1e6


def test_solve_that_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: SMALL)
    with pytest.raises(mfg.OutOfMemory, match=r"40 steps on 1681 nodes.*0.001 GB free"):
        mfg.solve(problem(40), 40)


def test_refusal_can_be_overruled(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: SMALL / 100)
    assert mfg.solve(problem(), 4, method=mfg.Newton(check_memory=False)).converged


@serial_only
def test_all_ranks_refuse_alike(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import mfg_fem as mfg\n"
        "from mpi4py import MPI\n"
        "from mfg_fem.nonlinear import memory\n"
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        "from cases import default\n"
        "memory.available = lambda: 1e6 * (1 + MPI.COMM_WORLD.rank)\n"
        "try:\n"
        "    mfg.solve(default(mfg.box((1, 1), 48)), 40)\n"
        "except mfg.OutOfMemory as error:\n"
        "    messages = MPI.COMM_WORLD.allgather(str(error))\n"
        "    assert len(set(messages)) == 1 and '0.001 GB free' in messages[0], messages\n"
        "else:\n"
        "    raise SystemExit('not refused')\n"
    )
    run_on(2, script)


def times(steps: int) -> np.ndarray:
    return np.linspace(0, problem().horizon, steps + 1)


def needed(n: int, steps: int, **options) -> float:
    discrete = Discretisation(problem(n), mfg.Monotone())
    method = mfg.Newton(petsc_options=options)
    return memory.estimate(discrete, times(steps), method)


def test_estimate_is_proportional_to_the_steps():
    assert needed(8, 20) == pytest.approx(5 * needed(8, 4))


def test_the_h_form_is_counted_where_the_coupling_may_be_strong():
    def needed(form, weight):
        game = default(mfg.box((1, 1), 16), coupling=weight)
        discrete = Discretisation(game, mfg.Monotone())
        return memory.estimate(discrete, times(4), mfg.Newton(krylov=form))

    assert needed("auto", 0.1) == needed("schur", 0.1)
    assert needed("auto", 100.0) == needed("h-form", 100.0) > 1.1 * needed("schur", 100.0)


def test_a_factorisation_needs_more_than_incomplete_factors():
    assert needed(32, 4) > 1.2 * needed(32, 4, sweep_pc_type="ilu")


MEASURE = """
import sys
from pathlib import Path
import numpy as np
import mfg_fem as mfg
from cases import default
from crowds import two
from mfg_fem.nonlinear import memory
from mfg_fem.discrete.discretisation import Discretisation

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

method = mfg.Newton(krylov=sys.argv[1])
problem = default(mfg.box((1, 1), 64), coupling=float(sys.argv[2]))
mfg.solve(problem, 1, method=method)  # what does not depend on the steps
before = peak()
mfg.solve(problem, 24, method=method)
discrete = Discretisation(problem, mfg.Monotone())
times = np.linspace(0, problem.horizon, 25)
print(memory.estimate(discrete, times, method) / (peak() - before))
"""


@serial_only
@pytest.mark.parametrize(("form", "coupling"), [("two-field", 1.0), ("auto", 50.0)])
def test_estimate_is_near_what_a_solve_takes(form, coupling):
    run = subprocess.run(
        [sys.executable, "-c", MEASURE, form, str(coupling)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    assert 0.6 < float(run.stdout) < 1.7


def test_control_group_limits_what_is_free(tmp_path):
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "memory.max").write_text("5000000\n")
    (tmp_path / "job" / "memory.stat").write_text("anon 2000000\nfile 900000\n")
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.stat").write_text("anon 3000000\n")
    assert memory.left_in_group(tmp_path / "job") == 3e6
    assert memory.left_in_group(tmp_path) == np.inf
    assert memory.left_in_group(tmp_path / "none") == np.inf
