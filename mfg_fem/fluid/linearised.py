"""The Newton equation at a solution."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np

from mfg_fem.discrete.spacetime import SpaceTime
from mfg_fem.linear.coupled.formulations import FORMS, Equation
from mfg_fem.linear.level.sweeps import Sweeps
from mfg_fem.linear.plan import Plan
from mfg_fem.solution.solution import Solution


@contextmanager
def linearised(solution: Solution, krylov: str) -> Iterator:
    """This formulation of the Newton equation at a solution, during a with block. Collective."""
    levels, d = solution.levels, solution.discrete
    system = SpaceTime(d, solution.times)
    J = system.jacobian
    J.rule = replace(levels.rule, decay=J.rule.decay)
    try:
        system.linearise(np.stack([levels.u[None, :-1], levels.m[None, 1:]]))
        plan = Plan.of(J, krylov, {})
        with plan.in_force():
            sweeps = Sweeps(J, plan.sweep)
            scale = np.broadcast_to(system.row_scale(), system.shape)
            form = FORMS[krylov](Equation(J, plan, sweeps, scale, system.unit))
            yield form
            form.free()
            sweeps.destroy()
    finally:
        system.destroy()
        d.pattern.free_parts()
