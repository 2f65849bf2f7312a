"""Floor plans as files draw them: what is walkable, what stands in the way, walls and doors."""

import json
import logging
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import shapely
from shapely.geometry import shape as shape_of_json

from mfg_fem.errors import MeshError

log = logging.getLogger(__name__)

LARGEST = 1e6  # m^2: an area beyond it is drawn in another unit
DEGREES = 0.1  # a GeoJSON narrower than this is drawn in degrees
KINDS = {
    "area": ("area", "corridor", "floor", "hall", "room", "walkable"),
    "obstacle": ("column", "furniture", "hole", "obstacle", "pillar"),
    "wall": ("wall",),
    "door": ("door", "exit"),
}
WKT = re.compile(
    r"\s*(GEOMETRYCOLLECTION|(MULTI)?(POINT|LINESTRING|LINEARRING|POLYGON))\b", re.IGNORECASE
)


@dataclass(frozen=True)
class Shape:
    """A polygon or a line of a drawing: an "area", an "obstacle", a "wall" or a "door"."""

    kind: str
    name: str
    geometry: shapely.Geometry


@dataclass(frozen=True)
class Drawing:
    """A floor plan in metres.

    Attributes:
        area: the polygons where people walk, without what stands in their way.
        walls: lines of no width, by name.
        doors: lines, by name.
        obstacles: what stands in the way and has a name.
    """

    area: list[shapely.Polygon]
    walls: dict[str, list[shapely.LineString]] = field(default_factory=dict)
    doors: dict[str, list[shapely.LineString]] = field(default_factory=dict)
    obstacles: dict[str, list[shapely.Geometry]] = field(default_factory=dict)


def read(source, scale: float | None, layers) -> Drawing:
    """The drawing in a file, in WKT or in a shapely geometry.

    Raises:
        MeshError: it is no floor plan, or none of one flat floor.
        Exception: whatever shapely and ezdxf raise on a damaged file.
    """
    given, kind = scale, ""
    if isinstance(source, shapely.Geometry):
        shapes = _of_geometry(source)
    elif isinstance(source, str) and WKT.match(source):
        shapes = _of_wkt(source)
    elif not isinstance(source, str | os.PathLike):
        raise MeshError(f"it is a {type(source).__name__}; pass a path, WKT or a shapely geometry.")
    else:
        path = Path(source).expanduser()
        kind = path.suffix.lower()
        if not path.is_file():
            raise MeshError(f"there is no such file (looked from {Path.cwd()}).")
        if kind == ".dxf":
            from mfg_fem.mesh import dxf

            drawn, scale = dxf.read(path, scale, layers)
            shapes = [Shape(*one) for one in drawn]
        elif kind == ".wkt":
            shapes = _of_wkt(path.read_text(encoding="utf-8-sig"))
        elif kind in (".geojson", ".json"):
            try:
                shapes = _of_json(json.loads(path.read_text(encoding="utf-8-sig")))
            except (AttributeError, KeyError, TypeError, ValueError) as exc:
                if isinstance(exc, MeshError):
                    raise
                raise MeshError(f"it is no GeoJSON: {type(exc).__name__} {exc}.") from exc
        else:
            kind = kind or "file without an ending"
            raise MeshError(f"it is a {kind}, and read_plan reads .wkt, .geojson and .dxf.")
    if layers is not None and kind != ".dxf":
        raise MeshError("layers= is for .dxf files, whose entities lie on layers.")
    drawing = _compose(shapes, 1.0 if scale is None else scale)
    area = sum(polygon.area for polygon in drawing.area)
    if area > LARGEST:
        raise MeshError(
            f"its area is {area:.3g} m2: is this in millimetres? scale=0.001 makes metres of them."
        )
    if kind in (".geojson", ".json") and given is None:
        extent = np.ptp(shapely.get_coordinates(drawing.area), axis=0).max()
        if extent < DEGREES:
            raise MeshError(
                f"it is {extent:.3g} m across: is this in degrees of longitude and latitude? "
                "Project it to metres first, or say scale=1 if it is in metres."
            )
    return drawing


def _of_wkt(text: str) -> list[Shape]:
    with np.errstate(invalid="ignore"):  # numbers that are none are refused below
        return _of_geometry(shapely.from_wkt(text))


def _of_geometry(geometry) -> list[Shape]:
    """Polygons are areas, and lines walls."""
    return [
        Shape("area" if part.geom_type == "Polygon" else "wall", "", part)
        for part in _parts(geometry)
    ]


