"""How the problem is discretised: spaces, quadrature, edge viscosity, the pair a step sees."""

from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import numpy as np

import ufl
from dolfinx import fem

from mfg_fem.errors import ProblemError


@dataclass(frozen=True)
class Monotone:
    """P1, lumped mass, implicit Euler on the pair (u^n, m^{n+1}), edge viscosity. The default.

    Positive by construction on any simplex mesh and for any diffusion: the Fokker-Planck matrix
    of a solution is an M-matrix whose columns sum to the mass, so m >= 0 and mass is exact. First
    order in h (second where diffusion dominates) and in dt.
    """

    degree: ClassVar[int] = 1
    midpoint: ClassVar[bool] = False

    def measures(self, mesh) -> tuple[ufl.Measure, ufl.Measure]:
        """Quadrature of products of gradients (centroid) and of point values (vertices)."""
        centroid = ufl.dx(domain=mesh, metadata={"quadrature_degree": 1})
        vertex = {"quadrature_rule": "vertex", "quadrature_degree": 1}
        return centroid, ufl.dx(domain=mesh, metadata=vertex)

    def viscosity(self, problem, D, w, crowd):
        """Tensor sum_E gamma_E t_E (x) t_E that makes every cell matrix of M-type.

        With t_E = x_j - x_i the edge vectors and g_i = grad lambda_i the barycentric gradients,
        (t_E.g_k)(t_E.g_l) is nonzero only for k, l in {i, j}, and -1 for k != l: gamma_E acts on
        the two entries (i, j), (j, i) alone and must not be below either of them,

            gamma_E = smax( g_i.D g_j + smax(H_p(x_j).g_i, H_p(x_i).g_j)/(d+1),  0 ),

        where H_p is taken at the vertex that multiplies it, as the vertex rule does, and
        smax >= max is smooth, so that Newton converges, with a width of 0.1 |D||g|/L, L the size
        of the domain: relative to |D||g|^2 it vanishes with h, or the scheme would solve for
        another diffusion wherever an edge faces a right angle.
        """
        mesh = w.function_space.mesh
        d = mesh.geometry.dim
        L = fem.Constant(mesh, problem.domain.volume() ** (1 / d))
        J, K = ufl.Jacobian(mesh), ufl.JacobianInverse(mesh)
        X = np.vstack([np.zeros(d), np.eye(d)])  # reference vertices
        middle = np.full(d, 1 / (d + 1))
        g = [K[k, :] for k in range(d)]
        g.insert(0, -sum(g[1:], g[0]))
        H_p = []
        for vertex in X:
            to_vertex = J * ufl.as_vector((vertex - middle).tolist())
            p = ufl.variable(ufl.grad(w))
            seen = crowd + ufl.dot(ufl.grad(crowd), to_vertex)
            H_p.append(ufl.diff(problem.H(problem.x + to_vertex, p, seen), p))
        size = ufl.tr(D) / d
        gamma_tt = []
        for i, j in combinations(range(d + 1), 2):
            width = 0.05 * size / L * sum(ufl.sqrt(ufl.dot(g[k], g[k])) for k in (i, j))
            transport = _smax(ufl.dot(H_p[j], g[i]), ufl.dot(H_p[i], g[j]), width) / (d + 1)
            gamma = _smax(ufl.dot(g[i], D * g[j]) + transport, 0, width)
            t = J * ufl.as_vector((X[j] - X[i]).tolist())
            gamma_tt.append(gamma * ufl.outer(t, t))
        return sum(gamma_tt[1:], gamma_tt[0])


@dataclass(frozen=True)
class Galerkin:
    """P1 or P2 with consistent mass: high order for smooth solutions, no promise of m >= 0.

    `time="euler"`: the pair (u^n, m^{n+1}), symplectic Euler, first order in dt. `"midpoint"`: the
    averages of both levels, second order; rough data want dt of about h^2/D or smaller.

    Args:
        degree: 1 or 2, the polynomial degree in space.
        time: "euler" or "midpoint".
    """

    degree: int = 1
    time: str = "euler"

    def __post_init__(self):
        """Refuse what is not implemented."""
        if self.degree not in (1, 2):
            raise ProblemError(f"Galerkin(degree={self.degree!r}): the degree must be 1 or 2.")
        if self.time not in ("euler", "midpoint"):
            raise ProblemError(f'Galerkin(time={self.time!r}): time is "euler" or "midpoint".')

    @property
    def midpoint(self) -> bool:
        """Whether a step sees the averages of its two levels."""
        return self.time == "midpoint"

    def measures(self, mesh) -> tuple[ufl.Measure, ufl.Measure]:
        """One rule for everything, exact for cubic (P1) or sextic (P2) integrands."""
        dx = ufl.dx(domain=mesh, metadata={"quadrature_degree": 3 * self.degree})
        return dx, dx

    def viscosity(self, problem, D, w, crowd):
        """None."""
        return None


def function_space(scheme, mesh) -> fem.FunctionSpace:
    """The space of the value function and of the density."""
    return fem.functionspace(mesh, ("Lagrange", scheme.degree))


def _smax(a, b, width):
    """A smooth maximum from above: within width/2 of max(a, b)."""
    return (a + b + ufl.sqrt((a - b) ** 2 + width**2)) / 2
