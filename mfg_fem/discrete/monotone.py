"""Monotone: P1, lumped mass, implicit Euler, edge viscosity."""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from mpi4py import MPI

import numpy as np

import ufl
from dolfinx import fem, la
from ufl.algorithms import extract_coefficients

from mfg_fem._compat import evaluate
from mfg_fem.compilation import pointwise
from mfg_fem.discrete.step import StepRule
from mfg_fem.forms import cell
from mfg_fem.forms.boundary import hamiltonian
from mfg_fem.forms.smooth import smooth_max
from mfg_fem.problem.densities import spread

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Monotone:
    """P1, lumped mass, implicit Euler on the pair (u^n, m^{n+1}), edge viscosity.

    With A of `forms/functional.py`, whose D is that of `diffusion`, and lumped Mass, step n has

        Mass (u^n - u^{n+1}) / dt + dA/dm = 0,    Mass (m^{n+1} - m^n) / dt + dA/du = 0.

    The density is non-negative on any simplex mesh and for any diffusion: the Fokker-Planck matrix
    of a solution is an M-matrix whose columns sum to the mass, so m >= 0 and mass is exact. The
    scheme is of first order in h (second where diffusion dominates) and in dt on meshes that are
    Delaunay in the metric of D, such as those of `box` and gmsh in 2D. On others P1 diffusion
    itself has the wrong sign on some edges; the viscosity there does not vanish with h, and a
    warning says on how many. Achdou, Capuzzo-Dolcetta 2010.
    """

    degree: ClassVar[int] = 1
    lumped: ClassVar[bool] = True
    positive: ClassVar[bool] = True
    limited: ClassVar[bool] = False

    def measures(self, mesh) -> tuple[ufl.Measure, ufl.Measure]:
        """Quadrature of products of gradients (centroid) and of nodal values (vertices)."""
        centroid = ufl.dx(domain=mesh, metadata={"quadrature_degree": 1})
        return centroid, cell.at_nodes(mesh, 1)

    def points(self, mesh, size: int) -> fem.FunctionSpace:
        """The space of `size` values at the vertices, the points of the second rule."""
        return fem.functionspace(mesh, ("Lagrange", 1, (size,)))

    def rule(self, dt: np.ndarray, exits: bool, decay: float) -> StepRule:
        """Implicit Euler steps."""
        return StepRule.constant(len(dt), 0.0)

    def diffusion(self, population, state, w, around, corners, p, q):
        """The product p . D q with D = sum_E c_E t_E (x) t_E. Collective.

        c_E is low_E = smax(kappa_E, b_E), less what the scheme limits of low_E - kappa_E.
        """
        found = edges(population, state, w, around, warn=not self.limited)
        return sum(
            (low - self.limiter(population, state, corners, t, ends) * (low - kappa))
            * (ufl.dot(t, p) * ufl.dot(t, q))
            for kappa, low, t, ends in found
        )

    def limiter(self, population, state, corners, t, ends):
        """The share of low_E - kappa_E of an edge that is not needed."""
        return 0

    def at_walls(self, constraint, state, w, around, corners, p, m):
        """What walls that do not push change in m times the HJB rows of diffusion. Collective.

        Without them, the row of a node i has c_E t_E . p times m_i and a sign, on all edges at i.
        With p_i for which players at i stand still, it becomes

            kappa_E t_E . p + (c_E - kappa_E) t_E . (p - p_i),

        and at nodes of the walls, where c_E is that of the drifts which the walls allow,
        c_E t_E . (p - p_i). So the row is monotone in u where D is small, as for p > p_i in 1D
        the derivative of H - |H_p| (p - p_i) is -H_pp (p - p_i) <= 0, and what pushes players at a
        wall, noise, costs as much as standing still there.
        """
        population, mesh = constraint.population, constraint.normal.function_space.mesh
        free = edges(population, state, w, around)
        allowed = edges(population, state, w, around, constraint)
        n, M = (cell.at_vertices(y, mesh) for y in (constraint.normal, m))
        still = [
            standing_still(constraint, vertex, state.t, seen)
            for vertex, seen in zip(cell.to_vertices(mesh), around, strict=True)
        ]
        found = 0
        for (kappa, low, t, ends), (_, less, *_) in zip(free, allowed, strict=True):
            share = 1 - self.limiter(population, state, corners, t, ends)
            for i, sign in zip(ends, (-1, 1), strict=True):
                wall = ufl.dot(n[i, :], n[i, :])
                stay = ufl.dot(t, still[i])
                change = share * wall * (less - low) * (ufl.dot(t, p) - stay)
                found += sign * M[i] * (change - (share * (low - kappa) + wall * kappa) * stay)
        return found


def standing_still(constraint, vertex, t, seen):
    """The p for which players stand still at a vertex, which is `vertex` from the middle of a cell.

    One step of Newton's method from p_0 takes care of changes in t, m and prices.
    """
    population = constraint.population
    p = ufl.variable(constraint.still + ufl.dot(ufl.grad(constraint.still), vertex))
    H_p = ufl.diff(at_vertex(population.H(population.x + vertex, t, p, seen), vertex, (p, seen)), p)
    H_pp = ufl.diff(H_p, p)
    return p - (H_p / H_pp[0, 0] if len(p) == 1 else ufl.dot(ufl.inv(H_pp), H_p))


def at_vertex(H, vertex, fields):
    """H with Functions in its data as they are at a vertex, if they are linear; not the fields."""
    known = {
        y for e in (fields[0], *spread(fields[1])) for y in extract_coefficients(ufl.as_ufl(e))
    }
    data = [y for y in extract_coefficients(H) if isinstance(y, fem.Function)]
    return ufl.replace(H, {y: y + ufl.dot(ufl.grad(y), vertex) for y in data if y not in known})


