"""The ends of the time interval: what stands for u at T and for m at 0.

`TerminalCost` is the usual pair, u(T) = u_T(x, m(T)) and m(0) = m0. Other ends (a density that has
to be reached, no time at all, periodic solutions) are other classes with the same methods.
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
        self.discrete = discrete
        u_T, slopes, g = terminal_value(discrete.problem, discrete.state)
        self.u_T = [discrete.nodal(e) for e in u_T]
        self.slopes = [[discrete.nodal(e) for e in row] for row in slopes]
        self.g = [discrete.nodal(e) for e in g]
        self.start = np.stack(
            [self._density(*pair) for pair in enumerate(discrete.problem.populations)]
        )

    def _density(self, i: int, population) -> np.ndarray:
        m0 = self.discrete.interpolate(self.discrete.nodal(population.m0(population.x)))
        m0[self.discrete.exits[i].held] = 0.0
        mass = self.discrete.integral(m0)
        if not mass > 0:
            raise ProblemError(
                "initial_density(x) vanishes at every node that is not on an exit, so it cannot be "
                "scaled to the population. Is the mesh fine enough for it?"
            )
        return m0 * (population.population / mass)

    def values(self, m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """u(T), shape (k, owned), and its derivatives in the densities, shape (k, k, owned).

        At exits u keeps the cost of leaving.
        """
        d = self.discrete
        d.set_state(np.zeros_like(m), m, d.problem.horizon)
        u_T = np.stack([d.interpolate(e) for e in self.u_T])
        slopes = np.stack([[d.interpolate(e) for e in row] for row in self.slopes])
        for i, exits in enumerate(d.exits):
            u_T[i, exits.held] = exits.cost[exits.held]
            slopes[i][:, exits.held] = 0.0
        return u_T, slopes

    def costs(self, m: np.ndarray) -> np.ndarray:
        """g(x, m), shape (k, owned); at exits the cost of leaving."""
        d = self.discrete
        d.set_state(np.zeros_like(m), m, d.problem.horizon)
        g = np.stack([d.interpolate(e) for e in self.g])
        for i, exits in enumerate(d.exits):
            g[i, exits.held] = exits.cost[exits.held]
        return g
