"""The demos of classification run, small, and the numbers they print hold together."""

import json

import pytest
from ranks import ROOT, run_on, serial_only

for package in ("sklearn", "matplotlib", "PIL", "gmsh"):
    pytest.importorskip(package)
pytestmark = serial_only


def run(demo, out, *options, ranks=1) -> str:
    """The output of a demo."""
    return run_on(ranks, ROOT / "demos" / demo, "--out", out, *options)


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


def test_on_two_ranks_one_of_them_does_all_and_says_so(tmp_path):
    small = ("--points", 100, "--layers", 2, "--width", 4, "--cells", 12, "--iterations", 5)
    numbers = []
    for ranks in (1, 2):
        out = tmp_path / str(ranks)
        printed = run("two_spirals.py", out, *small, "--frames", 1, ranks=ranks)
        assert printed.count("training accuracy") == 1
        assert ("rank 0 alone" in printed) == (ranks == 2)
        numbers.append(json.loads((out / "numbers.json").read_text()) | {"seconds": 0})
    assert numbers[0] == numbers[1]
