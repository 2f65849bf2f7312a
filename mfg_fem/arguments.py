"""Arguments that are numbers, counts or seeds: Python's or NumPy's, and no bool is a number."""

from numbers import Integral, Real

import numpy as np

from mfg_fem.errors import ProblemError


def number(name: str, value, least: float = 0.0, *, above: bool = False) -> float:
    """Check a finite number >= least, or > least if it has to be `above` it."""
    real = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
    if not real or not np.isfinite(value) or value < least or (above and value == least):
        bound = "" if least == -np.inf else f" {'>' if above else '>='} {least:g}"
        raise ProblemError(f"{name} must be a finite number{bound}, not {value!r}.")
    return float(value)


def count(name: str, value, least: int = 1) -> int:
    """Check an integer >= least."""
    if not isinstance(value, Integral) or isinstance(value, bool | np.bool_) or value < least:
        raise ProblemError(f"{name} must be an integer >= {least}, not {value!r}.")
    return int(value)


def generator(name: str, value) -> np.random.Generator:
    """The random generator of a seed, which may be one already, or None for any."""
    try:
        return np.random.default_rng("a bool" if isinstance(value, bool) else value)
    except (TypeError, ValueError) as exc:
        raise ProblemError(f"{name} must be a seed, an integer >= 0, not {value!r}.") from exc


def as_array(value, name: str) -> np.ndarray:
    """An array of float64."""
    try:
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError) as exc:
        raise ProblemError(f"{name} is no array of numbers: {exc}") from exc
