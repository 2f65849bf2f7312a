"""Mesh files and arguments of domains: read right, or refused in words, on every rank alike.

Run as a script on several ranks, this module leaves what each mesh measured or raised.
"""

import logging
import sys
import tempfile
from functools import cache
from pathlib import Path

from mpi4py import MPI

import numpy as np
import pytest
from cases import default, evacuation
from ranks import leave_numbers, numbers_on, raised, serial_only

import dolfinx
from dolfinx import mesh as dmesh
from dolfinx.io import XDMFFile

import mfg_fem as mfg
from mfg_fem.io.archive import mismatch
from mfg_fem.mesh.locate import canonical_order
from mfg_fem.mesh.nodes import Nodes
from mfg_fem.plots.scene import Scene

pytest.importorskip("gmsh")

COMM = MPI.COMM_WORLD
SQUARE = ("0 0 0", "1 0 0", "1 1 0", "0 1 0")
NAMES = {(1, 9): "exit", (2, 8): "floor"}
FLOOR = ("2 2 8 6 1 2 3", "2 2 8 6 1 3 4")
EXIT = "1 2 9 1 1 2"  # the side of length one at the bottom; the other numbers are 2 3, 3 4, 4 1


@cache
def folder() -> Path:
    return Path(COMM.bcast(tempfile.mkdtemp() if COMM.rank == 0 else None))


def read(name: str, text: str | bytes) -> mfg.Domain:
    """The domain of a file with this text."""
    path = folder() / name
    if COMM.rank == 0:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    COMM.Barrier()
    return mfg.read_mesh(path, COMM)


def msh(elements, points=SQUARE, names=NAMES, numbers=None) -> str:
    """A mesh in the format MSH 2.2; an element is its kind, tags and nodes as they stand there."""
    lists = {
        "PhysicalNames": [f'{d} {n} "{name}"' for (d, n), name in names.items()],
        "Nodes": [f"{n} {x}" for n, x in zip(numbers or range(1, 99), points, strict=False)],
        "Elements": [f"{n} {element}" for n, element in enumerate(elements, start=1)],
    }
    text = "$MeshFormat\n2.2 0 8\n$EndMeshFormat\n"
    for section, lines in lists.items():
        text += "\n".join([f"${section}", str(len(lines)), *lines, f"$End{section}"]) + "\n"
    return text


def by_hand(*elements, **more):
    return lambda: read("hand.msh", msh(elements, **more))


def drawn(text: str, name: str = "drawn.geo"):
    return lambda: read(name, "SetFactory('OpenCASCADE');\n" + text)


RECTANGLE = "Rectangle(1) = {0, 0, 0, 2, 1}; MeshSize {:} = 0.5; Physical Surface('floor') = {1};\n"
RAMP = ("0 0 0", "4 0 3", "4 3 3", "0 3 0")
UPRIGHT = ("0 7 0", "4 7 0", "4 7 3", "0 7 3")
TENT = ("0 0 0", "1 0 0", "1 1 1", "0 1 0", "0 2 0")


@cache
def cracked(renumbered: bool) -> mfg.Domain:
    """A room of 4 x 3 with a wall of no thickness, 2.4 long, by gmsh's plugin Crack."""
    path = folder() / f"cracked{renumbered}.msh"
    if COMM.rank == 0:
        import gmsh

        gmsh.initialize(interruptible=False)
        gmsh.option.setNumber("General.Verbosity", 0)
        draw = gmsh.model.occ
        line = draw.addLine(draw.addPoint(2, 0.3, 0), draw.addPoint(2, 2.7, 0))
        draw.fragment([(2, draw.addRectangle(0, 0, 0, 4, 3))], [(1, line)])
        draw.synchronize()
        middles = {tag: draw.getCenterOfMass(1, tag) for _, tag in gmsh.model.getEntities(1)}
        floors = [tag for _, tag in gmsh.model.getEntities(2)]
        gmsh.model.addPhysicalGroup(2, floors, name="floor")
        for name, x in (("exit", 4.0), ("wall", 2.0)):
            here = [tag for tag, at in middles.items() if np.allclose(at, (x, 1.5, 0))]
            wall = gmsh.model.addPhysicalGroup(1, here, name=name)
        gmsh.option.setNumber("Mesh.MeshSizeMax", 0.6)
        gmsh.model.mesh.generate(2)
        gmsh.plugin.setNumber("Crack", "Dimension", 1)
        gmsh.plugin.setNumber("Crack", "PhysicalGroup", wall)
        gmsh.plugin.run("Crack")
        if renumbered:
            gmsh.model.mesh.renumberNodes()
        gmsh.write(str(path))
        gmsh.finalize()
    COMM.Barrier()
    return mfg.read_mesh(path, COMM)


