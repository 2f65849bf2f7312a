"""The README says what works."""

import re
from pathlib import Path

import pytest

import ufl

import mfg_fem as mfg

ROOT = Path(__file__).parents[1]


def test_script_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    (tmp_path / "meshes").symlink_to(ROOT / "meshes")
    monkeypatch.chdir(tmp_path)
    script = re.search(
        r"## A script\n\n```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S
    )
    exec(script.group(1).replace("steps=80", "steps=4"), {})
    assert "mass balance" in capsys.readouterr().out
    assert (tmp_path / "results" / "hall.vtkhdf").exists()


def test_the_floor_plan_of_the_readme(tmp_path, monkeypatch):
    pytest.importorskip("gmsh")
    pytest.importorskip("shapely")
    pytest.importorskip("matplotlib")
    (tmp_path / "meshes").symlink_to(ROOT / "meshes")
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text()
    script = re.search(r"## Your floor plan.*?```python\n(.*?)```", text, re.S)
    names = {"mfg": mfg, "ufl": ufl}
    exec(script.group(1).replace("size=0.5", "size=2.0").replace("steps=40", "steps=4"), names)
    solution = names["solution"]
    assert solution.gone["main"][-1] > 20 and abs(solution.balance).max() < 1e-12
    assert (tmp_path / "office.png").exists()


def test_waves_of_the_readme_run(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    script = re.search(r"## Waves\n.*?```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    names = {"mfg": mfg, "ufl": ufl}
    exec(script.group(1).replace("steps=200", "steps=4"), names)
    assert names["solution"].mass_drift < 1e-13 and (tmp_path / "wave.png").exists()


def test_boundaries_of_the_readme():
    script = re.search(
        r"## Boundaries.*?```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S
    )
    names = {"mfg": mfg, "ufl": ufl}
    exec(script.group(1).replace("(40, 20)", "(10, 5)").replace("steps=30", "steps=6"), names)
    solution = names["solution"]
    assert solution.entered[-1] == pytest.approx(20.0) and abs(solution.balance).max() < 1e-12
    assert solution.gone["right"][-1] < 13 * 30


def test_what_engineers_take_away_from_the_readme(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text()
    game, counts = (
        re.search(rf"## {title}.*?```python\n(.*?)```", text, re.S).group(1)
        for title in ("Boundaries", "Counts")
    )
    names = {"mfg": mfg, "ufl": ufl}
    exec(game.replace("(40, 20)", "(10, 5)").replace("steps=30", "steps=6"), names)
    exec(counts.replace("steps=30", "steps=6"), names)
    assert names["solution"].entered["moving"][-1] == pytest.approx(20.0)
    assert {path.name for path in (tmp_path / "results").iterdir()} == {"density.csv", "station"}


def test_what_lasts_for_ever_in_the_readme():
    script = re.search(r"## For ever.*?```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    names = {"mfg": mfg, "ufl": ufl}
    exec(script.group(1).replace("64", "12"), names)
    assert names["state"].converged and names["state"].cost_rate > 1


def test_crowds_of_the_readme():
    pytest.importorskip("matplotlib")
    text = (ROOT / "README.md").read_text()
    script = re.search(r"## Several crowds.*?```python\n(.*?)```", text, re.S)
    names = {"mfg": mfg, "ufl": ufl}
    exec(script.group(1).replace("(32, 16)", "(8, 4)").replace("steps=16", "steps=4"), names)
    solution = names["solution"]
    assert solution.mass(4, "runners") > 0 and abs(solution.balance).max() < 1e-12


def test_files_named_in_the_readme_exist():
    text = (ROOT / "README.md").read_text()
    paths = re.findall(r"`((?:demos|docker|meshes|mfg_fem|\.ci)/[\w./]*)`?", text)
    assert paths
    assert [path for path in paths if not (ROOT / path).exists()] == []
