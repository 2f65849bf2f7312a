"""Floor plans as files draw them: what is walkable, what stands in the way, walls and doors."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely
from shapely.geometry import shape as shape_of_json

from mfg_fem.errors import MeshError

LARGEST = 1e6  # m^2: an area beyond it is drawn in another unit
SMALLEST = 1.0  # m^2: an area below it is drawn in another unit than its header says
SLIVER = 1e-12  # of its squared length: an area below it is but rounding
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
    walls: dict[str, list[shapely.LineString]]
    doors: dict[str, list[shapely.LineString]]
    obstacles: dict[str, list[shapely.Geometry]]


def read(source, scale: float | None, layers) -> Drawing:
    """The drawing in a file, in WKT or in a shapely geometry.

    Raises:
        MeshError: it is no floor plan, or none of one flat floor.
        Exception: whatever shapely and ezdxf raise on a damaged file.
    """
    if layers is not None and not str(source).lower().endswith(".dxf"):
        raise MeshError("layers= is for .dxf files, whose entities lie on layers.")
    given, is_json = scale, False
    if isinstance(source, shapely.Geometry):
        shapes = _of_geometry(source)
    elif isinstance(source, str) and WKT.match(source):
        shapes = _of_wkt(source)
    elif isinstance(source, str | os.PathLike):
        shapes, scale = _of_file(Path(source).expanduser(), scale, layers)
        is_json = "json" in Path(source).suffix.lower()
    else:
        raise MeshError(f"it is a {type(source).__name__}; pass a path, WKT or a shapely geometry.")
    drawing = _compose(shapes, 1.0 if scale is None else scale)
    area = sum(polygon.area for polygon in drawing.area)
    if area > LARGEST:
        raise MeshError(
            f"its area is {area:.3g} m2: is this in millimetres? scale=0.001 makes metres of them."
        )
    if scale != given and area < SMALLEST:
        raise MeshError(
            f"its area is {area:.3g} m2 if a unit is {scale:g} m, as its header says. If that is "
            "wrong, say scale=1 for metres."
        )
    if is_json and given is None:
        extent = np.ptp(shapely.get_coordinates(drawing.area), axis=0).max()
        if extent < DEGREES:
            raise MeshError(
                f"it is {extent:.3g} m across: is this in degrees of longitude and latitude? "
                "Project it to metres first, or say scale=1 if it is in metres."
            )
    return drawing


def _of_file(path: Path, scale: float | None, layers) -> tuple[list[Shape], float | None]:
    """What a file draws, and the length of its unit in metres if that is known."""
    kind = path.suffix.lower()
    if not path.is_file():
        raise MeshError(f"there is no such file (looked from {Path.cwd()}).")
    if kind == ".dxf":
        from mfg_fem.mesh import dxf

        shapes, scale = dxf.read(path, scale, layers)
        return [Shape(*shape) for shape in shapes], scale
    if kind not in (".wkt", ".geojson", ".json"):
        kind = kind or "file without an ending"
        raise MeshError(f"it is a {kind}, and read_plan reads .wkt, .geojson and .dxf.")
    text = path.read_text(encoding="utf-8-sig")
    if kind == ".wkt":
        return _of_wkt(text), scale
    try:
        return _of_json(json.loads(text)), scale
    except MeshError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as exc:
        raise MeshError(f"it is no GeoJSON: {type(exc).__name__} {exc}.") from exc


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
    for key in ("level", "floor"):
        levels = {str((feature.get("properties") or {}).get(key, "")) for feature in features}
        if len(levels - {"", "None"}) > 1:
            raise MeshError(
                f"it has several of the property {key!r}: {', '.join(sorted(levels))}. A domain is "
                "one floor: keep the features of one level, or draw the floors beside each other."
            )
    shapes = []
    for feature in features:
        properties = feature.get("properties") or {}
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
            f"its heights go from z = {low[2]:g} at {place(low)} to {high[2]:g} at "
            f"{place(high)}: floors above each other, or a slope. A domain is flat: draw the "
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
            reason, _, where = shapely.is_valid_reason(part).rstrip("]").partition("[")
            raise MeshError(
                f"an outline is not simple: {reason} at ({', '.join(where.split())}). Draw it "
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
    polygons = [part for part in polygons if part.area > SLIVER * part.length**2]
    if not polygons:
        raise MeshError("its walkable area is empty: obstacles cover it, or its polygons are flat.")
    doors = {name or "door": lines for name, lines in sorted_out["door"].items()}
    if any(line.geom_type == "Polygon" for lines in doors.values() for line in lines):
        raise MeshError("a door is drawn as a polygon; draw it as a line.")
    walls = {name or "walls": lines for name, lines in sorted_out["wall"].items()}
    named = {name: parts for name, parts in sorted_out["obstacle"].items() if name}
    return Drawing(polygons, walls, doors, named)


def place(x) -> str:
    """Coordinates for a message, to a tenth of a millimetre."""
    return f"({x[0].round(4):.12g}, {x[1].round(4):.12g})"


def _at(part) -> str:
    return place(shapely.get_coordinates(part)[0])
