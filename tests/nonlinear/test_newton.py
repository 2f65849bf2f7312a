"""How the equations are solved: iterations, continuation, options, guesses."""

from functools import cache
from itertools import pairwise, product
from pathlib import Path

from mpi4py import MPI

import numpy as np
import pytest
from cases import default, difference, evacuation
from parts import path_of, plan_of, system_of
from ranks import run_on, serial_only

import ufl
from dolfinx import fem

import mfg_fem as mfg
from mfg_fem.discrete.spacetime import SpaceTime
from mfg_fem.nonlinear import continuation
from mfg_fem.nonlinear.newton import Outcome

DIFFUSIONS, COUPLINGS = (0.5, 0.1, 0.02), (0.1, 1.0, 10.0)


@cache
def square(n: int) -> mfg.Domain:
    return mfg.box((1, 1), n)


@cache
def solved(D: float = 0.1, coupling: float = 1.0, n: int = 16, steps: int = 16, **method):
    problem = default(square(n), diffusion=D, coupling=coupling)
    return mfg.solve(problem, steps, method=mfg.Newton(**method))


def krylov(solution) -> list[int]:
    return [row["krylov"] for row in solution.history if row["step"] > 0]


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("D", DIFFUSIONS)
def test_newton_needs_few_steps_from_cold(D, coupling):
    """More where coupling is weak and nodes are emptied."""
    solution = solved(D, coupling)
    assert (
        solution.iterations <= (8 if (D, coupling) == (0.02, 0.1) else 6)
        and len({row["stage"] for row in solution.history}) == 1
    )


def test_newton_starts_from_the_best_response_where_that_is_worth_it(monkeypatch):
    responses, best_response = [], continuation.best_response

    def counted(system, sweeps, X):
        responses.append(X)
        return best_response(system, sweeps, X)

    def taken(problem) -> bool:
        responses.clear()
        mfg.solve(problem, 8)
        return len(responses) > 0

    monkeypatch.setattr(continuation, "best_response", counted)
    for D, c in product((0.1, 0.005), (1.0, 100.0)):
        assert not taken(default(square(8), diffusion=D, coupling=c))
    assert taken(evacuation(square(8), 0.1))
    assert taken(default(square(8), terminal_cost=lambda x, m: 10 * (x[0] ** 2 + x[1] ** 2)))
    assert taken(default(square(8), coupling=0.0))


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("D", DIFFUSIONS)
def test_residual_of_a_solution_is_small(D, coupling):
    residuals = solved(D, coupling).residuals
    assert max(residuals.values()) < 1e-7


@pytest.mark.parametrize("n, steps", [(16, 16), (16, 32), (32, 16), (32, 32)])
def test_newton_step_needs_at_most_twenty_krylov_iterations(n, steps):
    assert max(krylov(solved(0.02, 1.0, n, steps))) <= 20


@pytest.mark.parametrize("finer", [(32, 16), (16, 32)], ids=["h", "dt"])
def test_krylov_iterations_do_not_grow_with_refinement(finer):
    coarse, fine = (max(krylov(solved(0.02, 1.0, *size))) for size in ((16, 16), finer))
    assert fine <= 1.2 * coarse


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_cold_evacuation_converges(exponent):
    assert mfg.solve(evacuation(square(16), 0.02, exponent), 20).converged


@cache
def hard() -> mfg.Solution:
    return mfg.solve(evacuation(square(16), 0.002, 1.0), 32, throw=False)


def test_hard_evacuation_converges_through_stages():
    assert hard().converged


@pytest.mark.parametrize("scheme", [mfg.Monotone(), mfg.Galerkin()], ids=str)
def test_steps_that_are_cut_to_positive_densities_are_few(scheme, monkeypatch):
    """Without easier problems on the way, though Galerkin's density is negative in the end."""
    game, straight = evacuation(square(16), 0.02, 1.5), mfg.Newton(continuation="none")
    cut = mfg.solve(game, 16, scheme)
    monkeypatch.setattr(SpaceTime, "admissible", lambda self, X, dX: [dX.copy()])
    free = mfg.solve(game, 16, scheme, straight, throw=False)
    assert 2 * cut.iterations <= free.iterations or not free.converged
    assert {row["stage"] for row in cut.history} == {"16 steps, cold"}
    if scheme.positive:
        lowest = [min(row["min_density"] for row in s.history) for s in (cut, free)]
        assert lowest[0] >= 0 > lowest[1]
    else:
        assert cut.min_density < 0


