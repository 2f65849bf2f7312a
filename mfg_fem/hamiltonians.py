"""Ready-made Hamiltonians H(x, p, m), convex in p. The optimal drift of a player is -H_p.

Any callable with this signature that returns UFL will do; these are the common ones.
"""

from collections.abc import Callable

import numpy as np

import ufl

from mfg_fem.validate import number


def quadratic(mobility: float = 1.0) -> Callable:
    """H = mobility |p|^2 / 2: running cost |a|^2 / (2 mobility) of moving with velocity a."""
    mobility = _coefficient("quadratic: mobility", mobility)
    return lambda x, p, m: mobility * ufl.dot(p, p) / 2


def power(exponent: float, smoothing: float = 1e-3) -> Callable:
    """H = (|p|^2 + s^2)^(r/2) / r - s^r / r with r = exponent > 1, s = smoothing > 0.

    The smoothing keeps H twice differentiable at p = 0, which Newton needs for r < 2.
    """
    # For H to be convex and twice differentiable.
    r = number("power: exponent", exponent, 1.0, above=True)
    s = number("power: smoothing", smoothing, above=True)
    return lambda x, p, m: ((ufl.dot(p, p) + s**2) ** (r / 2) - s**r) / r


def congestion(strength: float, exponent: float) -> Callable:
    """H = |p|^2 / (2 (1 + strength m)^exponent): moving where it is crowded costs more.

    `strength` has the unit of 1/density. The drift is -p / (1 + strength m)^exponent.
    Uniqueness of the game is known for 0 <= exponent <= 2 (Lions; Achdou-Porretta 2018).
    """
    strength = _coefficient("congestion: strength", strength)
    exponent = _coefficient("congestion: exponent", exponent)
    return lambda x, p, m: ufl.dot(p, p) / (2 * (1 + strength * m) ** exponent)


def with_drift(hamiltonian: Callable, drift: Callable) -> Callable:
    """H(x, p, m) - b(x).p: a wind or escalator b(x) carries the player besides its own motion."""
    return lambda x, p, m: hamiltonian(x, p, m) - ufl.dot(drift(x), p)


def _coefficient(name: str, value: object) -> float | ufl.core.expr.Expr:
    return value if isinstance(value, ufl.core.expr.Expr) else number(name, value, -np.inf)
