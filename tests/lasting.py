"""Problems without a horizon: games with an exact solution, and a station."""

from mpi4py import MPI

import numpy as np

import ufl
from dolfinx import fem

import mfg_fem as mfg

COMM = MPI.COMM_WORLD
LAMBDA = 0.7


def integral(expression):
    form = fem.form(expression * ufl.dx(metadata={"quadrature_degree": 6}))
    return COMM.allreduce(fem.assemble_scalar(form), MPI.SUM)


def value(x):
    return 0.1 * ufl.cos(ufl.pi * x[0]) * ufl.cos(ufl.pi * x[1])


class Exact:
    """A game with the solution u = `value`, m = exp(-u / D) / Z, for any coupling."""

    def __init__(self, domain, discount=0.0, coupling=1.0, D=0.1, ends=()):
        self.x = ufl.SpatialCoordinate(domain.mesh)
        Z = integral(ufl.exp(-value(self.x) / D))

        def density(x):
            return ufl.exp(-value(x) / D) / Z

        def running_cost(x, t, m):
            u, p = value(x), ufl.grad(value(x))
            known = 2 * D * ufl.pi**2 * u + ufl.dot(p, p) / 2 + discount * u
            return known + (0.0 if discount or ends else LAMBDA) + coupling * (m - density(x))

        self.density = density(self.x)
        self.game = mfg.MeanFieldGame(
            domain,
            discount=discount,
            diffusion=D,
            hamiltonian=mfg.hamiltonians.quadratic(),
            running_cost=running_cost,
            boundary={name: mfg.Open(value, density) for name in ends},
        )

    def errors(self, state):
        pairs = (state.value(), value(self.x)), (state.density(), self.density)
        return [np.sqrt(integral((found - exact) ** 2)) for found, exact in pairs]


def station(domain, kind=mfg.MeanFieldGame, **changes):
    """People come in the west and leave in the east."""
    return kind(
        domain,
        **{
            "diffusion": 0.1,
            "hamiltonian": mfg.hamiltonians.quadratic(),
            "running_cost": lambda x, t, m: 1 + m,
            "boundary": {"right": mfg.Exit(0.5)},
            "source": lambda x, t: ufl.exp(-20 * x[0] ** 2),
            **changes,
        },
    )
