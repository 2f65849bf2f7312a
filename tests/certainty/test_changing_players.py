"""Players who change from crowd to crowd.

Run as a script, this module leaves what players and the certificate say of two crowds.
"""

import numpy as np
import pytest
from crowds import two
from ranks import leave_numbers

import mfg_fem as mfg

FORTH, BACK, D = 3.0, 2.0, 0.1
STILL = {
    "diffusion": D,
    "running_cost": lambda x, t, m: 0.0,
    "terminal_cost": lambda x, m: 0.0,
    "initial_density": lambda x: 1.0,
}


def within(players, crowd, exact, more=0.0):
    """Whether as many are in a crowd as there should be, but for 3 standard errors."""
    off = np.abs(players[crowd].inside - exact)
    return (off <= 3 * players[crowd].inside_error + more + 1e-12).all()


@pytest.mark.parametrize("rate", [1.0, 20.0])
def test_as_many_are_in_each_crowd_as_the_equation_of_two_states_says(rate):
    problem = two(
        mfg.box(1.0, 4),
        a=STILL,
        b=STILL | {"population": 0.0},
        switching={("a", "b"): rate * FORTH, ("b", "a"): rate * BACK},
    )
    players = mfg.solve(problem, 8).players(100_000)
    gone = np.exp(-rate * (FORTH + BACK) * players["a"].times)
    exact = (BACK + FORTH * gone) / (FORTH + BACK)
    assert within(players, "a", exact) and within(players, "b", 1 - exact)
    total = players["a"].inside + players["b"].inside
    assert total == pytest.approx(1.0)


def changing(cells: int) -> mfg.Populations:
    """Two crowds of unlike costs and noise, who change at rates of place, time and crowd."""
    ends = {"initial_density": lambda x: 1.5 - x[0], "population": 0.5}
    return two(
        mfg.box(1.0, cells),
        a={"diffusion": 0.05, "discount": 0.3, "source": lambda x, t: 0.5 * t},
        b={"discount": 0.3, "boundary": {"right": mfg.Door(rate=1.0, cost=0.2)}, **ends},
        switching={("a", "b"): lambda x, t, m: 4 * x[0] + t, ("b", "a"): lambda x, t, m: m["a"]},
    )


def test_players_scatter_about_what_their_crowds_do_and_pay():
    fine = mfg.solve(changing(64), 64)
    players = mfg.solve(changing(24), 24).players(100_000)
    for name, own in players.items():
        print(name, own.cost, own.standard_error, fine[name].cost)
        print(
            own.inside[-1],
            own.inside_error[-1],
            fine[name].masses[-1],
            own.gone,
            fine[name].gone and {k: v[-1] for k, v in fine[name].gone.items()},
        )
        x, moment = own.positions(24)[:, 0], fine[name].levels.m[-1] * fine[name].coordinates[:, 0]
        print(
            np.nanmean(x),
            fine.discrete.integral(moment) / fine[name].masses[-1],
            np.nanstd(x) / np.sqrt(np.isfinite(x).sum()),
        )


if __name__ == "__main__":
    leave_numbers(numbers())
