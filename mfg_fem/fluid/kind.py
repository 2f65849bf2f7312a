"""What a problem is, as far as its fluid is concerned."""

from dataclasses import dataclass

import numpy as np

import ufl
from dolfinx import fem
from ufl.corealg.traversal import traverse_unique_terminals

from mfg_fem.fluid.assembly import Totals

ALIKE = 1e-20  # of squares: round-off and what a problem in other units makes of it
DRAWS = (0.1, 1.0, 10.0)  # gradients and densities, in their units, at which H is looked at


@dataclass(frozen=True)
class Kind:
    """What H and D are, and what the data depend on.

    Attributes:
        mobility: alpha, if H = alpha |p|^2 / 2 + b(x).p + c(x) at all p and m that were tried.
        diffusion: D, if it is one number everywhere.
        congested: whether H depends on the density.
        invariant: whether D, H, f and the source are the same at all places.
    """

    mobility: float | None
    diffusion: float | None
    congested: bool
    invariant: bool

    @classmethod
    def of(cls, problem) -> "Kind":
        """Integrals of H_pp - alpha, D - D_mean and H_m, at random p and m. Collective."""
        mesh, x, units = problem.domain.mesh, problem.x, problem.units
        d = mesh.geometry.dim
        p, m = fem.Constant(mesh, np.ones(d)), fem.Constant(mesh, 1.0)
        alpha, D_mean = fem.Constant(mesh, 0.0), fem.Constant(mesh, 0.0)
        q, y = ufl.variable(p), ufl.variable(m)
        H, D, identity = problem.H(x, q, y), problem.D(x), ufl.Identity(d)
        H_pp, H_m = ufl.diff(ufl.diff(H, q), q), ufl.diff(H, y)
        squares = [H_pp, H_pp - alpha * identity, D, D - D_mean * identity]
        means = [ufl.as_ufl(1.0), ufl.tr(H_pp) / d, ufl.tr(D) / d, H_m**2]
        dx = ufl.dx(domain=mesh, degree=2)
        totals = Totals(mesh, dx, [*means, *(ufl.inner(e, e) for e in squares)])
        random, size = np.random.default_rng(0), units.cost / units.length
        mobile = even = free = True
        for k, draw in enumerate(DRAWS):
            p.value = draw * size * random.standard_normal(d)
            m.value = draw * units.density
            volume, slope, trace, *_ = found = totals()
            if k == 0:
                alpha.value, D_mean.value = slope / volume, trace / volume
                found = totals()
            share = found[3:] / volume
            free &= bool(share[0] * (m.value * units.time / units.cost) ** 2 <= ALIKE)
            mobile &= bool(share[2] <= ALIKE * share[1]) and alpha.value > 0
            even &= bool(share[4] <= ALIKE * share[3])
        t = problem.data.t
        local = [problem.D(x), problem.H(x, problem.data.p, problem.data.m)]
        local += [problem.f(x, t, problem.data.m), problem.s(x, t)]
        return cls(
            mobility=float(alpha.value) if mobile else None,
            diffusion=float(D_mean.value) if even else None,
            congested=not free,
            invariant=not any(map(_local, local, [problem.data] * len(local))),
        )


def _local(expression, data) -> bool:
    """Whether an expression has another value elsewhere, for the same density and gradient."""
    found = (ufl.Coefficient, ufl.classes.GeometricQuantity)
    terminals = traverse_unique_terminals(expression)
    return any(isinstance(y, found) and y not in (data.m, data.p) for y in terminals)
