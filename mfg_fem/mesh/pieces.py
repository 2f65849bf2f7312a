"""A floor plan as segments that meet at common ends only, each with the name of its boundary."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import shapely

from mfg_fem.errors import MeshError
from mfg_fem.mesh import segments
from mfg_fem.mesh.drawing import Drawing, place

log = logging.getLogger(__name__)

TOUCH = 1e-3  # of the size of cells: what is closer touches
REACH = 0.25  # of the width of a door: how far from its wall it may be drawn
FARTHEST = 0.5  # m: and no door farther
WALLS = "walls"


@dataclass(frozen=True)
class Pieces:
    """What a mesh generator draws.

    Attributes:
        x: coordinates of the ends of segments, shape (points, 2).
        polygons: of each polygon of the area, the outer ring and holes as lists of segments, in
            order; segments are numbers of rows of `ends`.
        inside: of each polygon, the segments of walls inside.
        ends: shape (segments, 2), points.
        names: of the boundary of each segment.
        doors: name -> width.
    """

    x: np.ndarray
    polygons: list[list[np.ndarray]]
    inside: list[np.ndarray]
    ends: np.ndarray
    names: np.ndarray
    doors: dict[str, float]

    def named(self, name: str) -> np.ndarray:
        """The segments of this boundary."""
        return np.flatnonzero(self.names == name)


def pieces(drawing: Drawing, doors: Mapping[str, list[np.ndarray]], size: float) -> Pieces:
    """Cut outlines and walls where they meet and where doors begin.

    Args:
        drawing: in metres.
        doors: name -> segments, each of shape (2, 2), besides those that are drawn.
        size: of cells.

    Raises:
        MeshError: parts that nearly touch, or a door that is on no wall or on another one.
    """
    tol = TOUCH * size
    area = [_cleaned(polygon, tol) for polygon in drawing.area]
    rings = [(k, ring) for k, p in enumerate(area) for ring in (p.exterior, *p.interiors)]
    outline, ring = _edges([line for _, line in rings])
    _check_gaps(outline, tol)
    walls, owner = _edges([line for lines in drawing.walls.values() for line in lines])
    of_walls = np.repeat([*drawing.walls], [len(lines) for lines in drawing.walls.values()])

    (outline, parents), (walls, wall) = segments.arrange(outline, walls, tol)
    keep = _inside(walls, area, outline, tol) & _first(walls)
    _warn_of_lost(drawing, set(owner[wall[keep]].tolist()))
    every = np.concatenate([outline, walls[keep]])
    ring = np.concatenate([ring[parents], np.full(np.sum(keep), -1)])
    names = _names_of_outline(outline, drawing, tol)
    names = np.concatenate([names, of_walls[owner[wall[keep]]]]).astype(object)

    drawn = {name: [*_edges(lines)[0]] for name, lines in drawing.doors.items()}
    places = {name: _on_walls(name, own, every, tol) for name, own in {**drawn, **doors}.items()}
    corners = np.unique(every.reshape(-1, 2), axis=0)
    points = np.concatenate([np.empty((0, 2)), *(own.reshape(-1, 2) for own in places.values())])
    points = segments.snapped(points, corners, every, tol)
    every, parents = segments.cut(every, points, tol)
    ring, names = ring[parents], names[parents]
    widths = _name_doors(names, places, every, tol)

    # A wall that is one edge of a cell would have the same two nodes on both sides.
    shut = (ring < 0) & ~np.isin(names, [*widths])
    short = np.linalg.norm(every[:, 1] - every[:, 0], axis=1) <= size
    every, parents = segments.cut(every, every[shut & short].mean(axis=1), tol)
    ring, names = ring[parents], names[parents]

    x, ends = np.unique(every.reshape(-1, 2), axis=0, return_inverse=True)
    ends = ends.reshape(-1, 2)
    polygons = [
        [np.flatnonzero(ring == r) for r, (owner, _) in enumerate(rings) if owner == k]
        for k in range(len(area))
    ]
    inner = np.flatnonzero(ring < 0)
    middles = every[inner].mean(axis=1)
    inside = [inner[shapely.contains_xy(polygon, *middles.T)] for polygon in area]
    return Pieces(x, polygons, inside, ends, names, widths)


def _edges(lines) -> tuple[np.ndarray, np.ndarray]:
    """The edges of lines, shape (edges, 2, 2), and the number of the line of each."""
    x = [shapely.get_coordinates(line) for line in lines]
    edges = [np.stack([own[:-1], own[1:]], axis=1) for own in x]
    numbers = np.repeat(np.arange(len(edges)), [len(own) for own in edges])
    return np.concatenate([np.empty((0, 2, 2)), *edges]), numbers


def _cleaned(polygon, tol: float):
    """The polygon without corners that are closer than `tol` to the one before."""
    try:
        cleaned = shapely.remove_repeated_points(polygon, tol)
    except shapely.GEOSException:  # a ring has vanished
        cleaned = shapely.Polygon()
    if cleaned.is_empty or not cleaned.is_valid:
        raise MeshError(
            f"a part of it at {place(shapely.get_coordinates(polygon)[0])} is thinner than "
            f"{tol:.3g} m, a thousandth of the size of cells. Leave it out, or take a smaller size."
        )
    if lost := shapely.get_num_coordinates(polygon) - shapely.get_num_coordinates(cleaned):
        log.warning("%d corners closer than %.3g m to the one before were left out.", lost, tol)
    return cleaned


def _check_gaps(outline: np.ndarray, tol: float):
    """Refuse parts of the outline that nearly touch: a corner beside an edge of which it is no end.

    Those that do touch, to rounding errors, are good.
    """
    corners = np.unique(outline.reshape(-1, 2), axis=0)
    lines = shapely.linestrings(outline)
    corner, edge = shapely.STRtree(lines).query(shapely.points(corners), "dwithin", tol)
    away = shapely.distance(shapely.points(corners[corner]), lines[edge])
    bad = np.flatnonzero(away > 1e-12 * np.abs(corners).max())
    if len(bad):
        raise MeshError(
            f"its outline leaves {away[bad[0]]:.3g} m at {place(corners[corner[bad[0]]])}, less "
            f"than {tol:.3g} m, a thousandth of the size of cells. Close the gap or widen it."
        )


def _inside(walls: np.ndarray, area, outline: np.ndarray, tol: float) -> np.ndarray:
    """Which pieces of walls lie in the area, and not along its outline."""
    if not len(walls):
        return np.empty(0, dtype=bool)
    middles = walls.mean(axis=1)
    inside = np.any([shapely.contains_xy(polygon, *middles.T) for polygon in area], axis=0)
    return inside & (segments.nearest(middles, outline)[1] > tol)


def _first(walls: np.ndarray) -> np.ndarray:
    """Which pieces are none that came before: walls may be drawn twice."""
    ends = np.sort(walls @ (1, 1j), axis=1)  # complex numbers, so that each end is one
    first = np.zeros(len(walls), dtype=bool)
    first[np.unique(ends, axis=0, return_index=True)[1]] = True
    return first


def _warn_of_lost(drawing: Drawing, kept: set[int]):
    """Warn of walls without a part inside."""
    lines = [line for lines in drawing.walls.values() for line in lines]
    for number in set(range(len(lines))) - kept:
        start, *_, end = shapely.get_coordinates(lines[number])
        log.warning(
            "The wall from %s to %s is none: it lies outside the area or along its outline.",
            place(start),
            place(end),
        )


def _names_of_outline(outline: np.ndarray, drawing: Drawing, tol: float) -> np.ndarray:
    """The obstacle that each piece of the outline is a side of, else "walls"."""
    names = np.full(len(outline), WALLS, dtype=object)
    middles = shapely.points(outline.mean(axis=1))
    for name, shapes in drawing.obstacles.items():
        names[shapely.distance(middles, shapely.union_all(shapes).boundary) <= tol] = name
    return names


def _on_walls(name: str, drawn: list[np.ndarray], walls: np.ndarray, tol: float) -> np.ndarray:
    """The parts of walls that a door stands for; refuses one that is beside no wall."""
    lengths = [float(np.linalg.norm(end - start)) for start, end in drawn]
    if not sum(lengths) > tol:
        raise MeshError(
            f"the door {name!r} at {place(drawn[0][0])} has no width. Give its two ends."
        )
    reach = min(REACH * sum(lengths), FARTHEST)
    found = []
    for door, length in zip(drawn, lengths, strict=True):
        if length <= tol:
            continue
        parts = segments.beside(door, walls, reach, tol)
        covered = np.abs(np.diff(parts @ (door[1] - door[0]), axis=1)).sum() / length
        if length - covered > reach:
            _, away, which = segments.nearest(door.mean(axis=0)[None], walls)
            start, end = walls[which[0]]
            raise MeshError(
                f"the door {name!r} from {place(door[0])} to {place(door[1])} is on no wall: "
                f"beside {length - covered:.3g} m of it there is none within {reach:.3g} m. The "
                f"nearest wall to its middle, from {place(start)} to {place(end)}, is "
                f"{away[0]:.3g} m away. Move the door there, or make it shorter."
            )
        away = segments.nearest(parts.reshape(-1, 2), door[None])[1].max(initial=0.0)
        if max(away, length - covered) > tol:
            log.warning(
                "The door %r from %s to %s moved by %.3g m onto its wall; of its %.3g m, %.3g m "
                "are at it.",
                *(name, place(door[0]), place(door[1]), away, length, covered),
            )
        found.append(parts)
    return np.concatenate(found)


def _name_doors(names: np.ndarray, places, every: np.ndarray, tol: float) -> dict[str, float]:
    """Give the pieces where doors are their names, and return the widths of the doors."""
    known = {WALLS, *names}
    widths: dict[str, float] = {}
    middles, lengths = every.mean(axis=1), np.linalg.norm(every[:, 1] - every[:, 0], axis=1)
    for name, own in places.items():
        if name in known:
            raise MeshError(f"a door and a wall or obstacle are both named {name!r}: rename one.")
        here = segments.nearest(middles, own)[1] <= tol
        for other in widths:
            if (both := here & (names == other)).any():
                raise MeshError(
                    f"the doors {other!r} and {name!r} overlap at {place(middles[both][0])}. Move "
                    "one of them, or make them one door."
                )
        names[here] = name
        widths[name] = float(lengths[here].sum())
    return widths
