"""What holds to round-off on any mesh: positivity, mass, duality of the two equations."""

from functools import cache, partial
from itertools import chain

import numpy as np
import pytest
from cases import default, evacuation, gaussian, jittered

import ufl
from dolfinx import fem
from dolfinx.fem import petsc as fem_petsc

import mfg_fem as mfg
from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.forms.functional import functional, symbols
from mfg_fem.forms.tables import Tables

SMALL = 1e-3  # diffusion at which plain Galerkin makes negative densities
CELLS = {2: 16, 3: 6}


def tensor(x):
    """Diffusion that changes in space and prefers a direction."""
    d = len(x)
    along = ufl.as_vector([1.0, 0.5, 0.25][:d])
    return SMALL * (1 + x[0]) * (0.2 * ufl.Identity(d) + ufl.outer(along, along))


CASES = {
    "game": default,
    "control": lambda domain, **data: default(domain, mfg.MeanFieldControl, **data),
    "congestion": lambda domain, **data: default(
        domain, hamiltonian=mfg.hamiltonians.congestion(1.0, 1.0), **data
    ),
    "tensor": lambda domain, **data: default(domain, **(data | {"diffusion": tensor})),
    "source": lambda domain, **data: default(
        domain, source=lambda x, t: (1 + t) * gaussian(x, 0.1), **data
    ),
    "exits": lambda domain, **data: evacuation(domain, exponent=0.0, **data),
    "exits-source-congestion": lambda domain, **data: evacuation(
        domain, source=lambda x, t: gaussian(x, 0.1), **data
    ),
    "vacuum": lambda domain, **data: default(
        domain, initial_density=lambda x: ufl.conditional(ufl.lt(x[0], 0.25), 1.0, 0.0), **data
    ),
}
CLOSED = ("game", "control", "congestion", "tensor", "vacuum")
SHARP, MONOTONE = mfg.Sharp(), mfg.Monotone()
SOLVED = [(name, dim, SHARP) for name in CASES for dim in CELLS]
SOLVED += [(name, 2, MONOTONE) for name in CASES]


@cache
def solved(name: str, dim: int, scheme) -> mfg.Solution:
    return mfg.solve(CASES[name](jittered(dim, CELLS[dim]), diffusion=SMALL), 12, scheme)


@pytest.mark.parametrize("name, dim, scheme", SOLVED, ids=str)
def test_density_is_never_negative_on_a_jittered_mesh(name, dim, scheme):
    assert solved(name, dim, scheme).min_density >= -1e-12


@pytest.mark.parametrize("name, dim, scheme", SOLVED, ids=str)
def test_mass_inside_plus_gone_is_initial_plus_entered(name, dim, scheme):
    solution = solved(name, dim, scheme)
    assert np.abs(solution.balance).max() <= 1e-12
    if name in CLOSED:
        assert np.abs(solution.masses - 1).max() <= 1e-12


def test_hard_cases_take_few_newton_steps():
    taken = [solved(*case).iterations for case in SOLVED if case[-1] == SHARP]
    assert len(taken) == 16 and sum(taken) <= 125


@pytest.mark.parametrize("name, dim, scheme", [y for y in SOLVED if y[0] != "control"], ids=str)
def test_cost_identity_holds_on_hard_cases(name, dim, scheme):
    """Where nodes are emptied within a step, only with the limited cost."""
    solution = solved(name, dim, scheme)
    defect = solution.cost - solution.expected_cost - solution.limited_cost
    assert abs(defect) <= 1e-8 * abs(solution.cost)
    if name in ("exits", "vacuum") and scheme == SHARP:
        assert abs(solution.limited_cost) > 1e-6


@pytest.mark.parametrize("scheme", [mfg.Galerkin(), mfg.Galerkin(2, "midpoint")], ids=str)
@pytest.mark.parametrize("name, diffusion", [("game", 0.1), ("exits", 0.5)])
def test_mass_balance_closes_for_galerkin_too(name, diffusion, scheme):
    solution = mfg.solve(CASES[name](jittered(2, 8), diffusion=diffusion), 8, scheme)
    assert np.abs(solution.balance).max() <= 1e-10


SCHEMES = (SHARP, MONOTONE, *(mfg.Galerkin(k, t) for k in (1, 2) for t in ("euler", "midpoint")))


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize(
    "exits", [{}, {"right": mfg.Exit(0.3), "top": mfg.Exit(lambda x: 1 + x[0])}]
)
def test_cost_of_a_game_is_what_its_value_function_says(exits, scheme):
    """To the tolerance of Newton: running, moving, terminal and exit costs, and who enters."""
    problem = evacuation(
        jittered(2, 6),
        0.3,
        exponent=0.8,
        terminal_cost=lambda x, m: 1.5 + 0.1 * m,
        source=lambda x, t: (1 + t) * gaussian(x),
        boundary=exits,
    )
    solution = mfg.solve(problem, 8, scheme)
    expected = solution.expected_cost + solution.limited_cost
    assert solution.cost == pytest.approx(expected, rel=1e-7)


def test_people_gone_never_come_back():
    gone = solved("exits", 2, SHARP).gone["right"]
    assert np.diff(gone).min() >= -1e-12 and gone[-1] > 0.01