def _parts(geometry) -> list:
    """The polygons and lines of a geometry."""
    if hasattr(geometry, "geoms"):
        return [part for member in geometry.geoms for part in _parts(member)]
    if geometry.geom_type not in ("Polygon", "LineString", "LinearRing"):
        raise MeshError(f"it has a {geometry.geom_type}; a floor plan has polygons and lines.")
    return [] if geometry.is_empty else [geometry]


def _of_json(found) -> list[Shape]:
    """Features are what their property "type" says; other polygons are areas, and lines walls."""
    if found["type"] not in ("FeatureCollection", "Feature"):
        return _of_geometry(shape_of_json(found))
    features = found["features"] if found["type"] == "FeatureCollection" else [found]
    shapes, levels = [], set()
    for feature in features:
        properties = feature.get("properties") or {}
        levels |= {str(properties[key]) for key in ("level", "floor") if key in properties}
        if len(levels) > 1:
            raise MeshError(
                f"it has the levels {', '.join(sorted(levels))}. A domain is one floor: keep the "
                "features of one level in the file, or draw the floors beside each other."
            )
        if feature.get("geometry"):
            for part in _parts(shape_of_json(feature["geometry"])):
                kind = _kind(properties.get("type"), part)
                shapes.append(Shape(kind, str(properties.get("name") or ""), part))
    return shapes


def _kind(word, part) -> str:
    """What a feature of this type is."""
    if word is None:
        return "area" if part.geom_type == "Polygon" else "wall"
    for kind, words in KINDS.items():
        if str(word).lower() in words:
            if part.geom_type != "Polygon":
                if kind in ("wall", "door"):
                    return kind
                raise MeshError(f"a feature of the type {word!r} at {_at(part)} is no polygon.")
            return "obstacle" if kind == "wall" else kind
    known = ", ".join(word for words in KINDS.values() for word in words)
    raise MeshError(f"a feature at {_at(part)} has the type {word!r}; known are {known}.")


def _compose(shapes: list[Shape], scale: float) -> Drawing:
    """The drawing that these shapes make, in metres."""
    x = np.nan_to_num(shapely.get_coordinates([s.geometry for s in shapes], include_z=True))
    low, high = (x[which(x[:, 2])] if len(x) else np.zeros(3) for which in (np.argmin, np.argmax))
    if low[2] < high[2]:
        raise MeshError(
            f"its heights go from z = {low[2]:g} at {_point(low)} to {high[2]:g} at "
            f"{_point(high)}: floors above each other, or a slope. A domain is flat: draw the "
            "floors beside each other, without z."
        )
    sorted_out: dict[str, dict[str, list]] = {kind: {} for kind in KINDS}
    for shape in shapes:
        part = shapely.force_2d(shape.geometry)
        if not np.isfinite(shapely.get_coordinates(part)).all():
            raise MeshError("it has coordinates that are not finite numbers.")
        part = shapely.transform(part, lambda x: x * scale)
        if part.geom_type != "Polygon" and not part.length:
            continue
        if not shapely.is_valid(part):
            reason, _, place = shapely.is_valid_reason(part).rstrip("]").partition("[")
            raise MeshError(
                f"an outline is not simple: {reason} at ({', '.join(place.split())}). Draw it "
                "without crossing itself; shapely.make_valid(polygon) may mend it."
            )
        sorted_out[shape.kind].setdefault(shape.name, []).append(part)
    areas, obstacles = (
        [part for parts in sorted_out[kind].values() for part in parts]
        for kind in ("area", "obstacle")
    )
    if not areas:
        raise MeshError("it has no polygon that is walkable: nobody can be anywhere.")
    area = shapely.union_all(areas)
    if obstacles:
        area = area.difference(shapely.union_all(obstacles))
    polygons = [part for part in shapely.get_parts([area]) if part.geom_type == "Polygon"]
    if not sum(part.area for part in polygons):
        raise MeshError("its walkable area is empty: obstacles cover it, or its polygons are flat.")
    doors = {name or "door": lines for name, lines in sorted_out["door"].items()}
    if any(line.geom_type == "Polygon" for lines in doors.values() for line in lines):
        raise MeshError("a door is drawn as a polygon; draw it as a line.")
    walls = {name or "walls": lines for name, lines in sorted_out["wall"].items()}
    named = {name: parts for name, parts in sorted_out["obstacle"].items() if name}
    return Drawing(polygons, walls, doors, named)


def _at(part) -> str:
    return _point(shapely.get_coordinates(part)[0])


def _point(x) -> str:
    return f"({x[0]:.6g}, {x[1]:.6g})"