def xdmf(dim: int, tags: bool = True) -> mfg.Domain:
    """A box written and read."""
    box, path = mfg.box((1.0,) * dim, 2, COMM), folder() / f"box{dim}.xdmf"
    box.mesh.topology.create_connectivity(dim - 1, dim)
    with XDMFFile(COMM, path, "w") as file:
        file.write_mesh(box.mesh)
        if tags:
            file.write_meshtags(box.facet_tags, box.mesh.geometry)
    return mfg.read_mesh(path, COMM)


def relabelled(names) -> mfg.Domain:
    """A square whose facets have the tags 1 to 4, with other names."""
    square = mfg.box((1, 1), 2)
    return mfg.Domain(square.mesh, square.facet_tags, names)


# mesh: (how to get it, its volume, measure of each name)
GOOD = {
    "plain": (by_hand(*FLOOR, EXIT), 1, {"exit": 1}),
    "no newline at the end": (lambda: read("a.msh", msh([*FLOOR, EXIT])[:-1]), 1, {"exit": 1}),
    "lines of Windows": (
        lambda: read("b.msh", msh([*FLOOR, EXIT]).replace("\n", "\r\n")),
        1,
        {"exit": 1},
    ),
    "an ending in capitals": (lambda: read("C.MSH", msh([*FLOOR, EXIT])), 1, {"exit": 1}),
    "gaps in the numbers of nodes": (
        by_hand(
            *("2 2 8 6 10 20 30", "2 2 8 6 10 30 4000000", "1 2 9 1 10 20"),
            numbers=(10, 20, 30, 4000000),
        ),
        1,
        {"exit": 1},
    ),
    "nodes in no cell": (by_hand(*FLOOR, EXIT, points=(*SQUARE, "5 5 5")), 1, {"exit": 1}),
    "a named point in no cell": (
        by_hand(*FLOOR, EXIT, "15 2 7 7 5", points=(*SQUARE, "0.5 0.5 0")),
        1,
        {"exit": 1},
    ),
    "a facet in two groups": (
        by_hand(
            *(*FLOOR, EXIT, "1 2 11 1 1 2", "1 2 10 2 3 4", "1 2 11 2 3 4"),
            names=NAMES | {(1, 10): "top", (1, 11): "all"},
        ),
        1,
        {"exit": 1, "top": 1, "all": 2},
    ),
    "a drawn facet in two groups": (
        drawn(RECTANGLE + "Physical Curve('one') = {1};\nPhysical Curve('two') = {1, 2};\n"),
        2,
        {"one": 2, "two": 3},
    ),
    "two statements on a last line that does not end": (
        drawn(RECTANGLE + "Physical Curve('one') = {1}; Physical Curve('two') = {1, 2};"),
        2,
        {"one": 2, "two": 3},
    ),
    "a cell in two groups": (
        by_hand(*FLOOR, *(e.replace("8", "7") for e in FLOOR)),
        1,
        {"exit": 0},
    ),
    "two groups of one name": (
        by_hand(*FLOOR, EXIT, "1 2 10 2 3 4", names=NAMES | {(1, 10): "exit"}),
        1,
        {"exit": 2},
    ),
    "two groups on one curve": (
        by_hand(*FLOOR, EXIT, "1 2 10 1 2 3", names=NAMES | {(1, 10): "other"}),
        1,
        {"exit": 1, "other": 1},
    ),
    "a group without a name": (by_hand(*FLOOR, EXIT, "1 2 10 2 3 4"), 1, {"exit": 1, "10": 1}),
    "an empty group": (
        by_hand(*FLOOR, EXIT, names=NAMES | {(1, 3): "shut"}),
        1,
        {"exit": 1, "shut": 0},
    ),
    "no groups at all": (by_hand("2 2 0 6 1 2 3", "2 2 0 6 1 3 4", names={}), 1, {}),
    "a line inside": (by_hand(*FLOOR, "1 2 9 1 1 3"), 1, {"exit": 2**0.5}),
    "cells the other way round": (by_hand("2 2 8 6 1 3 2", FLOOR[1], EXIT), 1, {"exit": 1}),
    "two parts that touch": (
        by_hand(
            *("2 2 8 6 1 2 3", "2 2 8 6 4 5 6", EXIT),
            points=("0 0 0", "1 0 0", "1 1 0", "0 0 0", "1 1 0", "0 1 0"),
        ),
        1,
        {"exit": 1},
    ),
    "a ramp": (by_hand(*FLOOR, "1 2 9 1 2 3", points=RAMP), 15, {"exit": 3}),
    "drawn upright": (by_hand(*FLOOR, "1 2 9 1 2 3", points=UPRIGHT), 12, {"exit": 3}),
    "a line in space": (
        by_hand(
            *("1 2 8 1 1 2", "1 2 8 1 2 3", "15 2 9 3 3"),
            points=("0 0 0", "1 2 2", "2 4 4"),
            names={(0, 9): "exit", (1, 8): "corridor"},
        ),
        6,
        {"exit": 1},
    ),
    "tetrahedra": (
        by_hand(
            *("4 2 8 1 1 2 4 5", "2 2 9 1 1 2 4"),
            points=(*SQUARE, "0 0 1"),
            names={(2, 9): "exit", (3, 8): "hall"},
        ),
        1 / 6,
        {"exit": 0.5},
    ),
    "curved cells": (
        drawn(
            "Disk(1) = {0, 0, 0, 1}; MeshSize {:} = 0.4; Mesh.ElementOrder = 2;"
            "Physical Surface('floor') = {1}; Physical Curve('exit') = {1};"
        ),
        pytest.approx(np.pi, rel=1e-3),
        {"exit": pytest.approx(2 * np.pi, rel=1e-3)},
    ),
    "a crack": (lambda: cracked(False), 12, {"exit": 3, "wall": 4.8}),
    "a crack, renumbered": (lambda: cracked(True), 12, {"exit": 3, "wall": 4.8}),
    "xdmf in 1D": (lambda: xdmf(1), 1, {"1": 1, "2": 1}),
    "xdmf in 2D": (lambda: xdmf(2), 1, {"1": 1, "2": 1, "3": 1, "4": 1}),
    "xdmf without tags": (lambda: xdmf(3, tags=False), 1, {}),
    "a name of several tags": (
        lambda: relabelled({"ends": (1, 2), "left": 1, "side": np.int32(3)}),
        1,
        {"ends": 2, "left": 1, "side": 1},
    ),
    "a tiny box": (
        lambda: mfg.box((1e-30, 2e-30), 2),
        2e-60,
        {"left": 2e-30, "right": 2e-30, "bottom": 1e-30, "top": 1e-30},
    ),
    "a thin box": (
        lambda: mfg.box((1.0, 1e-9), (np.int64(4), 2)),
        1e-9,
        {"left": 1e-9, "right": 1e-9, "bottom": 1, "top": 1},
    ),
    "a thin tube": (
        lambda: mfg.box((1.0, 1e-9), (4, 3), periodic=(True, False)),
        1e-9,
        {"bottom": 1, "top": 1},
    ),
    "a thin tube across": (
        lambda: mfg.box(np.array([1.0, 1e-9]), [4, 3], periodic=[False, True]),
        1e-9,
        {"left": 1e-9, "right": 1e-9},
    ),
    "a box of this rank": (lambda: mfg.box(1, 4, MPI.COMM_SELF), 1, {"left": 1, "right": 1}),
}


