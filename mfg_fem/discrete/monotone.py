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

    def prepare(self, problem, state):
        """Let the state have the diffusion along edges. Collective."""
        for population in problem.populations:
            kappa = edge_diffusion(population, state, warn=not self.limited)
            state.along_edges[id(population)] = kappa

    def diffusion(self, population, state, w, around, corners, p, q):
        """The product p . D q with D = sum_E c_E t_E (x) t_E.

        c_E is low_E = smax(kappa_E, b_E), less what the scheme limits of low_E - kappa_E.
        """
        found = edges(population, state, w, around)
        return sum(
            (low - self.limiter(population, state, corners, t, ends) * (low - kappa))
            * (ufl.dot(t, p) * ufl.dot(t, q))
            for kappa, low, _, t, ends in found
        )

    def limiter(self, population, state, corners, t, ends):
        """The share of low_E - kappa_E of an edge that is not needed."""
        return 0

    def standing(self, standing, state, w, around, corners, p, m):
        """What the p for which players stand still changes in m times the HJB rows of diffusion.

        Without that, the row of a node i has c_E t_E . p times m_i and a sign, on all edges at i.
        With p_i for which players at i stand still, it becomes

            c_E t_E . p - (c_i - kappa_E) t_E . p_i,

        where c_i is c_E of the drift at i alone, so that the change vanishes where p is even and
        edges are opposite. The row is then monotone in u where D is small, as for p > p_i in 1D the
        derivative of H - |H_p| (p - p_i) is -H_pp (p - p_i) <= 0; without p_i it is positive
        between 0 and p_i. Of players with walls that do not push, c_i is c_E, and at these walls
        c_E is that of the drifts which they allow and kappa_E 0 in the second term: noise, which
        pushes players there, costs as much as standing still.
        """
        population, mesh = standing.population, standing.still.function_space.mesh
        M, known = cell.at_vertices(m, mesh), cell.at_vertices(standing.still, mesh)
        still = [
            standing_still(population, vertex, known[i, :], state.t, seen)
            for i, (vertex, seen) in enumerate(zip(cell.to_vertices(mesh), around, strict=True))
        ]
        free = allowed = list(edges(population, state, w, around))
        if walls := standing.normal is not None:
            n = cell.at_vertices(standing.normal, mesh)
            allowed = list(edges(population, state, w, around, standing))
        found = 0
        for (kappa, low, own, t, ends), (_, less, *_) in zip(free, allowed, strict=True):
            share = 1 - self.limiter(population, state, corners, t, ends)
            for i, sign, c in zip(ends, (-1, 1), own, strict=True):
                stay = ufl.dot(t, still[i])
                change = -share * ((low if walls else c) - kappa) * stay
                if walls:
                    wall = ufl.dot(n[i, :], n[i, :])
                    change += wall * (share * (less - low) * (ufl.dot(t, p) - stay) - kappa * stay)
                found += sign * M[i] * change
        return found


def standing_still(population, vertex, known, t, seen):
    """The p with H_p = 0 at a vertex, where `Standing.still` has these values.

    It is `vertex` from the middle of a cell. One step of Newton's method takes care of changes in
    the densities, and of those in t and prices.
    """
    d = len(vertex)
    p = ufl.variable(ufl.as_vector([known[i] for i in range(d)]))
    H = at_vertex(population.H(population.x + vertex, t, p, seen), vertex, (p, seen))
    H_p = ufl.diff(H, p)
    H_pp = ufl.diff(H_p, p)
    step = [H_p[0] / H_pp[0, 0]] if d == 1 else ufl.dot(ufl.inv(H_pp), H_p)
    there_is = ufl.gt(known[d], 0.5)
    return ufl.as_vector([p[i] - ufl.conditional(there_is, step[i], 0.0) for i in range(d)])


def at_vertex(H, vertex, fields):
    """H with Functions in its data as they are at a vertex, if they are linear; not the fields."""
    p, seen = fields
    parts = (p, *spread(seen), *getattr(seen, "quantities", {}).values())
    known = {y for e in parts for y in extract_coefficients(ufl.as_ufl(e))}
    data = [y for y in extract_coefficients(H) if isinstance(y, fem.Function)]
    return ufl.replace(H, {y: y + ufl.dot(ufl.grad(y), vertex) for y in data if y not in known})


def edges(population, state, w, around, standing=None) -> Iterator[tuple]:
    """Of each edge E of a cell kappa_E, smax(kappa_E, b_E), the same of each end, t_E, its ends.

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
    the domain, vanishes with h relative to |D||g|^2. Of each end b_E is that with H_p at this end
    alone.

    w is the value function, `around` what is seen at each vertex. The drifts -H_p are those that
    walls allow if a `Standing` is given.
    """
    mesh = population.domain.mesh
    d = mesh.geometry.dim
    L = size(population.domain)
    g = cell.barycentric_gradients(mesh)
    kappa, t, stretch = state.along_edges[id(population)], state.t, state.stretch
    p, H_p = ufl.variable(ufl.grad(w)), []
    for vertex, seen in zip(cell.to_vertices(mesh), around, strict=True):
        H = hamiltonian(population, standing, population.x + vertex, t, p, seen)
        H_p.append(ufl.diff(at_vertex(H, vertex, (p, seen)), p))
    D = stretch * ufl.tr(population.D(population.x, t)) / d
    lengths = [ufl.sqrt(ufl.dot(y, y)) for y in g]
    ends, vectors = cell.edges(mesh), cell.edge_vectors(mesh)
    for edge, ((i, j), vector) in enumerate(zip(ends, vectors, strict=True)):
        width = 0.05 * D / L * (lengths[i] + lengths[j])
        diffusion = stretch * kappa[edge]
        pairs = [(H_p[j], H_p[i]), (H_p[i], H_p[i]), (H_p[j], H_p[j])]
        b = [smooth_max(ufl.dot(y, g[i]), ufl.dot(z, g[j]), width) / (d + 1) for y, z in pairs]
        low, *own = (smooth_max(diffusion, y, width) for y in b)
        yield diffusion, low, own, vector, (i, j)


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
