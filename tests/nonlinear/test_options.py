"""PETSc options are honoured from everywhere, and none that nothing reads is passed over."""

import pytest
from cases import default
from ranks import run_on, serial_only

import mfg_fem as mfg
from mfg_fem.errors import ProblemError

SCRIPT = """
import dolfinx
import mfg_fem as mfg
from mfg_fem.hamiltonians import quadratic
game = mfg.MeanFieldGame(mfg.box(1, 8), horizon=1, diffusion=0.1, hamiltonian=quadratic(),
    running_cost=lambda x, t, m: m + x[0], terminal_cost=lambda x, m: 0.0,
    initial_density=lambda x: 1 + x[0])
method = mfg.Newton(continuation="none")
print("iterations", mfg.solve(game, 2, method=method, throw=False).iterations)
"""
# options of Newton: what the message about them must say
REFUSED = {
    "misspelt": ({"snes_maxit": 3}, "-mfg_snes_maxit.*Do you mean -mfg_snes_max_it"),
    "misspelt with the prefix": ({"-mfg_sweep_pc_typ": "lu"}, "-mfg_sweep_pc_type"),
    "of another package": ({"eps_nev": 3}, "Nothing here has .* -mfg_eps_nev"),
    "of a SharedControl": ({"tao_max_it": 3}, "Nothing here has .* -mfg_tao_max_it"),
    "a text for a number": ({"snes_max_it": "many"}, "PETSc refuses an option.*many"),
    "an unknown type": ({"sweep_pc_type": "nope"}, "PETSc refuses an option.*nope"),
    "a missing module": ({"sweep_pc_type": "python", "sweep_pc_python_type": "no.P"}, "named 'no'"),
    "no dict": (["snes_monitor"], "must be a dict"),
}


def solve(**keywords):
    return mfg.solve(default(mfg.box(1, 4)), 2, **keywords)


@serial_only
def test_the_command_line_counts_though_dolfinx_was_imported_first(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    assert "iterations 1" in run_on(1, script, "-mfg_snes_max_it", "1", timeout=60)


@pytest.mark.parametrize("kind", REFUSED)
def test_options_that_mean_nothing_are_refused(kind):
    options, words = REFUSED[kind]
    with pytest.raises(ProblemError, match=f"(?s){words}"):
        solve(method=mfg.Newton(petsc_options=options))


def test_a_misspelt_option_of_the_command_line_is_refused(database):
    database["mfg_snes_maxit"] = 3
    with pytest.raises(ProblemError, match="Do you mean -mfg_snes_max_it"):
        solve()


def test_options_without_our_prefix_are_none_of_ours(database):
    database["snes_maxit"] = 3
    assert solve().converged


def test_an_option_of_newton_is_none_of_a_descent():
    control = mfg.SharedControl(mfg.box(1, 4), densities=[[[0.5]]], terminal_costs=[lambda x: x[0]])
    with pytest.raises(ProblemError, match=r"Nothing here has .* -mfg_snes_max_it"):
        mfg.solve(control, 2, method=mfg.Descent(petsc_options={"snes_max_it": 3}))


def test_options_of_forms_that_are_not_taken_are_allowed():
    options = {"hform_ksp_max_it": 50, "matched_pc_type": "lu", "start_ksp_max_it": 9}
    assert solve(method=mfg.Newton(krylov="schur", petsc_options=options)).converged
