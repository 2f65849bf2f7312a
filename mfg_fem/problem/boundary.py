"""Boundary conditions: what each one means for the value function and for the density.

Every part of the boundary that is not named in `boundary={...}` reflects: no player crosses it,

    (D grad m + m H_p) . n = 0,      D grad u . n = 0,

which is the natural condition of the functional and needs no code.
"""

from collections.abc import Callable
from dataclasses import dataclass

from mfg_fem.problem.data import InTime, WithCrowd

Known = float | Callable | InTime  # x -> UFL, or with the time


@dataclass(frozen=True)
class Exit:
    """Players who reach this boundary leave the game and pay `cost`.

    u = cost,  m = 0 on the boundary (absorbing); the people who left are counted by the
    residual of the Fokker-Planck equation there, which closes the mass balance to round-off.

    Args:
        cost: what leaving costs a player, a number, a callable x -> UFL, or `InTime` of (x, t).
    """

    cost: Known = 0.0


@dataclass(frozen=True)
class Open:
    """The crowd goes on beyond this boundary, where it is known: u = value, m = density.

    People come in and go out; those who have gone, less those who have come, are counted as for an
    `Exit`. At a place far away in a stationary crowd u = 0 and m = m_0, say (Bonnemain, Butano and
    others 2023).

    Args:
        value: the value function there, a number, a callable x -> UFL, or `InTime` of (x, t).
        density: the density there, not negative: a number or a callable x -> UFL.
    """

    value: Known
    density: float | Callable

    @property
    def cost(self) -> Known:
        """What a player who leaves there pays."""
        return self.value


@dataclass(frozen=True)
class Door:
    """People at this boundary leave at a limited rate, each paying `cost`.

    With kappa = `rate`, a speed: kappa m people leave per unit of length (of area in 3D) and time,

        -(D grad m + m H_p) . n = kappa m,      D grad u . n + kappa (u - cost) = 0.

    As the rate grows this becomes an `Exit`. With a capacity q, kappa = q / (m + q / rate), so that
    never more than q leave per unit of length and time, and people queue. A player does not change
    kappa; the planner of a control does.

    Each number may be a callable x -> UFL, `InTime` of (x, t), or `WithCrowd` of (x, t, m).

    Args:
        rate: kappa > 0 at low density; with a capacity by default such that half of it passes at
            a twentieth of the mean density.
        capacity: q > 0, persons per unit of length (area in 3D) and time, or None.
        cost: what leaving costs a player.
    """

    rate: Known | WithCrowd | None = None
    capacity: Known | WithCrowd | None = None
    cost: Known | WithCrowd = 0.0


@dataclass(frozen=True)
class Entry:
    """People come in through this boundary, which nobody leaves by.

        (D grad m + m H_p) . n = flux,      D grad u . n = 0.

    Args:
        flux: persons per unit of length (of area in 3D) and time, not negative: a number, a
            callable x -> UFL, or `InTime` of (x, t).
    """

    flux: Known


@dataclass(frozen=True)
class Wall:
    """A wall, which reflects as every boundary without a name.

    Args:
        pushes: whether players may lean on it. Where a drift points into a reflecting wall, the
            wall pushes back for nothing. With pushes=False, a state constraint, players at the wall
            have only the drifts that do not point outwards, as at a limit of credit:

                H(x, p, m) is replaced by its least value on p + s n, s >= 0, at the wall.

            (Soner 1986; Achdou, Han, Lasry, Lions, Moll 2022). Where diffusion pushes them, they
            pay as for standing still: D (grad u - p) . n = 0 with H_p(p) = 0. So the value is right
            on any mesh as D vanishes: of a consumer who lives on 0.1 + 0.03 a (see
            `hamiltonians.consumption`) at a = 0 within 0.6 % for D = 1e-4, 0.05 % for 1e-6 and
            1e-5 for 1e-8, on 50 to 800 cells, with Monotone(), which is of first order elsewhere.
            Sharp() may find no solution if D is as small. In the cell at the wall the drift of who
            leaves it is too small, by up to a third, on any mesh. Take it too where a price or a
            wind would have players lean on a wall for ever: at a wall that pushes, such a best
            response need not be unique, and Newton may fail. In one dimension H may be any that is
            strictly convex, and has to be quadratic in more.
    """

    pushes: bool = False


Condition = Exit | Open | Door | Entry | Wall
WAYS_OUT = Exit | Open | Door
NUMBERS = {
    Exit: ("cost",),
    Open: ("cost", "density"),
    Door: ("cost", "rate", "capacity"),
    Entry: ("flux",),
    Wall: (),
}


def given(condition: Condition) -> dict[str, object]:
    """The data of a condition by their names."""
    names = NUMBERS[type(condition)]
    data = {name: getattr(condition, name) for name in names}
    return {name: value for name, value in data.items() if value is not None}


def data_name(boundary: str, name: str) -> str:
    """What one of the `NUMBERS` of this boundary is called in messages."""
    return f"boundary[{boundary!r}].{name}"
