"""Block elimination of a block tridiagonal matrix from both ends, until they meet in the middle.

The halves are independent until then: two ranks need half the time and memory each. Further ranks
wait for these two.
"""

from dataclasses import dataclass
from itertools import pairwise

from mpi4py import MPI

import numpy as np

# Factors are in single precision, as the matrix preconditions. They are applied in double
# precision, so that this is linear to round-off.
PRECISION = np.float32
REGULARISATION = 10.0  # times round-off: splines cut by the domain may be dependent


class Elimination:
    """A block tridiagonal matrix in time, factored. Collective, as are its methods.

    Args:
        comm: the ranks, which all have the same matrix.
        steps: number of time levels.
        samples: ascending levels, first and last included, between which the matrix is linear.
        size: rows of a block.
        places: positions of entries in a block, row by row, one or more per row; the others are
            zero.
        blocks: these entries at these levels, or one for all, shape (4, samples, places): `own`, on
            the diagonal, `upper`, right of it, `lower`, below it, and `after`, which the level adds
            to the diagonal of the next.

    Attributes:
        inverses: of the Schur complement at each level of this rank's half, and in the middle.
    """

    def __init__(
        self,
        comm: MPI.Comm,
        steps: int,
        samples: np.ndarray,
        size: int,
        places: np.ndarray,
        blocks: np.ndarray,
    ):
        self.comm, self.middle = comm, (steps - 1) // 2
        ends = range(self.middle), range(steps - 1, self.middle, -1)
        self.paths = [[*end, self.middle] for end in ends[comm.rank :: comm.size]]
        self.size = size
        self.inverses: dict[int, np.ndarray] = {}
        entries = np.broadcast_to(blocks, (4, len(samples), len(places)))
        rows, columns = np.divmod(places, size)
        where = rows, columns, np.searchsorted(rows, np.arange(size))
        own, self.upper, self.lower, after = (_Sampled(samples, *where, y) for y in entries)
        self._factor(own, after)

    def _factor(self, own: "_Sampled", after: "_Sampled"):
        def inverse(n: int, eliminated: np.ndarray) -> np.ndarray:
            diagonal = own.at(n) - eliminated
            if n:
                diagonal += after.at(n - 1)
            diagonal[np.diag_indices(self.size)] *= 1 + REGULARISATION * np.finfo(PRECISION).eps
            found = _inverse(diagonal)
            self.inverses[n] = found.astype(float)
            return found

        both = np.zeros((self.size, self.size), PRECISION)
        for path in self.paths:
            eliminated = np.zeros_like(both)
            for n, k in pairwise(path):
                out, back = (self.upper, self.lower) if n < k else (self.lower, self.upper)
                eliminated = back.at(min(n, k)) @ inverse(n, eliminated) @ out.at(min(n, k))
            both += eliminated
        self.comm.Allreduce(MPI.IN_PLACE, both, MPI.SUM)
        if self.paths:
            inverse(self.middle, both)

    def solve(self, y: np.ndarray) -> np.ndarray:
        """The solution for the right-hand side y, shape (steps, size), the same on all ranks."""
        x, z, both = np.zeros_like(y), y.copy(), np.zeros(self.size)
        for path in self.paths:
            eliminated = np.zeros(self.size)
            for n, k in pairwise(path):
                z[n] -= eliminated
                eliminated = self._times(k, n, self.inverses[n] @ z[n])
            both += eliminated
        self.comm.Allreduce(MPI.IN_PLACE, both, MPI.SUM)
        for path in self.paths:
            x[self.middle] = self.inverses[self.middle] @ (z[self.middle] - both)
            for k, n in pairwise(reversed(path)):
                x[n] = self.inverses[n] @ (z[n] - self._times(n, k, x[k]))
        if self.comm.rank:
            x[self.middle] = 0.0  # rank 0 alone adds it
        self.comm.Allreduce(MPI.IN_PLACE, x, MPI.SUM)
        return x

    def _times(self, row: int, column: int, y: np.ndarray) -> np.ndarray:
        """An off-diagonal block times y."""
        return (self.upper if row < column else self.lower).times(min(row, column), y)


def _inverse(A: np.ndarray) -> np.ndarray:
    """The inverse by recursive halving: nearly all of it are matrix products, faster than LAPACK.

    There is no pivoting between halves, which A does not need as it is about B B^T. A singular A
    gives zero: it only preconditions, and the outer iteration notices.
    """
    inverse = _by_halves(A)
    return inverse if np.isfinite(inverse).all() else np.zeros_like(A)


def _by_halves(A: np.ndarray) -> np.ndarray:
    k = len(A) // 2
    if k < 16:
        try:
            return np.linalg.inv(A)
        except np.linalg.LinAlgError:
            return np.full_like(A, np.nan)
    top = _by_halves(A[:k, :k])
    left, right = A[k:, :k] @ top, top @ A[:k, k:]
    bottom = _by_halves(A[k:, k:] - left @ A[:k, k:])
    inverse = np.empty_like(A)
    inverse[k:, k:], inverse[k:, :k], inverse[:k, k:] = bottom, -bottom @ left, -right @ bottom
    inverse[:k, :k] = top - inverse[:k, k:] @ left
    return inverse


@dataclass(frozen=True)
class _Sampled:
    """A matrix per time level, by its entries at some levels; row j begins at `starts[j]`."""

    samples: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    starts: np.ndarray
    entries: np.ndarray

    def _at(self, n: int) -> np.ndarray:
        left = int(np.searchsorted(self.samples, n, side="right")) - 1
        if self.samples[left] == n:
            return self.entries[left]
        before, after = self.samples[left : left + 2]
        # A Python float: a NumPy scalar would turn single entries into double.
        weight = float((n - before) / (after - before))
        return (1 - weight) * self.entries[left] + weight * self.entries[left + 1]

    def at(self, n: int) -> np.ndarray:
        """The matrix of level n."""
        matrix = np.zeros((len(self.starts),) * 2, PRECISION)
        matrix[self.rows, self.columns] = self._at(n)
        return matrix

    def times(self, n: int, y: np.ndarray) -> np.ndarray:
        """The matrix of level n times y."""
        return np.add.reduceat(self._at(n) * y[self.columns], self.starts)
