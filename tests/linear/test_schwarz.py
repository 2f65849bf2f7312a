"""The preconditioner of a level on several ranks: nearly as good as in serial.

Run as a script, this module counts iterations.
"""

from mpi4py import MPI

import numpy as np
import pytest
from cases import default
from parts import level_plan, system_of
from ranks import leave_numbers, numbers_on, once, serial_only

import mfg_fem as mfg
from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.discrete.spacetime import SpaceTime
from mfg_fem.linear.level.factors import Factors
from mfg_fem.linear.level.schwarz import Part
from mfg_fem.linear.level.sweeps import Sweeps
from mfg_fem.linear.plan import iterative

DIFFUSIONS = (0.5, 0.1, 0.005)
LAYERS = 4


def iterations(diffusion: float, choices: dict[str, dict]) -> dict:
    """Those of GMRES on two levels, going back and forth, and the largest relative residual.

    By choice of options and factors. Of A with its own factors, or with those of B transposed, as
    sweeps share them.
    """
    system = system_of(default(mfg.box((1, 1), 48), diffusion=diffusion), 16)
    x = system.discrete.V.tabulate_dof_coordinates()[: system.owned]
    X = system.even_crowd()
    X[0] += np.linspace(0.1, 1, 16)[:, None] * np.cos(3 * x[:, 0]) * np.sin(4 * x[:, 1])
    system.linearise(X)
    rhs = np.sin(19 * x[:, 0]) * system.discrete.weights
    found = {
        choice: {factors: solves(system, rhs, factors, options) for factors in ("own", "shared")}
        for choice, options in choices.items()
    }
    system.destroy()
    return found


def solves(system: SpaceTime, rhs, factors: str, options: dict) -> list[float]:
    with level_plan(**iterative(2, system.comm.size, 1e-8) | options) as plan:
        sweeps = Sweeps(system.jacobian, plan)
        if factors == "own":
            sweeps.factors["A"] = [Factors(system.discrete.pattern, system.jacobian.A[0], plan)]
            sweeps.factors["A"][0].share = 0.0
    norm = lambda y: np.sqrt(system.comm.allreduce(y @ y))  # noqa: E731
    counts, worst = [], 0.0
    for n in (2, 13, 2, 13):
        y = sweeps.solve_level("A", n, rhs[None])[0]
        counts.append(sweeps.ksp.getIterationNumber())
        left = system.jacobian.product(system.jacobian.A[0][n], y)
        worst = max(worst, norm(left - rhs) / norm(rhs))
    sweeps.destroy()
    return [*counts, worst]


def weights() -> list[float]:
    """How far they are from adding up to one, their extremes, and the least of a rank's own."""
    discrete = Discretisation(default(mfg.box((1, 1), 48)), mfg.Monotone())
    part, comm = Part(discrete.mass, LAYERS), discrete.comm
    part.x.array[:] = part.weights
    part.add_up(part.x, part.sums)
    first, last = discrete.mass.getOwnershipRange()
    rows = part.rows.getIndices()
    own = part.weights[(first <= rows) & (rows < last)]
    away = np.abs(part.sums.array_r - 1).max()
    most = (away, part.weights.max(), -part.weights.min(), -own.min())
    away, largest, least, least_own = (comm.allreduce(y, MPI.MAX) for y in most)
    return [away, largest, -least, -least_own]


def parts() -> int:
    """How many there are after two sets of factors have been made."""
    discrete = Discretisation(default(mfg.box((1, 1), 48)), mfg.Monotone())
    with level_plan(**iterative(2, discrete.comm.size, 1e-8)) as plan:
        first, second = (Factors(discrete.pattern, [discrete.mass], plan) for _ in "12")
    found = {id(factors.of(0).getPythonContext().part) for factors in (first, second)}
    first.destroy()
    second.destroy()
    return len(found)


@once
def on(ranks: int) -> dict:
    return numbers_on(ranks, __file__)


