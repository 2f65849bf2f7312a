"""The command for engineers: from a plan to a report."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ranks import serial_only

import ufl

import mfg_fem as mfg

OFFICE = Path(__file__).parents[2] / "meshes" / "office.wkt"
DOOR = ("--door", "main", 18.1, 4.4, 18.1, 5.6)


def evacuate(*words, ranks: int = 1) -> subprocess.CompletedProcess:
    """`python -m mfg_fem evacuate` with these words."""
    mpirun = ["mpirun", "-n", str(ranks)] if ranks > 1 else []
    command = [*mpirun, sys.executable, "-m", "mfg_fem", "evacuate", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@serial_only
def test_a_plan_becomes_a_report(tmp_path):
    pytest.importorskip("shapely")
    line = ("--line", "corridor", 14, 6, 14, 4)
    words = (OFFICE, *DOOR, *line, "--people", 20, "--size", 1.5, "--steps", 8)
    start = ("--start", 0, 4, 18, 4, 18, 6, 0, 6)
    done = evacuate(*words, *start, "--out", tmp_path, ranks=2)
    assert done.returncode == 0, done.stderr
    written = {path.name for path in tmp_path.iterdir()}
    assert {"report.html", "numbers.json", "doors.csv", "lines.csv", "crowd.gif"} <= written
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers["people"]["out at the end"] == pytest.approx(20, rel=1e-3)
    assert 0 < numbers["exit times"]["50 % out [s]"] < numbers["problem"]["horizon [s]"]
    assert str(tmp_path / "report.html") in done.stdout


@serial_only
def test_a_fault_is_one_line():
    pytest.importorskip("shapely")
    done = evacuate(OFFICE, "--door", "main", 9, 20, 9, 21, "--people", 20)
    assert done.returncode == 1
    assert done.stderr.startswith("MeshError:") and "'main'" in done.stderr
    assert "Traceback" not in done.stderr
    assert "four numbers" in evacuate(OFFICE, "--door", "main", 1, 2, "--people", 1).stderr


def test_people_start_evenly_spread_in_a_polygon():
    corner = [(0, 0), (6, 0), (6, 2), (2, 2), (2, 4), (0, 4)]
    domain = mfg.box((8.0, 4.0), (33, 17))
    game = mfg.crowd.evacuation(domain, 8, ["right"], initial_density=corner)
    solution = mfg.solve(game, 4)
    parts = {"corner": corner, "two": [(3, 0), (5, 0), (5, 1), (3, 1)]}
    people = {name: y[0] for name, y in mfg.crowd.rooms(solution, parts).items()}
    assert people["corner"] == pytest.approx(8, rel=0.15)
    assert people["two"] == pytest.approx(8 * 2 / 16, rel=0.1)


@pytest.mark.parametrize(
    "dim, corners", [(1, [(0, 0), (1, 0), (1, 1)]), (2, [(0, 0), (1, 1)]), (2, 3)]
)
def test_a_polygon_that_is_none_is_refused(dim, corners):
    with pytest.raises(mfg.ProblemError, match=r"initial_density.*corners"):
        mfg.crowd.evacuation(mfg.box((1.0,) * dim, 2), 8, ["right"], initial_density=corners)


@pytest.mark.parametrize("speed", [1.0, 2.0])
def test_people_who_are_alone_walk_at_their_speed(speed):
    """From the middle of a corridor to a door at its end."""
    corridor = mfg.box(20.0, 80)
    game = mfg.crowd.evacuation(
        corridor,
        1e-3,
        ["right"],
        initial_density=lambda x: ufl.exp(-((x[0] - 8) ** 2)),
        capacity=None,
        horizon=60 / speed,
        free_speed=speed,
    )
    times = mfg.crowd.exit_times(mfg.solve(game, 180), [50])
    assert times[50.0] == pytest.approx(12 / speed, rel=0.02)
