"""Floor plans: areas, doors, walls of no width; and what is refused, on every rank alike.

Run as a script on several ranks, this module leaves what each plan measured or raised.
"""

import json
import sys
import tempfile
from functools import cache
from pathlib import Path

from mpi4py import MPI

import numpy as np
import pytest
from ranks import leave_numbers, numbers_on, raised, serial_only

import ufl
from dolfinx import mesh as dmesh

import mfg_fem as mfg
from mfg_fem._compat import geometry_dofmap

pytest.importorskip("gmsh")
shapely = pytest.importorskip("shapely")
ezdxf = pytest.importorskip("ezdxf")

COMM = MPI.COMM_WORLD
OFFICE = Path(mfg.__file__).parents[1] / "meshes" / "office.wkt"
HALL = "POLYGON ((0 0, 10 0, 10 5, 0 5, 0 0))"
EAST = {"east": ((10, 1), (10, 2))}
TURNS = np.array([[0, 1], [1, 2], [2, 0]])
CIRCLE = shapely.Point(0, 0).buffer(5)
# After JuPedSim's examples.
BOTTLENECK = """POLYGON ((-3.5 -2, 3.5 -2, 3.5 8, -3.5 8, -3.5 -2),
    (-0.7 -1.1, -0.25 -1.1, -0.25 -0.15, -0.4 0, -2.8 0, -2.8 6.7, -3.05 6.7, -3.05 -0.3, -0.7 -0.3,
     -0.7 -1.1),
    (0.25 -1.1, 0.7 -1.1, 0.7 -0.3, 3.05 -0.3, 3.05 6.7, 2.8 6.7, 2.8 0, 0.4 0, 0.25 -0.15,
     0.25 -1.1))"""
TWO_BOTTLENECKS = """GEOMETRYCOLLECTION (
    POLYGON ((-3.5 0, 3.5 0, 3.5 8, -3.5 8, -3.5 0)),
    POLYGON ((-0.6 -1, 0.6 -1, 0.6 0, -0.6 0, -0.6 -1)),
    POLYGON ((-3.5 -6, 3.5 -6, 3.5 -1, -3.5 -1, -3.5 -6)),
    POLYGON ((-0.4 -7, 0.4 -7, 0.4 -6, -0.4 -6, -0.4 -7)))"""
TEE = """GEOMETRYCOLLECTION (
    POLYGON ((0 6, 16 6, 16 9, 0 9, 0 6), (3 7, 4 7, 4 8, 3 8, 3 7)),
    POLYGON ((6.5 0, 9.5 0, 9.5 6, 6.5 6, 6.5 0), (7.7 2.5, 8.2 2.5, 8.2 3, 7.7 3, 7.7 2.5)))"""


@cache
def folder() -> Path:
    return Path(COMM.bcast(tempfile.mkdtemp() if COMM.rank == 0 else None))


def with_walls(*walls: str) -> str:
    """The hall with these lines in it."""
    return f"GEOMETRYCOLLECTION ({', '.join([HALL, *(f'LINESTRING ({w})' for w in walls)])})"


def written(name: str, text: str) -> Path:
    if COMM.rank == 0:
        (folder() / name).write_text(text)
    COMM.Barrier()
    return folder() / name


def geojson(*features: tuple[str, dict]) -> Path:
    """A file of these geometries, in WKT, with their properties."""
    found = [
        {
            "type": "Feature",
            "properties": properties,
            "geometry": json.loads(shapely.to_geojson(shapely.from_wkt(wkt))),
        }
        for wkt, properties in features
    ]
    return written("plan.geojson", json.dumps({"type": "FeatureCollection", "features": found}))


def dxf(unit: int, length: float, frame: bool = False) -> Path:
    """A hall with a pillar, a wall and a door, drawn in units of which a metre has `length`."""
    if COMM.rank == 0:
        document = ezdxf.new()
        document.units = unit
        space = document.modelspace()

        def polyline(layer, closed, *corners):
            space.add_lwpolyline(
                [(length * x, length * y) for x, y in corners],
                close=closed,
                dxfattribs={"layer": layer},
            )

        polyline("FLOOR", True, (0, 0), (10, 0), (10, 5), (0, 5))
        polyline("PILLARS", True, (4, 2), (5, 2), (5, 3), (4, 3))
        polyline("WALLS", False, (2, 0), (2, 4))
        polyline("Door east", False, (10, 1), (10, 2))
        if frame:
            polyline("FRAME", True, (-5, -5), (15, -5), (15, 15), (-5, 15))
        space.add_text("a hall")
        document.saveas(folder() / "plan.dxf")
    COMM.Barrier()
    return folder() / "plan.dxf"