def test_a_nested_start_that_fails_moves_the_crowd_along_its_drift():
    game = default(mfg.box((1.0, 1.0), 8))
    system = system_of(game, 4)
    with plan_of(system).in_force():
        path = path_of(system)
        levels = system.levels(system.even_crowd())
        nested = path.first(None, (system.times, levels.u, levels.m, np.zeros((0, 4))))
        moved = path.after(nested, Outcome(nested.X, False, "", 3))
        easier = path.after(moved, Outcome(moved.X, False, "", 3))
        stages = [state.stage.name for state in (nested, moved, easier)]
        assert stages == ["nested", "nested, moved", "path"]
        assert path.newton.norms(moved.X)[1] < 1e-12 * path.newton.norms(nested.X)[1]


def test_history_has_every_newton_step_of_every_stage():
    stages = {row["stage"] for row in hard().history}
    assert len(stages) > 1
    for stage in stages:
        steps = [row["step"] for row in hard().history if row["stage"] == stage]
        starts = [i for i, step in enumerate(steps) if step == 0]
        assert starts and all(b == a + 1 or b == 0 for a, b in pairwise(steps))


def test_history_has_the_documented_keys():
    keys = {"stage", "step", "krylov", "hjb", "fp", "mass", "min_density", "step_length"}
    assert all(keys <= row.keys() for row in solved().history)


def failing(throw: bool):
    method = mfg.Newton(max_it=1, continuation="none")
    return mfg.solve(default(square(16)), 8, method=method, throw=throw)


def test_newton_that_stops_early_raises_not_converged():
    with pytest.raises(mfg.NotConverged, match="Newton stopped"):
        failing(throw=True)


def test_not_converged_brings_the_history():
    with pytest.raises(mfg.NotConverged) as caught:
        failing(throw=True)
    assert [row["step"] for row in caught.value.history] == [0, 1]


def test_without_throw_the_last_iterate_comes_back():
    solution = failing(throw=False)
    assert not solution.converged and solution.iterations == 1
    assert np.isfinite(solution.levels.u).all() and "NOT CONVERGED" in solution.report
    assert (
        solution.warnings[0].startswith("Newton stopped") and "WARNING: Newton" in solution.report
    )


def test_a_tolerance_below_round_off_is_called_that_and_no_easier_problem_is_tried():
    problem = default(square(16), diffusion=50.0)
    with pytest.raises(mfg.NotConverged, match=r"round-off.* rtol=1e-14 .*larger rtol") as caught:
        mfg.solve(problem, 32, method=mfg.Newton(rtol=1e-14))
    history = caught.value.history
    assert {row["stage"] for row in history} == {"32 steps, cold"}
    norms = [np.hypot(row["hjb"], row["fp"]) for row in history]
    assert 1e-14 * norms[0] < norms[-1] <= 1e-9 * norms[0]
    few = next(k for k, norm in enumerate(norms) if norm <= 1e-9 * norms[0])
    with pytest.raises(mfg.NotConverged, match=r"max it after .*more diffusion"):
        mfg.solve(problem, 32, method=mfg.Newton(1e-14, max_it=few, continuation="none"))


def test_petsc_options_reach_snes():
    method = mfg.Newton(continuation="none", petsc_options={"snes_max_it": 2})
    assert mfg.solve(default(square(16)), 8, method=method, throw=False).iterations == 2


def test_petsc_options_reach_the_sweeps():
    options = {"sweep_ksp_type": "bcgs", "sweep_pc_type": "jacobi", "sweep_ksp_rtol": 1e-1}
    iterative = solved_with(options, krylov="two-field")
    assert max(krylov(iterative)) != max(krylov(solved(krylov="two-field")))
    assert iterative.converged


def solved_with(options: dict, **method) -> mfg.Solution:
    method = mfg.Newton(petsc_options=options, **method)
    return mfg.solve(default(square(16)), 16, method=method)


def large(**options) -> mfg.Solution:
    """More nodes than are factored."""
    problem = default(square(48), diffusion=0.05)
    return mfg.solve(problem, 6, method=mfg.Newton(petsc_options=options))


def test_sweeps_of_large_levels_are_inexact_and_mass_and_sign_exact():
    solution = large()
    assert solution.history[-1]["form"] == "two-field form"
    masses = np.array([solution.mass(n) for n in range(7)])
    assert np.ptp(masses) <= 1e-13 * masses[0]
    assert solution.levels.m.min() >= 0.0
    exact = large(sweep_ksp_type="preonly", sweep_pc_type="lu")
    assert exact.history[-1]["form"] == "Schur form"
    assert difference(solution.levels.m, exact.levels.m) < 1e-6