def other_tags(dim: int):
    square = mfg.box((1, 1), 2)
    return dmesh.meshtags(square.mesh, dim, np.arange(1, dtype=np.int32), np.int32([1]))


def domain_of(**arguments):
    """A domain with one argument wrong."""
    return lambda: mfg.Domain(mfg.box((1, 1), 2).mesh, **arguments)


def wrong_dimension() -> mfg.Domain:
    mesh = mfg.box((1, 1), 2).mesh
    return mfg.Domain(mesh, dmesh.meshtags(mesh, 0, np.int32([0]), np.int32([1])))


def float32() -> mfg.Domain:
    return mfg.Domain(dmesh.create_unit_square(COMM, 2, 2, dtype=np.float32))


def flattened() -> mfg.Domain:
    mesh = dmesh.create_unit_square(COMM, 2, 2)
    mesh.geometry.x[:, 1] = 0.0
    return mfg.Domain(mesh)


def torus_with_a_crack() -> mfg.Domain:
    """Two strips that touch: on either side of the seam two nodes lie in one place."""
    points = [f"{i % 4} {i // 4 - i // 8} 0" for i in range(16)]
    cells = []
    for first in (1, 2, 3, 9, 10, 11):
        cells += [f"2 2 8 6 {first} {first + 1} {first + 5}"]
        cells += [f"2 2 8 6 {first} {first + 5} {first + 4}"]
    return mfg.glue(by_hand(*cells, points=points)(), (True, False))