def edges(population, state, w, around, constraint=None, warn: bool = False) -> Iterator[tuple]:
    """Of each edge E of a cell kappa_E, smax(kappa_E, b_E), t_E and the numbers of its ends.

    On a cell with edge vectors t_E = x_j - x_i and barycentric gradients g_i,
    (t_E.g_k)(t_E.g_l) is -1 for {k, l} = {i, j} and 0 for all other off-diagonal pairs: each
    edge has one coefficient, and P1 diffusion is sum_E kappa_E t_E (x) t_E with
    kappa_E = -g_i.D g_j. Transport adds H_p(x_j).g_i / (d+1) and H_p(x_i).g_j / (d+1) to the
    two entries of the edge (H_p at the vertex that multiplies it, as the vertex rule does, with
    Functions in H as if they were linear on the cell);
    with b_E the larger of them, a coefficient max(kappa_E, b_E) leaves no positive entry.

    Only the sum of kappa_E over the cells around an edge matters, so each gets the mean
    (`edge_diffusion`), which is >= 0 on Delaunay meshes in 2D even where cells are obtuse.
    smax >= max is smooth, so that Newton converges. Its width, 0.1 |D||g|/L with the size L of
    the domain, vanishes with h relative to |D||g|^2.

    w is the value function, `around` what is seen at each vertex. The drifts -H_p are those that
    walls allow if a `Constraint` is given.
    """
    mesh = population.domain.mesh
    d = mesh.geometry.dim
    L = size(population.domain)
    g = cell.barycentric_gradients(mesh)
    kappa, t, stretch = edge_diffusion(population, state, warn), state.t, state.stretch
    p, H_p = ufl.variable(ufl.grad(w)), []
    for vertex, seen in zip(cell.to_vertices(mesh), around, strict=True):
        H = hamiltonian(population, constraint, population.x + vertex, t, p, seen)
        H_p.append(ufl.diff(at_vertex(H, vertex, (p, seen)), p))
    D = stretch * ufl.tr(population.D(population.x, t)) / d
    lengths = [ufl.sqrt(ufl.dot(y, y)) for y in g]
    ends, vectors = cell.edges(mesh), cell.edge_vectors(mesh)
    for edge, ((i, j), vector) in enumerate(zip(ends, vectors, strict=True)):
        width = 0.05 * D / L * (lengths[i] + lengths[j])
        b = smooth_max(ufl.dot(H_p[j], g[i]), ufl.dot(H_p[i], g[j]), width) / (d + 1)
        diffusion = stretch * kappa[edge]
        yield diffusion, smooth_max(diffusion, b, width), vector, (i, j)


def size(domain) -> fem.Constant:
    """The size L of the domain, of the volume L^d."""
    return fem.Constant(domain.mesh, domain.volume() ** (1 / domain.dim))


def edge_diffusion(population, state, warn: bool = False) -> fem.Function:
    """Mean of -g_i.D g_j over the cells around each edge, on each edge of each cell. Collective.

    If D depends on time, the state has it anew at each time.

    It is weighted by volume, so that sum_E kappa_E t_E (x) t_E assembles to the same matrix as D.
    A warning tells of edges on which max(kappa_E, 0) adds diffusion that does not vanish with h.
    """
    mesh = population.domain.mesh
    tdim = mesh.topology.dim
    D = population.D(population.x, state.t)
    g, edges = cell.barycentric_gradients(mesh), cell.edges(mesh)
    kappa = fem.Function(fem.functionspace(mesh, ("DG", 0, (len(edges),))))
    if tdim == 1:
        mesh.topology.create_connectivity(1, 1)
    else:
        mesh.topology.create_entities(1)
        mesh.topology.create_connectivity(tdim, 1)
    owned = mesh.topology.index_map(tdim).size_local
    cells = np.arange(owned + mesh.topology.index_map(tdim).num_ghosts, dtype=np.int32)
    volume = abs(ufl.JacobianDeterminant(mesh)) / math.factorial(tdim)
    terms = [-ufl.dot(g[i], D * g[j]) for i, j in edges]
    centroid = np.full((1, tdim), 1 / (tdim + 1))
    expression = pointwise(ufl.as_vector([*terms, volume]), centroid)
    around = mesh.topology.connectivity(tdim, 1).array.reshape(len(cells), len(edges))
    index_map = mesh.topology.index_map(1)

    def mean_now() -> np.ndarray:
        values = evaluate(expression, mesh, cells)[:, 0]
        values, volumes = values[:, :-1], values[:, -1:]
        sums = [la.vector(index_map) for _ in range(2)]
        for vector, part in zip(sums, (values * volumes, volumes + 0 * values), strict=True):
            vector.array[:] = np.bincount(
                around[:owned].ravel(), part[:owned].ravel(), len(vector.array)
            )
            vector.scatter_reverse(la.InsertMode.add)
            vector.scatter_forward()
        return sums[0].array / sums[1].array

    def update():
        kappa.x.array[:] = mean_now()[around].ravel()

    mean = mean_now()
    wrong = np.sum(mean[: index_map.size_local] < -1e-10 * np.abs(mean).max(initial=0.0))
    share = mesh.comm.allreduce(int(wrong), MPI.SUM) / index_map.size_global
    if warn and share > 0.01 and mesh.comm.rank == 0:
        log.warning(
            "Monotone adds diffusion on %.0f %% of the edges, because the mesh is not Delaunay "
            "there for this diffusion: positive but less accurate. Compare with Sharp().",
            100 * share,
        )
    kappa.x.array[:] = mean[around].ravel()
    if population.data.depends("diffusion", "t"):
        state.changing.append((kappa, update))
    return kappa
