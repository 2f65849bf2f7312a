"""The demos run, alone and on two ranks, and the numbers they print hold together."""

import ast
import importlib
import json
import re

import numpy as np
import pytest
from ranks import ROOT, launch, serial_only

import mfg_fem as mfg

pytest.importorskip("matplotlib")
pytestmark = serial_only


def run(ranks, demo, *options, fails=False, code=None):
    """The standard output of a demo; its error output if it is meant to fail, with that code."""
    done = launch(ranks, ROOT / "demos" / demo, *options, timeout=180)
    assert (done.returncode != 0) == fails, done.stdout + done.stderr
    assert code in (None, done.returncode)
    return done.stderr if fails else done.stdout


def coarser(folder, name: str, changes: dict[str, str]):
    """The geometry of this name with other sizes of cells: a file for --mesh."""
    plan, path = (ROOT / "meshes" / f"{name}.geo").read_text(), folder / "coarse.geo"
    for fine, coarse in changes.items():
        assert fine in plan
        plan = plan.replace(fine, coarse)
    path.write_text(plan)
    return path


COARSER_HALL = {
    "2].SizeMin = 0.2;  Field[2].SizeMax = 0.55": "2].SizeMin = 0.4;  Field[2].SizeMax = 1.1",
    "4].SizeMin = 0.2;  Field[4].SizeMax = 0.55": "4].SizeMin = 0.4;  Field[4].SizeMax = 1.1",
}
COARSER_PILLARS = {"Max = 0.34": "Max = 0.9", "ure = 18": "ure = 9"}
COARSER_INTRUDER = {"size = 0.16": "size = 0.3"}
COARSER_STATION = {"size = 0.8;  fine = 0.3": "size = 1.6;  fine = 0.6"}
# With little to do; first the changes of a geometry.
SMALL = {
    "crowd_evacuation": (("hall", COARSER_HALL), "--steps", 4, "--people", 5),
    "game_or_control": (("hall", COARSER_HALL), "--steps", 4, "--people", 5),
    "around_pillars": (("pillars", COARSER_PILLARS), "--steps", 4, "--diffusion", 0.6),
    "intruder": (("intruder", COARSER_INTRUDER), "--discounts", 6),
    "station_doors": (("station", COARSER_STATION), "--steps", 4),
    "floor_plans": (None, "--steps", 6, "--size", 2, "--only", "two_ways", "six_rooms"),
    "storage": (None, "--cells", 40, "--steps", 24, "--capacities", 8),
    "wealth": (None, "--cells", 50, "--steps", 4),
    "two_streams": (None, "--cells", 4, "--steps", 4, "--aversions", 0.25),
    "first_game": (None, "--cells", 4, 8),
    "fluid_of_a_game": (None, "--cells", 8, "--steps", 4, 8),
    "bridge": (None, "--cells", 96, "--steps", 24, "--diffusion", 0.2),
    "two_equations": (None, "--cells", 48, "--steps", 8),
    "trap": (None, "--line", 48, "--plane", 8, "--steps", 6),
    "certificate": (None, "--cells", 2, 4, "--players", 20),
}


@pytest.mark.parametrize("demo", SMALL)
def test_a_demo_comes_to_its_end_on_two_ranks(demo, tmp_path):
    """With the pictures, which rank 0 draws of what all ranks have."""
    geometry, *options = SMALL[demo]
    if geometry:
        pytest.importorskip("gmsh")
        options += ["--mesh", coarser(tmp_path, *geometry)]
    run(2, f"{demo}.py", *options, "--out", tmp_path / "out")
    assert list((tmp_path / "out").glob("*.png"))


def test_everybody_leaves_the_hall_through_the_two_exits(tmp_path):
    run(1, "crowd_evacuation.py", "--steps", 16, "--people", 40, "--out", tmp_path)
    found = json.loads((tmp_path / "numbers.json").read_text())
    assert set(found["people through"]) == {"main exit", "side exit"}
    left = sum(found["people through"].values())
    assert left + found["people inside at the end"] == pytest.approx(40, rel=1e-10)
    assert left > 0.99 * 40
    assert 0.2 < min(found["largest flow [1/(m s)]"].values())
    assert 1.1 < max(found["largest flow [1/(m s)]"].values()) <= 1.3
    assert 0 < found["T50 [s]"] < found["T90 [s]"] < found["T99 [s]"] < 60
    files = {"density.png", "value.png", "exits.png", "crowd.gif", "crowd.npz", "numbers.json"}
    written = {path.name for path in tmp_path.iterdir()}
    assert files <= written
    assert written - files in ({"crowd.bp"}, {"crowd.xdmf", "crowd.h5"})


