"""Players at doors and entries, and players among each other.

Run as a script, this module solves a game and leaves what its players say.
"""

import numpy as np
import pytest
from ranks import leave_numbers, numbers_on, serial_only

import ufl

import mfg_fem as mfg

D, T, RATE = 0.2, 1.0, 0.5


def wave_number() -> float:
    """The least k with D k tan k = RATE: cos(k x) exp(-D k^2 t) passes the door at that rate."""
    low, high = 0.0, np.pi / 2
    for _ in range(60):
        k = (low + high) / 2
        low, high = (k, high) if D * k * np.tan(k) < RATE else (low, k)
    return low


@pytest.mark.parametrize("substeps", [1, 4])
def test_a_door_lets_out_as_many_as_diffusion_brings(substeps):
    k = wave_number()
    game = mfg.MeanFieldGame(
        mfg.box(1.0, 32),
        horizon=T,
        diffusion=D,
        hamiltonian=mfg.hamiltonians.quadratic(),
        running_cost=lambda x, t, m: 0.0,
        terminal_cost=lambda x, m: 1.0,
        initial_density=lambda x: ufl.cos(k * x[0]),
        boundary={"right": mfg.Door(rate=RATE, cost=1.0)},
    )
    players = mfg.solve(game, 8).players(100_000, substeps=substeps)
    off = players.inside - np.exp(-D * k**2 * players.times)
    assert (abs(off) <= 3 * players.inside_error + 1e-12).all()
    assert players.cost == pytest.approx(1.0, rel=1e-9)


STEPS = 24
DOOR = mfg.Door(
    rate=2.0,
    capacity=mfg.InTime(lambda x, t: 0.4 + 0.1 * t),
    cost=mfg.WithCrowd(lambda x, t, m: 0.2 * t + x[1] + 0.3 * m),
)


def room(cells=8):
    """People leave through a door that is too narrow for them, and others come in."""
    return mfg.MeanFieldGame(
        mfg.box((2.0, 1.0), (2 * cells, cells)),
        horizon=2.0,
        diffusion=mfg.InTime(lambda x, t: 0.1 + 0.05 * t),
        hamiltonian=mfg.hamiltonians.quadratic(),
        running_cost=lambda x, t, m: 1 + m,
        terminal_cost=lambda x, m: 2.0,
        initial_density=lambda x: 1 + ufl.cos(ufl.pi * x[0] / 2),
        population=1.6,
        source=lambda x, t: 0.1 * x[0],
        boundary={
            "left": mfg.Entry(mfg.InTime(lambda x, t: t * (2 - t) * x[1])),
            "bottom": mfg.Exit(mfg.InTime(lambda x, t: 1.5 - 0.2 * t)),
            "right": DOOR,
        },
    )


def said(number: int, cells: int) -> dict:
    """What players and the certificate say of the room."""
    solution = mfg.solve(room(cells), STEPS)
    players, certificate = solution.players(number, seed=1), solution.exploitability()
    everybody = np.array([players.positions(n) for n in range(STEPS + 1)])
    there = everybody[np.isfinite(everybody[..., 0])]
    return {
        "inside": players.inside.tolist(),
        "gone": {name: flow.tolist() for name, flow in players.gone.items()},
        "expected": {name: flow[::2].tolist() for name, flow in certificate.gone.items()},
        "entered": solution.entered.tolist(),
        "cost": [players.cost, players.standard_error, certificate.cost],
        "error": [players.weight, *players.inside_error.tolist()],
        "box": [*there.min(axis=0).tolist(), *there.max(axis=0).tolist()],
        "mean": there.mean(axis=0).tolist(),
    }
