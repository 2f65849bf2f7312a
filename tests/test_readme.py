"""The README and the guides of the book say what works."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_script_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    (tmp_path / "meshes").symlink_to(ROOT / "meshes")
    monkeypatch.chdir(tmp_path)
    script = re.search(
        r"## A script\n\n```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S
    )
    exec(script.group(1).replace("steps=80", "steps=4"), {})
    assert "mass balance" in capsys.readouterr().out
    assert (tmp_path / "results" / "hall.bp").exists()


def run(guide: str, **smaller: str) -> dict:
    """The names that the cells of a guide leave, with other text in them: {old: new}."""
    text = (ROOT / "docs" / "guide" / f"{guide}.md").read_text()
    script = "\n".join(re.findall(r"```\{code-cell\} python\n(.*?)```", text, re.S))
    for old, new in smaller.items():
        assert old in script
        script = script.replace(old, new)
    names: dict = {}
    exec(script, names)
    return names


def test_the_guide_to_floor_plans(tmp_path, monkeypatch):
    pytest.importorskip("gmsh")
    pytest.importorskip("shapely")
    pytest.importorskip("matplotlib")
    (tmp_path / "meshes").symlink_to(ROOT / "meshes")
    monkeypatch.chdir(tmp_path)
    solution = run("plans", **{"size=0.5": "size=2.0", "steps=40": "steps=4"})["solution"]
    assert solution.gone["main"][-1] > 20 and abs(solution.balance).max() < 1e-12


def test_the_guide_to_waves():
    pytest.importorskip("matplotlib")
    assert run("waves", **{"steps=200": "steps=4"})["solution"].mass_drift < 1e-13


def test_the_guide_to_boundaries():
    solution = run("boundaries", **{"(40, 20)": "(10, 5)", "steps=30": "steps=6"})["solution"]
    assert solution.entered[-1] == pytest.approx(20.0) and abs(solution.balance).max() < 1e-12
    assert solution.gone["right"][-1] < 13 * 30


def test_the_guide_to_what_engineers_take_away(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    names = run("counts", **{"(40, 20)": "(10, 5)", "steps=30": "steps=6"})
    assert names["solution"].entered["moving"][-1] == pytest.approx(20.0)
    assert {path.name for path in (tmp_path / "results").iterdir()} == {"density.csv", "station"}


def test_the_guide_to_what_lasts_for_ever():
    pytest.importorskip("matplotlib")
    state = run("stationary", **{"64": "12"})["state"]
    assert state.converged and state.cost_rate > 1


def test_the_guide_to_several_crowds():
    pytest.importorskip("matplotlib")
    solution = run("populations", **{"(16, 8)": "(8, 4)", "steps=16": "steps=4"})["solution"]
    assert solution.mass(4, "runners") > 0 and abs(solution.balance).max() < 1e-12


BOOK = [path for path in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in path.parts]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *BOOK]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page):
    text = page.read_text()
    named = re.findall(r"`((?:demos|docker|docs|meshes|mfg_fem|\.ci)/[\w./]*)`?", text)
    linked = re.findall(r"\]\(((?!https?:)[^)#]+)", text)
    missing = [path for path in named if not (ROOT / path).exists()]
    assert missing + [path for path in linked if not (page.parent / path).exists()] == []


def test_addresses_of_the_web_are_well_formed():
    found = [url for page in PAGES for url in re.findall(r"\w+://[^\s)>`\"']+", page.read_text())]
    assert found
    assert [
        url for url in found if not re.fullmatch(r"https?://[\w-]+(\.[\w-]+)+(/\S*)?", url)
    ] == []
