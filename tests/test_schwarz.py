"""The preconditioner of a level on several ranks: nearly as good as in serial.

Run as a script, this module counts iterations.
"""

from functools import cache

import numpy as np
import pytest
from cases import default
from ranks import leave_numbers, numbers_on, serial_only

import mfg_fem as mfg
from mfg_fem import petsc
from mfg_fem.discretisation import Discretisation
from mfg_fem.spacetime import SpaceTime
from mfg_fem.sweeps import Sweeps, iterative

DIFFUSIONS = (0.5, 0.1, 0.005)


def iterations(ranks: int, diffusion: float, name: str, **changes) -> list[float]:
    """BiCGStab's on two levels, going back and forth, and the largest relative residual.

    The blocks B have factors; the blocks A (`name`) take them transposed.
    """
    problem = default(mfg.box((1, 1), 48), diffusion=diffusion)
    system = SpaceTime(Discretisation(problem, mfg.Monotone()), steps=16)
    x = system.discrete.V.tabulate_dof_coordinates()[: system.owned]
    X = system.even_crowd()
    X[0] += np.linspace(0.1, 1, 16)[:, None] * np.cos(3 * x[:, 0]) * np.sin(4 * x[:, 1])
    system.linearise(X)
    options = iterative(2, ranks, 1e-8) | changes
    with petsc.options({}, {f"sweep_{k}": v for k, v in options.items()}):
        sweeps = Sweeps(system)
    rhs, counts, worst = np.sin(19 * x[:, 0]) * system.discrete.weights, [], 0.0
    norm = lambda y: np.sqrt(system.comm.allreduce(y @ y))  # noqa: E731
    for n in (2, 13, 2, 13):
        y = sweeps._solve_level(name, n, rhs, ())
        counts.append(sweeps.ksp.getIterationNumber())
        worst = max(worst, norm(system.mult(sweeps.blocks[name][n], y) - rhs) / norm(rhs))
    sweeps.destroy()
    system.destroy()
    return [*counts, worst]


@cache
def on(ranks: int) -> dict:
    return numbers_on(ranks, __file__, ranks)


@serial_only
@pytest.mark.parametrize("ranks", (2, 3))
@pytest.mark.parametrize("diffusion", map(str, DIFFUSIONS))
@pytest.mark.parametrize("name", "AB")
def test_ranks_hardly_add_iterations_where_block_jacobi_does(name, diffusion, ranks):
    serial, parallel = (sum(on(r)["default"][name][diffusion][:4]) / 4 for r in (1, ranks))
    assert parallel <= 1.5 * serial + 3  # three ranks are never cut in the same way twice
    if name == "B":  # A differs from the transpose of what its factors are made from, in serial too
        assert parallel <= 0.7 * sum(on(ranks)["block Jacobi"][name][diffusion][:4]) / 4


@serial_only
@pytest.mark.parametrize("ranks", (1, 2, 3))
@pytest.mark.parametrize("diffusion", map(str, DIFFUSIONS))
@pytest.mark.parametrize("name", "AB")
def test_levels_share_the_part_but_not_the_factors(name, diffusion, ranks):
    first, second, again, once_more, residual = on(ranks)["default"][name][diffusion]
    assert (first, second) == (again, once_more)
    assert residual <= 2e-8


if __name__ == "__main__":
    import sys

    ranks = int(sys.argv[2])
    choices = {"default": {}, "block Jacobi": {"pc_type": "bjacobi"}}  # with ILU(2) too
    leave_numbers(
        {
            choice: {
                name: {D: iterations(ranks, D, name, **options) for D in DIFFUSIONS}
                for name in "AB"
            }
            for choice, options in choices.items()
        }
    )
