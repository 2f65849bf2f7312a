"""What a Solution says of itself by public names.

Run as a script, this module leaves the nodes and the nodal values of some solutions.
"""

from mpi4py import MPI

import numpy as np
import pytest
from cases import default, gaussian
from ranks import leave_numbers, numbers_on, serial_only

import ufl

import mfg_fem as mfg


def wave(x):
    return 2 + ufl.sin(2 * ufl.pi * x[0])


CASES = {
    "square": lambda: mfg.solve(default(mfg.box((1.0, 1.0), 6)), 3),
    "P2": lambda: mfg.solve(default(mfg.box((1.0, 1.0), 4)), 3, mfg.Galerkin(2, "midpoint")),
    "circle": lambda: mfg.solve(default(mfg.box(1.0, 8, periodic=True), initial_density=wave), 3),
    "tube": lambda: mfg.solve(
        default(mfg.box((1.0, 1.0), 5, periodic=(True, False)), initial_density=wave), 3
    ),
}
COMM = MPI.COMM_WORLD


@pytest.mark.parametrize("case", CASES)
def test_nodal_values_are_those_of_the_functions_at_the_coordinates(case):
    solution = CASES[case]()
    x, u, m = solution.coordinates, solution.nodal_values, solution.nodal_densities
    assert u.shape == m.shape == (4, len(x)) and x.shape[1] == solution.problem.domain.dim
    for n in range(4):
        assert np.array_equal(u[n], solution.value(n).x.array[: len(x)])
        assert np.array_equal(m[n], solution.density(n).x.array[: len(x)])
    periodic = bool(solution.problem.domain.seams)
    expected = 2 + np.sin(2 * np.pi * x[:, 0])
    if not periodic:
        expected = np.exp(-((x - 0.5) ** 2).sum(axis=1) / 0.08)
    ratio = m[0] / expected
    assert np.ptp(ratio) < 1e-12 * ratio.max()


def test_nodal_values_cannot_be_overwritten():
    solution = CASES["square"]()
    for values in (solution.nodal_values, solution.nodal_densities):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 1.0


def test_smallest_and_largest_density_are_those_of_all_levels_and_ranks():
    solution = mfg.solve(default(mfg.box((1.0, 1.0), 6), initial_density=gaussian), 3)
    found = COMM.allgather(solution.nodal_densities)
    assert type(solution.max_density) is type(solution.min_density) is float
    assert solution.max_density == max(m.max(initial=-np.inf) for m in found)
    assert solution.min_density == min(m.min(initial=np.inf) for m in found)


@serial_only
def test_the_nodes_of_two_ranks_are_those_of_one():
    one, two = nodes(), numbers_on(2, __file__)
    for case in CASES:
        assert one[case]["x"] == two[case]["x"]
        assert two[case]["m"] == pytest.approx(one[case]["m"], rel=1e-9)
        assert two[case]["u"] == pytest.approx(one[case]["u"], rel=1e-9, abs=1e-9)


def nodes() -> dict[str, dict]:
    """Those of all ranks in order, and their values; on rank 0."""
    found = {}
    for case, solve in CASES.items():
        solution = solve()
        parts = COMM.gather((solution.coordinates, solution.nodal_values, solution.nodal_densities))
        if COMM.rank == 0:
            x, u, m = zip(*parts, strict=True)
            x, u, m = np.round(np.vstack(x), 9) + 0.0, np.hstack(u), np.hstack(m)
            order = np.lexsort(x.T)
            numbers = {"x": x[order], "u": u[-2, order], "m": m[-1, order]}
            found[case] = {name: values.ravel().tolist() for name, values in numbers.items()}
    return found


if __name__ == "__main__":
    leave_numbers(nodes())
