"""Terms of the whole crowd in costs: smoothed densities and totals.

Each is a terminal of UFL in the user's expression, a Function z whose values the crowd makes:

    smooth:  z - r^2 lap z = y,  no flux, several times;      total:  z = int y dx,

with an expression y of the densities at one point. To a player z is data, as the crowd is; a
planner minds that he changes it. See `forms/feedback.py`.
"""

import basix.ufl
import ufl
from ufl.domain import extract_domains

from mfg_fem.errors import ProblemError
from mfg_fem.problem.densities import Densities
from mfg_fem.validate import count, number


class Quantity(ufl.Coefficient):
    """A function z of x that stands for a quantity of the crowd.

    Attributes:
        operand: the expression y that it is made of.
        radius: r of a smoothed density, None of a total.
        times: how often it is smoothed.
    """

    def __init__(self, name: str, operand, radius: float | None, times: int):
        if isinstance(operand, Densities):
            raise ProblemError(f"{name}(m): {operand.hint}")
        self.operand, self.radius, self.times = ufl.as_ufl(operand), radius, times
        domains = extract_domains(self.operand)
        if self.operand.ufl_shape or not domains:
            raise ProblemError(f"{name} takes a scalar expression of the density m, not {operand}.")
        (mesh,) = domains
        cell = mesh.ufl_coordinate_element().cell_type
        element = basix.ufl.element("Lagrange", cell, 1)
        super().__init__(ufl.FunctionSpace(mesh, element))

    def of(self, operand) -> "Quantity":
        """The same quantity of another operand."""
        name = "total" if self.radius is None else "smooth"
        return Quantity(name, operand, self.radius, self.times)


def smooth(m, radius: float, times: int = 1) -> Quantity:
    """The density as somebody sees it who looks around: z - radius^2 lap z = m, no flux.

    In running and terminal costs, Hamiltonians, switching rates and data of doors, in the place of
    m: what players mind is then the crowd within about `radius`, weighted by exp(-distance /
    radius) in 1D. Achdou, Capuzzo-Dolcetta 2010 regularise with times=2.

    Args:
        m: the density, or an expression of densities, x and t at one point.
        radius: a length > 0.
        times: how often this is done, the next time to z.
    """
    radius = number("smooth: radius", radius, above=True)
    return Quantity("smooth", m, radius, count("smooth: times", times))


def total(expression) -> Quantity:
    """The integral of an expression over the domain: of `m * x[0]`, say, for the mean place.

    Args:
        expression: of densities, x and t at one point.
    """
    return Quantity("total", expression, None, 1)
