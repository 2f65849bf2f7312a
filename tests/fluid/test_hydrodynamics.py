"""The fluid of a solution beside exact solutions, and the laws that it keeps."""

import sys
from pathlib import Path

from mpi4py import MPI

import numpy as np
import pytest
from cases import default, evacuation, gaussian, jittered
from exact import HopfCole, game, rates
from ranks import leave_numbers, numbers_on, once, serial_only

import ufl
from dolfinx import fem, la

import mfg_fem as mfg

COMM = MPI.COMM_WORLD
EXACT = HopfCole(horizon=0.5)
GALERKIN, EULER, P2 = mfg.Galerkin(1, "midpoint"), mfg.Galerkin(), mfg.Galerkin(2, "midpoint")
TIGHT = mfg.Newton(rtol=1e-11)


def errors(cells: int, steps: int, scheme, mesh) -> dict[str, float]:
    """Errors at the middle of the horizon, weighted by m, and of what holds along time."""
    domain, D = mesh(2, cells), EXACT.D
    solution = mfg.solve(game(EXACT, domain), steps, scheme, TIGHT)
    fluid, n = mfg.hydrodynamics(solution), steps // 2
    x, t = ufl.SpatialCoordinate(domain.mesh), fluid.times[n]
    m, phi = EXACT.m(x, t), EXACT.phi(x, t)
    psi, root = m / phi, ufl.sqrt(m)
    exact_Q = -2 * D**2 * ufl.div(ufl.grad(root)) / root

    def integral(y):
        form = fem.form(y * ufl.dx(domain=domain.mesh, degree=6))
        return COMM.allreduce(fem.assemble_scalar(form), MPI.SUM)

    omega = fluid.current(n) - D * ufl.grad(ufl.ln(phi / psi))
    potential = fluid.potential(n) - D * ufl.ln(psi / phi)
    found = {
        "omega": np.sqrt(integral(m * ufl.dot(omega, omega))),
        "potential": np.sqrt(integral(m * potential**2)),
        "Q": np.sqrt(integral(m * (fluid.quantum_potential(n) - exact_Q) ** 2)),
        "psi": np.sqrt(integral((fluid.pair(n)[1] - psi) ** 2)),
    }
    information = integral(ufl.dot(ufl.grad(m), ufl.grad(m)) / m)
    found["fisher"] = abs(fluid.fisher[n] / information - 1)
    found["terms"] = np.abs(fluid.energy + fluid.kinetic - fluid.osmotic).max()
    over_time = [
        (y[1:] + y[:-1]).sum() / 2 * fluid.times[1]
        for y in (fluid.moving_cost, fluid.kinetic + fluid.osmotic)
    ]
    entropy = D * (fluid.entropy[-1] - fluid.entropy[0])
    found["costs"] = abs(1 - (over_time[1] + entropy) / over_time[0])
    return {key: float(y) for key, y in found.items()}


def plain(dim, cells):
    return mfg.box((1.0,) * dim, cells)


# Scheme, mesh and cells; least orders and largest last errors of what is looked at.
TABLE = [
    (
        GALERKIN,
        jittered,
        (8, 16),
        {"omega": 0.9, "potential": 1.8, "Q": 1.3, "psi": 1.8, "fisher": 1.8, "terms": 1.8},
        {"omega": 1.5e-2, "Q": 2e-2, "fisher": 1.5e-2, "costs": 1e-3},
    ),
    (
        mfg.Sharp(),
        plain,
        (8, 16),
        {"omega": 0.9, "potential": 1.7, "Q": 1.5, "psi": 1.7, "fisher": 1.5, "costs": 1.7},
        {"omega": 1.2e-2, "fisher": 1e-2, "costs": 1e-2},
    ),
    (
        mfg.Monotone(),
        plain,
        (8, 16),
        {"omega": 0.8, "potential": 0.8, "psi": 0.8, "fisher": 0.5, "costs": 0.6},
        {"omega": 2e-2},
    ),
    (
        P2,
        jittered,
        (4, 8),
        {"omega": 1.8, "potential": 1.8, "Q": 1.0, "fisher": 1.8, "terms": 2.5, "costs": 1.6},
        {"omega": 3e-3, "fisher": 1e-3, "costs": 1e-3},
    ),
]