def box(*arguments, **keywords):
    return lambda: mfg.box(*arguments, **keywords)


QUADRILATERAL = "3 2 8 6 1 2 3 4"

# what is wrong: (attempt, words its message must have)
BAD = {
    # files
    "path none": (lambda: mfg.read_mesh(None), "path.*None"),
    "path a number": (lambda: mfg.read_mesh(3), "path.*3"),
    "path a folder": (lambda: mfg.read_mesh(folder()), "folder"),
    "path of nobody": (lambda: mfg.read_mesh("~nobody-at-all/a.msh"), "nobody-at-all"),
    "no file": (lambda: mfg.read_mesh("nowhere.xdmf"), "nowhere.xdmf.*does not exist"),
    "no communicator": (lambda: mfg.read_mesh("a.msh", None), "communicator.*NoneType"),
    "vtu": (lambda: read("a.vtu", "<VTKFile/>"), r"\.vtu.*meshio.*mfg.Domain"),
    "no ending": (lambda: read("mesh", ""), "without an ending"),
    "xdmf of nothing": (lambda: read("a.xdmf", "<Xdmf><Domain/></Xdmf>"), "0 meshes"),
    "xdmf damaged": (lambda: read("b.xdmf", "<Xdmf>"), r"b\.xdmf"),
    "msh cut off": (lambda: read("d.msh", msh([*FLOOR, EXIT])[:-40]), r"d\.msh"),
    "msh without cells": (by_hand("15 2 9 1 1"), "no cells"),
    # cells
    "quadrilaterals": (by_hand(QUADRILATERAL), "Quadrilateral.*triangles in 2D"),
    "triangles and quadrilaterals": (
        by_hand(*FLOOR, "3 2 8 6 2 5 6 3", points=(*SQUARE, "2 0 0", "2 1 0")),
        "Quadrilateral",
    ),
    "straight and curved cells": (
        by_hand(
            *(FLOOR[0], "9 2 7 7 1 3 4 5 6 7"),
            points=(*SQUARE, "0.5 0.5 0", "0.5 1 0", "0 0.5 0"),
        ),
        r"degrees \[1, 2\]",
    ),
    "boundaries only": (
        by_hand(EXIT, "2 2 0 6 1 2 3", names={(1, 9): "exit"}),
        "no physical group of dimension 2",
    ),
    "coordinates nan": (by_hand(*FLOOR, points=("0 0 0", "1 0 0", "nan 1 0", "0 1 0")), "finite"),
    "a bent surface": (by_hand("2 2 8 6 1 2 3", "2 2 8 6 1 3 4", points=TENT), "one plane"),
    "a floor above the other": (
        by_hand("2 2 8 6 1 2 3", "2 2 8 6 4 5 6", points=[*SQUARE[:3], "0 0 3", "1 0 3", "1 1 3"]),
        "one plane",
    ),
    "a bent line": (
        by_hand("1 2 8 6 1 2", "1 2 8 6 2 3", names={(1, 8): "corridor"}),
        "one line",
    ),
    "a cell of no area": (
        by_hand(*FLOOR, "2 2 8 6 1 2 5", points=(*SQUARE, "2 0 0")),
        r"1 of the cells.*at \(1, 0\)",
    ),
    "a corner twice": (by_hand(*FLOOR, "2 2 8 6 1 2 2"), "1 of the cells"),
    "a curved cell that folds": (
        by_hand("9 2 8 6 1 2 3 4 5 6", points=(*SQUARE[:3], "0.9 0.8 0", "1 0.5 0", "0.5 0.5 0")),
        "fold",
    ),
    "cells on top of each other": (
        by_hand(*FLOOR, "2 2 8 6 1 3 5", points=(*SQUARE, "0.9 0.1 0")),
        "on top of each other",
    ),
    # boundaries
    "a line across cells": (by_hand(*FLOOR, EXIT, "1 2 9 1 2 4"), "1 of the 2 .*'exit'"),
    "a line outside": (
        by_hand(*FLOOR, "1 2 9 1 5 6", points=(*SQUARE, "5 0 0", "6 0 0")),
        "1 of the 1 .*'exit'",
    ),
    "the number of a group as a name": (
        by_hand(*FLOOR, EXIT, "1 2 10 2 3 4", names={(1, 9): "10"}),
        "10 has no name",
    ),
    "an exit inside": (
        lambda: evacuation(by_hand(*FLOOR, "1 2 9 1 1 3")(), boundary={"exit": mfg.Exit()}),
        "'exit'.*inside",
    ),
    "an exit without facets": (
        lambda: default(
            by_hand(*FLOOR, names=NAMES | {(1, 3): "shut"})(), boundary={"shut": mfg.Exit()}
        ),
        "'shut'.*no facets",
    ),
    "a misspelt name": (lambda: mfg.box((1, 1), 2).measure("lfet"), "mean 'left'"),
    "no name at all": (lambda: mfg.box((1, 1), 2).facets(3), "No boundary is named 3"),
    # Domain
    "domain of a text": (lambda: mfg.Domain("hall.msh"), "mesh is a str"),
    "domain of float32": (float32, "float32.*float64"),
    "domain of a flat mesh": (flattened, "8 of the cells"),
    "tags an array": (domain_of(facet_tags=np.zeros(3)), "facet_tags is a ndarray"),
    "tags of another mesh": (domain_of(facet_tags=other_tags(1)), "another mesh"),
    "tags of vertices": (wrong_dimension, "dimension 0; facets of this mesh have 1"),
    "names a list": (domain_of(names=["left"]), "must be a dict"),
    "names of texts": (lambda: relabelled({"left": "1"}), "'left' to '1'"),
    "names of bools": (lambda: relabelled({"left": True}), "'left' to True"),
    "names that are numbers": (lambda: relabelled({3: 1}), "not 3 to 1"),
    "names of tags that are not there": (
        lambda: relabelled({"gate": 7}),
        "'gate'.*tag 7; facet_tags has 1, 2, 3, 4",
    ),
    "names without tags": (domain_of(names={"left": 1}), "without facet_tags"),
    # box and glue
    "lengths none": (box(None, 4), "lengths"),
    "lengths a text": (box("11", 4), "lengths"),
    "lengths nan": (box((1, float("nan")), 4), "lengths"),
    "lengths infinite": (box(float("inf"), 4), "lengths"),
    "lengths beyond floats": (box(10**400, 4), "lengths"),
    "lengths negative": (box(-1, 4), "lengths"),
    "lengths bool": (box(True, 4), "lengths"),
    "lengths of four axes": (box((1, 1, 1, 1), 4), "one to three"),
    "lengths of no axis": (box((), 4), "lengths"),
    "lengths in rows": (box([[1, 1]], 4), "lengths"),
    "cells bool": (box((1, 1), True), "cells"),
    "one of the cells bool": (box((1, 1), (4, np.True_)), "cells"),
    "cells a text": (box((1, 1), "44"), "cells"),
    "cells none": (box((1, 1), None), "cells"),
    "cells a float": (box((1, 1), (4, 4.0)), "cells"),
    "cells of other axes": (box((1, 1), (4, 4, 4)), "2 positive integers"),
    "cells beyond memory": (box((1, 1), 10**8), "memory"),
    "communicator none": (box(1, 4, None), "communicator.*NoneType"),
    "communicator null": (box(1, 4, MPI.COMM_NULL), "communicator"),
    "periodic none": (box(1, 4, periodic=None), "periodic must be"),
    "periodic a number": (box(1, 4, periodic=1), "periodic must be"),
    "periodic a text": (lambda: mfg.glue(mfg.box(1, 4), "x"), "periodic must be"),
    "glue of a text": (lambda: mfg.glue("hall.msh"), "domain is a str"),
    "glue across a crack": (torus_with_a_crack, "crack"),
}


