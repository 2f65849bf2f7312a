"""The densities of crowds as the checks of data look at them."""

from collections.abc import Sequence

import ufl
from dolfinx import fem

from mfg_fem.errors import ProblemError
from mfg_fem.mesh.values import VertexValues, check_finite

ROUND_OFF = 1e-12  # of a density, relative to its largest value: that of a solution has some


class Crowding:
    """The densities of populations as the checks look at them. Collective.

    Attributes:
        volume: of their domain.
        densities: of each population, as UFL variables.
    """

    def __init__(self, populations: Sequence):
        self.populations, mesh = populations, populations[0].domain.mesh
        self.volume = populations[0].domain.volume()
        self._share, self._even = ([fem.Constant(mesh, 0.0) for _ in populations] for _ in "su")
        initial = [own.m0(own.x) for own in populations]
        self.masses = [
            check_density(mesh, m0, own.population, f"{own.label}initial_density(x)")
            for own, m0 in zip(populations, initial, strict=True)
        ]
        parts = zip(self._share, initial, self._even, strict=True)
        self.densities = tuple(ufl.variable(share * m0 + even) for share, m0, even in parts)
        self.initial()

    def _set(self, share: float, even: float):
        for i, (own, mass) in enumerate(zip(self.populations, self.masses, strict=True)):
            self._share[i].value = share * own.population / mass
            self._even[i].value = even * own.population / self.volume

    def initial(self):
        """Take the initial densities."""
        self._set(1.0, 0.0)

    def uniform(self):
        """Take uniform densities."""
        self._set(0.0, 1.0)

    def nobody(self):
        """Take zero."""
        self._set(0.0, 0.0)

    def seen_by(self, problem, t):
        """What its callables get for m, with local densities in the place of smoothed ones."""
        x, m = problem.x, problem.crowd(self.densities)
        made = {}
        for _, data, quantity in problem.quantities:
            made[quantity] = data.operand(quantity, x=x, t=t, m=m)
            if quantity.radius is None:
                made[quantity] *= fem.Constant(problem.domain.mesh, self.volume)
        return problem.crowd(self.densities, made)

    def slopes(self, expression) -> ufl.core.expr.Expr:
        """The derivatives in all densities, as a vector."""
        return ufl.as_vector([ufl.diff(expression, m) for m in self.densities])


def check_density(mesh, m, population: float, name: str = "initial_density(x)") -> float:
    """The mass of a density m, which has to be positive; m must not be negative."""
    density = check_sign(mesh, m, name)
    mass = density.integral()
    if not mass > 0:
        raise ProblemError(
            f"{name} vanishes on the whole mesh, so it cannot be scaled to the "
            f"population {population:g}. Is the crowd inside the domain?"
        )
    return mass


def check_sign(mesh, m, name: str) -> VertexValues:
    """The values of a density, which must not be negative but for round-off."""
    density = VertexValues(mesh, m)
    (found,) = density.extremes()
    check_finite(found, name)
    if found[0] < -ROUND_OFF * found[1]:
        raise ProblemError(
            f"{name} is negative somewhere (minimum {found[0]:.3g}); "
            "a density must be >= 0. Cut it off, e.g. ufl.max_value(m, 0)."
        )
    return density
