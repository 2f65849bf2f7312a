"""Finitely many players.

Run as a script, this module solves a game and leaves what its players and its certificate say.
"""

from mpi4py import MPI

import numpy as np
import pytest
from ranks import leave_numbers, numbers_on, serial_only

import ufl

import mfg_fem as mfg
from mfg_fem.certainty.walk import Floor


def walk(domain, steps):
    """Where players get to from random places, and where they would without walls."""
    floor, random = Floor(domain, []), np.random.default_rng(1)
    cell = random.integers(len(floor.corners), size=len(steps))
    weights = random.dirichlet(np.ones(domain.dim + 1), len(steps))
    D = np.broadcast_to(np.eye(domain.dim), (len(steps), domain.dim, domain.dim))
    there = floor.places(cell, weights) + steps
    cell, weights, out = floor.walk(cell, weights, steps, D)
    assert (out == -1).all() and (weights >= 0).all()
    return floor.places(cell, weights), there


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_walls_are_mirrors_and_seams_are_none(dim):
    steps = np.random.default_rng(0).normal(0, 0.8, (500, dim))
    found, free = walk(mfg.box((1.0,) * dim, 4), steps)
    assert found == pytest.approx(1 - abs(1 - free % 2), abs=1e-12)
    found, free = walk(mfg.box((1.0,) * dim, 4, periodic=True), steps)
    off = found - free
    assert off == pytest.approx(np.rint(off), abs=1e-12)


def both_ends(**changes):
    """Nobody moves but by noise, and both ends are exits."""
    data = {
        "horizon": 1.0,
        "diffusion": 0.1,
        "hamiltonian": mfg.hamiltonians.quadratic(),
        "running_cost": lambda x, t, m: 0.0,
        "terminal_cost": lambda x, m: 0.0,
        "initial_density": lambda x: ufl.sin(ufl.pi * x[0]),
        "boundary": {"left": mfg.Exit(), "right": mfg.Exit()},
    }
    return mfg.MeanFieldGame(mfg.box(1.0, 32), **(data | changes))


@pytest.mark.parametrize("substeps", [1, 4])
def test_who_touches_an_exit_between_two_steps_has_left(substeps):
    players = mfg.solve(both_ends(), 8).players(40_000, substeps=substeps)
    exact = np.exp(-0.1 * np.pi**2 * players.times)
    assert (abs(players.inside - exact) <= 4 * players.inside_error + 1e-12).all()
    assert sum(players.gone.values()) + players.inside == pytest.approx(1)


def test_players_scatter_about_the_density_that_their_policy_makes():
    game = both_ends(
        running_cost=lambda x, t, m: 1 + m,
        terminal_cost=lambda x, m: 4 * x[0] * (1 - x[0]),
        initial_density=lambda x: ufl.exp(-((x[0] - 0.4) ** 2) / 0.04),
        boundary={"left": mfg.Exit(0.05), "right": mfg.Exit()},
        source=lambda x, t: 0.4 * x[0],
        population=3.0,
    )
    solution = mfg.solve(game, 32)
    players, density = solution.players(100_000), solution.exploitability()
    assert players.number == 100_000 + round(100_000 / 3 * solution.entered[-1])
    inside = 3 + solution.entered - sum(density.gone.values())[::2]
    off = abs(players.inside - inside)
    assert (off <= 3 * players.inside_error + 0.005 * 3).all()
    assert abs(players.cost - density.cost) <= 3 * players.standard_error + 0.005 * density.cost
    x = players.positions(16)
    there = x[np.isfinite(x)]
    assert x.shape == (players.number, 1) and 0 <= there.min() < there.max() <= 1
    assert len(there) * players.weight == pytest.approx(players.inside[16])


def test_trajectories_are_text_as_pedpy_reads_it(tmp_path):
    solution = mfg.solve(both_ends(), 8)
    players = solution.players(50, seed=3)
    players.write(tmp_path / "walk.txt")
    header, columns, *lines = (tmp_path / "walk.txt").read_text().splitlines()
    assert header == "# framerate: 8" and "x/m" in columns
    who, frame, x, y, z = np.loadtxt(lines).T
    assert len(who) == round(players.inside.sum() * 50)
    last = players.positions(8)[:, 0]
    assert x[frame == 8] == pytest.approx(last[np.isfinite(last)], abs=1e-6)
    assert who.min() >= 1 and not y.any() and not z.any()
    with pytest.raises(mfg.ProblemError, match="equal time steps"):
        mfg.solve(both_ends(), [0, 0.3, 1]).players(5).write(tmp_path / "walk.txt")


def test_what_makes_no_sense_is_refused():
    solution = mfg.solve(both_ends(), 2)
    for arguments in ({"number": 0}, {"number": 5, "seed": -1}, {"number": 5, "substeps": 1.5}):
        with pytest.raises(mfg.ProblemError):
            solution.players(**arguments)
    with pytest.raises(mfg.LevelError):
        solution.players(5).positions(3)


def room(cells=6):
    """A room that is open on the right."""
    return mfg.MeanFieldGame(
        mfg.box((2.0, 1.0), (2 * cells, cells)),
        horizon=2.0,
        diffusion=lambda x: ufl.as_matrix([[0.1 + 0.05 * x[0], 0.03], [0.03, 0.08]]),
        hamiltonian=mfg.hamiltonians.congestion(1.0, 1.0),
        running_cost=lambda x, t, m: 1 + m,
        terminal_cost=lambda x, m: 2 - x[0],
        initial_density=lambda x: ufl.exp(-((x[0] - 0.7) ** 2 + (x[1] - 0.5) ** 2) / 0.08),
        boundary={"right": mfg.Exit()},
    )


def said() -> dict:
    """What players and the certificate say of the room."""
    solution = mfg.solve(room(), 12)
    players, found = solution.players(3000, seed=2), solution.exploitability()
    x = players.positions(4)
    refused = []
    try:
        solution.players(10 + MPI.COMM_WORLD.rank, seed=-MPI.COMM_WORLD.rank - 1)
    except mfg.ProblemError as error:
        refused = [str(error)]
    return {
        "places": x[np.isfinite(x[:, 0])].mean(axis=0).tolist(),
        "players": [
            *(float(y[6]) for y in (players.inside, players.inside_error)),
            players.cost,
            players.standard_error,
        ],
        "certificate": [
            found.bregman,
            found.costs,
            1 - float(found.gone["right"][12]),
            found.cost,
        ],
        "refused": refused,
    }


@serial_only
def test_the_same_players_walk_on_two_ranks():
    one, two = said(), numbers_on(2, __file__)
    assert one["refused"] == two["refused"] != []
    for key in ("places", "players", "certificate"):
        assert two[key] == pytest.approx(one[key], rel=1e-5)
    assert one["certificate"][1] == pytest.approx(one["certificate"][0], rel=0.15)
    inside, error, cost, spread = one["players"]
    assert abs(inside - one["certificate"][2]) <= 4 * error + 0.01
    assert abs(cost - one["certificate"][3]) <= 4 * spread + 0.01 * cost


if __name__ == "__main__":
    leave_numbers(said())
