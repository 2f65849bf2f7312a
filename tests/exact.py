"""Exact solutions of the mean-field game, as UFL, in any dimension, and errors against them.

Unit box, no flux, H = |p|^2/2, so that the drift is -grad u.
"""

from dataclasses import dataclass

from mpi4py import MPI

import numpy as np

import ufl
from dolfinx import fem

import mfg_fem as mfg


@dataclass(frozen=True)
class Heat:
    """m solves m_t = kappa Lap m with kappa = D - k, and u = -k log m. Depends on time.

    Then the Fokker-Planck equation holds, and with L = log m so does the HJB equation for

        f = F(m) - F(m_exact) + k (kappa + D) Lap L + k (kappa + k/2) |grad L|^2,   F(m) = m.
    """

    D: float = 0.3
    k: float = 0.2
    horizon: float = 0.5
    size: float = 0.5

    def m(self, x, t):
        """Density, of mass 1."""
        d = len(x)
        decay = ufl.exp(-d * (self.D - self.k) * ufl.pi**2 * t)
        return 1 + self.size * decay * _waves(x)

    def u(self, x, t):
        """Value function."""
        return -self.k * ufl.ln(self.m(x, t))

    def f(self, x, t, m):
        """Running cost."""
        kappa, L = self.D - self.k, ufl.ln(self.m(x, t))
        slope = ufl.grad(L)
        V = self.k * (kappa + self.D) * ufl.div(slope)
        V += self.k * (kappa + self.k / 2) * ufl.dot(slope, slope)
        return m - self.m(x, t) + V


@dataclass(frozen=True)
class HopfCole:
    """u = -2 D log phi, m = phi psi, with phi and psi solving heat equations back and forth; f = 0.

    Only the terminal cost u(T) moves the players.
    """

    D: float = 0.2
    horizon: float = 0.25
    size: float = 0.5

    def phi(self, x, t):
        """Solves -phi_t = D Lap phi."""
        decay = ufl.exp(-len(x) * self.D * ufl.pi**2 * (self.horizon - t))
        return 1 + self.size * decay * _waves(x)

    def m(self, x, t):
        """Density, phi psi."""
        return self.phi(x, t) * (
            1 + self.size * ufl.exp(-self.D * ufl.pi**2 * t) * ufl.cos(ufl.pi * x[0])
        )

    def u(self, x, t):
        """Value function."""
        return -2 * self.D * ufl.ln(self.phi(x, t))

    def f(self, x, t, m):
        """Running cost."""
        return 0.0


def _waves(x):
    product = ufl.cos(ufl.pi * x[0])
    for y in list(x)[1:]:
        product *= ufl.cos(ufl.pi * y)
    return product


def game(exact: Heat | HopfCole, domain: mfg.Domain) -> mfg.MeanFieldGame:
    """The game on the unit box that has this solution."""
    return mfg.MeanFieldGame(
        domain,
        horizon=exact.horizon,
        diffusion=exact.D,
        hamiltonian=mfg.hamiltonians.quadratic(),
        running_cost=exact.f,
        terminal_cost=lambda x, m: exact.u(x, exact.horizon),
        initial_density=lambda x: exact.m(x, 0.0),
        population=mass(exact, domain),
    )


def mass(exact: Heat | HopfCole, domain: mfg.Domain) -> float:
    """Integral of m: 1, and for a product of the same wave in 1D a little more."""
    if isinstance(exact, HopfCole) and domain.dim == 1:
        return 1 + exact.size**2 / 2 * float(np.exp(-exact.D * np.pi**2 * exact.horizon))
    return 1.0


def errors(solution: mfg.Solution, exact: Heat | HopfCole) -> dict[str, float]:
    """L2 errors of u(0) and m(T), and the largest of u and of m over all levels.

    Each relative to the largest norm of the exact u or m over all levels.
    """
    mesh = solution.problem.domain.mesh
    x, t = ufl.SpatialCoordinate(mesh), fem.Constant(mesh, 0.0)
    dx = ufl.dx(domain=mesh, metadata={"quadrature_degree": 2 * solution.scheme.degree + 3})
    found = {}
    for name, level in (("u", solution.value), ("m", solution.density)):
        y, truth = fem.Function(level(0).function_space), getattr(exact, name)(x, t)
        forms = [fem.form(z**2 * dx) for z in (y - truth, truth)]
        squares = np.empty((len(solution.times), 2))
        for n, moment in enumerate(solution.times):
            t.value, y.x.array[:] = moment, level(n).x.array
            squares[n] = [fem.assemble_scalar(form) for form in forms]
        error, norm = np.sqrt(mesh.comm.allreduce(squares, MPI.SUM)).T
        relative = error / norm.max()
        found[name] = float(relative.max())
        found["u(0)" if name == "u" else "m(T)"] = float(relative[0 if name == "u" else -1])
    return found


def velocity_error(solution: mfg.Solution, exact: Heat | HopfCole) -> float:
    """The largest L2 error of the velocity on all steps, there in the middle."""
    mesh, velocity = solution.problem.domain.mesh, solution.velocity(0)
    x, t = ufl.SpatialCoordinate(mesh), fem.Constant(mesh, 0.0)
    error = velocity + ufl.grad(exact.u(x, t))
    form, found = fem.form(ufl.dot(error, error) * ufl.dx(domain=mesh, degree=7)), []
    for n, moment in enumerate(solution.times[:-1]):
        t.value = moment + solution.times[1] / 2
        velocity.x.array[:] = solution.velocity(n).x.array
        found.append(fem.assemble_scalar(form))
    return float(np.sqrt(mesh.comm.allreduce(np.array(found), MPI.SUM)).max())


def rates(sizes: list[float], found: list[dict[str, float]]) -> dict[str, float]:
    """Observed order of each error between the last two sizes."""
    ratio = np.log(sizes[-2] / sizes[-1])
    return {key: float(np.log(found[-2][key] / found[-1][key]) / ratio) for key in found[-1]}
