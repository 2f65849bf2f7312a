"""Schemes in time for waves. Each step solves an equation for the mean psi of its two levels.

    i hbar (psi^{n+1} - psi^n) / dt = -(hbar^2 / 2) lap z + P z,    z = (psi^n + psi^{n+1}) / 2,

with a real potential P of the step, so that mass is exact whatever P is. The energy is exact if
int P (rho^{n+1} - rho^n) is a difference of energies, with rho = |psi|^2 where the forms are
integrated: densities interpolated at nodes would break it.
"""

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from mfg_fem.errors import ProblemError
from mfg_fem.validate import is_integer


@dataclass(frozen=True)
class _InTime:
    degree: int = 2

    def __post_init__(self):
        """Refuse what is not implemented."""
        if not is_integer(self.degree) or self.degree not in (1, 2):
            name = type(self).__name__
            raise ProblemError(f"{name}(degree={self.degree!r}): the degree must be 1 or 2.")
        object.__setattr__(self, "degree", int(self.degree))


@dataclass(frozen=True)
class Relaxation(_InTime):
    """One linear solve a step, of second order in dt (Besse 2004).

    The part N = V(x, t, rho) - V(x, t, 0) of the potential lives at the half steps, where it obeys
    N^{n+1/2} + N^{n-1/2} = 2 N(x, t^n, rho^n); P = V(x, t^{n+1/2}, 0) + N^{n+1/2}. The first one is
    found by half a step with N(x, 0, rho^0). If V is linear in rho and does not depend on t, and
    steps are equal, the modified energy E - 1/8 int (N^{n+1/2} - N^{n-1/2}) (r^{n+1/2} - r^{n-1/2})
    is exact, where r obeys the same with rho in the place of N. Mass is exact.

    Args:
        degree: 1 or 2, the polynomial degree in space; others raise ProblemError.
    """

    relaxed: ClassVar[bool] = True


@dataclass(frozen=True)
class DelfourFortinPayre(_InTime):
    """Energy-conserving steps of second order in dt, by Newton (Delfour, Fortin, Payre 1981).

    P = (W(rho^{n+1}) - W(rho^n)) / (rho^{n+1} - rho^n), the mean of V(x, t^{n+1/2}, .) between the
    two densities by 5 Gauss points, also where they are equal. If V does not depend on t, mass and
    energy are exact for a polynomial of degree 9 in rho or less, and else up to Gauss' rule.

    Args:
        degree: 1 or 2, the polynomial degree in space; others raise ProblemError.
    """

    relaxed: ClassVar[bool] = False


WaveScheme: TypeAlias = Relaxation | DelfourFortinPayre
WAVE_SCHEMES = {scheme.__name__: scheme for scheme in (Relaxation, DelfourFortinPayre)}
