"""The demos of classification run, small, and the numbers they print hold together."""

import json
import os
import subprocess
import sys
from pathlib import Path

from mpi4py import MPI

import pytest

for package in ("sklearn", "matplotlib", "PIL", "gmsh"):
    pytest.importorskip(package)
pytestmark = pytest.mark.skipif(MPI.COMM_WORLD.size > 1, reason="the demos are serial")
DEMOS = Path(__file__).parents[1] / "demos"


def run(demo, out, *options) -> str:
    """The standard output of a demo."""
    done = subprocess.run(
        [sys.executable, str(DEMOS / demo), "--out", str(out), *map(str, options)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_two_spirals_are_parted_and_drawn(tmp_path):
    small = ("--points", 300, "--layers", 6, "--width", 12, "--cells", 30, "--iterations", 60)
    run("two_spirals.py", tmp_path, *small, "--frames", 1)
    found = json.loads((tmp_path / "numbers.json").read_text())
    assert found["test accuracy"] > 0.98
    pictures = {path.name for path in tmp_path.iterdir()}
    assert pictures == {"numbers.json", "field.png", "layers.png", "decision.png", "layers.gif"}


def test_the_field_that_knows_the_noise_stands_it_better(tmp_path):
    small = ("--points", 300, "--tests", 500, "--cells", 24, "--iterations", 40)
    layers = ("--solved-layers", 6, "--layers", 2, 8, "--widths", 8, "--noises", 0, 0.5)
    run("noise_and_depth.py", tmp_path, *small, *layers)
    found = json.loads((tmp_path / "numbers.json").read_text())
    (_, without), (_, with_noise) = found["accuracy"]
    assert with_noise > without
    few, many = found["depth"]
    assert many["error"] < few["error"]
    assert {"noise.png", "depth.png"} < {path.name for path in tmp_path.iterdir()}


def test_wine_is_told_apart_about_as_well_as_by_the_others(tmp_path):
    run("real_data.py", tmp_path, "--data", "wine", "--splits", 1, "--layers", 3, "--width", 6)
    found = json.loads((tmp_path / "accuracy.json").read_text())["wine"]
    assert {"mean field", "logistic regression", "nearest neighbours"} <= set(found)
    assert found["mean field"][0] > found["logistic regression"][0] - 0.06
    assert (tmp_path / "accuracy.png").exists()
