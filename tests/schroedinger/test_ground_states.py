"""Ground states beside published numbers, and the ergodic game that they solve."""

from functools import cache

import numpy as np
import pytest

import ufl
from dolfinx import fem

import mfg_fem as mfg

LENGTH = 24.0


@cache
def line() -> mfg.Domain:
    return mfg.box(LENGTH, 256)


def trap(x):
    return (x[0] - LENGTH / 2) ** 2 / 2


def state(beta, domain=None, **options) -> mfg.GroundState:
    domain = domain or line()
    g = fem.Constant(domain.mesh, float(beta))
    return mfg.ground_state(domain, hbar=1.0, potential=lambda x, rho: trap(x) + g * rho, **options)


@pytest.mark.parametrize(
    "beta, energy, mu",
    [(0, 0.5, 0.5), (3.1371, 1.044098, 1.526595), (400, 21.360070, 35.577461)],
)
def test_published_traps_on_a_line(beta, energy, mu):
    """Bao, Du 2004 have four digits of them; the others are those of finer meshes."""
    found = state(beta)
    assert found.energy == pytest.approx(energy, abs=1.5e-6)
    assert found.chemical_potential == pytest.approx(mu, abs=1.5e-6)
    assert found.flow <= 5 and found.newton <= 3 and found.iterations == found.flow + found.newton
    assert found.mean_position == pytest.approx(LENGTH / 2, abs=1e-9)
    # Virial: the trap's energy is that of the wave's width.
    spread = found.rms_radius**2 / 2
    interaction = found.energy - found.kinetic - spread
    assert 2 * found.kinetic - 2 * spread + interaction == pytest.approx(0, abs=1e-6 * (1 + mu))
    assert found.wave.x.array.min() > -1e-6


def test_a_trap_in_the_plane():
    found = mfg.ground_state(
        mfg.box((12, 12), 24),
        hbar=1.0,
        potential=lambda x, rho: ((x[0] - 6) ** 2 + (x[1] - 6) ** 2) / 2 + 500 * rho,
    )
    assert found.chemical_potential == pytest.approx(12.6767, abs=1e-4)
    assert found.energy == pytest.approx(8.5117, abs=1e-4)
    assert found.iterations <= 9


def test_a_soliton_is_the_ground_state_of_an_attracting_wave():
    """sech(x) of mass 2, mu = -1/2, E = -1/3, where walls keep it from the boundary."""
    found = mfg.ground_state(
        line(), hbar=1.0, potential=lambda x, rho: -rho, mass=2.0, zero=("left", "right")
    )
    assert found.chemical_potential == pytest.approx(-0.5, abs=1e-4)
    assert found.energy == pytest.approx(-1 / 3, abs=1e-4)
    assert found.wave.x.array.max() == pytest.approx(1.0, abs=1e-3)


def test_units_and_a_shift_of_the_potential_change_no_step():
    """Lengths in micrometres, energies in 1e-20, and a million of them more."""

    def solved(length, energy, shift):
        domain = mfg.box(12 * length, 64)
        a, b, c = (fem.Constant(domain.mesh, y) for y in (length, energy, shift))
        return mfg.ground_state(
            domain,
            hbar=length * energy**0.5,
            potential=lambda x, rho: b * (c + (x[0] / a - 6) ** 2 / 2 + 20 * rho * a),
        )

    one, small, high = (solved(*y) for y in ((1.0, 1.0, 0.0), (1e-6, 1e-20, 0.0), (1.0, 1.0, 1e6)))
    assert small.chemical_potential / 1e-20 == pytest.approx(one.chemical_potential, rel=1e-11)
    assert small.rms_radius / 1e-6 == pytest.approx(one.rms_radius, rel=1e-11)
    assert high.chemical_potential - 1e6 == pytest.approx(one.chemical_potential, abs=1e-7)
    assert (one.flow, one.newton) == (small.flow, small.newton) == (high.flow, high.newton)


