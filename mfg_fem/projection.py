"""The product Z^T M with functions on a uniform grid, for sparse matrices M.

Dofs in one cell of the grid have the same functions, so that small dense products will do: in 3D
they take less than half of the time of a sparse one.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from petsc4py import PETSc

import numpy as np

ROOM = 1 << 16  # numbers of Z for cells that are multiplied at a time, so that all stays in cache


@dataclass(frozen=True)
class _Places:
    """Where the entries of matrices of one pattern go: in a dense array for each cell.

    Attributes:
        functions: of each column of these arrays, shape (cells, width); any, where there are fewer.
        taken: for each group of cells its entries, and their places in its arrays.
    """

    functions: np.ndarray
    taken: list[tuple[np.ndarray, np.ndarray]]


class Projection:
    """Z^T M of one rank's rows.

    Args:
        cell: number of the cell of each dof.
        columns, values: the functions in that cell and their values at the dof, shape (dofs, k).
        size: number of functions.
    """

    def __init__(self, cell: np.ndarray, columns: np.ndarray, values: np.ndarray, size: int):
        self.size, self.places = size, {}
        _, cell, counts = np.unique(cell, return_inverse=True, return_counts=True)
        # Those with the fewest dofs first: arrays of a group are as long as its longest.
        order = np.argsort(counts, kind="stable")
        self.cell, counts = np.argsort(order)[cell], counts[order]
        dofs, starts = np.argsort(self.cell, kind="stable"), np.cumsum([0, *counts])
        self.functions = columns[dofs[starts[:-1]]]
        self.row = np.empty(len(cell), int)  # of each dof in the array of its cell
        self.row[dofs] = np.arange(len(cell)) - starts[self.cell[dofs]]
        self.groups = []  # of cells: the first, and Z^T of each
        for first, last in _groups(counts, values.shape[1]):
            mine = dofs[starts[first] : starts[last]]
            Zt = np.zeros((last - first, values.shape[1], counts[last - 1]))
            Zt[self.cell[mine] - first, :, self.row[mine]] = values[mine]
            self.groups.append((first, Zt))

    def of(self, M: PETSc.Mat) -> np.ndarray:
        """Z^T M for the sequential matrix M; all with as many entries have one pattern."""
        starts, columns, entries = M.getValuesCSR()
        if len(entries) not in self.places:
            self.places[len(entries)] = self._places(starts, columns)
        places, products = self.places[len(entries)], [np.empty(0)]
        for (_, Zt), (taken, where) in zip(self.groups, places.taken, strict=True):
            dense = np.zeros((len(Zt), Zt.shape[2], places.functions.shape[1]))
            dense.ravel()[where] = entries[taken]
            products.append((Zt @ dense).ravel())
        where = self.functions[:, :, None] * self.size + places.functions[:, None, :]
        sums = np.bincount(where.ravel(), np.concatenate(products), self.size**2)
        return sums.reshape(self.size, self.size)

    def _places(self, starts: np.ndarray, columns: np.ndarray) -> _Places:
        row = np.repeat(np.arange(len(self.cell)), np.diff(starts))
        cell, cells = self.cell[row], len(self.functions)
        used = np.zeros((cells, self.size), bool)
        used[cell, columns] = True
        numbers = np.cumsum(used, axis=1) - 1  # within a cell
        width = int(numbers.max(initial=0)) + 1
        functions, (of_cell, function) = np.zeros((cells, width), int), np.nonzero(used)
        functions[of_cell, numbers[of_cell, function]] = function
        by_cell = np.argsort(cell, kind="stable")
        ends, taken = np.cumsum([0, *np.bincount(cell, minlength=cells)]), []
        for first, Zt in self.groups:
            mine = by_cell[ends[first] : ends[first + len(Zt)]]
            where = (cell[mine] - first) * Zt.shape[2] + self.row[row[mine]]
            where = where * width + numbers[cell[mine], columns[mine]]
            taken.append((mine.astype(np.int32), where.astype(np.int32)))
        return _Places(functions, taken)


def _groups(counts: np.ndarray, functions: int) -> Iterator[tuple[int, int]]:
    """The first cell of each group and the one after it."""
    first = 0
    for last in range(1, len(counts) + 1):
        if last == len(counts) or (last + 1 - first) * counts[last] * functions > ROOM:
            yield first, last
            first = last