def test_a_time_that_is_not_reached_is_said_so(tmp_path):
    options = ("--exits", "--steps", 4, "--horizon", 6, "--people", 20, "--out", tmp_path)
    printed = run(1, "crowd_evacuation.py", *options)
    assert "T99 [s]: not reached in 6 s" in printed


def test_a_misspelt_option_is_an_error_and_a_petsc_option_is_not(tmp_path):
    assert "--stepz" in run(1, "crowd_evacuation.py", "--stepz", 4, fails=True)
    options = ("--steps", 4, "--people", 5, "-mfg_snes_monitor", "--out", tmp_path)
    assert "SNES Function norm" in run(1, "crowd_evacuation.py", *options)


SQUARE = """
SetFactory("OpenCASCADE");
Rectangle(1) = {0, 0, 0, 6, 4};
Physical Surface("floor") = {1};
Physical Curve("WALLS") = {1, 3, 4};
Physical Curve("%s") = {2};
Mesh.MeshSizeMax = 0.5;
"""


def test_a_floor_plan_of_ones_own_needs_an_exit(tmp_path):
    pytest.importorskip("gmsh")
    plan, options = tmp_path / "plan.geo", ("--steps", 4, "--people", 5, "--horizon", 12)
    plan.write_text(SQUARE % "Emergency EXIT")
    printed = run(1, "crowd_evacuation.py", "--mesh", plan, *options, "--out", tmp_path / "out")
    assert "Emergency EXIT" in printed
    plan.write_text(SQUARE % "east")
    message = run(1, "crowd_evacuation.py", "--mesh", plan, *options, fails=True)
    assert "'exit' in its name" in message


def test_the_game_costs_more_than_the_control(tmp_path):
    pytest.importorskip("gmsh")
    options = ("--mesh", coarser(tmp_path, "hall", COARSER_HALL), "--steps", 12)
    printed = run(1, "game_or_control.py", *options, "--out", tmp_path)
    price = float(re.search(r"price of anarchy: ([\d.]+)", printed)[1])
    assert 1.0 <= price < 2.0
    assert (tmp_path / "difference.png").exists()


def test_a_job_out_of_time_goes_on_on_other_ranks(tmp_path):
    pytest.importorskip("gmsh")
    mesh, out = coarser(tmp_path, "hall", COARSER_HALL), tmp_path / "out"
    options = ("--mesh", mesh, "--index", 4, "--steps", 8, "--out", out)
    run(1, "batch_job.py", *options, "--warm-up")
    assert not out.exists() or not list(out.iterdir())
    run(1, "batch_job.py", *options, "--budget", 0, fails=True, code=75)
    assert [path.name for path in (out / "004").iterdir()] == ["crowd.npz"]
    assert "row 4: 80 people, diffusion 0.08" in run(2, "batch_job.py", *options)
    found = json.loads((out / "004" / "numbers.json").read_text())
    left = sum(found["people through"].values())
    assert left + found["people inside at the end"] == pytest.approx(80, rel=1e-10)


def test_the_first_game_converges_to_its_exact_solution(tmp_path):
    printed = run(1, "first_game.py", "--cells", 8, 16, "--out", tmp_path)
    rows = re.findall(r"0\.06250 +(\S+) +(\S+) +(\S+) +(\S+)", printed)
    assert len(rows) == 3
    for (u, order_u, m, order_m), largest in zip(rows, (2e-2, 2e-2, 1e-4), strict=True):
        assert float(u) < largest
        assert float(m) < largest
        assert min(float(order_u), float(order_m)) > 1.2
    assert (tmp_path / "errors.png").exists()