def measured(mesh: str) -> tuple[float, dict[str, float]]:
    domain = GOOD[mesh][0]()
    return domain.volume(), {name: domain.measure(name) for name in domain.names}


def approximately(mesh: str):
    _, volume, names = GOOD[mesh]
    exact = (int, float)
    volume = pytest.approx(volume, rel=1e-12) if isinstance(volume, exact) else volume
    return volume, {
        name: pytest.approx(size, rel=1e-12) if isinstance(size, exact) else size
        for name, size in names.items()
    }


@pytest.mark.parametrize("mesh", GOOD)
def test_domain_has_its_volume_and_every_name_all_its_facets(mesh):
    assert measured(mesh) == approximately(mesh)


@pytest.mark.parametrize("wrong", BAD)
def test_bad_mesh_is_refused_in_words(wrong):
    attempt, words = BAD[wrong]
    with pytest.raises(mfg.MeshError, match=f"(?s){words}"):
        attempt()


def game(domain: mfg.Domain) -> mfg.MeanFieldGame:
    return default(domain, boundary={"exit": mfg.Exit()}, initial_density=lambda x: 1.0)


@cache
def on_two_ranks() -> dict[str, list]:
    """What each mesh measured and each mistake raised on each rank, by one run of this file."""
    solution = mfg.solve(game(cracked(True)), 2, mfg.Galerkin(2))
    solution.save(folder() / "cracked.npz")
    return numbers_on(2, __file__, folder(), timeout=400)


