"""Checks of arguments, one wording each. Numbers are Python's or NumPy's, and no truth values."""

import re
from collections.abc import Iterable
from contextlib import suppress
from numbers import Integral, Real
from typing import TypeGuard

import numpy as np

from mfg_fem.errors import LevelError, ProblemError

Seed = int | np.random.Generator | None


def is_number(value) -> TypeGuard[float]:
    """Whether it is a real number of Python or NumPy."""
    return isinstance(value, Real) and not isinstance(value, bool | np.bool_)


def is_integer(value) -> TypeGuard[int]:
    """Whether it is an integer of Python or NumPy."""
    return isinstance(value, Integral) and not isinstance(value, bool | np.bool_)


def number(name: str, value, least: float = 0.0, *, above: bool = False) -> float:
    """Check a finite number >= least, or > least if it has to be `above` it."""
    found = np.nan
    if is_number(value):
        with suppress(OverflowError):
            found = float(value)
    if not (np.isfinite(found) and found >= least) or (above and found == least):
        bound = "" if least == -np.inf else f" {'>' if above else '>='} {least:g}"
        raise ProblemError(f"{name} must be a finite number{bound}, not {_shown(value)}.")
    return found


def fraction(name: str, value, *, or_one: bool = False) -> float:
    """Check a number > 0 and < 1, or <= 1."""
    if not (is_number(value) and (0 < value < 1 or (or_one and value == 1))):
        wanted = f"> 0 and {'<=' if or_one else '<'} 1"
        raise ProblemError(f"{name} must be a number {wanted}, not {_shown(value)}.")
    return float(value)


def count(name: str, value, least: int = 1) -> int:
    """Check an integer >= least."""
    if not (is_integer(value) and value >= least):
        raise ProblemError(f"{name} must be an integer >= {least}, not {_shown(value)}.")
    return int(value)


def increasing(name: str, value) -> np.ndarray:
    """Check two times or more that increase from 0."""
    times = array(name, value, ("levels",))
    if len(times) < 2 or times[0] != 0 or not (np.diff(times) > 0).all():
        raise ProblemError(f"{name} must be two times or more that increase from 0.")
    return times


def time_levels(name: str, value, horizon: float) -> np.ndarray:
    """Check increasing times from 0 to the horizon, or a number of equal steps to it."""
    if not isinstance(value, Iterable) or isinstance(value, str):
        return np.linspace(0.0, horizon, count(name, value) + 1)
    times = increasing(name, value)
    if abs(times[-1] - horizon) > 1e-12 * horizon:
        raise ProblemError(f"{name} must end at the horizon {horizon:g}, not at {times[-1]:g}.")
    return times


def flag(name: str, value) -> bool:
    """Check a truth value."""
    if not isinstance(value, bool | np.bool_):
        raise ProblemError(f"{name} must be True or False, not {_shown(value)}.")
    return bool(value)


def text(name: str, value) -> str:
    """Check a string."""
    if not isinstance(value, str):
        raise ProblemError(f"{name} must be a text, not {_shown(value)}.")
    return value


def _shown(value) -> str:
    """Short, the same on every rank, and for integers of more digits than Python prints too."""
    try:
        shown = re.sub(r" at 0x\w+", "", repr(value))
    except ValueError:
        return "an integer of too many digits"
    return shown if len(shown) <= 100 else f"{shown[:97]}..."


def index(what: str, value, size: int, of: str) -> int:
    """Check an index from 0 to size - 1; `of` says what is counted, such as "levels"."""
    if not (is_integer(value) and 0 <= value < size):
        raise LevelError(f"{what}({value!r}): {of} go from 0 to {size - 1}.")
    return int(value)


def generator(name: str, value) -> np.random.Generator:
    """The random generator of a seed, which may be one already, or None for any."""
    try:
        if isinstance(value, bool):  # NumPy would take it for an integer
            raise TypeError("it is a truth value")
        return np.random.default_rng(value)
    except (TypeError, ValueError) as exc:
        raise ProblemError(f"{name} must be a seed, an integer >= 0, not {value!r}.") from exc


def moment(name: str, value, horizon: float) -> float:
    """Check a time between 0 and the horizon, both included, up to round-off."""
    t, close = number(name, value, -np.inf), 1e-10 * horizon
    if not -close <= t <= horizon + close:
        raise ProblemError(f"{name} must be a time from 0 to {horizon:g}, not {t:g}.")
    return t


def choice(name: str, value, choices):
    """Check a text or an integer that has to be one of the choices."""
    if not (isinstance(value, str | Integral) and value in choices):
        wanted = ", ".join(map(repr, choices))
        raise ProblemError(f"{name} must be one of {wanted}, not {_shown(value)}.")
    return value


def planar(name: str, value, shape: tuple[str | int, ...] = ("n", 2)) -> np.ndarray:
    """Check points in the plane, as an array or a geometry of shapely; the end of a ring goes."""
    value = getattr(value, "exterior", value)
    found = array(name, getattr(value, "coords", value), shape)
    return found[:-1] if len(found) > 3 and np.array_equal(found[0], found[-1]) else found


def polygon(name: str, value, dim: int) -> np.ndarray:
    """Check the corners of a polygon, in place of which a function may be given."""
    found = planar(f"{name}, which is no function, has corners and", value)
    if len(found) < 3 or dim != 2:
        raise ProblemError(f"{name} must have three corners or more, in 2D.")
    return found


def array(name: str, value, shape: tuple[str | int, ...]) -> np.ndarray:
    """Check an array of finite numbers; a word in the shape stands for any length."""
    try:
        if np.iscomplexobj(value):  # NumPy would drop the imaginary part
            raise TypeError("it is complex")
        found = np.asarray(value, dtype=float)
    except (TypeError, ValueError, OverflowError) as exc:
        raise ProblemError(f"{name} is no array of numbers: {exc}") from exc
    fixed = [n if isinstance(n, str) else k for n, k in zip(shape, found.shape, strict=False)]
    if len(shape) != found.ndim or fixed != list(shape):
        wanted = str(shape).replace("'", "")
        raise ProblemError(f"{name} must have the shape {wanted}, not {found.shape}.")
    if not np.isfinite(found).all():
        raise ProblemError(f"{name} must be finite, and contains NaN or infinite numbers.")
    return found
