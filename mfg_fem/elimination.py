"""Block elimination from both ends of a block tridiagonal matrix, until they meet in the middle.

The two halves know nothing of each other before that, so that two ranks need half of the time and
memory each. Any further ranks wait for these two.
"""

from itertools import pairwise

from mpi4py import MPI

import numpy as np

# The matrix is factored in single precision, as it preconditions. What comes out is multiplied in
# double, so that it is linear to round-off.
PRECISION = np.float32
REGULARISATION = 10.0  # of the diagonal, in round-off: splines cut by the domain may be dependent


class Elimination:
    """A block tridiagonal matrix in time, factored. Collective, as are its methods.

    Args:
        comm: of the ranks, which all have the same matrix.
        steps: number of levels.
        samples: ascending levels, the first and the last among them, between which it is linear.
        blocks: at these levels, or one for all, shape (4, samples, size, size): `own` and `upper`,
            on the diagonal and to the right of it, `lower`, below it, and `after`, what the level
            adds to the diagonal of the next.

    Attributes:
        inverses: of what is eliminated at each level of this rank's halves, and in the middle.
    """

    def __init__(self, comm: MPI.Comm, steps: int, samples: np.ndarray, blocks: np.ndarray):
        self.comm, self.middle = comm, (steps - 1) // 2
        ends = range(self.middle), range(steps - 1, self.middle, -1)
        self.paths = [[*end, self.middle] for end in ends[comm.rank :: comm.size]]
        self.size, self.inverses = blocks.shape[-1], {}
        self._factor(*_sampled(samples, blocks))
        self.upper, self.lower = _sampled(samples, blocks[1:3].astype(float))

    def _factor(self, own, upper, lower, after):
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
                out, back = (upper, lower) if n < k else (lower, upper)
                eliminated = back.at(min(n, k)) @ inverse(n, eliminated) @ out.at(min(n, k))
            both += eliminated
        self.comm.Allreduce(MPI.IN_PLACE, both, MPI.SUM)
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
        x[self.middle] = self.inverses[self.middle] @ (z[self.middle] - both)
        for path in self.paths:
            for k, n in pairwise(reversed(path)):
                x[n] = self.inverses[n] @ (z[n] - self._times(n, k, x[k]))
        if self.comm.rank:
            x[self.middle] = 0.0  # one rank adds it
        self.comm.Allreduce(MPI.IN_PLACE, x, MPI.SUM)
        return x

    def _times(self, row: int, column: int, y: np.ndarray) -> np.ndarray:
        """The block off the diagonal times y."""
        return (self.upper if row < column else self.lower).times(min(row, column), y)


def _inverse(A: np.ndarray) -> np.ndarray:
    """The inverse, by halves: in a quarter of LAPACK's time, as nearly all of it are products.

    Between halves there is no pivoting, which A, about B B^T, does not need.
    """
    k = len(A) // 2
    if k < 16:
        return np.linalg.inv(A)
    top = _inverse(A[:k, :k])
    left, right = A[k:, :k] @ top, top @ A[:k, k:]
    bottom = _inverse(A[k:, k:] - left @ A[:k, k:])
    inverse = np.empty_like(A)
    inverse[k:, k:], inverse[k:, :k], inverse[:k, k:] = bottom, -bottom @ left, -right @ bottom
    inverse[:k, :k] = top - inverse[:k, k:] @ left
    return inverse


class _Sampled:
    """A matrix of each level, known at some of them, the first and the last too."""

    def __init__(self, samples: np.ndarray, matrices: np.ndarray):
        self.samples, self.matrices = samples, matrices

    def _between(self, n: int) -> tuple[int, float]:
        """The sample at or before level n, and how far level n is on the way to the next."""
        left = int(np.searchsorted(self.samples, n, side="right")) - 1
        span = self.samples[left : left + 2]
        # A float of Python, as one of numpy makes single matrices double.
        return left, float((n - span[0]) / max(span[-1] - span[0], 1))

    def at(self, n: int) -> np.ndarray:
        """The matrix of level n."""
        left, weight = self._between(n)
        if not weight:
            return self.matrices[left]
        return (1 - weight) * self.matrices[left] + weight * self.matrices[left + 1]

    def times(self, n: int, y: np.ndarray) -> np.ndarray:
        """The matrix of level n times y."""
        left, weight = self._between(n)
        product = self.matrices[left] @ y
        if weight:
            product += weight * (self.matrices[left + 1] @ y - product)
        return product


def _sampled(samples: np.ndarray, blocks: np.ndarray) -> list[_Sampled]:
    """Blocks of one name each, shape (names, samples, size, size); one sample may stand for all."""
    names, _, *shape = blocks.shape
    blocks = np.broadcast_to(blocks, (names, len(samples), *shape))
    return [_Sampled(samples, matrices) for matrices in blocks]
