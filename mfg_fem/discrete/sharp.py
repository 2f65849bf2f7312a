"""Sharp, the default scheme: of second order where the solution is smooth, and positive."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

import ufl
from dolfinx import fem

from mfg_fem.discrete.monotone import Monotone, size
from mfg_fem.discrete.step import StepRule
from mfg_fem.errors import ProblemError
from mfg_fem.validate import number

VACUUM = 8.0  # densities below VACUUM h / L times the mean count as small
RAMP = 4  # steps before the end at which c is zero, with exits


@dataclass(frozen=True)
class Sharp(Monotone):
    """P1, lumped mass, limited edge viscosity, limited midpoint rule: second order. The default.

    With A of `forms/functional.py` and lumped Mass, step n sees U = (1 - c) u^n + c u^{n+1} and
    M = s m^n + (1 - s) m^{n+1} (`discrete/step.py`):

        Mass (u^n - u^{n+1}) / dt + dA/dm (U, M) = 0,  Mass (m^{n+1} - m^n) / dt + dA/du (U, M) = 0.

    *Space.* In place of the coefficient low_E = smax(kappa_E, b_E) of `Monotone` an edge E with the
    ends i and j has alpha_E kappa_E + (1 - alpha_E) low_E, where alpha_E is frozen in dA and

        alpha_E = 4 M_i^+ M_j^+ / ((M_i + M_j)^2 + eps_E^2),    eps_E = VACUUM |t_E| / L mean,

    with the mean density and the size L of the domain. If M is smooth, 1 - alpha_E is about
    ((M_i - M_j)^2 + eps_E^2) / (2 M)^2 = O(h^2), and the viscosity that is left O(h^3), also where
    kappa_E < 0. *Time.* c = 1/2, and s = c at every node that keeps more than half of its people
    in the step; at others s falls to 0 with m^{n+1}. With exits c falls to 0 before the end, where
    the value function has a boundary layer in time, and c is less where a step is longer than
    diffusion takes to cross the domain.

    *Positivity.* Any solution of the Fokker-Planck rows with m^n >= 0 and a source >= 0 has
    m^{n+1} >= 0, for any diffusion, mesh and step. Let N be the nodes with m^{n+1} < 0. There
    M = m^{n+1} < 0; at all others M >= 0. Edges that touch N have alpha = 0, so that rows and
    columns of N in the matrix K of transport are those of the M-matrix of Monotone. Columns of K
    sum to 0. Sum the rows of N: sum_N Mass (m^{n+1} - m^n) / dt + sum_j M_j k_j is not negative,
    where k_j = sum_{i in N} K_ij. But k_j <= 0 and M_j >= 0 for j outside N, k_j = - sum_{i outside
    N} K_ij >= 0 and M_j < 0 for j in N, and the first sum is negative unless N is empty, which it
    is. The barrier of Bolley and Crouzeix 1978 (linear schemes that are positive for any step are
    of first order) does not hold, as both limiters are nonlinear. *Mass* is exact: the columns of K
    sum to 0 whatever alpha and M are.

    *What is lost.* The HJB matrix is the transpose of K with the same alpha, but it has positive
    off-diagonal entries where alpha > 0: u obeys no comparison principle there, and m no maximum
    principle, behind fronts that the mesh does not resolve. Where s < c the equations are not quite
    adjoint in time: `Solution.limited_cost` is the difference of costs. A node that is emptied by
    more than half in a step is of first order there.

    The limiter is an edge-wise algebraic flux correction (Barrenechea, Burman, Karakatsani 2017;
    Kuzmin 2012), an implicit outflow that vanishes with the density, as in the Patankar schemes of
    Burchard, Deleersnijder, Meister 2003, here in flux form.

    Args:
        sharpness: factor of alpha and c, from 0 (Monotone) to 1. If Newton does not succeed at 1,
            `solve` returns a solution of less, says so, and `Solution.scheme` has its sharpness.
            Others raise ProblemError.
    """

    sharpness: float = 1.0
    limited: ClassVar[bool] = True

    def __post_init__(self):
        """Refuse what makes no sense."""
        sharpness = number("Sharp: sharpness", self.sharpness)
        if sharpness > 1:
            raise ProblemError(f"Sharp(sharpness={sharpness!r}): it is from 0 to 1.")
        object.__setattr__(self, "sharpness", sharpness)

    def rule(self, dt: np.ndarray, exits: bool, decay: float) -> StepRule:
        """Limited midpoint steps; with exits they turn into Euler steps before the end.

        Where dt is so long that the slowest wave, which falls at the rate `decay`, would change its
        sign in a step of the midpoint rule, c is such that it vanishes.
        """
        left = np.arange(len(dt), 0, -1)
        ramp = np.maximum(1 - (RAMP / left) ** 2, 0.0) if exits else 1.0
        return StepRule(self.sharpness * ramp * np.minimum(0.5, 1 / (decay * dt)), limited=True)

    def limiter(self, population, state, corners, t, ends):
        """The share alpha_E of an edge."""
        domain, M = population.domain, corners
        mean = fem.Constant(domain.mesh, population.units.density)
        eps = VACUUM * mean * ufl.sqrt(ufl.dot(t, t)) / size(domain)
        i, j = ends
        both = ufl.max_value(M[i], 0.0) * ufl.max_value(M[j], 0.0)
        return state.limit * 4 * both / ((M[i] + M[j]) ** 2 + eps**2)