@pytest.mark.parametrize("scheme, mesh, sizes, orders, largest", TABLE, ids=lambda y: str(y)[:20])
def test_the_fluid_converges_to_that_of_hopf_and_cole(scheme, mesh, sizes, orders, largest):
    steps = 2 if scheme.degree == 2 else 1
    found = [errors(cells, steps * cells, scheme, mesh) for cells in sizes]
    observed = rates([1 / cells for cells in sizes], found)
    assert all(observed[name] >= order for name, order in orders.items())
    assert all(found[-1][name] <= error for name, error in largest.items())


def conserving(name: str, domain) -> mfg.MeanFieldGame | mfg.MeanFieldControl:
    """Problems of one Hamiltonian, without explicit time."""
    return {
        "game": lambda: default(domain),
        "cubic game": lambda: default(domain, running_cost=lambda x, t, m: x[0] * m**3),
        "power": lambda: default(domain, hamiltonian=mfg.hamiltonians.power(1.5)),
        "congestion control": lambda: default(
            domain, mfg.MeanFieldControl, hamiltonian=mfg.hamiltonians.congestion(1.0, 1.0)
        ),
        "source": lambda: default(domain, source=lambda x, t: gaussian(x, 0.3)),
        "exits": lambda: evacuation(domain, 0.5, 0.0, terminal_cost=lambda x, m: 0.5 + 0.5 * x[0]),
    }[name]()


NAMES = ("game", "cubic game", "power", "congestion control", "source", "exits")


@pytest.mark.parametrize("name", NAMES)
def test_euler_steps_conserve_the_modified_energy_and_drift_as_predicted(name):
    solution = mfg.solve(conserving(name, mfg.box((1, 1), 6)), 32, EULER, TIGHT)
    fluid = mfg.hydrodynamics(solution)
    drift = np.ptp(fluid.modified_energy - fluid.correction)
    assert np.ptp(fluid.correction) == pytest.approx(drift, rel=0.02)
    assert np.ptp(fluid.modified_energy) <= drift / 50


def test_midpoint_steps_conserve_their_modified_energy_much_better():
    drifts = []
    for steps in (32, 64):
        solution = mfg.solve(game(EXACT, mfg.box((1, 1), 8)), steps, GALERKIN, TIGHT)
        fluid = mfg.hydrodynamics(solution)
        drifts.append([np.ptp(fluid.energy[1:-1]), np.ptp(fluid.modified_energy)])
    assert np.ptp(fluid.correction) == pytest.approx(drifts[1][0], rel=0.02)
    assert drifts[1][1] <= drifts[1][0] / 50
    assert np.log2(drifts[0][1] / drifts[1][1]) >= 2.7


def tensor(x):
    return 0.05 * (1 + x[0]) * ufl.as_matrix([[1.0, 0.3], [0.3, 0.6]])


@pytest.mark.parametrize("scheme", [mfg.Sharp(), EULER, P2], ids=str)
def test_the_flux_moves_the_density_to_round_off(scheme):
    problem = evacuation(
        jittered(2, 6), exponent=1.0, diffusion=tensor, source=lambda x, t: gaussian(x, 0.3)
    )
    solution = mfg.solve(problem, 4, scheme, mfg.Newton(rtol=1e-12))
    fluid, discrete = mfg.hydrodynamics(solution), solution.discrete
    v, (_, dx) = ufl.TestFunction(discrete.V), scheme.measures(problem.domain.mesh)
    for n in (0, 3):
        rate = (solution.density(n + 1) - solution.density(n)) / fluid.times[1]
        flux, s = fluid.flux(n), problem.s(problem.x, 0.0)
        terms = (rate * v * dx, ufl.dot(flux, ufl.grad(v)) * ufl.dx, s * v * dx)
        rows = [fem.assemble_vector(fem.form(term)) for term in terms]
        for row in rows:
            row.scatter_reverse(la.InsertMode.add)
        change, moved, entered = (row.array[: discrete.owned] for row in rows)
        defect = discrete.release((change - moved - entered)[None])
        assert np.abs(defect).max() <= 1e-9 * np.abs(moved).max()
        assert fluid.momentum(n)[0] > 0  # to the exit on the right


