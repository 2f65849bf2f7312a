"""Whether several crowds mind each other less than themselves, so that there is one equilibrium."""

import ufl
from dolfinx import fem

from mfg_fem.mesh.values import VertexValues, eigenvalues
from mfg_fem.problem.crowding import Crowding

ROUND_OFF = 1e-9  # of the largest derivative: less below zero is none


def doubt(problem, crowding: Crowding) -> str:
    """A sentence if costs are not monotone in uniform crowds, else nothing. Collective.

    With the derivatives F_ij of f_i in m_j the game has one solution if F + F^T >= 0 (Lasry, Lions
    2007); local ones are looked at, in the place of those through smooth() and total().
    """
    if problem.planner == "all" or len(problem.populations) < 2:
        return ""
    t = fem.Constant(problem.domain.mesh, 0.0)
    crowding.uniform()
    costs = [own.f(own.x, t, crowding.seen_by(own, t)) for own in problem.populations]
    F = ufl.as_matrix([list(crowding.slopes(cost)) for cost in costs])
    ends, size = VertexValues(problem.domain.mesh, F).extremes(lambda F: (eigenvalues(F), F))
    least = float(ends[0])
    if least >= -ROUND_OFF * abs(size).max():
        return ""
    return (
        "The running costs are not monotone: in uniform crowds the symmetric part of the "
        f"derivatives of f_i in m_j has the eigenvalue {least:.3g}. There may be several "
        "equilibria, and guess= chooses one."
    )
