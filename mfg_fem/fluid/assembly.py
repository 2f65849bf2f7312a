"""What a fluid is made of: projections on cells, the quantum potential, products of levels."""

from mpi4py import MPI
from petsc4py import PETSc

import numpy as np

import ufl
from dolfinx import fem, la
from dolfinx.fem import petsc as fem_petsc

from mfg_fem.compilation import compiled
from mfg_fem.mesh.values import volumes_of


class OnCells:
    """The L2 projection of a vector field on polynomials of degree 0 or 1 on each cell. Collective.

    Args:
        W: the space of the projection.
        terms: pairs of a vector and its measure, whose sum is projected, as test -> UFL.
    """

    def __init__(self, W: fem.FunctionSpace, terms: list):
        self.W, test, topology = W, ufl.TestFunction(W), W.mesh.topology
        self.forms = [compiled(term(test)) for term in terms]
        cells = topology.index_map(topology.dim).size_local
        self.dofs = W.dofmap.list[:cells]
        self.volumes = volumes_of(W.mesh)[:, None, None]
        n = self.dofs.shape[1]  # the mass matrix of a straight cell is |K| (I + J) / (n (n + 1))
        self.inverse = n * ((n + 1) * np.eye(n) - 1) if n > 1 else np.eye(1)

    def moments(self) -> np.ndarray:
        """Integrals against the functions of each cell of this rank, (cells, functions, d)."""
        total = sum(fem.assemble_vector(form).array for form in self.forms)
        return total.reshape(-1, self.W.dofmap.index_map_bs)[self.dofs]

    def __call__(self, name: str) -> fem.Function:
        """The projection."""
        found = fem.Function(self.W, name=name)
        values = found.x.array.reshape(-1, self.W.dofmap.index_map_bs)
        values[self.dofs] = np.einsum("ij,cjk->cik", self.inverse, self.moments()) / self.volumes
        found.x.scatter_forward()
        return found


class Curvature:
    """Nodal values of -lap s / s for a positive Function s of degree 1 or 2. Collective.

    The lumped Laplacian of P1 does not converge on irregular meshes: it takes one implicit step of
    diffusion, of the time 2 h^2 on each cell, afterwards. P2 has the consistent mass matrix.
    """

    def __init__(self, s: fem.Function):
        self.s, V = s, s.function_space
        mesh, (u, v) = V.mesh, (ufl.TrialFunction(V), ufl.TestFunction(V))
        self.lumped = V.ufl_element().embedded_superdegree == 1
        self.slopes = compiled(ufl.dot(ufl.grad(s), ufl.grad(v)) * ufl.dx)
        matrix = u * v * ufl.dx
        if self.lumped:
            h = abs(ufl.JacobianDeterminant(mesh)) ** (1 / mesh.geometry.dim)
            smoothed = u * v + 2 * h**2 * ufl.dot(ufl.grad(u), ufl.grad(v))
            matrix = smoothed * ufl.dx(metadata={"quadrature_rule": "vertex"}, degree=1)
        A = fem_petsc.assemble_matrix(compiled(matrix))
        A.assemble()
        self.solver = PETSc.KSP().create(mesh.comm)
        self.solver.setType("cg")
        self.solver.getPC().setType("jacobi")
        self.solver.setTolerances(rtol=1e-12)
        self.solver.setOperators(A)

    def __call__(self) -> np.ndarray:
        """At the owned nodes."""
        total = fem.assemble_vector(self.slopes)
        total.scatter_reverse(la.InsertMode.add)
        b, x = self.solver.getOperators()[0].createVecs()
        s = self.s.x.array[: b.local_size]
        b.array[:] = total.array[: b.local_size] / (s if self.lumped else 1.0)
        self.solver.solve(b, x)
        return x.array_r / (1.0 if self.lumped else s)


def mass_products(discrete, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The products x_n.Mass y_n of rows of owned nodal values, shape (rows,). Collective."""
    a, b = discrete.mass.createVecs()
    local = np.empty(len(x))
    for n, row in enumerate(y):
        a.array[:] = row
        discrete.mass.mult(a, b)
        local[n] = x[n] @ b.array_r
    return discrete.comm.allreduce(local, MPI.SUM)
