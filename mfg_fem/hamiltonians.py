"""Ready-made Hamiltonians H(x, p, m), convex in p. The optimal drift of a player is -H_p.

Any callable with this signature that returns UFL will do; these are the common ones.
"""

from collections.abc import Callable

import numpy as np

import ufl
from ufl.core.expr import Expr

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


def consumption(income: Callable, aversion: float = 2.0, largest: float = 1.0) -> Callable:
    """H = max_c U(c) - p (income(x) - c), of who consumes c out of an income: x is the wealth.

    The utility is U(c) = c^(1-a) / (1-a), ln c for a = 1, with the relative risk aversion a. The
    value function is a cost, minus the utility that is to come, so p < 0, and the optimal
    consumption is (-p)^(-1/a). Above `largest` U is continued by the parabola that touches it to
    second order, as p need not be negative while Newton is on its way; choose it larger than what
    anybody consumes in the solution, and not much larger.

    Args:
        income: x -> UFL, such as lambda x: wage + rate * x[0]; the drift of x is income - c.
        aversion: a > 0.
        largest: the largest consumption with this utility.
    """
    a = number("consumption: aversion", aversion, above=True)
    c = number("consumption: largest", largest, above=True)

    def hamiltonian(x: Expr, p: Expr, m: Expr) -> Expr:
        price = -p[0]
        q = ufl.max_value(price, c**-a)
        best = q ** (-1 / a)
        surplus = -1 - ufl.ln(q) if a == 1 else a / (1 - a) * q * best
        less = q - price
        return surplus + best * less + best / q * less**2 / (2 * a) + price * income(x)

    return hamiltonian


def with_drift(hamiltonian: Callable, drift: Callable) -> Callable:
    """H(x, p, m) - b(x).p: a wind or escalator b(x) carries the player besides its own motion."""
    return lambda x, p, m: hamiltonian(x, p, m) - ufl.dot(drift(x), p)


def _coefficient(name: str, value: object) -> float | Expr:
    return value if isinstance(value, Expr) else number(name, value, -np.inf)