def test_a_guess_may_be_another_ground_state():
    first = state(400)
    again = state(400, guess=first.wave)
    assert (again.flow, again.newton) == (1, 1)
    assert again.energy == pytest.approx(first.energy, rel=1e-12)


@pytest.mark.parametrize("scheme", [mfg.Relaxation(), mfg.DelfourFortinPayre()], ids=str)
def test_a_ground_state_only_turns_its_phase(scheme):
    phi = state(10)
    wave = mfg.NonlinearSchroedinger(
        line(),
        horizon=1.0,
        hbar=1.0,
        potential=lambda x, t, rho: trap(x) + 10 * rho,
        initial=(phi.wave, 0),
    )
    solution = mfg.solve(wave, 20, scheme)
    assert np.abs(solution.nodal_densities[-1] - solution.nodal_densities[0]).max() < 1e-9
    angle = np.angle(solution.waves[1] / solution.waves[0])[solution.nodal_densities[0] > 1e-6]
    # The midpoint rule turns by 2 arctan(mu dt / 2 hbar).
    turned = -2 * np.arctan(phi.chemical_potential * 0.05 / 2)
    assert angle == pytest.approx(turned, abs=1e-7)


def test_the_ergodic_game_has_the_density_and_the_cost_of_the_ground_state():
    """Half way through a long game, f = x^2 / 2 + 2 m, at hbar = 2 D: lambda = mu, m = phi^2."""
    D, c, length = 0.25, 2.0, 8.0
    domain = mfg.box(length, 64)
    phi = mfg.ground_state(
        domain,
        hbar=2 * D,
        potential=lambda x, rho: (x[0] - length / 2) ** 2 / 2 + c * rho,
    )
    game = mfg.MeanFieldGame(
        domain,
        horizon=6.0,
        diffusion=D,
        hamiltonian=mfg.hamiltonians.quadratic(),
        running_cost=lambda x, t, m: (x[0] - length / 2) ** 2 / 2 + c * m,
        terminal_cost=lambda x, m: 0.0,
        initial_density=phi.density,
    )
    solution = mfg.solve(game, 48, mfg.Galerkin(1, "midpoint"))
    early, late = solution.value(18), solution.value(30)
    rate = fem.form((early - late) * solution.density(24) * ufl.dx)
    cost = domain.comm.allreduce(fem.assemble_scalar(rate)) / (solution.times[12])
    assert phi.chemical_potential == pytest.approx(1.0848, abs=2e-4)
    assert cost == pytest.approx(phi.chemical_potential, rel=1e-3)
    off = fem.form(abs(solution.density(24) - phi.density) * ufl.dx)
    assert domain.comm.allreduce(fem.assemble_scalar(off)) < 5e-3


@pytest.mark.parametrize(
    "options, message",
    [
        ({"hbar": -1}, "hbar must be a finite number > 0"),
        ({"mass": 0}, "mass must be a finite number > 0"),
        ({"degree": 3}, "the degree must be 1 or 2"),
        ({"guess": lambda x: 0.0}, r"guess\(x\) vanishes at all nodes"),
        ({"zero": ("north",)}, "No boundary is named 'north'"),
        ({"potential": lambda x, rho: 1 / x[0]}, r"potential\(x, rho\) is not finite"),
    ],
)
def test_what_makes_no_sense_is_refused(options, message):
    data = {"hbar": 1.0, "potential": lambda x, rho: trap(x)}
    with pytest.raises((mfg.ProblemError, mfg.MeshError), match=message):
        mfg.ground_state(line(), **(data | options))


def test_a_wave_that_collapses_to_the_mesh_is_told_of():
    """In the plane below g = -5.85 no mesh has a ground state of its own."""
    with pytest.warns(mfg.SolutionWarning, match="as narrow as the mesh"):
        found = mfg.ground_state(
            mfg.box((12, 12), 24),
            hbar=1.0,
            potential=lambda x, rho: ((x[0] - 6) ** 2 + (x[1] - 6) ** 2) / 2 - 10 * rho,
        )
    assert "rms radius" in str(found)
