"""Exits on a mesh: Dirichlet dofs of a population, where u is the cost of leaving and m is known.

That is zero, or what is beyond an open boundary.
"""

from dataclasses import dataclass

import numpy as np

from dolfinx import fem, la

from mfg_fem.mesh.domain import boundary_dofs


@dataclass(frozen=True)
class Exits:
    """The exits of one population.

    Attributes:
        dofs: owned dofs by name of the exit.
        held: owned dofs of all exits, the Dirichlet dofs.
        cost, density: the exit cost, and m, at Dirichlet dofs, zero at the other owned dofs.
    """

    dofs: dict[str, np.ndarray]
    held: np.ndarray
    cost: np.ndarray
    density: np.ndarray

    @classmethod
    def of(cls, population, V: fem.FunctionSpace, nodal) -> "Exits":
        """Find the dofs; `nodal` returns the owned nodal values of an expression. Collective."""
        owned = V.dofmap.index_map.size_local
        held = np.zeros(owned + V.dofmap.index_map.num_ghosts, dtype=bool)
        dofs, cost, density = {}, np.zeros(owned), np.zeros(owned)
        for name in population.boundary:
            found = boundary_dofs(population.domain, V, name)
            found = found[~held[found]]  # a corner shared by two exits belongs to the first
            held[found] = True
            dofs[name] = found[found < owned]
            known = (cost, population.exit_cost), (density, population.density_beyond)
            for values, given in known:
                values[dofs[name]] = nodal(given(name, population.x))[dofs[name]]
        return cls(dofs, np.flatnonzero(held[:owned]), cost, density)

    def columns(self, index_map) -> np.ndarray:
        """Whether each local column of a matrix is Dirichlet; it may have more ghosts than V."""
        held = la.vector(index_map)
        held.array[self.held] = 1.0
        held.scatter_forward()
        return held.array > 0
