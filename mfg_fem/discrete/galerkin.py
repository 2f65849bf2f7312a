"""Galerkin: P1 or P2 with consistent mass, of high order for smooth solutions."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

import basix.ufl
import ufl
from dolfinx import fem

from mfg_fem.discrete.step import StepRule
from mfg_fem.errors import ProblemError
from mfg_fem.validate import is_integer


@dataclass(frozen=True)
class Galerkin:
    """P1 or P2 with consistent mass: high order for smooth solutions, no promise of m >= 0.

    With A of `forms/functional.py`, Mass the mass matrix and (U, M) what a step sees, each step n
    has

        Mass (u^n - u^{n+1}) / dt + dA/dm (U, M) = 0,  Mass (m^{n+1} - m^n) / dt + dA/du (U, M) = 0.

    `time="euler"` takes (U, M) = (u^n, m^{n+1}), symplectic Euler, first order in dt (Achdou,
    Capuzzo-Dolcetta 2010); `"midpoint"` the averages of both time levels, second order, for which
    rough data want dt of about h^2/D or smaller. Total mass is exact.

    Args:
        degree: 1 or 2, the polynomial degree in space; others raise ProblemError.
        time: "euler" or "midpoint"; others raise ProblemError.
    """

    degree: int = 1
    time: str = "euler"
    lumped: ClassVar[bool] = False
    positive: ClassVar[bool] = False
    limited: ClassVar[bool] = False

    def __post_init__(self):
        """Refuse what is not implemented."""
        if not is_integer(self.degree) or self.degree not in (1, 2):
            raise ProblemError(f"Galerkin(degree={self.degree!r}): the degree must be 1 or 2.")
        object.__setattr__(self, "degree", int(self.degree))
        if not isinstance(self.time, str) or self.time not in ("euler", "midpoint"):
            raise ProblemError(f'Galerkin(time={self.time!r}): time is "euler" or "midpoint".')

    def rule(self, dt: np.ndarray, exits: bool, decay: float) -> StepRule:
        """Implicit Euler or midpoint steps."""
        return StepRule.constant(len(dt), 0.5 if self.time == "midpoint" else 0.0)

    def measures(self, mesh) -> tuple[ufl.Measure, ufl.Measure]:
        """One rule for all terms, exact for cubic (P1) or sextic (P2) integrands."""
        dx = ufl.dx(domain=mesh, metadata={"quadrature_degree": 3 * self.degree})
        return dx, dx

    def points(self, mesh, size: int) -> fem.FunctionSpace:
        """The space of `size` values at the quadrature points."""
        element = basix.ufl.quadrature_element(
            mesh.topology.cell_name(), value_shape=(size,), degree=3 * self.degree
        )
        return fem.functionspace(mesh, element)

    def prepare(self, problem, state):
        """The forms need nothing else."""

    def diffusion(self, population, state, w, around, corners, p, q):
        """The product p . D q with the diffusion tensor D times the viscosity factor."""
        return ufl.inner(state.stretch * population.D(population.x, state.t) * p, q)