def test_other_mobilities_are_other_units_of_cost():
    """With H = alpha |p|^2 / 2 and costs / alpha, u is that of alpha = 1, divided by alpha."""
    domain, alpha, D = mfg.box((1, 1), 6), 3.0, 0.1

    def fluid(alpha):
        problem = default(
            domain,
            diffusion=D,
            hamiltonian=mfg.hamiltonians.quadratic(alpha),
            running_cost=lambda x, t, m: (m + x[0]) / alpha,
            initial_density=lambda x: 1 + 0.5 * ufl.cos(ufl.pi * x[0]),
        )
        return mfg.hydrodynamics(mfg.solve(problem, 4, GALERKIN, TIGHT))

    one, other = fluid(1.0), fluid(alpha)
    assert (other.mobility, other.diffusion) == pytest.approx((alpha, D))
    for name in ("kinetic", "osmotic", "moving_cost", "energy", "total_momentum"):
        assert getattr(other, name) * alpha == pytest.approx(getattr(one, name), rel=1e-7, abs=1e-9)
    for name in ("potential", "quantum_potential"):
        found, wanted = (getattr(y, name)(2).x.array for y in (other, one))
        assert found * alpha == pytest.approx(wanted, rel=1e-7, abs=1e-7)
    assert other.current(2).x.array == pytest.approx(one.current(2).x.array, abs=1e-7)
    phi, psi = other.pair(2)
    assert phi.x.array * psi.x.array == pytest.approx(other.solution.density(2).x.array)


def test_a_wind_is_part_of_the_current_and_of_no_potential():
    wind = mfg.hamiltonians.with_drift(
        mfg.hamiltonians.quadratic(), lambda x: ufl.as_vector([0.5, 0.0])
    )
    fluid = mfg.hydrodynamics(mfg.solve(default(mfg.box((1, 1), 6), hamiltonian=wind), 4))
    rest = fluid.current(1) + ufl.grad(fluid.potential(1)) - ufl.as_vector([0.5, 0.0])
    square = fem.assemble_scalar(fem.form(ufl.dot(rest, rest) * ufl.dx))
    assert square <= 1e-24


MADELUNG = {"kinetic", "osmotic", "potential", "quantum_potential", "pair"}
LACKING = {
    "congested": (
        {"hamiltonian": mfg.hamiltonians.congestion(1.0, 1.0)},
        {*MADELUNG, "energy", "modified_energy"},
        "H depends on m",
    ),
    "power": ({"hamiltonian": mfg.hamiltonians.power(1.5)}, MADELUNG, "H is not"),
    "tensor": ({"diffusion": tensor}, MADELUNG, "D is not one number"),
    "time": ({"running_cost": lambda x, t, m: t * m}, {"modified_energy"}, "depend on t"),
    "steep": (
        {"diffusion": 1e-3, "terminal_cost": lambda x, m: 5.0 * x[0]},
        {"pair"},
        r"would reach exp\(",
    ),
    "exits": (
        {"boundary": {"left": mfg.Exit()}},
        MADELUNG - {"osmotic"},
        "log m is not finite",
    ),
}