@serial_only
@pytest.mark.parametrize("mesh", GOOD)
def test_domain_is_the_same_on_two_ranks(mesh):
    volume, names = on_two_ranks()[mesh]
    assert (volume, names) == approximately(mesh)


@serial_only
@pytest.mark.parametrize("wrong", BAD)
def test_bad_mesh_is_refused_alike_on_two_ranks(wrong):
    one, other = on_two_ranks()[wrong]
    assert one == other and one.startswith("MeshError:")


@serial_only
def test_both_sides_of_a_crack_are_told_apart_on_other_ranks():
    """Nodes in one place have their own values: Newton has nothing to do with those of a file."""
    assert on_two_ranks()["iterations from a file"] == 0


def test_a_line_inside_is_said_to_be_no_boundary(caplog):
    domain = GOOD["a line inside"][0]()
    assert domain.inside == ("exit",)
    if COMM.rank == 0:
        assert "'exit' lie inside the domain" in caplog.text and "Crack" in caplog.text


@pytest.mark.parametrize("mesh", ["plain", "a crack", "two parts that touch", "a thin tube"])
def test_a_boundary_is_not_inside(mesh):
    assert GOOD[mesh][0]().inside == ()


def test_groups_without_names_are_told_once(caplog):
    GOOD["a group without a name"][0]()
    assert COMM.rank or [r.getMessage() for r in caplog.records] == [
        "Groups without a name are called by their numbers: 10."
    ]


