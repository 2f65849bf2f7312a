"""Floor plans in DXF, the format of CAD programs."""

import logging
from collections.abc import Iterable, Iterator

import ezdxf
import numpy as np
import shapely
from ezdxf import path, units

from mfg_fem.errors import MeshError

log = logging.getLogger(__name__)

KINDS = ("LINE", "LWPOLYLINE", "POLYLINE", "ARC", "CIRCLE", "ELLIPSE", "SPLINE")
ANNOTATIONS = ("ATTDEF", "DIMENSION", "LEADER", "MTEXT", "POINT", "TEXT")  # no walls anyway
SAG = 0.01  # m, how far a chord may be from the arc it stands for


def read(file, scale: float | None, layers) -> tuple[list[tuple], float]:
    """The shapes (kind, name, geometry) on the layers, and the length of the unit in metres."""
    document = ezdxf.readfile(file)
    if scale is None:
        unit = document.units
        scale = units.conversion_factor(unit, units.M) if unit else 1.0
        if unit not in (0, units.M):
            log.info("%s: the header says that a unit is %g m.", file, scale)
    lines: list[tuple[str, np.ndarray]] = []  # with their layers
    closed: list[tuple[str, np.ndarray]] = []
    doors: list[tuple[str, np.ndarray]] = []
    drawn = [*_exploded(document.modelspace())]
    if others := {entity.dxftype() for entity, _ in drawn} - {*KINDS, *ANNOTATIONS}:
        log.warning("%s: entities of the kinds %s are not read.", file, ", ".join(sorted(others)))
    drawn = [(entity, layer) for entity, layer in drawn if entity.dxftype() in KINDS]
    for entity, layer in drawn:
        corners = [*path.make_path(entity).flattening(SAG / scale)]
        x = np.array([tuple(corner) for corner in corners])
        if np.ptp(x[:, 2]) == 0 and x[0, 2] == 0:
            x = x[:, :2]
        gap, extent = np.ptp(x[[0, -1]], axis=0).max(), np.ptp(x, axis=0).max()
        is_closed = len(np.unique(x, axis=0)) > 2 and gap <= 1e-9 * extent
        is_door = layer.lower().startswith("door")
        (doors if is_door else closed if is_closed else lines).append((layer, x))
    if layers is None:
        polygons = sorted((shapely.Polygon(x) for _, x in closed), key=lambda p: -p.area)
        shapes = [("area", "", p) for p in polygons[:1]]
        shapes += [("obstacle", "", p) for p in polygons[1:] if p.intersects(polygons[0])]
        shapes += [("wall", "", shapely.LineString(x)) for _, x in lines]
    else:
        chosen = _layers(layers, {layer for _, layer in drawn})
        shapes = []
        for key, kind in (("outline", "area"), ("obstacles", "obstacle")):
            shapes += [(kind, "", shapely.Polygon(x)) for on, x in closed if on in chosen[key]]
        on_walls = [x for on, x in lines + closed if on in chosen["walls"]]
        shapes += [("wall", "", shapely.LineString(x)) for x in on_walls]
    if not any(kind == "area" for kind, *_ in shapes):
        raise MeshError(
            "it has no closed polyline for an outline"
            + (f" on {layers['outline']!r}." if layers else ".")
            + " Close the polyline in the CAD program."
        )
    return shapes + [("door", layer, shapely.LineString(x)) for layer, x in doors], scale


def _exploded(entities: Iterable) -> Iterator[tuple]:
    """Entities and their layers, with those of blocks in the place of the blocks.

    What a block has on the layer "0" is on the layer that the block is on.
    """
    for entity in entities:
        layer = entity.dxf.layer
        if entity.dxftype() != "INSERT":
            yield entity, layer
            continue
        for insert in entity.multi_insert() if entity.mcount > 1 else [entity]:
            for part, own in _exploded(insert.virtual_entities()):
                yield part, layer if own == "0" else own


def _layers(layers, there: set[str]) -> dict[str, tuple[str, ...]]:
    """The layers of each kind; refuses those that are not in the file."""
    kinds = ("outline", "obstacles", "walls")
    if not isinstance(layers, dict) or not {"outline"} <= set(layers) <= set(kinds):
        raise MeshError(
            f'layers must be a dict such as {{"outline": "A-FLOOR", "walls": ["A-WALL"]}}, with '
            f"the keys {', '.join(kinds)}, the first of them always; not {layers!r}."
        )
    chosen = {kind: layers.get(kind, ()) for kind in kinds}
    chosen = {
        k: (names,) if isinstance(names, str) else tuple(names) for k, names in chosen.items()
    }
    missing = {name for names in chosen.values() for name in names} - there
    if missing:
        raise MeshError(
            f"nothing lies on a layer {min(missing)!r}; its layers: {', '.join(sorted(there))}."
        )
    return chosen
