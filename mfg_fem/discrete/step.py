"""What the steps of a scheme see of their two time levels, and the space of the fields."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from dolfinx import fem

LONG = 0.25  # a step in which more of what is to come is discounted cannot be stationary
DRAINED = 0.5  # a node that keeps less than this share of its people in a step has smaller weights


@dataclass(frozen=True)
class StepRule:
    """The weights of the later value function and of the earlier density in what step n sees.

    It sees U = (1 - c_n) u^n + c_n u^{n+1} and M = s m^n + (1 - s) m^{n+1}, at each node with s =
    c_n, or if limited with

        s = c_n (1 - (1 - r)_+^3),    r = m^{n+1} / (DRAINED m^n),

    so that M falls to zero with m^{n+1}. c = 0 is implicit Euler, c = 1/2 the midpoint rule. With a
    discount gamma u^{n+1} is multiplied by b_n and U divided by w_n: see `spacetime.py`. What
    follows from gamma has its shape: (N,) of one population, (k, N) of several with discounts of
    their own.

    Attributes:
        c: the weights c_n, shape (N,).
        limited: whether s depends on the densities.
        decay: gamma dt of each step, shape (N,) or (k, N).
    """

    c: np.ndarray
    limited: bool = False
    decay: np.ndarray = field(default_factory=lambda: np.zeros(()))

    def __post_init__(self):
        """Let one decay be that of all steps."""
        shape = np.broadcast_shapes(np.shape(self.decay), self.c.shape)
        object.__setattr__(self, "decay", np.broadcast_to(self.decay, shape))

    @cached_property
    def _long(self) -> np.ndarray:
        """Whether steps are too long to be stationary."""
        return self.decay * (1 - self.c) > LONG

    @cached_property
    def discount(self) -> np.ndarray:
        """b_n, what costs at the end of each step count at its start."""
        steady = (1 - self.decay * (1 - self.c)) / (1 + self.decay * self.c)
        return np.where(self._long, np.exp(-self.decay), steady)

    @cached_property
    def worth(self) -> np.ndarray:
        """w_n, what costs in each step count at its start."""
        steady = 1 - self.c + self.c * self.discount
        return np.divide(1 - self.discount, self.decay, out=steady, where=self._long)

    @cached_property
    def of_levels(self) -> np.ndarray:
        """What costs at each time level count at the start of all: one more than steps."""
        return np.cumprod(np.insert(self.discount, 0, 1.0, axis=-1), axis=-1)

    @property
    def of_steps(self) -> np.ndarray:
        """What costs in each step count at the start of all."""
        return self.of_levels[..., :-1] * self.worth

    def population(self, i: int) -> "StepRule":
        """The rule with the decay of population i alone."""
        return replace(self, decay=self.decay[i])

    @classmethod
    def constant(cls, steps: int, c: float) -> "StepRule":
        """The same weight in all steps."""
        return cls(np.full(steps, c))

    def times(self, share: float) -> "StepRule":
        """The rule with this share of the weights."""
        return replace(self, c=share * self.c)

    @property
    def averages(self) -> bool:
        """Whether any step sees both of its levels."""
        return bool(self.c.any())

    def weight(self, n: int, before: np.ndarray, after: np.ndarray) -> np.ndarray | float:
        """The weight s in step n between these densities, at each node or for all."""
        if not self.limited or (after >= DRAINED * before).all():
            return self.c[n]
        return self.c[n] * (1 - (1 - _kept(before, after)) ** 3)

    def fields(self, n: int, u, m) -> tuple[np.ndarray, np.ndarray]:
        """(U, M) of step n between the levels u[0], m[0] and u[1], m[1]."""
        c, s, (now, later) = self.c[n], self.weight(n, *m), u
        worth, discount = self.worth[..., n, None], self.discount[..., n, None]
        if not c:
            return now / worth, m[1]
        seen = now + c * (discount * later - now)
        return seen / worth, m[1] + s * (m[0] - m[1])

    def slopes(self, m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives of M in m^n and m^{n+1} at all steps, for m of shape (k, N + 1, owned)."""
        before, after, c = m[:, :-1], m[:, 1:], self.c[:, None]
        if not (self.limited and self.averages) or (after >= DRAINED * before).all():
            return np.broadcast_to(c, after.shape), np.broadcast_to(1 - c, after.shape)
        r = _kept(before, after)
        s = c * (1 - (1 - r) ** 3)
        # (m^n - m^{n+1}) times the derivatives of s in m^n and m^{n+1}; both vanish for r = 1.
        ratio = DRAINED * r
        rise = 3 * c * (1 - r) ** 2 * (1 - ratio) / DRAINED * (after > 0)
        return s - rise * ratio, 1 - s + rise


def _kept(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The ratio m^{n+1} / (DRAINED m^n), between 0 and 1; 0 where nobody is left."""
    kept = np.ones_like(after)
    np.divide(after, DRAINED * before, out=kept, where=after < DRAINED * before)
    return np.where(after > 0, kept, 0.0)


@dataclass(frozen=True)
class Levels:
    """Owned nodal values at levels 0..N: (k, N + 1, owned), for one population (N + 1, owned).

    Attributes:
        rule: what a step sees of them.
    """

    u: np.ndarray
    m: np.ndarray
    rule: StepRule

    def of_step(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """What step n sees of u and m, both without the axis of time levels."""
        u, m = ((y[..., n, :], y[..., n + 1, :]) for y in (self.u, self.m))
        return self.rule.fields(n, u, m)

    def population(self, i: int) -> "Levels":
        """The levels of population i alone."""
        return Levels(self.u[i], self.m[i], self.rule.population(i))


def function_space(scheme, mesh) -> fem.FunctionSpace:
    """The space of one value function or density."""
    return fem.functionspace(mesh, ("Lagrange", scheme.degree))
