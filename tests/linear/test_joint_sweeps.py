"""Sweeps invert A and B where blocks between populations join their rows."""

from mpi4py import MPI

import numpy as np
import pytest
from parts import level_plan, system_of
from populations import Population, statement

import ufl

import mfg_fem as mfg
from mfg_fem.linear.level.sweeps import Sweeps
from mfg_fem.linear.plan import direct, iterative

RATES = {(0, 1): lambda x, t, m: 5 + m[1], (1, 2): 20.0, (2, 0): lambda x, t, m: 3 + x[0] * m[2]}
SCHEMES = [mfg.Monotone(), mfg.Sharp(), mfg.Galerkin(2, "midpoint")]


def crossed_system(scheme=None, discount: float = 0.0, n: int = 6):
    """One planner moves three populations that slow each other down and switch; one has an exit."""
    domain = mfg.box((1.0, 1.0), n, MPI.COMM_WORLD)
    crowds = [
        Population(
            domain,
            hamiltonian=lambda x, p, m: ufl.dot(p, p) / (1 + m[0] + m[1] / 2 + m[2]),
            running_cost=lambda x, t, m: m[0] * m[1] + x[0],
            boundary=boundary,
        )
        for boundary in ({}, {"right": mfg.Exit(0.5)}, {})
    ]
    problem = statement(*crowds, planner="all", discount=discount, rates=RATES)
    system = system_of(problem, 4, scheme)
    x = system.discrete.V.tabulate_dof_coordinates()[: system.owned]
    phases = np.arange(np.prod(system.shape[:3])).reshape(system.shape[:3])
    waves = np.sin(np.add.outer(phases, 3 * x[:, 0]) + 2 * x[:, 1])
    system.linearise(system.hold(1 + 0.3 * waves))
    return system


def defects(system, options: dict) -> list[float]:
    """Of B and A, relative to the right-hand side, as norms."""
    J = system.jacobian
    x = system.discrete.V.tabulate_dof_coordinates()[: system.owned]
    rows = np.sin(np.multiply.outer(np.arange(1.0, 13.0).reshape(3, 4), 3 * x[:, 0] + x[:, 1]))
    rows *= system.discrete.weights
    system.discrete.release(rows)
    with level_plan(**options) as plan:
        sweeps = Sweeps(J, plan)
        found = J.mult_B(sweeps.forward(rows)), J.mult_A(sweeps.backward(rows))
        sweeps.destroy()
    norm = lambda y: np.sqrt(system.comm.allreduce(np.vdot(y, y)))  # noqa: E731
    return [float(norm(y - rows) / norm(rows)) for y in found]


@pytest.mark.parametrize("discount", [0.0, 2.0])
@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_exact_sweeps_invert_rows_that_cross(scheme, discount):
    system = crossed_system(scheme, discount)
    assert system.jacobian.crosses("A") and system.jacobian.crosses("B")
    assert max(defects(system, direct(49, system.comm.size))) < 1e-10
    system.destroy()


def test_iterating_sweeps_solve_to_their_tolerance():
    system = crossed_system(mfg.Monotone(), n=12)
    for rtol in (1e-3, 1e-8):
        found = defects(system, iterative(2, system.comm.size, rtol))
        assert max(found) < 5 * rtol  # of four levels, each of which has the tolerance
    system.destroy()
