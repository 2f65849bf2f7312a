"""Problems without a horizon: exact solutions, what comes and goes, files, units, ranks."""

from dataclasses import replace

from mpi4py import MPI

import numpy as np
import pytest
from lasting import LAMBDA, Exact, integral, station, value
from ranks import leave_numbers, numbers_on, serial_only

import ufl

import mfg_fem as mfg

COMM = MPI.COMM_WORLD


@pytest.mark.parametrize("discount", [0.0, 1.0])
@pytest.mark.parametrize(
    ("scheme", "order"),
    [(mfg.Monotone(), 1), (mfg.Sharp(), 1.8), (mfg.Galerkin(1, "midpoint"), 1.9)],
    ids=str,
)
def test_exact_solution(scheme, order, discount):
    errors, off = [], []
    for n in (8, 16, 32):
        exact = Exact(mfg.box((1, 1), n), discount)
        state = mfg.solve(exact.game, scheme=scheme)
        assert state.iterations <= 6
        assert max(row["krylov"] for row in state.history) <= 12
        assert state.mass == pytest.approx(1.0, abs=1e-13)
        assert state.cost == pytest.approx(state.expected_cost, abs=1e-8)
        errors.append(exact.errors(state)[1])
        if not discount:
            off.append(abs(state.cost_rate - LAMBDA))
            assert state.cost == pytest.approx(state.cost_rate, abs=1e-8)
    assert np.log2(errors[-2] / errors[-1]) >= order - 0.15 and errors[-1] <= 5e-3
    assert not off or (off[-1] <= 5e-4 and off[-1] < off[0])


@pytest.mark.parametrize("coupling", [1.0, 100.0])
def test_iterations_do_not_grow(coupling):
    """With little diffusion and any coupling, on both meshes."""
    for n in (16, 48):
        exact = Exact(mfg.box((1, 1), n), coupling=coupling, D=0.03)
        state = mfg.solve(exact.game)
        assert state.iterations <= 8
        assert max(row["krylov"] for row in state.history) <= 15


def test_ergodic_game_is_a_ground_state():
    """Lambda is the chemical potential of the wave with hbar = 2 D, and m its density."""
    trap = {"hbar": 0.5, "potential": lambda x, rho: (x[0] - 4) ** 2 / 2 + 2 * rho}
    line = mfg.box((8.0,), 64)
    state = mfg.solve(
        mfg.MeanFieldGame(
            line,
            diffusion=0.25,
            hamiltonian=mfg.hamiltonians.quadratic(),
            running_cost=lambda x, t, m: trap["potential"](x, m),
        ),
        scheme=mfg.Galerkin(2),
    )
    ground = mfg.ground_state(line, **trap)
    assert state.cost_rate == pytest.approx(ground.chemical_potential, rel=1e-5)
    assert integral((state.density() - ground.density) ** 2) <= 1e-7


def with_horizon(domain, **changes):
    return mfg.MeanFieldGame(
        domain,
        horizon=1.0,
        diffusion=0.1,
        hamiltonian=mfg.hamiltonians.quadratic(),
        running_cost=lambda x, t, m: m,
        terminal_cost=lambda x, m: 0.0,
        initial_density=lambda x: 1.0,
        **changes,
    )


@pytest.mark.parametrize("discount", [0.0, 0.5])
def test_as_many_come_as_go(discount):
    domain = mfg.box((2, 1), 16)
    state = mfg.solve(station(domain, discount=discount))
    come = integral(ufl.exp(-20 * ufl.SpatialCoordinate(domain.mesh)[0] ** 2))
    assert state.entering == pytest.approx(come, rel=1e-2)
    assert state.balance == pytest.approx(0.0, abs=1e-12) and state.leaving["right"] > 0
    assert state.cost_rate is None
    assert state.cost == pytest.approx(state.expected_cost, rel=1e-8)
    assert "leaving through right" in state.report


@pytest.mark.parametrize("scheme", [mfg.Sharp(), mfg.Galerkin(1)], ids=str)
def test_crowd_that_goes_on_beyond_open_boundaries(scheme):
    """The exact solution with its own values at two sides; and it stays as it is in time."""
    errors = []
    for n in (8, 16):
        exact = Exact(mfg.box((1, 1), n), ends=("left", "top"))
        state = mfg.solve(exact.game, scheme=scheme)
        assert state.cost_rate is None and state.iterations <= 6 and state.warnings == ()
        assert state.balance == pytest.approx(0.0, abs=1e-12)
        errors.append(exact.errors(state))
    assert (np.log2(np.divide(*errors)) > 1.7).all() and errors[-1][1] < 2e-2
    timed = replace(
        exact.game,
        horizon=0.5,
        terminal_cost=lambda x, m: value(x),
        initial_density=exact.density,
        population=state.mass,
    )
    solution = mfg.solve(timed, 4, scheme)
    assert np.abs(solution.balance).max() < 1e-12
    error = np.sqrt(integral((solution.density(4) - exact.density) ** 2))
    assert error < 1.5 * errors[-1][1]
    for action in (solution.exploitability, lambda: solution.players(10)):
        with pytest.raises(mfg.ProblemError, match="'left', 'top' are open"):
            action()