def architects_dxf() -> Path:
    """A hall in millimetres with chairs, tables and columns that are blocks, and annotations."""
    if COMM.rank == 0:
        document = ezdxf.new(setup=True)
        document.units = 4
        space = document.modelspace()
        square = [(-0.25, -0.25), (0.25, -0.25), (0.25, 0.25), (-0.25, 0.25)]
        chair, table = document.blocks.new("CHAIR"), document.blocks.new("TABLE")
        chair.add_lwpolyline(square, close=True)
        table.add_circle((0, 0), 1.0, {"layer": "TABLES"})
        table.add_blockref("CHAIR", (2, 0), {"rotation": 90})
        table.add_attdef("NUMBER", (0, 0))
        outline = [(1e3 * x, 1e3 * y) for x, y in ((0, 0), (20, 0), (20, 10), (0, 10))]
        space.add_lwpolyline(outline, close=True, dxfattribs={"layer": "FLOOR"})
        put = {"xscale": 1e3, "yscale": 1e3, "layer": "CHAIRS"}
        rows = {"column_count": 3, "column_spacing": 2e3, "row_count": 2, "row_spacing": 2e3}
        space.add_blockref("CHAIR", (1e3, 1e3), put | rows)
        space.add_blockref("TABLE", (12e3, 5e3), put | {"xscale": -1e3, "layer": "FURNITURE"})
        arc = [(8e3, 8e3, 0, 0, 1), (9e3, 8e3, 0, 0, 0)]
        space.add_lwpolyline(arc, dxfattribs={"layer": "WALLS"})
        space.add_spline([(14e3, 8e3), (16e3, 9e3), (18e3, 8e3)], dxfattribs={"layer": "WALLS"})
        space.add_line((20e3, 4e3), (20e3, 5e3), {"layer": "DOOR"})
        space.add_hatch().paths.add_polyline_path(outline)
        space.add_linear_dim((0, -1e3), (0, 0), (20e3, 0)).render()
        space.add_mtext("a hall")
        document.saveas(folder() / "architect.dxf")
    COMM.Barrier()
    return folder() / "architect.dxf"


def plan(source, doors=None, **more):
    """How to get the domain of a plan, whose source may be a function."""
    more.setdefault("size", 1.0)
    return lambda: mfg.read_plan(source() if callable(source) else source, doors, **more)


ON_LAYERS = {"outline": "FLOOR", "obstacles": ["PILLARS"], "walls": "WALLS"}

