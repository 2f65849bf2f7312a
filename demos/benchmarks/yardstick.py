# # Two other solvers of one game, for `benchmark.py` to race
#
# On the unit square without flux, T = 1, D = 0.1, crowd m0 a Gaussian of width 0.1 in the middle:
#
# $$ -u_t - D \Delta u + \tfrac12 |\nabla u|^2 = m, \quad
#    u(T) = \tfrac12 \cos \pi x + \tfrac14 \cos 2 \pi y, \qquad
#    m_t - D \Delta m - \nabla \cdot (m \nabla u) = 0. $$
#
# * `finite_differences`: what one would write in an afternoon with scipy, and well: the upwind
#   scheme of Achdou and Capuzzo-Dolcetta, Newton on all times at once, GMRES on the reduced system
#   with one sparse factorisation a level that serves both equations.
# * `mfgarchon`: P1 finite elements and damped Picard iterations of
#   [MFGArchon](https://github.com/derrring/MFGArchon), where that is installed.

import logging
import time
import warnings
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, gmres, splu

T, D, WIDTH = 1.0, 0.1, 0.1


class Run(NamedTuple):
    x: np.ndarray  # coordinates of the points along a side
    m: np.ndarray  # density at the end there
    cpu: float  # seconds of processor time
    iterations: int


def crowd(x, y, exp=np.exp):
    """Not scaled."""
    return exp(-((x - 0.5) ** 2 + (y - 0.5) ** 2) / (2 * WIDTH**2))


def end(x, y, cos=np.cos):
    """The terminal cost."""
    return cos(np.pi * x) / 2 + cos(2 * np.pi * y) / 4


# On n x n squares with unknowns in their middles, differences across the walls are zero. The
# Hamiltonian takes from either side what flows away from it, so that A, the linear part of HJB, is
# of M-type; the Fokker-Planck matrix is its transpose.


class Differences:
    """Forward and backward in x and y, and minus the Laplacian."""

    def __init__(self, n):
        forward = sparse.diags([-np.ones(n), np.ones(n - 1)], [0, 1], format="lil") * n
        forward[-1] = 0.0
        one, both = sparse.identity(n), (forward, -forward[::-1, ::-1])
        pairs = [(G, one) for G in both] + [(one, G) for G in both]
        self.D = [sparse.kron(*pair, format="csr") for pair in pairs]
        self.minus_laplacian = sum(G.T @ G for G in self.D).tocsr() / 2
        self.signs = (-1, 1, -1, 1)  # forward differences count where negative, backward ones > 0

    def slopes(self, u):
        """At all levels, where they count."""
        return [s * np.maximum(s * (u @ G.T), 0) for s, G in zip(self.signs, self.D, strict=True)]