@pytest.mark.parametrize("case", LACKING)
def test_what_does_not_exist_is_none_and_says_why(case):
    changes, names, why = LACKING[case]
    fluid = mfg.hydrodynamics(mfg.solve(default(mfg.box((1, 1), 4), **changes), 3, mfg.Monotone()))
    for name in (*sorted(MADELUNG), "energy", "modified_energy"):  # alike on ranks
        value = getattr(fluid, name)
        value = value(1) if callable(value) else value
        assert (value is None) == (name in names), name
        assert fluid.has(name) != (name in names)
        assert name not in names or fluid.reasons[name].startswith("none: ")
    assert any(why.replace("\\", "") in reason for reason in fluid.reasons.values())
    assert why.replace("\\", "") in str(fluid)
    assert np.isfinite([fluid.entropy, fluid.fisher, fluid.moving_cost]).all()
    assert np.isfinite(fluid.current(0).x.array).all()


def test_steps_of_different_length_have_no_modified_energy():
    solution = mfg.solve(default(mfg.box(1, 8)), [0.0, 0.1, 0.5, 1.0], EULER)
    fluid = mfg.hydrodynamics(solution)
    assert fluid.modified_energy is None and fluid.energy is not None
    assert "length" in fluid.reasons["modified_energy"]


def test_fluid_of_classes_that_share_a_velocity():
    """What moving costs, in parts; and the fluxes of the classes add up to that of all."""

    def blob(x, centre):
        return ufl.exp(-8 * ((x[0] - centre) ** 2 + (x[1] - 1) ** 2))

    control = mfg.SharedControl(
        mfg.box((2, 2), 24),
        densities=[lambda x: blob(x, 0.8), lambda x: blob(x, 1.2)],
        terminal_costs=[lambda x: x[0], lambda x: 2 - x[0]],
        diffusion=0.05,
        effort=0.5,
        horizon=0.2,
    )
    shared = mfg.solve(control, 16, method=mfg.Descent(max_it=15), throw=False)
    fluid = mfg.hydrodynamics(shared)
    gained = 0.5 * 0.05 * np.diff(fluid.entropy) / np.diff(shared.times)
    paid = ((y[1:] + y[:-1]) / 2 for y in (fluid.moving_cost, fluid.kinetic, fluid.osmotic))
    moving, kinetic, osmotic = (y[2:-2].sum() for y in paid)
    assert moving == pytest.approx(kinetic + osmotic + gained[2:-2].sum(), rel=0.03)
    assert fluid.potential(0) is None and not fluid.has("pair") and "gradient" in fluid.report
    both, one, other = (fluid.current(4, c) for c in (None, 0, 1))
    whole = shared.density(4) * both
    rest = shared.density(4, 0) * one + shared.density(4, 1) * other - whole
    rest, size = (
        COMM.allreduce(fem.assemble_scalar(fem.form(ufl.dot(y, y) * ufl.dx))) for y in (rest, whole)
    )
    assert rest <= 0.03**2 * size
    Q = fluid.quantum_potential(4)
    assert np.isfinite(Q.x.array).all() and COMM.allreduce(np.ptp(Q.x.array), MPI.MAX) > 0


def test_what_has_no_fluid_is_refused():
    with pytest.raises(mfg.ProblemError, match="takes a solution, not int"):
        mfg.hydrodynamics(3)
    fluid = mfg.hydrodynamics(mfg.solve(default(mfg.box(1, 4)), 2))
    with pytest.raises(mfg.LevelError, match="levels go from 0 to 2"):
        fluid.current(3)
    with pytest.raises(mfg.LevelError, match="steps go from 0 to 1"):
        fluid.flux(2)


@pytest.mark.parametrize("periodic", [False, True])
def test_files_for_paraview_have_the_fields(tmp_path, periodic):
    folder = COMM.bcast(tmp_path)
    problem = default(
        mfg.box((1, 1), 4, periodic=periodic),
        running_cost=lambda x, t, m: m,
        initial_density=lambda x: 1 + 0.5 * ufl.cos(2 * ufl.pi * x[0]),
    )
    fluid = mfg.hydrodynamics(mfg.solve(problem, 2))
    fluid.write(folder / "a.bp", every=2)
    assert (folder / "a.bp").exists() or (folder / "a.xdmf").exists()
    fluid.write(folder / "b.xdmf")
    text, data = (folder / "b.xdmf").read_text(), (folder / "b.h5").read_bytes()
    for name in ("density", "potential", "quantum_potential", "current"):
        assert text.count(f'Attribute Name="{name}"') == 3
    if COMM.size == 1 and not periodic:
        for function in (fluid.potential(1), fluid.quantum_potential(2)):
            assert all(y.tobytes() in data for y in function.x.array)