# plan: (how to get it, its area, the measure of each boundary)
GOOD = {
    "a hall": (plan(HALL, EAST), 50, {"east": 1, "walls": 29}),
    "a shapely box": (
        plan(
            shapely.box(0, 0, 10, 5),
            {
                "two": shapely.MultiLineString([[(10, 1), (10, 2)], [(0, 1), (0, 3)]]),
                "one": shapely.LineString([(1, 0), (2, 0)]),
            },
        ),
        50,
        {"two": 3, "one": 1, "walls": 26},
    ),
    "millimetres": (
        plan("POLYGON ((0 0, 10000 0, 10000 5000, 0 5000, 0 0))", EAST, scale=1e-3),
        50,
        {"east": 1, "walls": 29},
    ),
    "a file, and a corner too many": (
        plan(lambda: written("a.WKT", HALL.replace(", 0 5,", ", 0 5, 0 1e-5,"))),
        50,
        {"walls": 30},
    ),
    "a height": (plan("POLYGON Z ((0 0 3, 10 0 3, 10 5 3, 0 5 3, 0 0 3))"), 50, {"walls": 30}),
    "bottleneck": (plan(BOTTLENECK, {"exit": ((-1, -2), (1, -2))}), 64.2725, None),
    "two bottlenecks": (
        plan(TWO_BOTTLENECKS, {"exit": ((-0.4, -7), (0.4, -7))}),
        93,
        {"exit": 0.8, "walls": 30 + 24 - 2.4 - 0.8 + 4},
    ),
    "a tee": (
        plan(TEE, {"exit": ((6.5, 0), (9.5, 0))}),
        64.75,
        {"exit": 3, "walls": 47 + 4 + 2},
    ),
    "an office": (
        plan(OFFICE, {"main": ((18, 4.4), (18, 5.6))}),
        176.8,
        {"main": 1.2, "walls": 159.2},
    ),
    # doors
    "a door beside its wall": (
        plan(HALL, {"a": ((10.2, 1), (10.2, 2))}),
        50,
        {"a": 1, "walls": 29},
    ),
    "a door drawn as a rectangle": (
        plan(HALL, {"a": [(9.9, 1), (10, 1), (10, 2), (9.9, 2)]}),
        50,
        {"a": 1, "walls": 29},
    ),
    "a door across a corridor": (
        plan("POLYGON ((0 0, 9 0, 9 1, 0 1, 0 0))", {"a": ((8.9, 0), (8.9, 1))}),
        9,
        {"a": 1, "walls": 19},
    ),
    "a door around a corner": (
        plan(HALL, {"a": [(10, 2), (10, 0), (9, 0)]}),
        50,
        {"a": 3, "walls": 27},
    ),
    "a door on an arc": (
        plan(CIRCLE, {"a": ((4.95, -1), (4.95, 1))}),
        CIRCLE.area,
        {"a": pytest.approx(10 * np.arcsin(0.2), rel=1e-3)},
    ),
    "two doors that touch": (
        plan(HALL, EAST | {"next": ((10, 2), (10, 4))}),
        50,
        {"east": 1, "next": 2, "walls": 27},
    ),
    "a door at the end of a wall": (
        plan(with_walls("5 0, 5 3"), {"a": ((4, 0), (6, 0))}),
        50,
        {"a": 2, "walls": 34},
    ),
    "a lift": (
        plan(
            "POLYGON ((0 0, 10 0, 10 5, 0 5, 0 0), (4 1, 6 1, 6 3, 4 3, 4 1))",
            {"lift": ((4, 1), (4, 2))},
        ),
        46,
        {"lift": 1, "walls": 37},
    ),
    # walls of no width, whose both sides count
    "a wall inside": (plan(with_walls("5 1, 5 4"), EAST), 50, {"east": 1, "walls": 35}),
    "a wall that nearly touches": (
        plan(with_walls("5 1e-9, 5 3"), EAST),
        50,
        {"east": 1, "walls": 35},
    ),
    "a wall shorter than a cell": (
        plan(with_walls("5 2, 5 2.5"), EAST),
        50,
        {"east": 1, "walls": 30},
    ),
    "walls that cross": (
        plan(with_walls("2 2, 8 2", "5 1, 5 4", "8 2, 4 2"), EAST),
        50,
        {"east": 1, "walls": 29 + 12 + 6},
    ),
    "a wall from outside": (
        plan(
            "GEOMETRYCOLLECTION (POLYGON ((0 0, 10 0, 10 5, 0 5, 0 0), (4 1, 6 1, 6 3, 4 3, 4 1)),"
            "LINESTRING (-2 2, 7 2))",
            EAST,
        ),
        46,
        {"east": 1, "walls": 29 + 8 + 2 * (4 + 1)},
    ),
    "an opening": (
        plan(with_walls("5 0, 5 5"), EAST | {"inner": ((5, 1), (5, 3))}),
        50,
        {"east": 1, "inner": 2, "walls": 35},
    ),
    "two parts with doors": (
        plan(with_walls("5 0, 5 5"), EAST | {"west": ((0, 1), (0, 2))}),
        50,
        {"east": 1, "west": 1, "walls": 38},
    ),
    # other files
    "geojson": (
        plan(
            lambda: geojson(
                (HALL, {"type": "room", "level": 1}),
                ("POLYGON ((4 2, 5 2, 5 3, 4 3, 4 2))", {"type": "pillar", "name": "bar"}),
                ("POLYGON ((7 2, 8 2, 8 3, 7 3, 7 2))", {"type": "obstacle"}),
                ("LINESTRING (2 0, 2 4)", {"name": "glass"}),
                ("LINESTRING (10 1, 10 2)", {"type": "door", "name": "east"}),
            )
        ),
        48,
        {"bar": 4, "glass": 8, "east": 1, "walls": 33},
    ),
    "dxf in millimetres": (plan(lambda: dxf(4, 1e3)), 49, {"Door east": 1, "walls": 41}),
    "dxf with blocks": (
        plan(architects_dxf),
        pytest.approx(200 - 7 * 0.25 - np.pi, abs=0.03),
        {"DOOR": 1},
    ),
    "dxf with blocks by layers": (
        plan(
            architects_dxf,
            layers={"outline": "FLOOR", "obstacles": ["CHAIRS", "FURNITURE"], "walls": "WALLS"},
        ),
        200 - 7 * 0.25,
        {"DOOR": 1},
    ),
    "dxf by layers": (
        plan(lambda: dxf(6, 1, frame=True), layers=ON_LAYERS),
        49,
        {"Door east": 1, "walls": 41},
    ),
}

