"""The optimal drift of players."""

import ufl

from mfg_fem.forms.state import StepState


def drift(population, t, u, m):
    """The optimal drift -H_p(x, t, grad u, m)."""
    p = ufl.variable(ufl.grad(u))
    return -ufl.diff(population.H(population.x, t, p, m), p)


def state_drift(problem, state: StepState, i: int):
    """The optimal drift of population i in the fields of the state."""
    u, m = state.fields[2 * i], problem.crowd(state.densities, state.quantities)
    return drift(problem.populations[i], state.t, u, m)