def test_inexact_sweeps_give_the_same_solution():
    options = {"sweep_ksp_type": "bcgs", "sweep_pc_type": "jacobi", "sweep_ksp_rtol": 1e-4}
    assert difference(solved_with(options).levels.m, solved().levels.m) < 1e-6


class Diagonal:
    """A user's preconditioner, a PETSc PC of type python without a transpose."""

    def apply(self, pc, x, y):
        """Divide by the diagonal."""
        y.pointwiseDivide(x, pc.getOperators()[0].getDiagonal())


WITHOUT_TRANSPOSE = {"pc_type": "python", "pc_python_type": f"{__name__}.{Diagonal.__name__}"}


@pytest.mark.parametrize("prefix, form", [("sweep_", "two-field"), ("matched_", "h-form")])
def test_preconditioners_without_a_transpose(prefix, form):
    options = {"ksp_type": "bcgs", "ksp_rtol": 1e-4} | WITHOUT_TRANSPOSE
    solution = solved_with({prefix + k: v for k, v in options.items()}, krylov=form)
    assert difference(solution.levels.m, solved().levels.m) < 1e-6


def test_command_line_wins_over_petsc_options(database):
    database["mfg_snes_max_it"] = 1
    method = mfg.Newton(continuation="none", petsc_options={"snes_max_it": 3})
    assert mfg.solve(default(square(16)), 8, method=method, throw=False).iterations == 1


SCRIPT = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[1])!r})
import mfg_fem as mfg
from cases import default
method = mfg.Newton(continuation="none", petsc_options={{"snes_max_it": 3}})
print("iterations", mfg.solve(default(mfg.box(1, 8)), 4, method=method, throw=False).iterations)
"""


@serial_only
@pytest.mark.parametrize("way", ["command line", "PETSC_OPTIONS"])
def test_option_from_outside_wins_in_a_real_run(way, tmp_path, monkeypatch):
    script, option = tmp_path / "script.py", ("-mfg_snes_max_it", "1")
    script.write_text(SCRIPT)
    if way == "PETSC_OPTIONS":
        monkeypatch.setenv("PETSC_OPTIONS", " ".join(option))
        option = ()
    assert "iterations 1" in run_on(1, script, *option)


def test_options_of_the_command_line_survive_a_solve(database):
    database["mfg_snes_max_it"] = 20
    mfg.solve(default(square(16)), 4)
    assert database.getAll()["mfg_snes_max_it"] == "20"


def test_own_options_do_not_survive_a_solve(database):
    before = database.getAll()
    mfg.solve(default(square(16)), 4, method=mfg.Newton(petsc_options={"ksp_rtol": 1e-3}))
    assert database.getAll() == before


def test_own_options_do_not_survive_a_failure(database):
    before = database.getAll()
    failing(throw=False)
    assert database.getAll() == before


@pytest.mark.parametrize("field", ["u", "m"])
def test_both_krylov_forms_give_the_same_solution(field):
    schur, both = (solved(0.02, 1.0, krylov=form) for form in ("schur", "two-field"))
    assert difference(getattr(both.levels, field), getattr(schur.levels, field)) < 1e-7


def test_guess_saves_newton_steps():
    problem = default(square(16), diffusion=0.02, coupling=1.1)
    cold, warm = (mfg.solve(problem, 16, guess=g).iterations for g in (None, solved(0.02)))
    assert warm < cold


def test_guess_of_other_steps_saves_newton_steps():
    problem = default(square(16), diffusion=0.02)
    cold, warm = (mfg.solve(problem, 32, guess=g).iterations for g in (None, solved(0.02)))
    assert warm < cold


def test_guess_that_was_saved_and_loaded_saves_newton_steps(tmp_path):
    path = MPI.COMM_WORLD.bcast(tmp_path) / "guess.bp"
    problem = default(square(16), diffusion=0.02)
    solved(0.02).save(path)
    warm = mfg.solve(problem, 16, guess=mfg.Solution.load(path, problem))
    assert warm.iterations <= 1


def test_solution_does_not_depend_on_the_guess():
    problem = default(square(16), diffusion=0.02)
    warm = mfg.solve(problem, 16, guess=solved(0.1))
    assert difference(warm.levels.m, solved(0.02).levels.m) < 1e-6


def test_solving_twice_gives_the_same_numbers():
    problem = default(square(16), diffusion=0.02)
    again = mfg.solve(problem, 16)
    assert np.array_equal(again.levels.m, solved(0.02).levels.m)


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_planner_does_not_pay_more_than_the_players(exponent):
    H = mfg.hamiltonians.congestion(2.0, exponent)
    costs = [
        mfg.solve(default(square(16), kind, hamiltonian=H, coupling=2.0), 16).cost
        for kind in (mfg.MeanFieldControl, mfg.MeanFieldGame)
    ]
    assert costs[0] < costs[1]


def test_control_with_cost_c_is_the_game_with_cost_c_plus_m_dc():
    """C = m/2 + landscape: the planner charges everybody c + m c' = m + landscape."""
    control = default(square(16), mfg.MeanFieldControl, coupling=0.5, diffusion=0.02)
    ours = mfg.solve(control, 16).levels
    game = solved(0.02).levels
    assert max(difference(ours.u, game.u), difference(ours.m, game.m)) < 1e-7


