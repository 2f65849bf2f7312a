"""What the problem of a fluid is, and which quantities it has not, and why."""

from dataclasses import dataclass

from mpi4py import MPI

import numpy as np

import ufl
from dolfinx import fem
from ufl.corealg.traversal import traverse_unique_terminals

from mfg_fem.forms.integrals import Totals
from mfg_fem.problem.game import MeanFieldControl

ALIKE = 1e-20  # of squares: round-off
DRAWS = (0.1, 1.0, 10.0)  # gradients and densities, in their units, at which H is looked at
DISCOUNTED = "later costs are discounted"
LARGEST = 600.0  # the exponential of more is no number


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
        mesh, x, units, data = problem.domain.mesh, problem.x, problem.units, problem.data
        d = mesh.geometry.dim
        p, m = fem.Constant(mesh, np.ones(d)), fem.Constant(mesh, 1.0)
        alpha, mean, t = (fem.Constant(mesh, 0.0) for _ in range(3))
        q, y = ufl.variable(p), ufl.variable(m)
        H, D, identity = problem.H(x, t, q, y), problem.D(x, t), ufl.Identity(d)
        H_pp, H_m = ufl.diff(ufl.diff(H, q), q), ufl.diff(H, y)
        means = [ufl.as_ufl(1.0), ufl.tr(H_pp) / d, ufl.tr(D) / d, H_m**2]
        squares = [H_pp, H_pp - alpha * identity, D, D - mean * identity]
        dx = ufl.dx(domain=mesh, degree=2)
        totals = Totals(mesh, dx, [*means, *(ufl.inner(e, e) for e in squares)])
        random, size = np.random.default_rng(0), units.cost / units.length
        quadratic, even = (not data.depends(y, "t") for y in ("hamiltonian(x, p, m)", "diffusion"))
        free = True
        for k, draw in enumerate(DRAWS):
            p.value = draw * size * random.standard_normal(d)
            m.value = draw * units.density
            if k == 0:
                volume, *found = totals()
                alpha.value, mean.value = found[0] / volume, found[1] / volume
            volume, _, _, slope, curvature, rest, diffusion, uneven = totals()
            slope *= (m.value * units.time / units.cost) ** 2 / volume
            free &= bool(slope <= ALIKE)
            quadratic &= bool(rest <= ALIKE * curvature and alpha.value > 0)
            even &= bool(uneven <= ALIKE * diffusion)
        local = (D, problem.H(x, data.t, data.p, data.m), problem.f(x, data.t, data.m))
        return cls(
            mobility=float(alpha.value) if quadratic else None,
            diffusion=float(mean.value) if even else None,
            congested=not free,
            invariant=not any(_differs(e, data) for e in (*local, problem.s(x, data.t))),
        )


def _differs(expression, data) -> bool:
    """Whether an expression may have another value elsewhere, for the same p, t and m."""
    kinds = (ufl.Coefficient, ufl.classes.GeometricQuantity)
    terminals = traverse_unique_terminals(expression)
    return any(isinstance(y, kinds) and y not in (data.m, data.p) for y in terminals)


def lacks(solution, kind: Kind) -> tuple[dict[str, str], dict[str, str]]:
    """Name -> why the fluid has no such quantity; name -> what it does not promise. Collective."""
    problem, discrete, levels = solution.problem, solution.discrete, solution.levels
    missing, limits = {}, {}
    madelung = []
    if kind.mobility is None:
        madelung.append("H is not alpha |p|^2 / 2 + b(x).p + c(x) with a number alpha > 0")
    if kind.diffusion is None:
        madelung.append("D is not one number")
    if madelung:
        missing["osmotic"] = " and ".join(madelung)
    if not solution.min_density > 0:
        madelung.append(f"log m is not finite, as m = {solution.min_density:.3g} somewhere")
    largest = discrete.comm.allreduce(float(np.abs(levels.u).max(initial=0.0)), MPI.MAX)
    if madelung:
        names = ("kinetic", "potential", "quantum_potential", "pair")
        missing |= dict.fromkeys(names, " and ".join(madelung))
    elif problem.discount:
        missing["pair"] = DISCOUNTED
    elif kind.mobility and kind.diffusion:
        largest *= kind.mobility / (2 * kind.diffusion)
        if largest > LARGEST:
            missing["pair"] = f"exp(-alpha u / (2 D)) would reach exp({largest:.3g})"
    dt, c = np.diff(solution.times), levels.rule.c
    if kind.congested and not isinstance(problem, MeanFieldControl):
        why = "the equations of a game whose H depends on m are of no Hamiltonian"
        missing |= dict.fromkeys(("energy", "modified_energy"), why)
    elif problem.discount:
        limits["energy"] = missing["modified_energy"] = DISCOUNTED
    elif problem.by_flux or problem.limits:
        limits["energy"] = missing["modified_energy"] = "boundaries have energy too"
    elif not discrete.forms.autonomous:
        limits["energy"] = missing["modified_energy"] = "data depend on t"
    elif np.ptp(dt) > 1e-10 * dt.max() or np.ptp(c) > 1e-10:
        missing["modified_energy"] = "the steps differ in length or in the weights of their levels"
    elif c[0] == 0.5 and len(dt) < 2:
        missing["modified_energy"] = "the only step of a midpoint rule has no level inside"
    elif discrete.scheme.positive:
        limits["modified_energy"] = "the viscosity of the scheme is of no Hamiltonian"
    if problem.discount:
        limits["total_momentum"] = DISCOUNTED
    elif not (kind.invariant and problem.domain.seams):
        limits["total_momentum"] = "the domain has walls, or data change in space"
    return missing, limits
