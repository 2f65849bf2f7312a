"""The ends of the time interval: what stands for u at T and for m at 0.

`TerminalCost` is the usual pair, u(T) = u_T(x, m(T)) and m(0) = m0. Other ends (a prescribed final
density, no time at all, periodic solutions) are other classes with the same methods. These take the
Discretisation as an argument: with a reference to it PETSc's objects would be in a cycle, which
Python frees late.
"""

import numpy as np

from mfg_fem.errors import ProblemError
from mfg_fem.forms.functional import terminal_value


class TerminalCost:
    """u_i(T) = u_T,i(x, m(T)), eliminated dof by dof, and m(0) = m0, scaled to the population.

    For a game u_T,i is the terminal cost g_i, for a control the derivative of m g.

    Attributes:
        start: nodal values of the initial densities, shape (k, owned).
    """

    def __init__(self, discrete):
        u_T, slopes, g = terminal_value(discrete.problem, discrete.state)
        self.u_T = [discrete.nodal(e) for e in u_T]
        self.slopes = [[discrete.nodal(e) for e in row] for row in slopes]
        self.g = [discrete.nodal(e) for e in g]
        self.start = np.stack([_density(discrete, i) for i in range(discrete.k)])

    def values(self, discrete, m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """u(T), (k, owned), the exit cost at Dirichlet dofs; its m_j-derivatives, (k, k, owned)."""
        discrete.set_state(np.zeros_like(m), m, discrete.problem.horizon)
        slopes = np.stack([[discrete.interpolate(e) for e in row] for row in self.slopes])
        for own, exits in zip(slopes, discrete.exits, strict=True):
            own[:, exits.held] = 0.0
        return _with_exits(discrete, self.u_T), slopes

    def costs(self, discrete, m: np.ndarray) -> np.ndarray:
        """g(x, m), shape (k, owned), the exit cost at Dirichlet dofs."""
        discrete.set_state(np.zeros_like(m), m, discrete.problem.horizon)
        return _with_exits(discrete, self.g)


def _with_exits(discrete, expressions: list) -> np.ndarray:
    values = np.stack([discrete.interpolate(e) for e in expressions])
    for own, exits in zip(values, discrete.exits, strict=True):
        own[exits.held] = exits.cost[exits.held]
    return values


def _density(discrete, i: int) -> np.ndarray:
    population = discrete.problem.populations[i]
    m0 = discrete.interpolate(discrete.nodal(population.m0(population.x)))
    m0[discrete.exits[i].held] = 0.0
    mass = discrete.integral(m0)
    if not mass > 0:
        raise ProblemError(
            "initial_density(x) vanishes at every node that is not on an exit, so it cannot be "
            "scaled to the population. Is the mesh fine enough for it?"
        )
    return m0 * (population.population / mass)
