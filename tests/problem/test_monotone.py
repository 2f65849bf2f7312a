"""Whether costs of several crowds are monotone, so that there is one equilibrium."""

import pytest

import mfg_fem as mfg


def crowds(a, b, cross, **changes):
    """Two crowds who mind themselves by a and b, and each other by `cross`."""

    def crowd(own, other, minds):
        return mfg.Crowd(
            diffusion=0.1,
            hamiltonian=mfg.hamiltonians.quadratic(),
            running_cost=lambda x, t, m: minds * m[own] + cross * m[other],
            terminal_cost=lambda *_: 0.0,
            initial_density=lambda x: 1 + x[0],
        )

    both = {"a": crowd("a", "b", a), "b": crowd("b", "a", b)}
    return mfg.Populations(mfg.box((1.0,), 4), horizon=1.0, crowds=both, **changes)


@pytest.mark.parametrize("a, b, cross", [(1.0, 1.0, 1.0), (4.0, 1.0, 2.0), (1.0, 1.0, -1.0)])
def test_crowds_who_mind_themselves_enough_have_one_equilibrium(a, b, cross):
    assert not crowds(a, b, cross).doubt


def test_crowds_who_mind_each_other_more_are_told_of():
    problem = crowds(1.0, 1.0, 3.0)
    assert "eigenvalue -2." in problem.doubt and "guess=" in problem.doubt
    assert f"NOTE: {problem.doubt}" in mfg.solve(problem, 2).report
    assert not crowds(1.0, 1.0, 3.0, planner="all").doubt
