"""Imports go down the list of rooms, and no private name is used outside its module."""

import ast
from pathlib import Path

import mfg_fem

ROOT = Path(mfg_fem.__file__).parent
BASE = ("_compat", "errors", "parallel", "validate", "petsc", "compilation", "hamiltonians")
ROOMS = (*BASE, "mesh", "problem", "forms", "discrete", "linear", "io", "nonlinear", "descent")
ROOMS += ("schroedinger", "certainty", "solution", "solve", "flows", "fluid", "crowd", "resnet")
ROOMS += ("plots", "handout", "__init__", "__main__")


def test_imports_go_down():
    for path in sorted(ROOT.rglob("*.py")):
        here = ROOMS.index(path.relative_to(ROOT).with_suffix("").parts[0])
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "mfg_fem":
                room, *module = [*node.module.split(".")[1:], node.names[0].name]
                assert ROOMS.index(room) <= here, f"{path} imports {room}"
                names = {*module, *(name.name for name in node.names)}
                assert room == "_compat" or not any(name[0] == "_" for name in names), path


def test_no_module_has_more_than_350_lines():
    assert max((len(path.read_text().splitlines()), path) for path in ROOT.rglob("*.py"))[0] <= 350
