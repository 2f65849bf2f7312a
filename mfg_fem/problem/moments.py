"""The times at which data are looked at, and what may not be negative at any of them."""

import numpy as np

from dolfinx import fem
from ufl.algorithms.analysis import extract_constants

from mfg_fem.errors import ProblemError
from mfg_fem.mesh.values import VertexValues, check_finite

MOMENTS = np.linspace(0.0, 1.0, 9)  # as parts of the horizon


def moments(duration: float, timed: bool) -> np.ndarray:
    """Times at which data are looked at: the end will do unless they depend on t."""
    return duration * (MOMENTS if timed else MOMENTS[-1:])


def check_not_negative(mesh, name: str, value, t: fem.Constant, duration: float):
    """Refuse data, with this t in them, that are negative or not finite. Collective."""
    values = VertexValues(mesh, value)
    for t.value in moments(duration, t in extract_constants(value)):
        (ends,) = values.extremes()
        at = f" at t = {float(t.value):g}"
        check_finite(ends, name, at)
        if ends[0] < 0:
            raise ProblemError(f"{name} is negative somewhere, {ends[0]:.3g}{at}; it must be >= 0.")