def mean(ranks: int, diffusion: str, choice: str, factors: str) -> float:
    return sum(on(ranks)["iterations"][diffusion][choice][factors][:4]) / 4


@serial_only
@pytest.mark.parametrize("ranks", (2, 3))
@pytest.mark.parametrize("diffusion", [str(D) for D in DIFFUSIONS])
def test_ranks_hardly_add_iterations_where_block_jacobi_does(diffusion, ranks):
    serial, parallel = (mean(r, diffusion, "default", "own") for r in (1, ranks))
    jacobi = mean(ranks, diffusion, "block Jacobi", "own")
    assert parallel <= 1.5 * serial + 1
    assert parallel <= 0.7 * jacobi


@serial_only
@pytest.mark.parametrize("ranks", (2, 3))
@pytest.mark.parametrize("diffusion", [str(D) for D in DIFFUSIONS])
def test_nor_do_they_with_the_factors_of_the_other_block(diffusion, ranks):
    serial, parallel = (mean(r, diffusion, "default", "shared") for r in (1, ranks))
    assert parallel <= 1.5 * serial + 3


def total(ranks: int, choice: str, kinds: tuple[str, ...] = ("own", "shared")) -> int:
    found = on(ranks)["iterations"].values()
    return sum(sum(of[choice][factors][:4]) for of in found for factors in kinds)


@serial_only
@pytest.mark.parametrize("factors", ("own", "shared"))
def test_more_layers_in_common_take_fewer_iterations_on_two_ranks(factors):
    more, fewer = (total(2, k, (factors,)) for k in ("default", "two layers"))
    assert more <= 0.98 * fewer  # to 1e-8; to the tolerance of sweeps the gain is larger


@serial_only
def test_more_layers_in_common_take_fewer_iterations_in_all():
    more, fewer = (sum(total(r, k) for r in (2, 3)) for k in ("default", "two layers"))
    assert more <= 0.98 * fewer  # to 1e-8; to the tolerance of sweeps the gain is larger


@serial_only
@pytest.mark.parametrize("ranks", (1, 2, 3))
def test_weights_add_up_to_one_and_fade_towards_the_edge(ranks):
    away, most, least, least_own = on(ranks)["weights"]
    assert away <= 1e-15
    assert most == 1.0
    if ranks == 1:
        assert least == 1.0
    else:  # of the last layer, against the one where its owner counts as one
        near = 1 / (LAYERS + 1) ** 2
        assert near / (ranks - 1 + near) <= 1.001 * least <= 1.002 * near / (1 + near)
        assert least_own >= 1 / ranks


@serial_only
def test_sweeps_share_a_part():
    assert on(2)["parts"] == 1


@serial_only
@pytest.mark.parametrize("ranks", (1, 2, 3))
def test_gmres_applies_them_less_often_than_bicgstab(ranks):
    gmres, bicgstab = (total(ranks, k) for k in ("default", "BiCGStab"))
    assert gmres <= 0.9 * 2 * bicgstab  # which applies them twice an iteration


@serial_only
@pytest.mark.parametrize("ranks", (1, 2, 3))
@pytest.mark.parametrize("diffusion", [str(D) for D in DIFFUSIONS])
@pytest.mark.parametrize("factors", ("own", "shared"))
def test_levels_share_the_part_but_not_the_factors(factors, diffusion, ranks):
    found = on(ranks)["iterations"][diffusion]["default"][factors]
    first, second, again, once_more, residual = found
    assert (first, second) == (again, once_more)
    assert residual <= 2e-8


if __name__ == "__main__":
    choices = {
        "default": {},
        "two layers": {"pc_asm_overlap": 2},
        "block Jacobi": {"pc_type": "bjacobi"},  # with ILU(2) too
        "BiCGStab": {"ksp_type": "bcgs", "ksp_pc_side": "right"},
    }
    leave_numbers(
        {
            "iterations": {D: iterations(D, choices) for D in DIFFUSIONS},
            "weights": weights(),
            "parts": parts() if MPI.COMM_WORLD.size > 1 else 0,
        }
    )