def test_the_fluid_of_a_game_keeps_a_modified_energy(tmp_path):
    options = ("--cells", 32, "--steps", 16, 32, "--out", tmp_path)
    printed = run(1, "fluid_of_a_game.py", *options)
    rows = np.array([line.split() for line in re.findall(r"^ +\d+ +\d\.\d\de.*$", printed, re.M)])
    steps, drift, predicted, modified, momentum, costs = rows.astype(float).T
    assert steps.tolist() == [16, 32]
    assert predicted == pytest.approx(drift, rel=0.02)
    assert (modified < drift / 500).all() and (momentum < 1e-6).all()
    assert costs[1] < 0.6 * costs[0] < 0.06
    assert float(re.search(r"symplectic form +(\S+)", printed)[1]) < 1e-13
    assert (tmp_path / "fluid.png").exists()


def table(printed) -> np.ndarray:
    """The columns of the lines that are numbers and nothing else."""
    rows = [line.split() for line in printed.splitlines() if re.fullmatch(r"[\d.e+\- ]+", line)]
    return np.array(rows, dtype=float).T


def test_the_energy_of_layers_is_predicted_and_of_second_order_in_midpoints(tmp_path):
    options = ("--layers", 8, 16, 32, "--points", 80, "--width", 4, "--turns", 0.5)
    printed, other = (run(n, "energy_of_layers.py", *options, "--out", tmp_path) for n in (1, 2))
    assert printed == other
    drift = [float(y) for y in re.findall(r"^midpoint +\d+ +\S+ +(\S+) +-", printed, re.M)]
    assert np.log2(drift[:2]) - np.log2(drift[1:]) == pytest.approx([2, 2], abs=0.25)
    row = re.findall(r"^block +32 +\S+ +(\S+) +(\S+) +(\S+) +\d+$", printed, re.M)
    measured, predicted, modified = map(float, row[0])
    assert predicted == pytest.approx(measured, rel=0.1) and modified < measured / 3
    layers, smooth, rough = table(printed)
    assert layers.tolist() == [8, 16, 32]
    assert smooth[2] < 1.5 * smooth[1] and rough[2] > 2 * smooth[2]
    assert (tmp_path / "energy.png").exists()


def test_the_bridge_comes_down_to_optimal_transport(tmp_path):
    options = ("--cells", 96, "--steps", 24, "--diffusion", 0.2, 0.06, "--out", tmp_path)
    D, cost, exact, density, slope, newton = table(run(1, "bridge.py", *options))
    assert D.tolist() == [0.2, 0.06]
    assert cost == pytest.approx(exact, rel=2e-3)
    assert 2.005 < cost[1] < cost[0] < 2.15
    assert (density < 4e-3).all() and (slope < 1.5e-2).all() and newton.sum() < 120
    assert (tmp_path / "bridge.png").exists()


def test_who_minds_the_others_walks_around_more_pillars(tmp_path):
    pytest.importorskip("gmsh")
    coarse = coarser(tmp_path, "pillars", COARSER_PILLARS)
    options = ("--mesh", coarse, "--steps", 8, "--diffusion", 0.3, "--out", tmp_path)
    printed = run(1, "around_pillars.py", *options)
    least = float(re.search(r"straight on: (\S+)", printed)[1])
    crowding, cost, half, largest, gap, newton = table(printed)
    assert crowding.tolist() == [0, 1]
    assert least < cost[0] < cost[1]
    assert half[1] < half[0] / 2 < largest[0] / 2
    assert (gap < 1e-9).all() and newton.sum() < 60
    assert (tmp_path / "crowd.png").exists()


def test_who_does_not_look_ahead_is_pushed_by_the_intruder(tmp_path):
    pytest.importorskip("gmsh")
    coarse = coarser(tmp_path, "intruder", COARSER_INTRUDER)
    options = ("--mesh", coarse, "--discounts", 0, 6, "--out", tmp_path)
    discount, newton, *m = table(run(1, "intruder.py", *options))
    assert discount.tolist() == [0, 6] and (newton <= 10).all()
    ahead, far, *_ = np.transpose(m).reshape(2, 2, 3)[:, 0].T  # at |y| = 1 and 1.5 before it
    assert ahead[0] == pytest.approx(0.938, abs=0.03) and far[0] == pytest.approx(1.35, abs=0.03)
    assert ahead[1] > 2.5 > far[0]  # the crowd piles up
    assert (tmp_path / "intruder.png").exists()