def test_the_curves_are_drawn_with_what_there_is(tmp_path):
    matplotlib = pytest.importorskip("matplotlib")
    folder, domain = COMM.bcast(tmp_path), mfg.box(1, 8)
    fluid = mfg.hydrodynamics(mfg.solve(default(domain), 4, EULER))
    figure = mfg.plots.plot_fluid(fluid, folder / "fluid.png", dpi=50)
    congested = default(domain, hamiltonian=mfg.hamiltonians.congestion(1.0, 1.0))
    other = mfg.plots.plot_fluid(mfg.hydrodynamics(mfg.solve(congested, 4)))
    if COMM.rank == 0:
        assert isinstance(figure, matplotlib.figure.Figure)
        assert [len(ax.lines) for ax in figure.axes] == [2, 3, 1, 1]
        assert [len(ax.lines) for ax in other.axes] == [0, 1, 1, 1]
    COMM.Barrier()
    assert (folder / "fluid.png").exists()
    with pytest.raises(mfg.ProblemError, match="takes a Fluid"):
        mfg.plots.plot_fluid(fluid.solution)


# The same on any number of ranks.

CASES = {
    "sharp": lambda: mfg.solve(default(jittered(2, 8)), 4, mfg.Sharp(), TIGHT),
    "P2": lambda: mfg.solve(default(mfg.box((1, 1), 4), diffusion=0.3), 4, P2, TIGHT),
    "exits": lambda: mfg.solve(evacuation(mfg.box((1, 1), 6), 0.3), 4, method=TIGHT),
    "box": lambda: mfg.solve(default(mfg.box((1, 1, 1), 3)), 4, mfg.Monotone(), TIGHT),
}


def numbers(solution: mfg.Solution) -> dict[str, list]:
    """All arrays, the integrals of fields times a function, and the laws."""
    fluid, found = mfg.hydrodynamics(solution), {}
    for name in ("energy", "modified_energy", "fisher", "entropy", "kinetic", "moving_cost"):
        value = getattr(fluid, name)
        found[name] = [] if value is None else value.tolist()
    found["momenta"] = [*fluid.total_momentum.ravel(), *fluid.momentum(2)]
    x = ufl.SpatialCoordinate(solution.problem.domain.mesh)
    fields = {"potential": fluid.potential(1), "Q": fluid.quantum_potential(1)}
    fields |= {"current": fluid.current(2), "flux": fluid.flux(2)}
    for name, y in fields.items():
        if y is not None:
            square = ufl.inner(y, y) * (1 + x[0]) * ufl.dx
            found[name] = [COMM.allreduce(fem.assemble_scalar(fem.form(square)), MPI.SUM)]
    laws = mfg.structure(solution)
    found["laws"] = [laws.symplectic, laws.patch] if laws.symplectic > 1e-10 else []
    return found


@pytest.fixture(scope="module")
@once
def on_two_ranks() -> dict[str, dict]:
    return numbers_on(2, __file__)


@serial_only
@pytest.mark.parametrize("case", CASES)
def test_numbers_do_not_depend_on_the_ranks(case, on_two_ranks):
    one, two = numbers(CASES[case]()), on_two_ranks[case]
    assert one.keys() == two.keys() and one["fisher"] and one["current"]
    for name in one:
        assert two[name] == pytest.approx(one[name], rel=1e-8, abs=1e-10), name


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    leave_numbers({case: numbers(solve()) for case, solve in CASES.items()})