# what is wrong: (attempt, words its message must have)
BAD = {
    "nothing": (plan(None), "NoneType.*path, WKT or a shapely"),
    "no file": (plan("nowhere.wkt"), "nowhere.wkt.*no such file"),
    "another ending": (plan(lambda: written("a.pdf", "")), r"\.pdf.*reads \.wkt"),
    "an empty file": (plan(lambda: written("b.wkt", "")), r"b\.wkt"),
    "no geojson": (plan(lambda: written("b.geojson", "[1]")), "no GeoJSON"),
    "no dxf": (plan(lambda: written("b.dxf", "hello")), "not a DXF"),
    "a layer that is not there": (
        plan(lambda: dxf(6, 1), layers={"outline": "A"}),
        "'A'.*FLOOR.*WALLS",
    ),
    "layers of wkt": (plan(HALL, layers=ON_LAYERS), r"layers=.*\.dxf"),
    "layers without outline": (plan(lambda: dxf(6, 1), layers={}), "outline"),
    "wkt cut off": (plan("POLYGON ((0 0, 1"), "expected|Expected"),
    "an empty polygon": (plan("POLYGON EMPTY"), "nobody"),
    "a line": (plan("LINESTRING (0 0, 1 1)"), "no polygon"),
    "a point": (plan("POINT (0 0)"), "Point"),
    "an eight": (plan("POLYGON ((0 0, 2 2, 2 0, 0 2, 0 0))"), r"Self-intersection at \(1, 1\)"),
    "not a number": (plan("POLYGON ((0 0, 2 0, nan 1, 0 0))"), "finite"),
    "millimetres": (
        plan("POLYGON ((0 0, 10000 0, 10000 5000, 0 5000, 0 0))"),
        r"is this in millimetres\? scale=0\.001",
    ),
    "millimetres in dxf": (plan(lambda: dxf(0, 1e3)), r"is this in millimetres\? scale=0\.001"),
    "a wrong unit in dxf": (plan(lambda: dxf(4, 1)), r"4\.9e-05 m2 .*header.*scale=1"),
    "degrees": (
        plan(lambda: geojson(("POLYGON ((8 50, 8.0004 50, 8 50.0003, 8 50))", {}))),
        "degrees",
    ),
    "levels": (plan(lambda: geojson((HALL, {"level": 0}), (HALL, {"level": 1}))), "'level': 0, 1"),
    "a slope": (plan("POLYGON Z ((0 0 0, 9 0 0, 9 9 1, 0 9 1, 0 0 0))"), r"z = .*1 at \(9, 9\)"),
    "an unknown type": (plan(lambda: geojson((HALL, {"type": "stair"}))), "'stair'.*pillar"),
    "all an obstacle": (plan(lambda: geojson((HALL, {}), (HALL, {"type": "obstacle"}))), "cover"),
    "a room nobody can leave": (
        plan(with_walls("5 0, 5 5"), EAST),
        r"2 parts.*of 25 m2, has no door",
    ),
    "rooms that only lead to each other": (
        plan(with_walls("3 0, 3 5", "6 0, 6 5"), EAST | {"inner": ((3, 1), (3, 2))}),
        "of 30 m2, has no door",
    ),
    "a sliver": (
        plan("POLYGON ((0 0, 9 0, 9 5, 5 5, 5 1e-4, 4 1e-4, 4 5, 0 5, 0 0))"),
        r"leaves 0\.0001 m at",
    ),
    "a thin floor": (plan("POLYGON ((0 0, 9e-4 0, 0 9e-4, 0 0))"), "thinner"),
    "a door in the middle": (
        plan(HALL, {"a": ((5, 2), (5, 3))}),
        "'a' from .*on no wall.*2.5 m away",
    ),
    "a door too far": (
        plan(HALL, {"a": ((10.3, 1), (10.3, 2))}),
        r"within 0\.25 m.*from \(10, 0\) to \(10, 5\), is 0\.3 m away",
    ),
    "a door too long": (plan(HALL, {"a": ((10, 2), (10, 7))}), "beside 2 m of it"),
    "a door of no width": (plan(HALL, {"a": ((10, 2), (10, 2))}), "no width"),
    "doors that overlap": (
        plan(HALL, EAST | {"b": ((10, 1.5), (10, 4))}),
        r"'east' and 'b' overlap at \(10, 1\.75\)",
    ),
    "a door named walls": (plan(HALL, {"walls": ((10, 1), (10, 2))}), "both named 'walls'"),
    "a door of text": (plan(HALL, {"a": "east"}), "'a' must be two ends"),
    "an area as a door": (plan(HALL, {"a": shapely.box(9, 1, 10, 2)}), "'a' is a polygon"),
    "a point as a door": (plan(HALL, {"a": (10, 1)}), "'a' must be two ends"),
    "doors a list": (plan(HALL, [((10, 1), (10, 2))]), "doors must be a dict"),
    "size zero": (plan(HALL, size=0), "size must be"),
    "size tiny": (plan(HALL, size=1e-4), "larger size"),
    "size at doors": (plan(HALL, size_at_doors=0), "size_at_doors must be"),
    "scale": (plan(HALL, scale=-1), "scale must be"),
}