def test_congestion_and_drift_and_control():
    ring = mfg.box((1.0,), 48, periodic=True)
    data = {
        "diffusion": 0.05,
        "hamiltonian": lambda x, p, m: ufl.dot(p, p) / (2 * (0.2 + m) ** 0.5) + p[0],
        "running_cost": lambda x, t, m: m + ufl.cos(2 * ufl.pi * x[0]),
    }
    game = mfg.solve(mfg.MeanFieldGame(ring, **data))
    control = mfg.solve(mfg.MeanFieldControl(ring, **data))
    assert game.cost_rate == pytest.approx(game.cost, abs=1e-7)
    assert control.cost < game.cost - 1e-3  # the planner does better
    assert game.warnings == control.warnings == ()


def test_little_diffusion_is_reached_by_a_path():
    """The test of Achdou and Capuzzo-Dolcetta 2010, on a coarse grid."""
    torus = mfg.box((1, 1), 24, periodic=True)

    def hamiltonian(x, p, m):
        wave = 2 * ufl.pi
        hills = ufl.sin(wave * x[1]) + ufl.sin(wave * x[0]) + ufl.cos(2 * wave * x[0])
        return hills + ufl.dot(p, p)

    game = mfg.MeanFieldGame(
        torus, diffusion=0.01, hamiltonian=hamiltonian, running_cost=lambda x, t, m: m**2
    )
    state = mfg.solve(game)
    assert state.converged and state.whole.min_density > 0
    assert state.cost_rate == pytest.approx(state.cost, abs=1e-7)


def test_files(tmp_path):
    folder = COMM.bcast(tmp_path)
    exact = Exact(mfg.box((1, 1), 8))
    state = mfg.solve(exact.game, checkpoint=folder / "solve.npz")
    state.save(folder / "state.npz")
    state.write(folder / "state.bp")
    for found in (
        mfg.StationarySolution.load(folder / "state.npz", exact.game),
        mfg.solve(exact.game, checkpoint=folder / "solve.npz"),
    ):
        assert found.converged and found.cost_rate == pytest.approx(state.cost_rate, abs=1e-12)
        assert np.allclose(found.nodal_values, state.nodal_values, atol=1e-12)
    pytest.importorskip("matplotlib")
    for plot in (mfg.plots.plot_density, mfg.plots.plot_value):
        figure = plot(state, folder / "state.png", length="")
        assert COMM.rank or figure.axes[0].get_title(loc="left") == "stationary"
    again = mfg.solve(exact.game, guess=state)
    assert again.iterations <= 1
    timed = with_horizon(exact.game.domain)
    with pytest.raises(mfg.ProblemError, match="horizon"):
        mfg.StationarySolution.load(folder / "state.npz", timed)
    with pytest.raises(mfg.FileError, match="no horizon"):
        mfg.Solution.load(folder / "state.npz", timed)


def test_units():
    """Lengths in mm, times in hours, costs in cents, people in thousands."""

    def game(length=1.0, time=1.0, cost=1.0, people=1.0):
        def running_cost(x, t, m):
            bend = ufl.cos(3 * x[0] / length) * ufl.cos(2 * x[1] / length)
            return cost / time * (5.0 + bend + 20 * m * length**2 / people)

        return mfg.MeanFieldGame(
            mfg.box((length, length), 12),
            diffusion=0.05 * length**2 / time,
            hamiltonian=lambda x, p, m: length**2 / (cost * time) * ufl.dot(p, p) / 2,
            running_cost=running_cost,
            population=people,
        )

    one, other = mfg.solve(game()), mfg.solve(game(1e3, 1 / 3600, 1e4, 1e-3))
    assert [row["krylov"] for row in one.history] == [row["krylov"] for row in other.history]
    assert other.cost_rate == pytest.approx(1e4 * 3600 * one.cost_rate, rel=1e-9)
    assert np.allclose(other.nodal_densities, 1e-3 / 1e6 * one.nodal_densities, rtol=1e-8)


WRONG = {
    "steps": (lambda: mfg.solve(station(mfg.box((2, 1), 4)), 8), "no time steps"),
    "no exit": (lambda: station(mfg.box((2, 1), 4), boundary={}), "needs an Exit or a Door"),
    "no source": (lambda: station(mfg.box((2, 1), 4), source=None), "needs a source="),
    "an end": (
        lambda: station(mfg.box((2, 1), 4), terminal_cost=lambda x, m: 0.0),
        "no terminal_cost",
    ),
    "a negative density": (
        lambda: station(mfg.box((2, 1), 4), boundary={"right": mfg.Open(0.0, -1.0)}),
        "negative",
    ),
    "time": (lambda: station(mfg.box((2, 1), 4), running_cost=lambda x, t, m: t), "depends on t"),
    "discount": (lambda: station(mfg.box((2, 1), 4), discount=-1.0), "discount"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_makes_no_sense_is_refused(name):
    action, words = WRONG[name]
    with pytest.raises(mfg.ProblemError, match=words):
        action()


def numbers():
    tight = mfg.Newton(rtol=1e-12)
    state = mfg.solve(Exact(mfg.box((1, 1), 16), coupling=10.0).game, method=tight)
    come = mfg.solve(station(mfg.box((2, 1), 8)), method=tight)
    return [state.cost_rate, state.iterations, state.cost, come.leaving["right"], come.mass]


@serial_only
def test_ranks():
    assert numbers_on(3, __file__) == pytest.approx(numbers(), rel=1e-9)


if __name__ == "__main__":
    leave_numbers(numbers())
