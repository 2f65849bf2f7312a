"""The table of what crowd engineers ask: every test has its line, quick ones hold at small size."""

import csv
import importlib
import json
from pathlib import Path

import numpy as np
import pytest
from ranks import launch, serial_only

import mfg_fem as mfg

FOLDER = Path(__file__).parents[2] / "demos" / "validation"
pytestmark = serial_only
pytest.importorskip("matplotlib")
pytest.importorskip("shapely")


def validated(*options):
    """What the command says."""
    return launch(1, FOLDER / "validate.py", *options)


@pytest.fixture
def juelich(monkeypatch):
    """The module of the experiments."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("juelich")


def test_quick_tests_hold_and_the_table_says_so(tmp_path):
    names = ("RiMEA 6", "IMO 4")
    done = validated("--only", *names, "RiMEA 2", "--coarser", 3, "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    rows = {row["test"]: row for row in json.loads((tmp_path / "table.json").read_text())}
    assert {rows[name]["verdict"] for name in names} == {"held"}
    assert all(0 < float(rows[name]["balance"]) < 1e-10 for name in names)
    assert rows["RiMEA 2"]["verdict"] == "not asked" and "stairs" in rows["RiMEA 2"]["why"]
    assert "2 held, 0 not held, 1 not asked" in done.stdout
    with (tmp_path / "table.csv").open() as file:
        assert [row["test"] for row in csv.DictReader(file)] == [*rows]
    assert len((tmp_path / "table.md").read_text().splitlines()) == 2 + len(rows)
    assert (tmp_path / "panels.png").exists()


def test_every_test_of_the_guidelines_has_a_line():
    message = validated("--only", "RiMEA 99").stderr
    for name in (*(f"RiMEA {k}" for k in range(1, 16)), "IMO flows", "IMO 4", "Juelich"):
        assert f"'{name}'" in message


def test_people_in_a_stream_walk_as_derived(monkeypatch):
    """At the speed in the docstring of `evacuation`."""
    monkeypatch.syspath_prepend(FOLDER)
    flows = importlib.import_module("flows")
    m = np.array([0.5, 1.0])
    _, found, flow = flows.speeds(m, 4.0)
    fastest = 2 / np.sqrt(3) * mfg.crowd.FREE_SPEED / (1 + 0.42 * m) ** 1.5
    wanted = fastest * np.sqrt(1 - 1 / (2 + (m / 4) ** 4) ** 2)
    np.testing.assert_allclose(found, wanted, rtol=0.01)
    np.testing.assert_allclose(flow, m * found)


def test_the_pen_of_an_experiment_is_the_narrowest_that_has_room(juelich, tmp_path):
    places = np.column_stack([np.arange(4), [-1.0, 0.5, 1.6, 0.0], [1.0, 1.0, 2.0, 3.0]])
    np.savetxt(tmp_path / "positions.csv", places, delimiter=",")
    np.savetxt(tmp_path / "crossing.csv", [3.0, 1.0, 2.0, 4.0])
    experiment = juelich.read(tmp_path)
    assert experiment.width == 3.4
    assert [*experiment.times] == [1, 2, 3, 4]
    assert juelich.read(tmp_path, 5.0).width == 5.0
    with pytest.raises(mfg.FileError, match="larger --width"):
        juelich.read(tmp_path, 3.0)


def test_a_missing_file_of_an_experiment_is_named(tmp_path):
    done = validated("--only", "Juelich", "--data", tmp_path)
    assert done.returncode != 0
    assert f"{tmp_path} has 0 files *positions*.csv" in done.stderr


def test_the_capacity_of_a_queue_is_found(juelich, tmp_path):
    """From crossing times that are those of a model with another capacity."""
    places = [(k, 0.5 * (k % 4) - 0.75, 0.5 + 0.5 * (k // 4)) for k in range(12)]
    np.savetxt(tmp_path / "positions.csv", places, delimiter=",")
    np.savetxt(tmp_path / "crossing.csv", np.arange(12) / 12)
    experiment = juelich.read(tmp_path)
    solution = juelich.crowd(experiment, 2.0, 5.0)
    gone = solution.gone["exit"]
    times = np.interp(np.arange(12) + 0.5, gone, solution.times)
    made = juelich.Experiment("made", experiment.places, times, experiment.width)
    assert juelich.calibrated(made, 2.1, 5.0, rounds=1) == pytest.approx(2.0, rel=0.03)
    assert max(juelich.errors(made, solution)) < 0.06
