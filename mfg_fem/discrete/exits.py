"""Exits on a mesh: Dirichlet dofs of a population, where u is the cost of leaving and m is known.

That is zero, or what is beyond an open boundary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from dolfinx import fem, la
from ufl.algorithms.analysis import extract_constants

from mfg_fem.mesh.domain import boundary_dofs
from mfg_fem.problem.boundary import Exit, Open


@dataclass(frozen=True)
class Exits:
    """The exits of one population.

    Attributes:
        dofs: owned dofs by name of the exit.
        held: owned dofs of all exits, the Dirichlet dofs.
        density: m at Dirichlet dofs, zero at the other owned dofs.
        cost: of the time, the exit cost at all `held`.
    """

    dofs: dict[str, np.ndarray]
    held: np.ndarray
    density: np.ndarray
    cost: Callable[[float], np.ndarray]

    @classmethod
    def of(cls, population, V: fem.FunctionSpace, nodal: Callable) -> "Exits":
        """Find the dofs. Collective.

        `nodal` returns of an expression a function that returns its owned nodal values at present.
        """
        owned = V.dofmap.index_map.size_local
        held = np.zeros(owned + V.dofmap.index_map.num_ghosts, dtype=bool)
        dofs, density = {}, np.zeros(owned)
        costs, t, x = {}, fem.Constant(V.mesh, 0.0), population.x
        for name in population.named(Exit | Open):
            found = boundary_dofs(population.domain, V, name)
            found = found[~held[found]]  # a corner shared by two exits belongs to the first
            held[found] = True
            dofs[name] = found[found < owned]
            costs[name] = population.at_boundary(name, "cost", x, t)
            if name in population.open:
                beyond = nodal(population.at_boundary(name, "density", x, t))()
                density[dofs[name]] = beyond[dofs[name]]
        at_dofs = np.flatnonzero(held[:owned])
        timed = any(t in extract_constants(cost) for cost in costs.values())
        costs = {name: nodal(cost) for name, cost in costs.items()}

        @cache  # residuals ask for the same times again and again
        def cost_at(time: float) -> np.ndarray:
            t.value, values = time, np.zeros(owned)
            for name, now in costs.items():
                values[dofs[name]] = now()[dofs[name]]
            return values[at_dofs]

        known = cost_at(0.0)
        return cls(dofs, at_dofs, density, cost_at if timed else lambda time: known)

    def costs(self, times: np.ndarray) -> np.ndarray:
        """The exit cost at these times at all `held`, shape (times, held). Collective."""
        return np.stack([self.cost(t) for t in times])

    def columns(self, index_map) -> np.ndarray:
        """Whether each local column of a matrix is Dirichlet; it may have more ghosts than V."""
        held = la.vector(index_map)
        held.array[self.held] = 1.0
        held.scatter_forward()
        return held.array > 0
