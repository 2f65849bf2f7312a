"""The parts of a solve, for tests that look inside."""

from contextlib import contextmanager

import numpy as np

import mfg_fem as mfg
from mfg_fem import petsc
from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.discrete.spacetime import SpaceTime
from mfg_fem.linear.plan import LevelPlan, Plan
from mfg_fem.nonlinear.continuation import Path


def system_of(problem, steps: int, scheme=None) -> SpaceTime:
    """The space-time system with equal steps."""
    times = np.linspace(0, problem.horizon, steps + 1)
    return SpaceTime(Discretisation(problem, scheme or mfg.Monotone()), times)


def plan_of(system: SpaceTime, krylov: str = "auto", **options) -> Plan:
    """The plan of a solve with these PETSc options."""
    return Plan.of(system.jacobian, krylov, options)


@contextmanager
def level_plan(**options):
    """The plan of sweeps with these options alone, in force."""
    with petsc.options({f"sweep_{k}": v for k, v in options.items()}):
        yield LevelPlan.of("sweep_", linear=True)


def path_of(system: SpaceTime, method=None) -> Path:
    """The stages of a solve, none of which has begun; its plan has to be in force."""
    method = method or mfg.Newton()
    plan = Plan.of(system.jacobian, method.krylov, method.petsc_options)
    return Path(system, plan, method, lambda row, state: None)
