"""The book has every public name and every option, and demos run as notebooks."""

import ast
import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest

import mfg_fem as mfg
from mfg_fem import petsc, resnet
from mfg_fem.discrete.schemes import SCHEMES
from mfg_fem.schroedinger.schemes import WAVE_SCHEMES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


@pytest.fixture
def book(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    return importlib.import_module("book")


def public(module) -> set[str]:
    """The full names of what a module offers."""
    return {f"{module.__name__}.{name}" for name in module.__all__}


def test_every_public_name_is_in_the_reference_once():
    directive = r"^\.\. (?:auto\w+|py:data):: (\S+)"
    text = "\n".join(page.read_text() for page in (DOCS / "api").glob("*.md"))
    listed = re.findall(directive, text, re.M)
    functions = inspect.getmembers(mfg.hamiltonians, inspect.isfunction)
    own = {f"mfg_fem.hamiltonians.{name}" for name, _ in functions if name[0] != "_"}
    own -= {"mfg_fem.hamiltonians.number"}  # which it imports
    modules = {"mfg_fem.resnet"}
    names = public(mfg) | public(mfg.crowd) | public(mfg.plots) | public(resnet) | own | modules
    assert sorted(listed) == sorted(names)


def test_the_table_has_every_option_with_its_default(book):
    things = {thing.__name__: thing for thing in (*book.METHODS, *book.SCHEMES, *book.WAVES)}
    assert {*SCHEMES, *WAVE_SCHEMES} <= {*things}
    table = "\n".join(book.options())
    for thing in (mfg.solve, *things.values()):
        for name, parameter in inspect.signature(thing).parameters.items():
            default, meaning = book.arguments(thing)[name]
            assert len(meaning.split()) > 2 and f"`{name}`" in table
            assert parameter.default is parameter.empty or default in (
                "{}",
                repr(parameter.default),
            )


def test_every_prefix_of_petsc_is_in_the_page_of_options():
    text = (DOCS / "options.md").read_text()
    kinds = {"": "snes_", "sweep_": "", "matched_": "", "start_": ""}
    for prefix in petsc.PREFIXES:
        assert f"`mfg_{prefix}{kinds.get(prefix, 'ksp_')}`" in text


def test_every_demo_is_in_the_gallery_once(book):
    blocks = re.findall(r"```\{gallery\}\n(.*?)```", (DOCS / "gallery.md").read_text(), re.S)
    lines = "".join(blocks).splitlines()
    assert sorted(re.split("[/ ]", line)[0] for line in lines) == sorted(book.DEMOS)


@pytest.mark.parametrize("demo", sorted((ROOT / "demos").glob("*.py")), ids=lambda path: path.stem)
def test_a_demo_does_not_read_the_words_of_a_kernel(demo):
    calls = [
        ast.unparse(node.args[0]) if node.args else ""
        for node in ast.walk(ast.parse(demo.read_text()))
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", "") in ("parse_args", "parse_known_args")
    ]
    assert calls == ["[] if 'ipykernel' in sys.argv[0] else None"] * (demo.stem != "classification")


def test_options_of_a_demo_are_read_in_a_script_only(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "demos")
    arguments = importlib.import_module("crowd_evacuation").arguments
    monkeypatch.setattr(sys, "argv", ["ipykernel_launcher.py", "-f", "kernel.json"])
    assert arguments().steps == 60
    monkeypatch.setattr(sys, "argv", ["crowd_evacuation.py", "--steps", "4"])
    assert arguments().steps == 4
    monkeypatch.setattr(sys, "argv", ["crowd_evacuation.py", "-f", "kernel.json"])
    with pytest.raises(SystemExit):
        arguments()