def test_people_who_come_in_through_an_exit_are_told_of():
    """A dear exit of which people keep off: the layer there is thinner than a cell."""
    problem = default(
        mfg.box(1, 16),
        diffusion=0.05,
        terminal_cost=lambda x, m: 0.3 * ufl.cos(3 * x[0]),
        boundary={"right": mfg.Exit(0.5)},
    )
    with pytest.warns(mfg.SolutionWarning, match="come in through the exits 'right'"):
        solution = mfg.solve(problem, 6, mfg.Galerkin())
    assert solution.gone["right"][-1] < -0.1
    assert not mfg.solve(problem, 6).warnings


def test_galerkin_does_not_share_the_promise():
    """Else the tests of positivity above would test nothing."""
    problem = CASES["vacuum"](jittered(2, CELLS[2]), diffusion=SMALL)
    assert mfg.solve(problem, 12, mfg.Galerkin()).min_density < -1e-4


class Frozen:
    """Both equations with costs and viscosity frozen at a rough state, as scipy matrices."""

    def __init__(self, name: str, scheme, dim: int):
        problem = CASES[name](jittered(dim, 4 if dim == 3 else 8), diffusion=SMALL)
        discrete = Discretisation(problem, scheme)
        state, fields = discrete.state, discrete.state.fields
        random = np.random.default_rng(1)
        n = discrete.owned
        densities = random.uniform(0.5, 1.5, (1, n))
        discrete.set_state(random.uniform(-1, 1, (1, n)), densities, 0.5)
        u, m, w, crowd = (symbols(discrete.V, 1) for _ in range(4))
        corners = symbols(fem.functionspace(discrete.V.mesh, ("DG", 0, (dim + 1,))), 1)
        dofs = discrete.V.dofmap.list[:, : dim + 1]
        state.corners.x.array[:] = fields.x.array[1::2][dofs].ravel()
        tables = Tables(partial(scheme.points, discrete.V.mesh))
        parts = [*chain(*functional(problem, scheme, state, u, m, (w, crowd, corners, {}), tables))]
        test, trial = ufl.TestFunction(discrete.V), ufl.TrialFunction(discrete.V)
        values = {y[0]: fields[j] for y, j in ((u, 0), (m, 1), (w, 0), (crowd, 1))}
        values[corners[0]] = state.corners[0, :]

        def assemble(first, second):
            total = 0
            for part in parts:
                form = ufl.derivative(ufl.derivative(part, *first, test), *second, trial)
                form = ufl.algorithms.expand_derivatives(form)
                if not form.empty():
                    A = fem_petsc.assemble_matrix(fem.form(ufl.replace(form, values)))
                    A.assemble()
                    total = total + A[:, :]
            return total

        self.fp, self.hjb = assemble(u, m), assemble(m, u)
        self.m = densities[0]
        self.row = discrete.assemble_rows("fp").copy()


FROZEN = [
    (name, scheme, dim)
    for name in ("game", "congestion", "tensor")
    for scheme in (SHARP, MONOTONE, mfg.Galerkin(degree=2))
    for dim in ((2, 3) if scheme == SHARP else (2,))
]
frozen = cache(Frozen)


@pytest.mark.parametrize("name, scheme, dim", FROZEN, ids=str)
def test_fokker_planck_is_the_transpose_of_the_frozen_hjb(name, scheme, dim):
    case = frozen(name, scheme, dim)
    assert np.abs(case.fp - case.hjb.T).max() <= 1e-12 * np.abs(case.fp).max()


@pytest.mark.parametrize("name, scheme, dim", FROZEN, ids=str)
def test_frozen_fokker_planck_matrix_times_m_is_its_row(name, scheme, dim):
    case = frozen(name, scheme, dim)
    assert np.abs(case.fp @ case.m - case.row).max() <= 1e-12 * np.abs(case.row).max()


@pytest.mark.parametrize("name, scheme, dim", FROZEN, ids=str)
def test_columns_of_the_fokker_planck_matrix_sum_to_zero(name, scheme, dim):
    case = frozen(name, scheme, dim)
    assert np.abs(case.fp.sum(axis=0)).max() <= 1e-12 * np.abs(case.fp).max()


@pytest.mark.parametrize("name", ["game", "congestion", "tensor"])
@pytest.mark.parametrize("dim", [2, 3])
def test_monotone_couples_vertices_with_the_right_sign_only(name, dim):
    matrix = frozen(name, MONOTONE, dim).fp
    off_diagonal = matrix - np.diag(np.diag(matrix))
    assert off_diagonal.max() <= 1e-14 * np.abs(matrix).max()


def test_the_hjb_rows_of_monotone_fall_with_what_neighbours_pay():
    """By finite changes, in a wind, with hardly any diffusion, off the walls."""
    problem = default(
        mfg.box(1.0, 12),
        diffusion=1e-9,
        hamiltonian=lambda x, p, m: p[0] ** 2 / 2 + p[0],
    )
    discrete, random = Discretisation(problem, MONOTONE), np.random.default_rng(3)

    def rows(u):
        discrete.set_state(u[None], np.ones((1, len(u))), 0.5)
        return discrete.assemble_rows("hjb")[1:-1].copy()

    for _ in range(10):
        u = random.uniform(-0.2, 0.2, discrete.owned)
        for j, change in enumerate(0.1 * np.eye(len(u))):
            rise = rows(u + change) - rows(u)
            assert np.delete(rise, [j - 1] if 0 < j < len(u) - 1 else []).max() < 1e-8