def measured(name: str) -> tuple[float, dict[str, float]]:
    domain = GOOD[name][0]()
    return domain.volume(), {name: domain.measure(name) for name in domain.names}


def as_drawn(name: str, volume: float, names: dict[str, float]) -> bool:
    _, area, boundaries = GOOD[name]
    expected = boundaries or {}
    close = all(names[k] == pytest.approx(v, rel=1e-12) for k, v in expected.items())
    exact = isinstance(area, int | float)
    return volume == (pytest.approx(area, rel=1e-12) if exact else area) and close


@pytest.mark.parametrize("name", GOOD)
def test_a_plan_has_the_area_and_boundaries_that_are_drawn(name):
    assert as_drawn(name, *measured(name))


@pytest.mark.parametrize("wrong", BAD)
def test_a_plan_that_cannot_be_meant_is_refused_in_words(wrong):
    attempt, words = BAD[wrong]
    with pytest.raises(mfg.MeshError, match=f"(?s){words}"):
        attempt()


@cache
def on_two_ranks() -> dict[str, list]:
    return numbers_on(2, __file__, folder())


@serial_only
@pytest.mark.parametrize("name", GOOD)
def test_a_plan_is_the_same_on_two_ranks(name):
    assert as_drawn(name, *on_two_ranks()[name])


@serial_only
@pytest.mark.parametrize("wrong", BAD)
def test_a_plan_is_refused_alike_on_two_ranks(wrong):
    one, other = on_two_ranks()["refused"][wrong]
    assert one == other and one.startswith("MeshError:")


def longest_edge(domain: mfg.Domain, where=lambda x: True) -> float:
    mesh = domain.mesh
    edges = np.arange(mesh.topology.index_map(1).size_local, dtype=np.int32)
    middles = dmesh.compute_midpoints(mesh, 1, edges)
    lengths = mesh.h(1, edges)[[bool(where(x)) for x in middles]]
    return COMM.allreduce(lengths.max(initial=0.0), MPI.MAX)


def test_no_edge_is_longer_than_the_size_and_doors_have_finer_ones():
    domain = mfg.read_plan(HALL, EAST, size=0.8)
    at_door = longest_edge(domain, lambda x: x[0] == 10 and 1 < x[1] < 2)
    assert 0.4 < longest_edge(domain) <= 0.8 and at_door <= 0.26
    finer = mfg.read_plan(HALL, EAST, size=0.8, size_at_doors=0.1, size_at_walls=0.2)
    assert longest_edge(finer, lambda x: x[0] == 10 and 1 < x[1] < 2) <= 0.11
    assert longest_edge(finer, lambda x: x[0] == 0) <= 0.21


def test_what_a_dxf_has_besides_lines_is_told(caplog):
    mfg.read_plan(architects_dxf(), size=2.0)
    assert COMM.rank or "entities of the kinds HATCH are not read" in caplog.text


def test_the_few_long_edges_are_cut_and_no_angle_is_small():
    domain = mfg.read_plan(CIRCLE, {"a": ((4.95, -1), (4.95, 1))}, size=0.7)
    mesh = domain.mesh
    x, cells = mesh.geometry.x, geometry_dofmap(mesh)[: mesh.topology.index_map(2).size_local]
    a, b, c = (np.linalg.norm(x[cells[:, i]] - x[cells[:, j]], axis=1) for i, j in TURNS)
    angles = np.degrees(np.arccos((a**2 + b**2 - c**2) / (2 * a * b)))
    assert longest_edge(domain) <= 0.7 * (1 + 1e-12) and angles.min() > 15
    cells = COMM.allreduce(len(cells))
    assert cells < 1.9 * domain.volume() / (0.7**2 * 3**0.5 / 4)


