"""Boundary conditions: what each one means for the value function and for the density.

Every part of the boundary that is not named in `boundary={...}` reflects: no player crosses it,

    (D grad m + m H_p) . n = 0,      D grad u . n = 0,

which is the natural condition of the functional and needs no code.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Exit:
    """Players who reach this boundary leave the game and pay `cost`.

    u = cost,  m = 0 on the boundary (absorbing); the people who left are counted by the
    residual of the Fokker-Planck equation there, which closes the mass balance to round-off.

    Args:
        cost: what leaving costs a player, a number or a callable x -> UFL.
    """

    cost: float | Callable = 0.0


@dataclass(frozen=True)
class Open:
    """The crowd goes on beyond this boundary, where it is known: u = value, m = density.

    People come in and go out; those who have gone, less those who have come, are counted as for an
    `Exit`. At a place far away in a stationary crowd u = 0 and m = m_0, say (Bonnemain, Butano and
    others 2023).

    Args:
        value: the value function there, a number or a callable x -> UFL.
        density: the density there, not negative, likewise.
    """

    value: float | Callable
    density: float | Callable

    @property
    def cost(self) -> float | Callable:
        """What a player who leaves there pays."""
        return self.value


def exit_name(name: str) -> str:
    """The name of the cost of this exit in messages."""
    return f"boundary[{name!r}].cost"


def density_name(name: str) -> str:
    """The name of the density beyond this open boundary in messages."""
    return f"boundary[{name!r}].density"
