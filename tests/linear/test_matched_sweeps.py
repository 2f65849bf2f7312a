"""The H-form: its preconditioner's bounds, its agreement with the other forms, its counts."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from cases import default, difference, evacuation
from crowds import crowd
from parts import path_of, plan_of, system_of
from ranks import leave_numbers, numbers_on, serial_only

import mfg_fem as mfg
from mfg_fem.linear.coupled.coarse_space import CoarseSpace
from mfg_fem.linear.coupled.matched_sweeps import Coupling, MatchedSweeps

FORMS = ("schur", "two-field", "h-form")


@cache
def square(n: int) -> mfg.Domain:
    return mfg.box((1, 1), n)


def krylov(solution) -> list[int]:
    return [row["krylov"] for row in solution.history if row["step"] > 0]


def flat_matched(wave_number: float | None = None, coarse: int = 0, scheme=None, **changes):
    """Matched sweeps at rest in an even crowd: constant coefficients but for the ends of time."""
    problem = default(mfg.box(1, 16), diffusion=0.02, coupling=10.0, **changes)
    return matched_of(problem, coarse, scheme, wave_number)


def matched_of(problem, coarse: int, scheme=None, wave_number: float | None = None):
    """The same of a problem."""
    system = system_of(problem, 12, scheme or mfg.Monotone())
    coupling = Coupling(system.jacobian)
    coupling.refresh(system.linearise(system.even_crowd()))
    choices = {"matched_ksp_type": "preonly", "matched_pc_type": "lu", "coarse_size": coarse}
    plan = plan_of(system, **choices, **({"wave_number": wave_number} if wave_number else {}))
    with plan.in_force():
        matched = MatchedSweeps(coupling, plan)
        matched.refresh()
    return system, coupling, matched


def dense(function, shape) -> np.ndarray:
    """The matrix of a linear function of arrays of this shape."""
    basis = np.eye(int(np.prod(shape)))
    return np.array([function(e.reshape(shape)).ravel() for e in basis]).T


def test_preconditioner_without_iterations_is_linear():
    """GMRES that is not flexible relies on that, though the coarse operator is single."""
    _, coupling, matched = flat_matched(coarse=4)
    assert not matched.plan.matched.iterates
    r, s = np.random.default_rng(4).standard_normal((2, *coupling.F0.shape))
    one, other, both = (matched.solve(y) for y in (r, 1e3 * s, r + 1e3 * s))
    assert difference(one + other, both) < 1e-12


@serial_only
@pytest.mark.parametrize("wave_number", [8.0, 16.0])
def test_eigenvalues_keep_the_bounds_of_the_symbol(wave_number):
    _, coupling, matched = flat_matched(wave_number)
    shape = coupling.F0.shape
    product = dense(lambda r: coupling.mult_H(matched.solve(r)), shape)
    values = np.linalg.eigvals(product)
    ratios = np.array([np.pi, 2 * 16]) / wave_number  # from the longest wave to 2 / h
    r = (ratios + 1 / ratios).max() / 2
    waves = np.sort(values.real)[shape[1] :]  # constants are for the coarse space
    assert waves.min() > 0.8 / (1 + r**2) and np.abs(values).max() < 1.3


@serial_only
@pytest.mark.parametrize("scheme", [mfg.Monotone(), mfg.Galerkin(1, "midpoint")], ids=str)
@pytest.mark.parametrize("discount", [0.0, 4.0])
@pytest.mark.parametrize(("precision", "accuracy"), [(np.float64, 1e-8), (np.float32, 1e-3)])
def test_coarse_space_solves_on_its_range(scheme, precision, accuracy, discount, monkeypatch):
    """Of averages too, whose operator is a full matrix in time."""
    monkeypatch.setattr("mfg_fem.linear.coupled.block_tridiagonal.PRECISION", precision)
    system, coupling, matched = flat_matched(coarse=4, scheme=scheme, discount=discount)
    random, X = np.random.default_rng(1), system.even_crowd()
    for _ in range(2):  # at rest, then with matrices made in place at other coefficients
        v = matched.coarse[0].solve(random.standard_normal(coupling.F0.shape))
        again = matched.coarse[0].solve(coupling.mult_H(v))
        assert np.allclose(again, v, atol=accuracy * np.abs(v).max())
        coupling.refresh(system.linearise(X + 0.3 * random.random(X.shape)))
        matched.refresh()


@serial_only
@pytest.mark.parametrize(
    "scheme", [mfg.Monotone(), mfg.Galerkin(), mfg.Galerkin(1, "midpoint")], ids=str
)
def test_populations_that_switch_have_one_coarse_space(scheme, monkeypatch):
    """The third is by itself; two have discounts of their own, one an exit."""
    monkeypatch.setattr("mfg_fem.linear.coupled.block_tridiagonal.PRECISION", np.float64)
    data = {"running_cost": lambda x, t, m: m.all + x[0], "terminal_cost": lambda x, m: 0.0}
    one, two = crowd(**data, discount=1.0), crowd(**data, boundary={"right": mfg.Exit()})
    problem = mfg.Populations(
        mfg.box(1.0, 16),
        horizon=1.0,
        crowds={"a": one, "c": two, "b": replace(one, discount=3.0)},
        switching={("a", "b"): lambda x, t, m: 30 + x[0], ("b", "a"): 20.0},
    )
    system, coupling, matched = matched_of(problem, 4, scheme)
    random = np.random.default_rng(1)
    coupling.refresh(system.linearise(system.even_crowd() + 0.1 * random.random(system.shape)))
    matched.refresh()
    together, _ = matched.coarse
    assert [space.members for space in matched.coarse] == [[0, 2], [1]]
    r = np.zeros_like(coupling.F0)
    r[[0, 2]] = random.standard_normal(r[[0, 2]].shape)
    v = np.zeros_like(r)
    v[[0, 2]] = together.solve(r[[0, 2]])
    again = together.solve(coupling.mult_H(v)[[0, 2]])
    np.testing.assert_allclose(again, v[[0, 2]], atol=1e-8 * np.abs(v).max())


@serial_only
def test_coarse_operator_is_factored_in_single_precision(monkeypatch):
    kinds = set()
    inverse = lambda A: kinds.add(A.dtype) or np.linalg.inv(A)  # noqa: E731
    monkeypatch.setattr("mfg_fem.linear.coupled.block_tridiagonal._inverse", inverse)
    _, coupling, matched = flat_matched(coarse=4)
    coupling.uniform = False  # between samples too
    matched.refresh()
    assert kinds == {np.dtype(np.float32)}


@serial_only
def test_matched_blocks_are_of_m_type():
    _, _, matched = flat_matched()
    for name in "AB":
        entries = dense(
            lambda x, M=matched.sweeps.blocks[name][0][3]: matched.J.product(M, x), (17,)
        )
        assert np.all(entries - np.diag(np.diag(entries)) <= 1e-14)
        assert np.all(np.diag(entries) > 0)


GAMES = {
    "line": lambda: default(mfg.box(1, 12), coupling=10.0),
    "square": lambda: default(square(6), coupling=10.0),
    "cube": lambda: default(mfg.box((1, 1, 1), 2)),
    "control": lambda: default(square(6), mfg.MeanFieldControl, coupling=10.0),
    "congested": lambda: default(square(6), hamiltonian=mfg.hamiltonians.congestion(2.0, 1.5)),
    "exits": lambda: evacuation(square(6), 0.1, 1.0),
    "alone": lambda: default(square(6), coupling=0.0),
    "crowded end": lambda: default(square(6), terminal_cost=lambda x, m: m),
    "discounted": lambda: default(
        square(6), coupling=10.0, discount=3.0, terminal_cost=lambda x, m: m
    ),
}
CASES = [(game, mfg.Sharp()) for game in GAMES]
CASES += [
    ("square", mfg.Monotone()),
    ("exits", mfg.Monotone()),
    ("square", mfg.Galerkin()),
    ("square", mfg.Galerkin(2)),
    ("line", mfg.Galerkin(1, "midpoint")),
    ("discounted", mfg.Galerkin(1, "midpoint")),
]


@pytest.mark.parametrize("game, scheme", CASES, ids=str)
def test_all_forms_give_the_same_newton_step(game, scheme):
    problem, steps = GAMES[game](), []
    for form in FORMS:
        tight = {"snes_ksp_ew": False, "ksp_rtol": 1e-11, "snes_linesearch_type": "basic"}
        method = mfg.Newton(krylov=form, petsc_options=tight | {"snes_max_it": 1})
        system = system_of(problem, 4, scheme)
        start, discrete = system.even_crowd(), system.discrete
        start[0] += np.where(
            start[1] > 0, 0.1 * discrete.V.tabulate_dof_coordinates()[: discrete.owned, 0], 0
        )
        with plan_of(system, form, **method.petsc_options).in_force():
            path = path_of(system, method)
            path.newton.record = lambda row, X: None
            steps.append(path.newton.solve(start, 1e-30, 1, "one").X - start)
            path.destroy()
        system.destroy()
    assert max(difference(step, steps[0]) for step in steps[1:]) < 1e-8


@pytest.mark.parametrize(
    "D, coupling, scheme",
    [
        (0.5, 100.0, mfg.Sharp()),
        (0.005, 1.0, mfg.Sharp()),
        (0.005, 100.0, mfg.Sharp()),
        (0.005, 100.0, mfg.Monotone()),
        (0.005, 100.0, mfg.Galerkin(1, "midpoint")),
    ],
    ids=str,
)
def test_krylov_iterations_are_few_at_any_coupling_and_diffusion(D, coupling, scheme):
    problem = default(square(32), diffusion=D, coupling=coupling)
    assert max(krylov(mfg.solve(problem, 16, scheme))) <= 15


@cache
def strong(**method) -> mfg.Solution:
    problem = default(square(12), diffusion=0.02, coupling=10.0)
    return mfg.solve(problem, 12, method=mfg.Newton(**method))


@pytest.mark.parametrize("form", FORMS)
def test_a_form_can_be_forced(form):
    assert strong(krylov=form).history[-1]["form"].lower().startswith(form)


def test_auto_takes_the_h_form_where_coupling_is_strong():
    assert strong().history[-1]["form"].startswith("H-form")


def test_auto_takes_the_schur_form_without_coupling():
    solution = mfg.solve(default(square(8), coupling=0.0), 8, mfg.Monotone())
    assert solution.history[-1]["form"] == "Schur form" and max(krylov(solution)) <= 2


def test_unknown_form_is_refused():
    with pytest.raises(mfg.ProblemError, match="krylov"):
        mfg.Newton(krylov="best")


def test_options_of_the_h_form_reach_it():
    options = {"coarse_size": 3, "wave_number": 7.5}
    form = mfg.solve(
        default(square(8), coupling=10.0), 8, method=mfg.Newton(petsc_options=options)
    ).history[-1]["form"]
    assert "wave number 7.5" in form and "9 coarse functions" in form


@serial_only
def test_counts_do_not_depend_on_the_ranks_with_direct_blocks():
    assert numbers_on(2, __file__) == krylov(strong())


@pytest.mark.parametrize("scheme", [mfg.Monotone(), mfg.Galerkin()], ids=str)
def test_uniform_levels_have_the_coarse_operator_of_each(scheme):
    system = system_of(default(square(12), coupling=10.0), 6, scheme)
    coupling = Coupling(system.jacobian)
    coupling.refresh(system.linearise(system.even_crowd()))
    coarse = CoarseSpace(system.jacobian, [0], 4)
    assert coupling.uniform
    coarse.refresh(coupling)
    once = coarse.operator.inverses
    coupling.uniform = False
    coarse.refresh(coupling)
    assert once.keys() == coarse.operator.inverses.keys()
    for n, inverse in once.items():
        np.testing.assert_allclose(inverse, coarse.operator.inverses[n], rtol=1e-5)  # single
    coarse.destroy()
    system.destroy()


@pytest.mark.parametrize(
    "scheme", [mfg.Galerkin(), mfg.Galerkin(degree=2, time="midpoint")], ids=str
)
def test_coarse_blocks_are_the_transposes_of_each_other_where_equations_are_adjoint(scheme):
    system = system_of(default(square(8), coupling=10.0), 4, scheme)
    x = system.discrete.V.tabulate_dof_coordinates()[: system.owned]
    X = system.even_crowd()
    X[0] += np.cos(3 * x[:, 0]) * np.sin(4 * x[:, 1])
    coupling = Coupling(system.jacobian)
    coupling.refresh(system.linearise(X))
    coarse = CoarseSpace(system.jacobian, [0], 3)
    assert system.discrete.adjoint
    found = [y.copy() for y in coarse.blocks(coupling, 1)]
    system.discrete.adjoint = False
    for one, other in zip(found, coarse.blocks(coupling, 1), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * np.abs(other).max())
    coarse.destroy()
    system.destroy()


if __name__ == "__main__":
    leave_numbers(krylov(strong()))
