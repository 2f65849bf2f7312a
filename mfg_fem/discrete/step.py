"""What a step of a scheme sees of its two time levels, and the space of the fields."""

import numpy as np

from dolfinx import fem


def fields_of_step(scheme, u, m) -> tuple[np.ndarray, np.ndarray]:
    """The pair (u[0], m[1]), or for the midpoint rule the averages of both time levels."""
    if scheme.midpoint:
        return (u[0] + u[1]) / 2, (m[0] + m[1]) / 2
    return u[0], m[1]


def function_space(scheme, mesh) -> fem.FunctionSpace:
    """The space of one value function or density."""
    return fem.functionspace(mesh, ("Lagrange", scheme.degree))
