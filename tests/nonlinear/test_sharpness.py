"""Where Newton does not succeed with Sharp it goes by Monotone, and says how far it came."""

import numpy as np
import pytest
from cases import default, evacuation, jittered

import mfg_fem as mfg
from mfg_fem.nonlinear.newton import NewtonSolver


def stages(solution) -> list[str]:
    return list(dict.fromkeys(row["stage"].split(", ", 1)[1] for row in solution.history))


def test_newton_goes_by_first_order_where_a_cold_start_fails():
    solution = mfg.solve(evacuation(jittered(2, 16), 1e-3, exponent=0.0), 12)
    assert solution.converged and solution.scheme == mfg.Sharp() and not solution.warnings
    assert stages(solution) == ["cold", "first order, sharpness 0", "sharper, sharpness 1"]


@pytest.fixture
def blunt(monkeypatch):
    """Let no stage succeed with more sharpness than .6."""
    solve = NewtonSolver.solve

    def failing(self, *args, **kwargs):
        outcome = solve(self, *args, **kwargs)
        if self.system.discrete.state.limit.value > 0.6:
            object.__setattr__(outcome, "converged", False)
        return outcome

    monkeypatch.setattr(NewtonSolver, "solve", failing)


def test_a_solution_that_is_less_sharp_says_so_and_is_saved_as_what_it_is(blunt, tmp_path):
    problem = default(mfg.box((1, 1), 8))
    with pytest.warns(mfg.SolutionWarning, match="nearer to first order"):
        solution = mfg.solve(problem, 6, checkpoint=tmp_path / "run.npz")
    assert solution.converged and solution.scheme == mfg.Sharp(sharpness=0.5)
    direct = mfg.solve(problem, 6, mfg.Sharp(sharpness=0.5))
    np.testing.assert_allclose(solution.nodal_densities, direct.nodal_densities, atol=1e-7)
    again = mfg.solve(problem, 6, checkpoint=tmp_path / "run.npz")
    assert again.scheme == solution.scheme and again.converged
    assert again.cost == pytest.approx(solution.cost, rel=1e-12)


@pytest.mark.parametrize("continuation", ["auto", "none"])
def test_congestion_ends_with_the_scheme_that_was_asked(continuation):
    game = default(mfg.box((1, 1), 8), hamiltonian=mfg.hamiltonians.congestion(1.0, 1.0))
    solution = mfg.solve(game, 6, method=mfg.Newton(continuation=continuation))
    direct = mfg.solve(game, 6, guess=solution)
    assert direct.iterations == 0 and solution.scheme == direct.scheme == mfg.Sharp()


def test_without_continuation_it_fails(blunt):
    with pytest.raises(mfg.NotConverged):
        mfg.solve(default(mfg.box(1, 8)), 6, method=mfg.Newton(continuation="none"))
