"""Segments in the plane: where they cross and touch, and which part of a wall a door is."""

import numpy as np
import shapely


def nearest(points: np.ndarray, segments: np.ndarray):
    """The nearest place on any of the segments, its distance and the number of its segment.

    Args:
        points: shape (points, 2).
        segments: their ends, shape (segments, 2, 2).
    """
    _, which = shapely.STRtree(shapely.linestrings(segments)).query_nearest(
        shapely.points(points), all_matches=False
    )
    start, end = segments[which, 0], segments[which, 1]
    along = end - start
    part = ((points - start) * along).sum(axis=1) / (along**2).sum(axis=1)
    places = start + part.clip(0, 1)[:, None] * along
    return places, np.linalg.norm(points - places, axis=1), which


def arrange(outline: np.ndarray, walls: np.ndarray, tol: float):
    """Cut the segments where they cross or touch, so that they meet at common ends only.

    What is closer than `tol` touches. Walls move onto the outline, which stays as it is.

    Args:
        outline: segments of the outline, shape (segments, 2, 2).
        walls: segments of walls, of the same shape.
        tol: a length.

    Returns:
        The pieces of the outline and of walls, and the number of the segment each is a piece of.
    """
    corners = np.unique(outline.reshape(-1, 2), axis=0)
    found = [walls.reshape(-1, 2), _crossings(walls, outline), _crossings(walls, walls)]
    found = snapped(np.concatenate(found), corners, outline, tol)
    walls = found[: 2 * len(walls)].reshape(-1, 2, 2)
    points = np.concatenate([corners, found])
    return cut(outline, points, tol), cut(walls, points, tol)


def snapped(points: np.ndarray, corners: np.ndarray, segments: np.ndarray, tol: float):
    """The points, moved by at most `tol` onto a corner, else a segment, else one another."""
    known, count = np.concatenate([corners, points]), len(corners)
    places, distances, _ = nearest(points, segments)
    result = np.empty_like(points)
    for number, point in enumerate(points):
        away = np.linalg.norm(known[:count] - point, axis=1)
        nearby = away.argmin()
        if away[nearby] > tol:
            known[count] = places[number] if distances[number] <= tol else point
            nearby, count = count, count + 1
        result[number] = known[nearby]
    return result


def cut(segments: np.ndarray, points: np.ndarray, tol: float) -> tuple[np.ndarray, np.ndarray]:
    """The pieces into which the points on them cut the segments, in order, and their segments."""
    pieces, owners = [], []
    near = shapely.STRtree(shapely.points(points)).query(
        shapely.linestrings(segments), "dwithin", 2 * tol
    )
    order = np.argsort(near[0], kind="stable")
    limits = np.searchsorted(near[0][order], np.arange(len(segments) + 1))
    for number, (start, end) in enumerate(segments):
        length = np.linalg.norm(end - start)
        if length <= tol:
            continue
        along = (end - start) / length
        here = points[near[1][order[limits[number] : limits[number + 1]]]]
        part, away = (here - start) @ along, np.abs((here - start) @ (-along[1], along[0]))
        on = (away <= tol) & (tol < part) & (part < length - tol)
        here, first = np.unique(here[on], axis=0, return_index=True)
        chain = np.array([start, *here[np.argsort(part[on][first])], end])
        pieces.append(np.stack([chain[:-1], chain[1:]], axis=1))
        owners.append(np.full(len(chain) - 1, number))
    none = np.empty(0, dtype=int)
    return np.concatenate([np.empty((0, 2, 2)), *pieces]), np.concatenate([none, *owners])


def beside(door: np.ndarray, walls: np.ndarray, reach: float, tol: float) -> np.ndarray:
    """The parts of walls, shape (parts, 2, 2), that a door drawn beside them stands for.

    They lie straight across from the door, at most `reach` away, on the nearest walls that are at
    less than 45 degrees to it; a part shorter than `tol` is none.
    """
    width = np.linalg.norm(door[1] - door[0])
    along = (door[1] - door[0]) / width
    ends = (walls - door[0]) @ along
    rise = ends[:, 1] - ends[:, 0]
    lengths = np.linalg.norm(walls[:, 1] - walls[:, 0], axis=1)
    aligned = np.abs(rise) > lengths / 2**0.5
    walls, ends, rise = walls[aligned], ends[aligned], rise[aligned]
    # Where each wall enters and leaves the strip before and behind the door.
    limits = np.stack([-ends[:, 0], width - ends[:, 0]], axis=1) / rise[:, None]
    limits = np.sort(limits, axis=1).clip(0, 1)
    steps = walls[:, 1] - walls[:, 0]
    parts = walls[:, :1] + limits[..., None] * steps[:, None]
    spans = np.sort((parts - door[0]) @ along, axis=1)
    away = np.abs((parts - door[0]) @ (-along[1], along[0]))
    taken: list[int] = []
    for number in np.argsort(away.mean(axis=1), kind="stable"):
        low, high = spans[number]
        free = all(min(high, spans[k, 1]) - max(low, spans[k, 0]) <= tol for k in taken)
        if free and high - low > tol and away[number].max() <= reach:
            taken.append(number)
    return parts[taken]


def _crossings(walls: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Places where walls cross other segments."""
    tree = shapely.STRtree(shapely.linestrings(others))
    which, other = tree.query(shapely.linestrings(walls), "intersects")
    start, along = walls[which, 0], walls[which, 1] - walls[which, 0]
    between, across = others[other, 0] - start, others[other, 1] - others[other, 0]
    area = _cross(along, across)
    with np.errstate(divide="ignore", invalid="ignore"):
        s, t = _cross(between, across) / area, _cross(between, along) / area
    meet = (s > 0) & (s < 1) & (t > 0) & (t < 1)
    return start[meet] + s[meet, None] * along[meet]


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