def test_the_doors_of_a_station_hold_their_capacity(tmp_path):
    pytest.importorskip("gmsh")
    coarse = coarser(tmp_path, "station", COARSER_STATION)
    options = ("--mesh", coarse, "--steps", 25, "--out", tmp_path)
    printed = run(1, "station_doors.py", *options)
    gone, most = np.array(re.findall(r"(\S+) gone, at most (\S+)", printed), dtype=float).T
    entered = re.findall(r"entered (\S+), inside at the end (\S+)", printed)
    entered, inside = np.array(entered, dtype=float).T
    assert entered == pytest.approx([116.48] * 2, rel=2e-3)
    assert gone.reshape(2, 2).sum(axis=1) + inside == pytest.approx(20 + entered, abs=3e-4)
    assert max(map(float, re.findall(r"balance (\S+)", printed))) < 1e-12
    assert 1.2 < most[:2].max() <= 1.3 < most[2:].max()  # doors, then exits
    assert gone == pytest.approx([69.8, 66.8, 72.0, 64.6], abs=2.0)
    assert {"platform.png", "counts.png"} <= {path.name for path in tmp_path.iterdir()}


def test_storage_takes_the_peaks_off_a_price(tmp_path):
    options = ("--cells", 40, "--steps", 24, "--capacities", 0.5, 8, "--out", tmp_path)
    printed = run(1, "storage.py", *options)
    found = re.findall(r"(\d+) Newton steps, price (\S+) to (\S+), excess demand (\S+),", printed)
    newton, low, high, excess = np.array(found, dtype=float).T
    assert (newton <= 15).all() and (excess < 1e-10).all()
    assert low[0] < low[1] < high[1] < high[0]
    assert high[0] - low[0] > 0.7 and high[1] - low[1] < 0.5
    assert (tmp_path / "storage.png").exists()


def test_loans_clear_at_a_rate_of_interest(tmp_path):
    printed = run(1, "wealth.py", "--cells", 50, 100, "--steps", 10, "--out", tmp_path)
    rates = [float(y) for y in re.findall(r"rate (\S+), of", printed)]
    atoms = [float(y) for y in re.findall(r"limit (\S+)", printed)]
    assert rates == pytest.approx([0.02526, 0.02856], abs=1e-4)
    assert atoms == pytest.approx([0.170, 0.103], abs=2e-3)
    assert float(re.search(r"excess demand (\S+)", printed)[1]) < 1e-10
    first, later = re.search(r"rate (\S+) at first, (\S+) after", printed).groups()
    assert 0.03 < float(later) < 0.036 < 0.07 < float(first) < 0.12
    assert (tmp_path / "wealth.png").exists()


def test_streams_that_mind_each_other_part_into_lanes(tmp_path):
    options = ("--cells", 8, "--steps", 16, "--aversions", 0, 0.5, "--out", tmp_path)
    printed = run(1, "two_streams.py", *options)
    among = [float(y) for y in re.findall(r"at most (\S+) people", printed)]
    cost = [float(y) for y in re.findall(r"cost (\S+) s", printed)]
    assert 9 < among[0] < 9.1 and 6.9 < among[1] < 7.3
    assert cost == pytest.approx([15.852, 16.25], abs=5e-3)
    assert max(map(float, re.findall(r"balance (\S+)", printed))) < 1e-12
    assert {"lanes.png", "aversion.png", "lanes.bp"} <= {y.name for y in tmp_path.iterdir()}


