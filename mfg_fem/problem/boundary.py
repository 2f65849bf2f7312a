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


def exit_name(name: str) -> str:
    """The name of the cost of this exit in messages."""
    return f"boundary[{name!r}].cost"