def test_control_differentiates_the_terminal_cost_too():
    game, control = (
        mfg.solve(default(square(16), kind, coupling=c, terminal_cost=g), 16).levels
        for kind, c, g in (
            (mfg.MeanFieldGame, 1.0, lambda x, m: m**2 + ufl.cos(x[0])),
            (mfg.MeanFieldControl, 0.5, lambda x, m: m**2 / 3 + ufl.cos(x[0])),
        )
    )
    assert max(difference(control.u, game.u), difference(control.m, game.m)) < 1e-7


@cache
def corridor(kind):
    """A corridor with congestion of Y. Achdou's course, and what its members differ in."""
    domain = mfg.box(1.0, 200)
    setting = [fem.Constant(domain.mesh, 1.0) for _ in range(4)]
    c0, c1, exponent, noise = setting
    problem = kind(
        domain,
        horizon=1.0,
        diffusion=noise**2 / 2,
        hamiltonian=lambda x, p, m: ufl.dot(p, p) / (2 * (c0 + c1 * m) ** exponent),
        running_cost=lambda x, t, m: 0.1 * m,
        terminal_cost=lambda x, m: -ufl.exp(-40 * (x[0] - 0.7) ** 2),
        initial_density=lambda x: ufl.exp(-300 * (x[0] - 0.2) ** 2),
    )
    return problem, setting


def through_corridor(kind, *values) -> mfg.Solution:
    problem, setting = corridor(kind)
    for constant, value in zip(setting, values, strict=True):
        constant.value = value
    solution = mfg.solve(problem, 100, mfg.Monotone())
    assert solution.iterations <= 60
    if kind is mfg.MeanFieldGame:  # a planner's u is a price
        assert solution.expected_cost == pytest.approx(solution.cost, rel=1e-6)
    return solution


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (mfg.MeanFieldGame, (0.01, 2, 1.4, 0.2)),
        (mfg.MeanFieldGame, (0.01, 2, 1.5, 0.4)),
        (mfg.MeanFieldControl, (0.05, 2, 0.8, 0.1)),
    ],
)
def test_players_who_are_slow_in_a_crowd_and_fast_where_nobody_is(kind, values):
    solution = through_corridor(kind, *values)
    assert solution.levels.m.min() >= -1e-12


@pytest.mark.parametrize(
    ("values", "u", "mean"),
    [
        ((0.1, 1, 0.5, 0.02), (-0.47300, -0.42930, -0.83778, -0.88554, -0.89229), 0.68279),
        ((0.1, 5, 1.0, 0.02), (0.07111, 0.30904, -0.92494, -0.95625, -0.95657), 0.39624),
    ],
)
def test_corridors_agree_with_finite_differences(values, u, mean):
    """Conservative upwind differences on the same grid, Newton to 1e-11: u(0) at five places."""
    solution = through_corridor(mfg.MeanFieldGame, *values)
    discrete = solution.discrete
    x = discrete.V.tabulate_dof_coordinates()[:, 0][: len(solution.levels.u[0])]
    for place, wanted in zip((0, 0.2, 0.5, 0.7, 1), u, strict=True):
        here = solution.levels.u[0][np.abs(x - place) < 1e-3]
        found = np.concatenate(discrete.comm.allgather(here))
        assert found == pytest.approx(np.array([wanted]), abs=0.01)
    assert discrete.integral(solution.levels.m[-1] * x) == pytest.approx(mean, abs=2e-3)
