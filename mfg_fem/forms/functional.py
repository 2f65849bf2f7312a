"""One functional of a time step; the coupled system is its first variation.

With populations i = 1..k, D = diffusion, H = Hamiltonian, f = running cost and s = source of each,

    A(u, m; seen) = sum_i int D_i grad u_i . grad m_i
                        + m_i (H_i(x, grad u_i, seen) - f_i(x, t, seen)) - s_i u_i  dx
                  + sum_ij int lambda_ij(x, t, seen) m_i (u_i - u_j)  dx,

where people of population i switch to j at the rate lambda_ij.

    Hamilton-Jacobi-Bellman = dA/dm_i      Fokker-Planck = dA/du_i      Jacobian = second variation.

The fields are one blocked Function z = (u_1, m_1, ..., u_k, m_k), so that the residual rows of both
equations are one derivative of A, in the direction of a test function with u_i and m_i exchanged,
and the Jacobian is one derivative of these rows. Derivatives are taken in symbols of the
components, which the components of z replace in the end: UFL then sees which blocks vanish.

`seen` are the densities in the costs. A game freezes them while differentiating (a player does not
move the crowd), a control does not (the planner does): `problem.seen`. A scheme may replace D by a
larger tensor that depends on symbols for u and for densities at vertices. These are frozen in the
first derivatives, so that the Fokker-Planck matrix is the transpose of the frozen HJB linearisation
(exact mass, positivity), and differentiated in Newton's Jacobian. Achdou, Capuzzo-Dolcetta 2010;
Lasry, Lions 2007.

Continuation changes Constants and knows nothing of the user's callables: the viscosity factor
`stretch` multiplies the diffusion, the seen density is (1 - share) crowd + share m, where `crowd`
is the uniform density, and `limit` multiplies what a scheme takes out of its viscosity (`Sharp`).
"""

import ufl
from dolfinx import fem
from ufl.checks import is_cellwise_constant
from ufl.corealg.traversal import traverse_unique_terminals

from mfg_fem.forms.boundary import entering, hamiltonian, leaving, paid
from mfg_fem.forms.cell import at_nodes
from mfg_fem.forms.state import StepState
from mfg_fem.forms.tables import Tables


def symbols(V: fem.FunctionSpace, k: int) -> tuple[ufl.Coefficient, ...]:
    """One symbol for a function on V per population."""
    return tuple(ufl.Coefficient(V) for _ in range(k))


def cost_terms(population, standing, t, p, m, seen, tables: Tables) -> ufl.core.expr.Expr:
    """The terms of A that a population pays for, m (H(x, p, seen) - f(x, t, seen)), at p = grad u.

    A new cost is a new term here: the equations and the cost that is reported follow from it.
    """
    x = population.x
    H = hamiltonian(population, standing, x, t, p, seen)
    return m * (H - tables(population.f(x, t, seen)))


def functional(
    problem, scheme, state: StepState, u, m, frozen, tables: Tables
) -> tuple[list[ufl.Form], ...]:
    """A(u, m; seen) in forms: the costs, the terms at boundaries, and the diffusion.

    Either of the last two is an empty list if there is none, or if it is in the first.

    Here u and m are symbols of value functions and densities, and `frozen` has the symbols of what
    first derivatives leave alone: (w, crowd, corners, quantities) of u, of the seen densities, of
    the densities at the vertices of a cell, and of the quantities of the crowd.
    """
    x, t, (w, crowd, corners, quantities) = problem.x, state.t, frozen
    gradients, values = scheme.measures(problem.domain.mesh)
    around = state.around(problem, corners, quantities)
    costs, diffusion, boundary, constant = [], [], [], True
    for i, population in enumerate(problem.populations):
        densities = problem.seen(i, state.seen(m), crowd)
        seen = problem.crowd(densities, state.quantities)
        fields = ufl.grad(u[i]), ufl.grad(m[i])
        diffusion.append(scheme.diffusion(population, state, w[i], around, corners[i], *fields))
        if standing := state.standing.get(id(population)):
            fields = ufl.grad(u[i]), m[i]
            diffusion[-1] += scheme.standing(standing, state, w[i], around, corners[i], *fields)
        costs.append(cost_terms(population, standing, t, ufl.grad(u[i]), m[i], seen, tables))
        costs.append(-tables(population.s(x, t)) * u[i])
        costs += [
            tables(problem.rate(i, j, x, t, seen)) * m[i] * (u[i] - u[j])
            for first, j in problem.switches
            if first == i
        ]
        costs += [
            state.shadows[y] * data.operand(y, x=x, t=t, m=problem.crowd(densities))
            for own, data, y in problem.quantities
            if own == i and y in state.shadows
        ]
        layers = state.layers[i]
        boundary.append(u[i] * leaving(population, layers, t, m[i], seen))
        boundary.append(-paid(population, layers, t, m[i], seen))
        boundary.append(-entering(population, layers, t) * u[i])
        constant &= not any(
            y in (x, *quantities.values())
            or (isinstance(y, fem.Function) and not is_cellwise_constant(y))
            for y in traverse_unique_terminals(diffusion[-1])
        )
    costs, diffusion, boundary = sum(costs), sum(diffusion), ufl.as_ufl(sum(boundary))
    at_boundary = [boundary * at_nodes(problem.domain.mesh, scheme.degree)] if boundary else []
    if gradients == values:
        return [(diffusion + costs) * values], at_boundary, []
    # If D is constant on each cell any rule is exact, and `merged` makes one kernel of both.
    return [costs * values], at_boundary, [diffusion * (values if constant else gradients)]