def test_every_arrow_from_a_network_to_a_wave_holds(tmp_path):
    options = ("--points", 300, "--layers", 32, "--cells", 32, "--iterations", 12)
    printed = run(2, "from_network_to_schroedinger.py", *options, "--out", tmp_path)

    def found(pattern):
        return [float(y) for y in re.search(pattern, printed).groups()]

    right, spread = found(r"fresh points (\S+) %; energy .* by (\S+) %")
    assert right >= 97 and spread <= 3
    assert min(found(r"side: (\S+) % without the noise, (\S+) % with")) >= 95
    moving, kinetic, fisher = found(r"moving (\S+) = kinetic (\S+) \+ Fisher (\S+)")
    entropy, rest = found(r"entropy (\S+) (\S+)")
    assert kinetic + fisher + entropy == pytest.approx(moving + rest, abs=2e-4)
    assert abs(rest) < 0.04 * moving
    for steps in (32, 64):
        drift, modified = found(rf"{steps} steps: the energy drifts by (\S+), .* by (\S+)")
        assert modified < drift / 8
    off, values = found(r"off by (\S+), of values that differ by (\S+)")
    assert off < 0.1 * values
    assert found(r"W = (\S+), V = (\S+), c = (\S+);") == pytest.approx([1, -1, 1], abs=0.02)
    apart, moved = found(r"are (\S+) apart in L1, of (\S+)")
    assert apart < 0.01 * moved
    assert (tmp_path / "story.png").exists()


def test_a_bridge_is_wide_where_a_wave_is_narrow(tmp_path):
    options = ("--cells", 96, "--steps", 24, "--out", tmp_path)
    printed = run(1, "two_equations.py", *options)
    t, bridge, its_exact, wave, exact = table(printed)
    assert t.tolist() == [0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1]
    assert bridge == pytest.approx(its_exact, rel=4e-3) and bridge.argmax() == 4
    assert wave == pytest.approx(exact, rel=1e-3) and wave.argmin() == 4
    laws = re.search(r"bridge (\S+), wave (\S+), D\^2 = (\S+)", printed)
    of_bridge, of_wave, square = (float(y) for y in laws.groups())
    assert (of_bridge, of_wave) == pytest.approx((-square, square), rel=1e-2)
    assert (tmp_path / "widths.png").exists()


def test_a_gas_in_a_trap_has_its_published_numbers_and_breathes(tmp_path):
    options = ("--line", 96, "--plane", 12, "--steps", 60, "--out", tmp_path)
    traps, _, breathing = re.split("Ground state|exact", run(1, "trap.py", *options))
    beta, energy, published, mu, published_mu, steps = table(traps)
    assert beta.tolist() == [3.1371, 31.371, 400] and max(steps) <= 8
    assert energy == pytest.approx(published, abs=1e-4)
    assert mu == pytest.approx(published_mu, abs=1e-4)
    t, radius, exact = table(breathing)
    assert len(t) == 7
    assert radius == pytest.approx(exact, rel=2e-2)
    assert {path.name for path in tmp_path.iterdir()} == {"breathing.png", "vortex.png"}


def test_the_certificate_tells_a_wrong_answer_from_a_coarse_one(tmp_path):
    options = ("--cells", 4, 8, "--players", 20, 500, "--out", tmp_path)
    printed = run(1, "certificate.py", *options)
    rows = [line.split() for line in re.findall(r"^ +\d\.\d{4} .*$", printed, re.M)]
    h, bregman, costs, _, _, order = np.array(rows, dtype=float).T
    assert h.tolist() == [1.25, 0.625]
    assert bregman == pytest.approx([15.736, 3.542], rel=1e-3)
    assert costs == pytest.approx(bregman, rel=0.2) and order[1] > 1.9
    assert float(re.search(r"nobody: \S+, (\d+) times", printed)[1]) > 10
    players = re.findall(r"^ +(\d+) +(\S+) \+- (\S+) +(\S+) \+- (\S+)$", printed, re.M)
    assert [row[:2] for row in players] == [("20", "16.000"), ("500", "12.240")]
    assert (tmp_path / "certificate.png").exists()


def rows_of_the_torus(printed) -> dict[tuple[str, str], list[float]]:
    """Numbers of the table by game and scheme: u(0) from, to, m(T) from, to, Newton steps."""
    found = re.findall(r"^(line|square) +(\w+) +(.*)$", printed, re.M)
    return {(game, scheme): [float(y) for y in row.split()] for game, scheme, row in found}


