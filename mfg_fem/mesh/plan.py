"""Floor plans: from a drawing in metres to a mesh with named doors and walls."""

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mpi4py import MPI

import numpy as np

from mfg_fem.errors import MeshError, needs, together
from mfg_fem.mesh.cracks import crack, rooms
from mfg_fem.mesh.domain import Domain, check_comm
from mfg_fem.mesh.gmsh import from_gmsh, gmsh_model
from mfg_fem.mesh.halves import shortened
from mfg_fem.mesh.simplices import Parts, Simplices, build, check
from mfg_fem.validate import number

PER_DOOR = 4  # cells across a door, unless the size of cells says more
GROWTH = 0.3  # cells may be larger by so much per metre from a door or a wall
FACTOR = 0.85  # of the size given to gmsh, which makes edges of about that length
LARGEST = 5e6  # cells: more take a mesh generator on one core too long
OPTIONS = {
    "Mesh.MeshSizeExtendFromBoundary": 0.0,
    "Mesh.MeshSizeFromPoints": 0.0,
    "Mesh.MeshSizeFactor": FACTOR,
}


def read_plan(
    source: Any,
    doors: Mapping[str, Any] | None = None,
    size: float = 0.5,
    *,
    size_at_doors: float | None = None,
    size_at_walls: float | None = None,
    scale: float | None = None,
    layers: Mapping[str, Any] | None = None,
    comm: MPI.Comm = MPI.COMM_WORLD,
) -> Domain:
    """Mesh a floor plan. Collective; the drawing is read on rank 0.

    Polygons are where people walk; what several cover is one area, and their holes are obstacles.
    Lines inside are walls of no width: density and value differ on their two sides. In GeoJSON a
    feature may say what it is by its property "type": area, room, floor, hall, corridor, walkable;
    obstacle, pillar, column, hole, furniture; wall; door, exit; its "name" is that of the boundary.
    In DXF the largest closed polyline is the outline, closed ones inside are obstacles, and other
    lines walls; lines on a layer "door..." are a door of this name. Blocks are read as what is in
    them, and arcs and splines become chords that are at most 1 cm off; hatches and texts are not
    read.

    The boundaries of the domain are the doors, obstacles and walls that have names, and "walls",
    the rest. A door need not be drawn exactly on its wall: it moves straight onto the nearest one
    that is at most a quarter of its width and half a metre away. A door in a wall inside is an
    opening: people walk through it, and it can be no Exit.

    Args:
        source: the path of a file (.wkt, .geojson, .dxf), WKT, or a shapely geometry.
        doors: name -> the two ends of a door, or several such pairs, or a shapely line; in metres.
            They take the place of doors of the same name in the drawing.
        size: the longest edge of the mesh, in metres.
        size_at_doors: about the size of cells at doors; a quarter of the door's width if not given.
            From doors and walls on, cells grow by 0.3 m per metre up to `size`.
        size_at_walls: about the size of cells at all walls; `size` if not given.
        scale: the length of the drawing's unit in metres; 1 if neither this nor a DXF says it.
        layers: for DXF: {"outline": ..., "obstacles": ..., "walls": ...}, a layer or several each;
            what is on other layers is not read, except doors.
        comm: the communicator that shares the mesh.

    Raises:
        MeshError: the file is no plan of one flat floor, or the plan cannot be meant as drawn.
        MissingPackage: shapely is not installed, or ezdxf for a .dxf.
    """
    check_comm(comm)
    is_path = isinstance(source, str | os.PathLike)
    with together(comm):
        if comm.rank == 0:
            needs("shapely", "shapely")
            if is_path and str(source).lower().endswith(".dxf"):
                needs("ezdxf", "ezdxf")
    parts = None
    label = source if is_path and "(" not in str(source) else "The floor plan"
    with together(comm, MeshError, f"{label} cannot be used"):
        if comm.rank == 0:
            sizes = {"size": size, "size_at_doors": size_at_doors, "size_at_walls": size_at_walls}
            parts = _mesh(source, _segments(doors), _optional("scale", scale), layers, sizes)
    domain = Domain(*build(comm, parts))
    return replace(domain, openings=domain.inside)


def _optional(name: str, value) -> float | None:
    """Check a number > 0, or None."""
    return None if value is None else number(name, value, above=True)


def _segments(doors) -> dict[str, list[np.ndarray]]:
    """The segments of each door, whatever way they were given."""
    if doors is None:
        return {}
    if not isinstance(doors, Mapping) or not all(isinstance(name, str) and name for name in doors):
        raise MeshError(
            'doors must be a dict such as {"main": ((0, 1), (0, 2))}: names, and ends in metres.'
        )
    return {name: _edges(name, lines) for name, lines in doors.items()}


