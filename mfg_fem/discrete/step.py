"""What a step of a scheme sees of two levels, and the space it lives in."""

import numpy as np

from dolfinx import fem


def fields_of_step(scheme, u, m) -> tuple[np.ndarray, np.ndarray]:
    """What a step sees of each field at its two levels, u[0], u[1] and m[0], m[1].

    (u^n, m^{n+1}), or the averages of both levels for the midpoint rule.
    """
    if scheme.midpoint:
        return (u[0] + u[1]) / 2, (m[0] + m[1]) / 2
    return u[0], m[1]


def function_space(scheme, mesh) -> fem.FunctionSpace:
    """The space of the value function and of the density."""
    return fem.functionspace(mesh, ("Lagrange", scheme.degree))
