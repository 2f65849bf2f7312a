"""Products with functions on a uniform grid: Z^T M for sparse matrices M, Z^T r and Z y.

Dofs in one cell of the grid have the same functions, so that Z is made of small dense matrices,
whose products are faster than sparse ones.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from petsc4py import PETSc

import numpy as np

ROOM = 1 << 16  # entries of Z for cells that are multiplied at a time, so that they stay in cache


@dataclass(frozen=True)
class _Places:
    """Where the entries of matrices of one pattern go: into a dense array for each cell.

    Attributes:
        functions: of each column of these arrays, shape (cells, width), padded arbitrarily.
        taken: for each group of cells its entries, and their places in its arrays.
    """

    functions: np.ndarray
    taken: list[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class _Group:
    """Cells that are multiplied at a time.

    Attributes:
        cells: their numbers.
        Zt: Z^T of each, shape (cells, k, longest), padded with zeros.
        dofs: of each, shape (cells, longest), padded with the number of all dofs.
    """

    cells: slice
    Zt: np.ndarray
    dofs: np.ndarray


class Projection:
    """Products with this rank's rows of Z.

    Args:
        cell: number of the cell of each dof.
        columns, values: the functions in that cell and their values at the dof, shape (dofs, k).
        size: number of functions.
    """

    def __init__(self, cell: np.ndarray, columns: np.ndarray, values: np.ndarray, size: int):
        self.size = size
        self.places: dict[int, _Places] = {}  # by numbers of entries
        _, cell, counts = np.unique(cell, return_inverse=True, return_counts=True)
        # Cells with the fewest dofs come first: arrays of a group are as long as its longest.
        order = np.argsort(counts, kind="stable")
        self.cell, counts = np.argsort(order)[cell], counts[order]
        dofs, starts = np.argsort(self.cell, kind="stable"), np.cumsum([0, *counts])
        self.functions = columns[dofs[starts[:-1]]]
        self.row = np.empty(len(cell), int)  # of each dof in the array of its cell
        self.row[dofs] = np.arange(len(cell)) - starts[self.cell[dofs]]
        self.groups = []
        for first, last in _groups(counts, values.shape[1]):
            mine = dofs[starts[first] : starts[last]]
            Zt = np.zeros((last - first, values.shape[1], counts[last - 1]))
            Zt[self.cell[mine] - first, :, self.row[mine]] = values[mine]
            numbers = np.full((last - first, counts[last - 1]), len(cell))
            numbers[self.cell[mine] - first, self.row[mine]] = mine
            self.groups.append(_Group(slice(first, last), Zt, numbers))
        self.by_function = np.argsort(self.functions, axis=None, kind="stable")
        self.present, self.starts = np.unique(
            self.functions.ravel()[self.by_function], return_index=True
        )

    def restrict(self, r: np.ndarray) -> np.ndarray:
        """Z^T of each row of r, shape (rows, size)."""
        parts = np.empty((*self.functions.shape, len(r)))
        for group in self.groups:
            values = np.take(r, group.dofs, axis=1, mode="clip")
            np.matmul(group.Zt, values.transpose(1, 2, 0), out=parts[group.cells])
        sums = np.zeros((self.size, len(r)))
        if len(self.starts):
            parts = parts.reshape(-1, len(r))[self.by_function]
            sums[self.present] = np.add.reduceat(parts, self.starts)
        return sums.T

    def prolong(self, y: np.ndarray) -> np.ndarray:
        """Z times each row of y, shape (rows, dofs)."""
        v = np.empty((len(y), len(self.cell) + 1))  # the last column is for padding
        for group in self.groups:
            coefficients = y[:, self.functions[group.cells]].swapaxes(0, 1)
            v[:, group.dofs] = (coefficients @ group.Zt).swapaxes(0, 1)
        return v[:, :-1]

    def of(self, M: PETSc.Mat) -> np.ndarray:
        """Z^T M of this rank's rows; all M with equally many entries must have one pattern."""
        starts, columns, entries = M.getValuesCSR()
        places, products = self._of_pattern(starts, columns), [np.empty(0)]
        for group, (taken, where) in zip(self.groups, places.taken, strict=True):
            dense = np.zeros((*group.dofs.shape, places.functions.shape[1]))
            dense.ravel()[where] = entries[taken]
            products.append((group.Zt @ dense).ravel())
        sums = np.bincount(self._where(places), np.concatenate(products), self.size**2)
        return sums.reshape(self.size, self.size)

    def taken(self, M: PETSc.Mat) -> np.ndarray:
        """Which entries of `of(M)`, row by row, can be nonzero."""
        taken = np.zeros(self.size**2, bool)
        taken[self._where(self._of_pattern(*M.getRowIJ()))] = True
        return taken

    def _where(self, places: _Places) -> np.ndarray:
        """Where the entries of the cells' products go, row by row."""
        return (self.functions[:, :, None] * self.size + places.functions[:, None, :]).ravel()

    def _of_pattern(self, starts: np.ndarray, columns: np.ndarray) -> _Places:
        if len(columns) not in self.places:
            self.places[len(columns)] = self._places(starts, columns)
        return self.places[len(columns)]

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
        for group in self.groups:
            first, last = group.cells.start, group.cells.stop
            mine = by_cell[ends[first] : ends[last]]
            where = (cell[mine] - first) * group.dofs.shape[1] + self.row[row[mine]]
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
