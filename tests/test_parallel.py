"""The same numbers on 1, 2 and 3 ranks, and no hang.

Run as a script, this module solves some problems and leaves their numbers.
"""

import sys
import time
from pathlib import Path

import pytest
from cases import default, evacuation, jittered, landscape
from ranks import launch, leave_numbers, numbers_on, once, run_on, serial_only

import mfg_fem as mfg

CASES = {
    "game": lambda: mfg.solve(default(mfg.box((1, 1), 12), diffusion=0.05), 8),
    "control": lambda: mfg.solve(
        default(mfg.box((1, 1), 12), mfg.MeanFieldControl, diffusion=0.05), 8
    ),
    "jittered": lambda: mfg.solve(default(jittered(2, 12), diffusion=0.01), 8),
    "exits": lambda: mfg.solve(evacuation(mfg.box((1, 1), 12), 0.1), 8),
    "doors": lambda: mfg.solve(
        evacuation(mfg.box((1, 1), 12), 0.1, boundary={"right": mfg.Door(capacity=0.5)}), 8
    ),
    "box": lambda: mfg.solve(default(mfg.box((1, 1, 1), 4)), 4),
    "midpoint": lambda: mfg.solve(
        default(mfg.box((1, 1), 8)), 8, mfg.Galerkin(degree=2, time="midpoint")
    ),
    "alone": lambda: mfg.solve(
        default(mfg.box((1, 1), 12), running_cost=lambda x, t, m: landscape(x)), 8
    ),
    "line": lambda: mfg.solve(default(mfg.box(1, 40)), 8),
}
NUMBERS = ("cost", "mass", "min_density", "max_density", "l2_u", "l2_m", "gone")
RANKS = (2, 3)


def numbers(solution: mfg.Solution) -> dict:
    d, levels = solution.discrete, solution.levels
    return {
        "iterations": [row["step"] for row in solution.history],
        "cost": solution.cost,
        "mass": solution.mass(solution.steps),
        "min_density": solution.min_density,
        "max_density": solution.max_density,
        "l2_u": float(d.integral(levels.u**2).sum()),
        "l2_m": float(d.integral(levels.m**2).sum()),
        "gone": sum(float(gone[-1]) for gone in solution.gone.values()),
        "balance": float(abs(solution.balance).max()),
        "converged": solution.converged,
    }


@once
def on(ranks: int) -> dict[str, dict]:
    return numbers_on(ranks, __file__)


@serial_only
@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("case", CASES)
def test_newton_steps_do_not_depend_on_the_ranks(case, ranks):
    assert on(ranks)[case]["iterations"] == on(1)[case]["iterations"]


@serial_only
@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("case", CASES)
def test_number_does_not_depend_on_the_ranks(case, number, ranks):
    assert on(ranks)[case][number] == pytest.approx(on(1)[case][number], rel=1e-10, abs=1e-14)


@serial_only
@pytest.mark.parametrize("ranks", (1, *RANKS))
@pytest.mark.parametrize("case", CASES)
def test_mass_balance_closes_on_every_number_of_ranks(case, ranks):
    assert on(ranks)[case]["balance"] <= 1e-12 and on(ranks)[case]["converged"]


HANGS = """
import sys
from mpi4py import MPI
import mfg_fem as mfg
sys.path.insert(0, {tests!r})
from cases import default
comm = MPI.COMM_WORLD
problem = default(mfg.box((1, 1), 6), diffusion=0.05)
try:
    mfg.solve(problem, 8, method=mfg.Newton(max_it=1, continuation="none"))
    said = "nothing"
except mfg.NotConverged as exc:
    said = str(exc) + str(len(exc.history))
assert len(set(comm.allgather(said))) == 1 and said.startswith("Newton stopped"), said
solution = mfg.solve(problem, 8, method=mfg.Newton(petsc_options={{
    "sweep_ksp_type": "bcgs", "sweep_pc_type": "bjacobi", "sweep_ksp_rtol": 1e-3}}))
assert solution.converged
comm.Barrier()
"""


@serial_only
def test_failure_and_inexact_sweeps_end_alike_on_two_ranks(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(HANGS.format(tests=str(Path(__file__).parent)))
    run_on(2, script)


@serial_only
def test_a_rank_without_cells_does_no_harm(tmp_path):
    """More ranks than cells: an empty rank must take part in everything collective."""
    script = tmp_path / "script.py"
    script.write_text(
        "import mfg_fem as mfg\n"
        "game = mfg.MeanFieldGame(mfg.box(1, 2), horizon=1, diffusion=0.1,\n"
        "    terminal_cost=lambda x, m: 0.0, running_cost=lambda x, t, m: m,\n"
        "    hamiltonian=mfg.hamiltonians.quadratic(),\n"
        "    initial_density=lambda x: 1 + x[0])\n"
        "assert mfg.solve(game, 2).converged\n"
    )
    run_on(3, script, timeout=60)


@serial_only
def test_a_script_that_does_not_end_leaves_no_ranks_behind(tmp_path):
    script, ids = tmp_path / "script.py", tmp_path / "ids"
    ids.mkdir()
    script.write_text(
        "import os, pathlib, sys, time\n"
        "pathlib.Path(sys.argv[1], str(os.getpid())).touch()\n"
        "time.sleep(600)\n"
    )
    with pytest.raises(pytest.fail.Exception, match="did not end on 2 ranks"):
        launch(2, script, ids, timeout=5)
    started = [int(path.name) for path in ids.iterdir()]
    assert len(started) == 2
    for _ in range(100):  # the last of them may still be on its way out
        left = [rank for rank in started if Path(f"/proc/{rank}").exists()]
        if not left:
            break
        time.sleep(0.1)
    assert not left


@serial_only
def test_a_mesh_is_cut_alike_at_each_start():
    first, second = (numbers_on(3, __file__, "mesh") for _ in range(2))
    assert first == second


def main():
    if "mesh" in sys.argv:
        mesh = mfg.box((1, 1, 1), 12).mesh
        leave_numbers(mesh.comm.gather(mesh.geometry.x.tolist()))
        return
    leave_numbers({case: numbers(solve()) for case, solve in CASES.items()})


if __name__ == "__main__":
    main()
