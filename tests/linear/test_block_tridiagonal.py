"""Block elimination from both ends: that of the whole matrix, on any number of ranks."""

from mpi4py import MPI

import numpy as np
import pytest
from ranks import leave_numbers, numbers_on, serial_only

from mfg_fem.linear.coupled import block_tridiagonal
from mfg_fem.linear.coupled.block_tridiagonal import Elimination, _inverse


def sampled(samples: list[int], size: int) -> np.ndarray:
    """Blocks at the samples, well conditioned, far from symmetric."""
    random = np.random.default_rng(7)
    blocks = random.standard_normal((4, len(samples), size, size)) / size
    blocks[0] += 3 * np.eye(size)
    blocks[:, :, 0, -1] = 0.0
    return blocks


def eliminated(levels: int, samples: list[int], blocks: np.ndarray) -> Elimination:
    """By the entries that are not zero in all blocks."""
    size = blocks.shape[-1]
    places = np.flatnonzero(blocks.any(axis=(0, 1)))
    entries = blocks.reshape(4, -1, size**2)[:, :, places].astype(block_tridiagonal.PRECISION)
    return Elimination(MPI.COMM_WORLD, levels, np.array(samples), size, places, entries)


def whole(levels: int, samples: list[int], blocks: np.ndarray) -> np.ndarray:
    """The matrix, with blocks on the way between samples."""
    size = blocks.shape[-1]
    at = np.empty((4, levels, size, size))
    for n in range(levels):
        k = max(np.searchsorted(samples, n, side="right") - 1, 0)
        after = min(k + 1, len(samples) - 1)
        weight = (n - samples[k]) / max(samples[after] - samples[k], 1)
        at[:, n] = (1 - weight) * blocks[:, k] + weight * blocks[:, after]
    own, upper, lower, adds = at
    A = np.zeros((levels, size, levels, size))
    for n in range(levels):
        A[n, :, n] += own[n]
        if n + 1 < levels:
            A[n, :, n + 1], A[n + 1, :, n] = upper[n], lower[n]
            A[n + 1, :, n + 1] += adds[n]
    return A.reshape(levels * size, -1)


def errors(monkeypatch) -> list[float]:
    """Of systems of so many levels with these samples, solved in double precision."""
    monkeypatch.setattr(block_tridiagonal, "PRECISION", np.float64)
    monkeypatch.setattr(block_tridiagonal, "REGULARISATION", 0.0)
    found = []
    for levels, samples in ((1, [0]), (2, [0, 1]), (3, [0, 2]), (8, [0, 3, 7]), (9, [0, 4, 8])):
        blocks = sampled(samples, 5)
        y = np.random.default_rng(8).standard_normal((levels, 5))
        x = eliminated(levels, samples, blocks).solve(y)
        found.append(abs(whole(levels, samples, blocks) @ x.ravel() - y.ravel()).max())
    return found


def held() -> list[list[int]]:
    """The levels whose inverses each rank has, of eight."""
    samples = [0, 7]
    return MPI.COMM_WORLD.allgather(sorted(eliminated(8, samples, sampled(samples, 3)).inverses))


@serial_only
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_solves_the_whole_system_and_two_ranks_share_the_levels(ranks):
    found = numbers_on(ranks, __file__)
    assert max(found["errors"]) <= 1e-12
    first, last, middle = [0, 1, 2], [4, 5, 6, 7], [3]
    expected = [first + middle, middle + last, []] if ranks > 1 else [first + middle + last]
    assert found["held"] == expected[:ranks]


@serial_only
@pytest.mark.parametrize("size", [1, 15, 33, 100])
def test_inverse_by_halves_is_the_inverse(size):
    B = np.eye(size) + 0.3 * np.random.default_rng(5).standard_normal((size, size))
    np.testing.assert_allclose(_inverse(B @ B.T), np.linalg.inv(B @ B.T), rtol=1e-6)


@serial_only
@pytest.mark.parametrize("size", [1, 15, 33, 100])
@pytest.mark.parametrize("entry", [0.0, np.nan])
def test_a_matrix_without_an_inverse_is_no_error(size, entry):
    assert not _inverse(np.full((size, size), entry)).any()


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch:
        found = errors(patch)
    leave_numbers({"errors": found, "held": held()})
