"""Boundary conditions by flux as layers of nodes: integrals over a boundary by a rule of cells.

With the nodes x_i, int_boundary y ds is sum_i w_i y(x_i), where w_i is the integral of the basis
function of x_i, the trapezoidal rule for P1, Simpson's for P2 in 2D. The rule of cells whose points
are the nodes has weights v_i there. So the same sum is the integral of rho y by that rule, with the
density rho of the boundary in space, rho(x_i) = w_i / v_i: terms on a boundary are terms like all
others, in the same kernels.
"""

from collections.abc import Sequence

from mpi4py import MPI

import numpy as np

import ufl
from dolfinx import fem, la

from mfg_fem.compilation import compiled
from mfg_fem.forms.cell import at_nodes

SMALL = 1e-9  # of a sum of normals, relative to the largest: round-off


def layers(problem, V: fem.FunctionSpace, degree: int) -> dict[str, fem.Function]:
    """The rho of each boundary with a condition by flux. Collective.

    Facets that several boundaries share belong to the one that is named first.
    """
    domain, test = problem.domain, ufl.TestFunction(V)
    found: dict[str, fem.Function] = {}
    if not problem.by_flux:
        return found
    volumes = _sums(test * at_nodes(domain.mesh, degree))
    taken = np.empty(0, dtype=np.int32)
    for name in problem.boundary:
        facets = np.setdiff1d(domain.facets(name), taken)
        taken = np.concatenate([taken, facets])
        if name in problem.by_flux:
            rho = fem.Function(V)
            rho.x.array[:] = _sums(test * domain.ds(facets)) / volumes
            found[name] = rho
    return found


def normals(domain, names: Sequence[str]) -> tuple[fem.Function, np.ndarray]:
    """The unit outer normal at the nodes of these boundaries, and nodes of others. Collective.

    It is 0 at other nodes, and where boundaries meet the mean of theirs. The integral of n over the
    whole boundary is that of the gradient over the domain, times a basis function.
    """
    d = domain.dim
    found = fem.Function(fem.functionspace(domain.mesh, ("Lagrange", 1, (d,))))
    test, n = ufl.TestFunction(found.function_space), ufl.FacetNormal(domain.mesh)
    total = _sums(ufl.div(test) * ufl.dx(domain=domain.mesh)).reshape(-1, d)
    some = 0 * total
    if names:
        facets = np.unique(np.concatenate([domain.facets(name) for name in names]))
        some = _sums(ufl.dot(test, n) * domain.ds(facets)).reshape(-1, d)
    largest = domain.comm.allreduce(np.abs(total).max(initial=0.0), MPI.MAX)
    lengths = np.linalg.norm(some, axis=1, keepdims=True)
    lengths[lengths <= SMALL * largest] = np.inf
    found.x.array[:] = (some / lengths).ravel()
    return found, np.linalg.norm(total - some, axis=1) > SMALL * largest


def _sums(form: ufl.Form) -> np.ndarray:
    """The entries of a vector, owned and ghosts. Collective."""
    vector = fem.assemble_vector(compiled(form))
    vector.scatter_reverse(la.InsertMode.add)
    vector.scatter_forward()
    return vector.array