def finite_differences(n, steps, rtol=1e-6):
    """Newton from rest, with Eisenstat-Walker's tolerances and a line search."""
    began = time.process_time()
    x, dt, grid = (np.arange(n) + 0.5) / n, T / steps, Differences(n)
    X, Y = np.meshgrid(x, x, indexing="ij")
    m0, u_T = crowd(X, Y).ravel(), end(X, Y).ravel()
    m0 *= n**2 / m0.sum()
    base = (sparse.identity(n * n) / dt + D * grid.minus_laplacian).tocsr()

    def residual(u, m):
        """Of both equations at (u^n, m^{n+1}), all levels at once; its norm."""
        before, after, slopes = np.vstack([m0, m[:-1]]), np.vstack([u[1:], u_T]), grid.slopes(u)
        transport = sum((p * m) @ G for p, G in zip(slopes, grid.D, strict=True))
        r_u = u @ base - after / dt + sum(p * p for p in slopes) / 2 - m
        r_m = m @ base - before / dt + transport
        return r_u, r_m, np.hypot(np.linalg.norm(r_u), np.linalg.norm(r_m))

    def factorised(slopes, k):
        A = base + sum(sparse.diags(p[k]) @ G for p, G in zip(slopes, grid.D, strict=True))
        return splu(A.tocsc(), "MMD_AT_PLUS_A", 0.1, options={"SymmetricMode": True})

    def sweep(factors, r, forward):
        """B dm = r forward in time, or A du = r backward; B is A transposed."""
        z, last = np.empty_like(r), 0.0
        for k in range(steps) if forward else reversed(range(steps)):
            z[k] = last = factors[k].solve(r[k] + last / dt, "T" if forward else "N")
        return z

    # dm = B^-1 y and du = A^-1 (r_u + dm), where (I + C A^-1 B^-1) y = r_m - C A^-1 r_u.
    u, m, norms, forcing = np.tile(u_T, (steps, 1)), np.tile(m0, (steps, 1)), [], 0.1
    r_u, r_m, norm = residual(u, m)
    for it in range(30):
        norms.append(norm)
        if norm <= rtol * norms[0]:
            return Run(x, m[-1].reshape(n, n), time.process_time() - began, it)
        if it:
            forcing = min(0.1, 0.9 * (norm / norms[-2]) ** 2)
        slopes = grid.slopes(u)
        factors, weights = (
            [factorised(slopes, k) for k in range(steps)],
            [m * (p != 0) for p in slopes],
        )

        def C(du, weights=weights):
            pairs = zip(weights, grid.D, strict=True)
            return sum((w * (du @ G.T)) @ G for w, G in pairs).ravel()

        def reduced(y, C=C, factors=factors):
            dm = sweep(factors, y.reshape(steps, -1), forward=True)
            return y + C(sweep(factors, dm, forward=False))

        start = sweep(factors, -r_u, forward=False)
        operator = LinearOperator((m.size, m.size), reduced)
        tolerance = {"rtol": 0.0, "atol": forcing * norm, "restart": 60, "maxiter": 5}
        y, _ = gmres(operator, -r_m.ravel() - C(start), **tolerance)
        dm = sweep(factors, y.reshape(steps, -1), forward=True)
        du = start + sweep(factors, dm, forward=False)
        for length in 0.5 ** np.arange(8):
            r_u, r_m, norm = residual(u + length * du, m + length * dm)
            if norm < norms[-1]:
                break
        u, m = u + length * du, m + length * dm
    raise RuntimeError("Newton's method of finite differences did not converge.")


# Where MFGArchon is installed: its own P1 elements on the same squares cut in two, its own damped
# iteration with its default damping. It scales the crowd by its mean over the nodes, not by its
# integral, so that the mass is wrong by a factor of (1 + 1/n)^2: that is left as it is.


def mfgarchon(n, steps, iterations=30):
    """Picard's iteration, so many times."""
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    import skfem
    from mfgarchon.alg.numerical.coupling import FixedPointIterator
    from mfgarchon.alg.numerical.fem.mesh_adapter import skfem_to_meshdata
    from mfgarchon.core.hamiltonian import QuadraticControlCost, SeparableHamiltonian
    from mfgarchon.core.mfg_components import MFGComponents
    from mfgarchon.core.mfg_problem import MFGProblem
    from mfgarchon.factory.scheme_factory import NumericalScheme, create_paired_solvers
    from mfgarchon.geometry.boundary import no_flux_bc
    from mfgarchon.geometry.meshes.mesh_2d import Mesh2D

    began, x = time.process_time(), np.linspace(0, 1, n + 1)
    mesh = skfem.MeshTri.init_tensor(x, x)
    square = Mesh2D(domain_type="rectangle", bounds=(0.0, 1.0, 0.0, 1.0))
    square.mesh_data = skfem_to_meshdata(mesh)
    square.boundary_conditions = no_flux_bc(dimension=2)
    data = MFGComponents(
        m_initial=lambda x: float(crowd(*x)),
        u_terminal=lambda x: float(end(*x)),
        hamiltonian=SeparableHamiltonian(
            QuadraticControlCost(control_cost=1.0),
            coupling=lambda m: -m,
            coupling_dm=lambda m: -1.0,
        ),
    )
    game = MFGProblem(geometry=square, T=T, Nt=steps, sigma=np.sqrt(2 * D), components=data)
    hjb, fp = create_paired_solvers(game, NumericalScheme.FEM_P1)
    iterator = FixedPointIterator(game, hjb_solver=hjb, fp_solver=fp)
    found = iterator.solve(max_iterations=iterations, tolerance=1e-8, verbose=False)
    cpu, m = time.process_time() - began, np.empty((n + 1, n + 1))
    m[tuple(np.rint(mesh.p * n).astype(int))] = found.M[-1]
    return Run(x, m, cpu, found.iterations)