@pytest.mark.parametrize("mesh, corner", [("a ramp", (5, 3)), ("drawn upright", (4, 3))])
def test_a_tilted_plane_keeps_x_along_the_slope(mesh, corner, caplog):
    x = GOOD[mesh][0]().mesh.geometry.x
    highest = np.max(COMM.allgather(x.max(axis=0, initial=-np.inf)), axis=0)
    np.testing.assert_allclose(highest, (*corner, 0), rtol=1e-14)
    assert COMM.rank or "tilted" in caplog.text


def test_coordinates_of_a_flat_mesh_keep_every_digit():
    points = ("0.1 0.2 0.7", "1.3 0.7 0.7", "1.1 1.9 0.7")
    x = by_hand("2 2 8 6 1 2 3", points=points)().mesh.geometry.x
    assert {tuple(p) for p in x[:, :2]} <= {(0.1, 0.2), (1.3, 0.7), (1.1, 1.9)}


def test_a_tag_of_one_group_is_its_number_in_the_file():
    assert set(by_hand(*FLOOR, EXIT)().names["exit"]) == {9}


def test_home_is_a_place_for_meshes(monkeypatch):
    read("plain.msh", msh(FLOOR))
    monkeypatch.setenv("HOME", str(folder()))
    assert mfg.read_mesh("~/plain.msh").volume() == pytest.approx(1)


def test_the_gmsh_session_of_the_caller_goes_on():
    import gmsh

    gmsh.initialize(interruptible=False)
    try:
        gmsh.model.add("mine")
        gmsh.option.setNumber("General.Verbosity", 0)
        by_hand(*FLOOR)()
        assert gmsh.model.getCurrent() == "mine" and "mfg_fem" not in gmsh.model.list()
        assert gmsh.option.getNumber("General.Verbosity") == 0
    finally:
        gmsh.finalize()


def test_exits_that_share_facets_share_no_people():
    names = {"all": (1, 2), "left": 1}
    solution = mfg.solve(evacuation(relabelled(names), boundary={n: mfg.Exit() for n in names}), 4)
    assert solution.gone["left"][-1] == 0 < solution.gone["all"][-1]
    assert np.abs(solution.balance).max() < 1e-12


def test_a_picture_shows_all_facets_of_an_exit_that_shares_them():
    domain = relabelled({"left": 1, "ends": (1, 2)})
    solution = mfg.solve(evacuation(domain, boundary={"ends": mfg.Exit()}), 2)
    plan = Scene(solution).plan
    if COMM.rank == 0:
        assert {name: len(pieces) for name, pieces in plan.exits.items()} == {"ends": 4}
        assert len(plan.walls) == 4


def test_order_of_nodes_does_not_depend_on_the_unit_of_an_axis():
    x = np.random.default_rng(0).random((50, 2))
    assert np.array_equal(canonical_order(x * [1.0, 1e-12]), canonical_order(x))


def test_a_file_of_a_thinner_box_is_of_another_mesh():
    V, thinner = (
        dolfinx.fem.functionspace(mfg.box((1.0, thickness), 2).mesh, ("Lagrange", 1))
        for thickness in (1e-9, 0.5e-9)
    )
    here, there = (Nodes(mfg.Domain(space.mesh), space).x for space in (V, thinner))
    assert COMM.rank or mismatch(there, here) > 0.1


def main():
    logging.disable()
    found = {}
    for mesh in GOOD:
        found[mesh] = measured(mesh)
        print(mesh, file=sys.stderr, flush=True)
    found |= raised({wrong: attempt for wrong, (attempt, _) in BAD.items()})
    place = Path(sys.argv[2])
    problem = game(mfg.read_mesh(place / "crackedTrue.msh"))
    saved = mfg.Solution.load(place / "cracked.npz", problem)
    again = mfg.solve(problem, 2, mfg.Galerkin(2), guess=saved)
    leave_numbers(found | {"iterations from a file": again.iterations})


if __name__ == "__main__":
    main()