def _edges(name: str, lines) -> list[np.ndarray]:
    """Segments of a line, of a list of lines or of a shapely line."""
    if hasattr(lines, "geoms"):
        return [edge for line in lines.geoms for edge in _edges(name, line)]
    if hasattr(lines, "exterior"):
        raise MeshError(
            f"the door {name!r} is a polygon. Give the two ends of the door on its wall, such as "
            "((0, 1), (0, 2)), in metres."
        )
    try:
        x = np.asarray(getattr(lines, "coords", lines), dtype=float)
        if x.ndim == 2 and x.shape[1] == 2 and len(x) > 1 and np.isfinite(x).all():
            return [*np.stack([x[:-1], x[1:]], axis=1)]
    except (TypeError, ValueError):
        x = np.empty(0)
    if isinstance(lines, list | tuple) and lines and x.ndim != 2:
        return [edge for line in lines for edge in _edges(name, line)]
    raise MeshError(
        f"the door {name!r} must be two ends such as ((0, 1), (0, 2)), a list of such pairs or a "
        f"shapely line, in metres; not {lines!r}."
    )


def _mesh(source, doors, scale, layers, sizes) -> Parts:
    """Read, draw, mesh and cut the floor plan. Not collective."""
    from mfg_fem.mesh import drawing, pieces

    size = number("size", sizes["size"], above=True)
    at_doors, at_walls = (_optional(name, sizes[name]) for name in [*sizes][1:])
    drawn = drawing.read(source, scale, layers)
    area = sum(polygon.area for polygon in drawn.area)
    if area / size**2 > LARGEST:
        raise MeshError(
            f"its {area:.3g} m2 would have more than {LARGEST:.0e} cells of the size {size:g} m. "
            "Take a larger size."
        )
    plan = pieces.pieces(drawn, doors, size)
    with gmsh_model(OPTIONS | {"Mesh.MeshSizeMax": size}) as gmsh:
        _draw(gmsh.model, plan)
        _grade(gmsh.model, plan, size, at_doors, at_walls)
        mesh = _generate(gmsh, size)
    mesh = crack(mesh, closed={name for name, *_ in mesh.groups} - set(plan.doors))
    _check_closed_rooms(mesh, plan.doors)
    return check(mesh)


def _draw(model, plan):
    """Points, lines and surfaces: tag k + 1 for row k of the plan."""
    for x in plan.x:
        model.geo.addPoint(*x, 0.0)
    for start, end in plan.ends + 1:
        model.geo.addLine(start, end)
    surfaces = []
    for rings in plan.polygons:
        loops = [model.geo.addCurveLoop([*(ring + 1)]) for ring in rings]
        surfaces.append(model.geo.addPlaneSurface(loops))
    model.geo.synchronize()
    for surface, walls in zip(surfaces, plan.inside, strict=True):
        if len(walls):
            model.mesh.embed(1, [*(walls + 1)], 2, surface)
    model.addPhysicalGroup(2, surfaces, name="floor")
    for name in dict.fromkeys([*plan.doors, *plan.names]):
        model.addPhysicalGroup(1, [*(plan.named(name) + 1)], name=name)


def _grade(model, plan, size: float, at_doors: float | None, at_walls: float | None):
    """Cells grow from doors and walls on."""
    fine = {name: min(at_doors or width / PER_DOOR, size) for name, width in plan.doors.items()}
    if at_walls is not None and at_walls < size:
        fine |= {name: at_walls for name in dict.fromkeys(plan.names) if name not in fine}
    fields = []
    field = model.mesh.field
    for name, own in fine.items():
        curves = plan.named(name)
        longest = np.linalg.norm(np.diff(plan.x[plan.ends[curves]], axis=1), axis=2).max()
        distance, threshold = field.add("Distance"), field.add("Threshold")
        field.setNumbers(distance, "CurvesList", [*(curves + 1)])
        field.setNumber(distance, "Sampling", 2 + np.ceil(longest / own))
        limits = {"SizeMin": own, "SizeMax": size, "DistMin": 0, "DistMax": (size - own) / GROWTH}
        for key, value in {"InField": distance, **limits}.items():
            field.setNumber(threshold, key, value)
        fields.append(threshold)
    finest = field.add("Min")
    field.setNumbers(finest, "FieldsList", fields)
    field.setAsBackgroundMesh(finest)


def _generate(gmsh, size: float) -> Simplices:
    """Mesh what is drawn; the few edges that are longer than the size are cut."""
    gmsh.model.mesh.generate(2)
    return shortened(from_gmsh(gmsh.model), size)


def _check_closed_rooms(mesh: Simplices, doors):
    """Refuse a part that nobody can leave while there are others."""
    from mfg_fem.mesh.drawing import place

    room = rooms(mesh)
    at_doors = [np.empty((0, 2), dtype=int)]
    at_doors += [facets for name, _, facets in mesh.groups if name in doors]
    facets, sides = np.unique(np.sort(np.concatenate(at_doors), axis=1), axis=0, return_counts=True)
    shut = np.setdiff1d(room, room[facets[sides == 1]])  # an opening inside has two sides
    if room.max() and len(shut):
        cells = mesh.cells[room[mesh.cells[:, 0]] == shut[0]]
        corners = mesh.x[cells][..., :2]
        area = np.abs(np.linalg.det(np.diff(corners, axis=1))).sum() / 2
        raise MeshError(
            f"{room.max() + 1} parts of its area are not connected, and the one around "
            f"{place(corners[0].mean(axis=0))}, of {area:.3g} m2, has no door. Give it one, leave "
            "a gap in its walls, or leave it out."
        )
