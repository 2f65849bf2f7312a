"""What is asked of arguments that are numbers, in one wording."""

import math
from numbers import Integral, Real

import numpy as np

from mfg_fem.errors import MFGError, ProblemError


def is_number(value) -> bool:
    """Whether it is a real number of Python or numpy; truth values are none."""
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)


def is_integer(value) -> bool:
    """Whether it is an integer of Python or numpy; truth values are none."""
    return isinstance(value, Integral) and not isinstance(value, bool | np.bool_)


def number(
    name: str,
    value,
    least: float = -math.inf,
    most: float = math.inf,
    *,
    above: float = -math.inf,
    below: float = math.inf,
    error: type[MFGError] = ProblemError,
) -> float:
    """The value as a float, if it is a finite number within these bounds.

    Args:
        name: what it is called in the message.
        value: any object.
        least: the smallest number allowed.
        most: the largest number allowed.
        above: a number that it must not reach.
        below: another one.
        error: what is raised.
    """
    good = is_number(value) and math.isfinite(value)
    if good and least <= value <= most and above < value < below:
        return float(value)
    bounds = [
        f"{word} {bound:g}"
        for word, bound in ((">=", least), (">", above), ("<=", most), ("<", below))
        if math.isfinite(bound)
    ]
    wanted = " and ".join(["a finite number", *bounds])
    raise error(f"{name} must be {wanted}, not {value!r}.")


def integer(
    name: str, value, least: int = 1, most: int | None = None, error: type[MFGError] = ProblemError
) -> int:
    """The value as an int, if it is an integer within these bounds; arguments as `number`."""
    if is_integer(value) and least <= value and (most is None or value <= most):
        return int(value)
    bound = f">= {least}" if most is None else f"from {least} to {most}"
    raise error(f"{name} must be an integer {bound}, not {value!r}.")