def test_an_opening_lies_inside_and_a_wall_does_not():
    assert GOOD["an opening"][0]().inside == ("inner",)
    assert GOOD["a wall inside"][0]().inside == ()


def game(domain: mfg.Domain, people) -> mfg.MeanFieldGame:
    return mfg.MeanFieldGame(
        domain,
        horizon=8.0,
        diffusion=0.05,
        hamiltonian=lambda x, p, m: ufl.dot(p, p) / (2 * (1 + m)),
        running_cost=lambda x, t, m: 1 + 0.1 * m,
        terminal_cost=lambda x, m: 10.0,
        initial_density=people,
        population=5.0,
        boundary={"right": mfg.Exit()},
    )


@cache
def in_a_room(wall: str = "") -> mfg.Solution:
    """People in the left half of a room of 4 m x 3 m with an exit at its right, behind a wall."""
    room = "POLYGON ((0 0, 4 0, 4 3, 0 3, 0 0))"
    if wall:
        room = f"GEOMETRYCOLLECTION ({room}, LINESTRING ({wall}))"
    doors = {"right": ((4, 0), (4, 3)), "left": ((0, 0), (0, 3))}
    domain = mfg.read_plan(room, doors, size=0.4)
    return mfg.solve(game(domain, lambda x: ufl.exp(-((x[0] - 1) ** 2))), 4)


def test_a_game_on_a_plan_is_that_on_a_box():
    box = mfg.solve(game(mfg.box((4, 3), (13, 10)), lambda x: ufl.exp(-((x[0] - 1) ** 2))), 4)
    plan = in_a_room()
    assert plan.cost == pytest.approx(box.cost, rel=0.01)
    assert plan.gone["right"][2] == pytest.approx(box.gone["right"][2], rel=0.02)


def test_people_walk_around_the_end_of_a_wall():
    free, around = in_a_room(), in_a_room("2 0, 2 2.5")
    assert around.gone["right"][2] < 0.9 * free.gone["right"][2]
    assert around.gone["right"][-1] > 0.95 * 5


def test_people_pass_an_opening_and_nothing_is_suspect():
    room = "GEOMETRYCOLLECTION (POLYGON ((0 0, 4 0, 4 3, 0 3, 0 0)), LINESTRING (2 0, 2 3))"
    doors = {"right": ((4, 0), (4, 3)), "inner": ((2, 1), (2, 2))}
    domain = mfg.read_plan(room, doors, size=0.6)
    solution = mfg.solve(game(domain, lambda x: ufl.conditional(x[0] < 2, 1.0, 0.0)), 4)
    assert solution.gone["right"][-1] > 3 and not solution.warnings


@pytest.mark.filterwarnings("ignore:5 people")
def test_nobody_passes_a_wall():
    room = "GEOMETRYCOLLECTION (POLYGON ((0 0, 4 0, 4 3, 0 3, 0 0)), LINESTRING (2 0, 2 3))"
    domain = mfg.read_plan(room, {"right": ((4, 0), (4, 3)), "left": ((0, 0), (0, 3))}, size=0.6)
    solution = mfg.solve(game(domain, lambda x: ufl.conditional(x[0] < 2, 1.0, 0.0)), 4)
    assert solution.gone["right"][-1] < 1e-14
    assert "5 people are in parts of the domain" in solution.warnings[0]


def test_a_door_that_moved_is_told(caplog):
    mfg.read_plan(HALL, {"a": ((10.2, 1), (10.2, 2))}, size=1.0)
    assert COMM.rank or "'a' from (10.2, 1) to (10.2, 2) moved by 0.2 m" in caplog.text


def test_a_wall_outside_is_told(caplog):
    mfg.read_plan(with_walls("0 7, 10 7"), size=1.0)
    assert COMM.rank or "wall from (0, 7) to (10, 7) is none" in caplog.text


@pytest.mark.parametrize("package, source", [("shapely", HALL), ("ezdxf", "a.dxf")])
def test_without_a_package_the_error_says_what_to_install(monkeypatch, package, source):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(mfg.MissingPackage, match=f"pip install {package}"):
        mfg.read_plan(source)


if __name__ == "__main__":
    results = {name: measured(name) for name in GOOD}
    leave_numbers(
        results | {"refused": raised({name: attempt for name, (attempt, _) in BAD.items()})}
    )
