"""Premovement time: people who stand where they are for a random delay before they walk.

The delay T of a person has the hazard lambda(t) = -S'(t) / S(t), where S(t) = P(T > t) is the part
of the people who still wait. So the waiting are a crowd of their own who stand still, in the way of
others as everybody is, and become moving people at the rate lambda(t): `Populations` with
switching. Those who walk know how many are to follow. The waiting get a diffusion that moves them
by less than a thousandth of the domain.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

import ufl

from mfg_fem.errors import ProblemError
from mfg_fem.problem.boundary import Condition, given
from mfg_fem.problem.data import InTime, WithCrowd
from mfg_fem.problem.game import MeanFieldControl, MeanFieldGame
from mfg_fem.problem.populations import Crowd, Populations
from mfg_fem.validate import number

WAITING, MOVING = "waiting", "moving"
DRIFT = 1e-3  # part of the size of the domain by which the waiting may be off
SHARE = 1e-2  # of the interval, in which the last leave who wait beyond a uniform delay
TAIL = 6.0  # standard deviations of log T beyond which (1e-9 of the people) the hazard is bounded


@dataclass(frozen=True)
class UniformDelay:
    """Delays that are equally likely between two times >= 0."""

    earliest: float
    latest: float

    def __post_init__(self):
        """Check the times."""
        number("UniformDelay.earliest", self.earliest)
        number("UniformDelay.latest", self.latest, self.earliest, above=True)

    def hazard(self, t):
        """The rate at which those who still wait at t begin to move, in UFL."""
        left = ufl.max_value(self.latest - t, SHARE * (self.latest - self.earliest))
        return ufl.conditional(ufl.gt(t, self.earliest), 1 / left, 0.0)


@dataclass(frozen=True)
class LogNormalDelay:
    """Delays T of this mean and standard deviation > 0 of which log T is normal."""

    mean: float
    std: float

    def __post_init__(self):
        """Check the numbers."""
        number("LogNormalDelay.mean", self.mean, above=True)
        number("LogNormalDelay.std", self.std, above=True)

    def hazard(self, t):
        """The rate at which those who still wait at t begin to move, in UFL."""
        s = float(np.sqrt(np.log1p((self.std / self.mean) ** 2)))  # of log T
        t = ufl.max_value(t, 1e-9 * self.mean)
        z = ufl.min_value((ufl.ln(t / self.mean) + s**2 / 2) / s, TAIL)
        waiting = (1 - ufl.erf(z / 2**0.5)) / 2
        return ufl.exp(-(z**2) / 2) / ((2 * np.pi) ** 0.5 * s * t * waiting)


def with_premovement(game: MeanFieldGame | MeanFieldControl, delay: Any) -> Populations:
    """The crowd of a game or a control whose people begin to move after a random delay.

    Args:
        game: with a horizon and an initial density. The m of its data is everybody, waiting or not.
        delay: a `UniformDelay`, a `LogNormalDelay`, or an object of yours with hazard(t) in UFL.

    Returns:
        Populations of the crowds "waiting" and "moving". Who waits pays what standing there costs
        him; who comes through an entry or a source moves at once.
    """
    if not isinstance(game, MeanFieldGame | MeanFieldControl) or game.initial_density is None:
        raise ProblemError(
            "with_premovement takes a MeanFieldGame or a MeanFieldControl with a horizon."
        )
    if game.terminal_density is not None or game.market:
        raise ProblemError("with_premovement takes no problem with a terminal_density or a market.")
    if not callable(getattr(delay, "hazard", None)):
        raise ProblemError(f"delay must be a UniformDelay or a LogNormalDelay, not {delay!r}.")
    data = {y.name: getattr(game, y.name) for y in fields(Crowd)}
    data |= {name: _of_all(data[name]) for name in ("hamiltonian", "running_cost", "terminal_cost")}
    data["boundary"] = {name: _before(condition) for name, condition in game.boundary.items()}
    far = DRIFT * game.domain.volume() ** (1 / game.domain.dim)
    still = {
        "diffusion": far**2 / (2 * game.duration),
        "hamiltonian": _standing(data["hamiltonian"]),
        "source": None,
        "boundary": {},
    }
    return Populations(
        game.domain,
        horizon=game.horizon,
        crowds={WAITING: Crowd(**data | still), MOVING: Crowd(**data | {"population": 0.0})},
        switching={(WAITING, MOVING): lambda x, t, m: delay.hazard(t)},
        planner="all" if game.plans else None,
    )


def _of_all(value: Any) -> Any:
    """The same datum, of the density of both crowds together; m is its last argument."""
    if isinstance(value, InTime | WithCrowd):
        return replace(value, data=_of_all(value.data))
    if not callable(value) or isinstance(value, ufl.core.expr.Expr):
        return value
    return lambda *arguments: value(*arguments[:-1], arguments[-1].all)


def _before(condition: Condition) -> Condition:
    """The same condition, of a door that sees everybody before it."""
    seeing = {name: y for name, y in given(condition).items() if isinstance(y, WithCrowd)}
    return replace(condition, **{name: _of_all(y) for name, y in seeing.items()})


def _standing(hamiltonian: Any) -> Any:
    """The Hamiltonian at p = 0: its drift vanishes, and -H is what standing costs if H is even."""
    if isinstance(hamiltonian, InTime):
        return InTime(lambda x, t, p, m: hamiltonian.data(x, t, ufl.zero(p.ufl_shape), m))
    return lambda x, p, m: hamiltonian(x, ufl.zero(p.ufl_shape), m)
