"""Intervals, rectangles and boxes with numbered sides."""

import math
import os
import sys
from collections.abc import Callable, Sequence
from numbers import Number

from mpi4py import MPI

import numpy as np

import dolfinx

from mfg_fem.errors import MeshError, alike, together
from mfg_fem.validate import is_integer, is_number

SIDES = ("left", "right", "bottom", "top", "back", "front")
BYTES = 200  # while a mesh is made, each simplex takes more than this


def make(lengths, cells, comm: MPI.Comm):
    """The mesh, its facet tags and the names of its sides: see `domain.box`. Collective."""
    with together(comm):
        sides, counts = _checked(lengths, cells, comm.size)
    alike(comm, lengths=sides, cells=counts)
    d = len(sides)

    # DOLFINx refuses lengths that are small in metres. A power of two changes no digit.
    lengths, exponents = np.frexp(np.array(sides, dtype=float))
    if d == 1:
        mesh = dolfinx.mesh.create_interval(comm, counts[0], [0.0, lengths[0]])
    else:
        create = dolfinx.mesh.create_rectangle if d == 2 else dolfinx.mesh.create_box
        mesh = create(comm, [np.zeros(d), lengths], counts)
    walls = []
    for k in range(2 * d):
        axis, wall, half = k // 2, k % 2 * lengths[k // 2], lengths[k // 2] / counts[k // 2] / 2
        found = dolfinx.mesh.locate_entities_boundary(
            mesh, d - 1, lambda x, axis=axis, wall=wall, half=half: abs(x[axis] - wall) < half
        )
        walls.append(found)
    facets = np.concatenate(walls)
    tags = np.repeat(np.arange(1, 2 * d + 1, dtype=np.int32), [len(found) for found in walls])
    order = np.argsort(facets)
    facet_tags = dolfinx.mesh.meshtags(mesh, d - 1, facets[order], tags[order])
    mesh.geometry.x[:, :d] = np.ldexp(mesh.geometry.x[:, :d], exponents)
    return mesh, facet_tags, {name: tag for tag, name in enumerate(SIDES[: 2 * d], start=1)}


def _checked(lengths, cells, ranks: int) -> tuple[list, list]:
    """Side lengths and numbers of cells, one for each dimension."""
    sides, counts = _numbers(lengths, is_number), _numbers(cells, is_integer)
    if not sides or len(sides) > 3 or not all(0 < side <= sys.float_info.max for side in sides):
        raise MeshError(f"box: lengths must be one to three positive numbers, not {lengths!r}.")
    d = len(sides)
    counts = counts * d if counts and len(counts) == 1 else counts
    if not counts or len(counts) != d or not all(n > 0 for n in counts):
        raise MeshError(f"box: cells must be {d} positive integers, or one, not {cells!r}.")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    most = min(2**31, memory // BYTES) * ranks
    if math.prod(counts) * math.factorial(d) > most:
        raise MeshError(
            f"box: more than {most:.3g} simplices do not fit into the memory of this machine on "
            f"{ranks} ranks. Take fewer cells, or more machines."
        )
    return [float(side) for side in sides], [int(n) for n in counts]


def _numbers(values, good: Callable) -> list | None:
    """One value or a sequence of them as a list; None unless all are good."""
    values = values.tolist() if isinstance(values, np.ndarray | np.generic) else values
    values = [values] if isinstance(values, Number) else values
    return list(values) if isinstance(values, Sequence) and all(map(good, values)) else None
