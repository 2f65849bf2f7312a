"""The end of the time interval: terminal costs and what u is there."""

import ufl
from ufl.corealg.traversal import traverse_unique_terminals

from mfg_fem.forms.state import StepState


def terminal_costs(problem, state: StepState, y, frozen, made: dict, shadows: dict):
    """The terminal cost sum_i m_i g_i(x, seen) of densities y, and what shadow prices add to it.

    `seen` is as in A, and `made` has what stands for the quantities of the crowd.
    """
    costs, answered = ufl.zero(), ufl.zero()
    for i, population in enumerate(problem.populations):
        densities = problem.seen(i, state.seen(y), frozen)
        g = population.g(problem.x, problem.crowd(densities, made))
        costs += y[i] * g
        seen = {*traverse_unique_terminals(g)}
        for own, data, quantity in problem.quantities:
            if own == i and quantity in shadows and state.quantities[quantity] in seen:
                crowd = problem.crowd(densities)
                made_of = data.operand(quantity, x=problem.x, t=state.t, m=crowd)
                answered += shadows[quantity] * made_of
    return costs, answered


def terminal_value(problem, state: StepState) -> tuple[list, list[list], list, list[list]]:
    """u_i(T), its derivatives in m_j, g_i, and its derivatives in z and lambda of `feedback.py`.

    u_i(T) is the derivative of the terminal cost in m_i.
    """
    m = [ufl.variable(density) for density in state.densities]
    y = [ufl.variable(density) for density in m]
    made, shadows = (
        {quantity: ufl.variable(z) for quantity, z in functions.items()}
        for functions in (state.quantities, state.shadows)
    )
    total = sum(terminal_costs(problem, state, y, state.seen(m), made, shadows))
    u_T = [ufl.diff(total, density) for density in y]
    slopes = [[ufl.diff(value, density) for density in m] for value in u_T]
    crowd = problem.crowd(state.densities, state.quantities)
    g = [population.g(problem.x, crowd) for population in problem.populations]
    parameters = (*made.values(), *shadows.values())
    return u_T, slopes, g, [[ufl.diff(value, z) for z in parameters] for value in u_T]