def test_newton_finds_the_published_games_on_a_torus(tmp_path):
    options = ("--line", 200, 200, "--square", 16, 100, "--out", tmp_path)
    rows = rows_of_the_torus(run(1, "congestion_on_a_torus.py", *options))
    for scheme in ("Monotone", "Galerkin"):
        line, square = rows["line", scheme], rows["square", scheme]
        assert line[:4] == pytest.approx(rows["line", "reference"], abs=2e-3)
        assert line[4] <= 6 and square[4] <= 8
    # On a third of its points: errors of order 2.
    assert square[:2] == pytest.approx(rows["square", "reference"][:2], rel=0.05)
    assert square[3] == pytest.approx(rows["square", "reference"][3], rel=0.05)
    assert (tmp_path / "density.png").exists()


def test_the_games_on_a_torus_are_the_same_on_two_ranks(tmp_path):
    options = ("--line", 40, 32, "--square", 8, 16, "--out", tmp_path)
    one, two = (rows_of_the_torus(run(n, "congestion_on_a_torus.py", *options)) for n in (1, 2))
    assert one.keys() == two.keys() and len(one) == 6
    for key in one:
        assert two[key] == pytest.approx(one[key], abs=2e-6)


def test_the_benchmark_has_a_table_and_a_picture_of_each_section(tmp_path):
    pytest.importorskip("scipy")
    printed = run(1, "benchmarks/benchmark.py", "--quick", "--out", tmp_path)
    sections = re.findall(r"^(\w+): ", printed, re.M)
    assert len(sections) == 9
    for name in sections:
        assert (tmp_path / f"{name}.png").exists()
        rows = json.loads((tmp_path / f"{name}.json").read_text())
        assert rows and {row.get("converged", "yes") for row in rows} == {"yes"}
    race = {row["solver"]: row["error"] for row in rows}
    assert race["P2 midpoint"] < race["scipy"] < 0.2  # MFGArchon's may be there or not


DEMOS = sorted((ROOT / "demos").rglob("*.py"))


@pytest.mark.parametrize("demo", DEMOS, ids=lambda path: path.stem)
def test_demos_use_public_names_only(demo):
    for node in ast.walk(ast.parse(demo.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "mfg_fem":
            assert node.module in ("mfg_fem", "mfg_fem.plots", "mfg_fem.resnet")
            public = importlib.import_module(node.module).__all__
            assert {name.name for name in node.names} <= {*public}
        elif isinstance(node, ast.Import):
            assert not any(name.name.startswith("mfg_fem.") for name in node.names)
        elif isinstance(node, ast.Attribute):
            assert node.attr not in ("levels", "discrete")


@pytest.mark.parametrize("name", ["hall.msh", "hall.geo"])
def test_the_hall_has_the_size_and_the_names_it_promises(name):
    pytest.importorskip("gmsh")
    hall = mfg.read_mesh(ROOT / "meshes" / name)
    assert set(hall.names) == {"main exit", "side exit", "walls", "pillars"}
    assert hall.measure("main exit") == pytest.approx(2.4)
    assert hall.measure("side exit") == pytest.approx(1.2)
    assert hall.volume() == pytest.approx(536.2, abs=0.2)


@pytest.mark.parametrize("name", ["station.msh", "station.geo"])
def test_the_platform_has_the_size_it_promises(name):
    pytest.importorskip("gmsh")
    platform = mfg.read_mesh(ROOT / "meshes" / name)
    lengths = {name: platform.measure(name) for name in ("west exit", "east exit", "train")}
    assert lengths == pytest.approx({"west exit": 1.2, "east exit": 1.6, "train": 5.6})
    assert platform.volume() == pytest.approx(320 + 2.8)


@pytest.mark.parametrize("name", ["pillars.msh", "pillars.geo"])
def test_the_hall_with_pillars_has_the_size_it_promises(name):
    pytest.importorskip("gmsh")
    hall = mfg.read_mesh(ROOT / "meshes" / name)
    assert set(hall.names) == {"walls", "pillars"}
    assert hall.measure("walls") == pytest.approx(50)
    assert hall.volume() == pytest.approx(16 * 9 - np.pi * (0.9**2 + 4 * 0.6**2), abs=0.2)
