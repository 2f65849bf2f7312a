"""Waves in real time: conservation, exact solutions, files, and what is refused."""

from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from ranks import numbers_on, serial_only

import ufl
from dolfinx import fem

import mfg_fem as mfg

SCHEMES = [kind(k) for kind in (mfg.Relaxation, mfg.DelfourFortinPayre) for k in (1, 2)]
SECOND = [mfg.Relaxation(2), mfg.DelfourFortinPayre(2)]
LENGTH, START, SPEED = 24.0, 11.0, 1.0


def distance(solution, exact) -> float:
    """L2 distance from the exact wave at the end, relative to its norm."""
    a, b = solution.wave(solution.steps)
    re, im = exact(ufl.SpatialCoordinate(solution.problem.domain.mesh), solution.times[-1])
    form = fem.form(((a - re) ** 2 + (b - im) ** 2) * ufl.dx(degree=10))
    square = solution.problem.domain.comm.allreduce(fem.assemble_scalar(form))
    return float(np.sqrt(square / solution.mass[0]))


def soliton(x, t):
    """sech(x - c t) exp(i (c x - (c^2 - 1) t / 2)), for V = -rho and hbar = 1."""
    y = x[0] - START
    envelope = 1 / ufl.cosh(y - SPEED * t)
    phase = SPEED * y - (SPEED**2 - 1) / 2 * t
    return envelope * ufl.cos(phase), envelope * ufl.sin(phase)


@cache
def line(cells: int) -> mfg.Domain:
    return mfg.box(LENGTH, cells)


def moving(cells: int, steps, scheme, **options) -> mfg.WaveSolution:
    wave = mfg.NonlinearSchroedinger(
        line(cells),
        horizon=1.0,
        hbar=1.0,
        potential=lambda x, t, rho: -rho,
        initial=lambda x: soliton(x, 0.0),
    )
    return mfg.solve(wave, steps, scheme, **options)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_a_soliton_is_of_second_order(scheme):
    """P1: in h and dt together; P2, whose error in space is of higher order: in dt."""
    grids = [(120, 20), (240, 40)] if scheme.degree == 1 else [(240, 20), (240, 40)]
    coarse, fine = (distance(moving(*grid, scheme), soliton) for grid in grids)
    assert 3.7 < coarse / fine < 4.4
    assert fine < (6e-3 if scheme.degree == 1 else 7e-4)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_mass_and_the_energy_of_the_scheme_are_exact(scheme):
    """The script of 10^4 steps keeps them to 2e-14, see MEASURED.md."""
    solution = moving(60, 300, scheme)
    assert solution.mass_drift < 1e-13 and solution.energy_drift < 1e-13
    drift = np.abs(solution.energy - solution.energy[0]).max()
    assert (drift > 1e-9) == isinstance(scheme, mfg.Relaxation)


def test_mass_is_exact_for_steps_of_any_length():
    times = np.linspace(0, 1, 31) ** 1.5
    for scheme in SECOND:
        solution = moving(120, times, scheme)
        assert solution.mass_drift < 1e-13
        assert distance(solution, soliton) < 4e-3


HBAR, AMPLITUDE, MIDDLE = 0.5, 1.5, 6.0


@cache
def short() -> mfg.Domain:
    return mfg.box(2 * MIDDLE, 120)


def packet(centre: float):
    """A ground state of x^2 / 2 moved by `centre` from the middle of the line."""
    return lambda x: (ufl.exp(-((x[0] - MIDDLE - centre) ** 2) / (2 * HBAR)), 0)


def order(solve, exact) -> tuple[float, float]:
    """The ratio of the errors of the mean position in two grids, and the last one."""
    errors = []
    for solution in map(solve, (100, 200)):
        off = solution.mean_position[:, 0] - MIDDLE - exact(solution.times)
        errors.append(np.abs(off).max())
    return errors[0] / errors[1], errors[1]


@pytest.mark.parametrize("scheme", SECOND, ids=str)
def test_a_coherent_state_comes_back_after_a_period(scheme):
    wave = mfg.NonlinearSchroedinger(
        short(),
        horizon=2 * np.pi,
        hbar=HBAR,
        potential=lambda x, t, rho: (x[0] - MIDDLE) ** 2 / 2,
        initial=packet(AMPLITUDE),
    )
    solve = cache(lambda steps: mfg.solve(wave, 2 * steps, scheme))
    ratio, last = order(solve, lambda t: AMPLITUDE * np.cos(t))
    assert 3.7 < ratio < 4.3 and last < 6e-3
    solution = solve(200)
    widths = [solution.rms_radius(n) for n in range(0, 401, 40)]
    assert widths == pytest.approx([np.sqrt(HBAR / 2)] * 11, rel=6e-3)
    # Momentum, the integral of the current, is that of a classical particle.
    flow = fem.form(solution.current(100)[0] * ufl.dx)
    momentum = short().comm.allreduce(fem.assemble_scalar(flow)) / solution.mass[100]
    assert momentum == pytest.approx(-AMPLITUDE, rel=2e-3)
    assert solution.chemical_potential == pytest.approx(solution.energy / solution.mass)


def test_a_potential_that_depends_on_time_drives_the_mean_position():
    """From rest by sin(t / 2): x = (4 sin(t / 2) - 2 sin t) / 3, whatever hbar."""
    wave = mfg.NonlinearSchroedinger(
        short(),
        horizon=6.0,
        hbar=HBAR,
        potential=lambda x, t, rho: (x[0] - MIDDLE) ** 2 / 2 - ufl.sin(t / 2) * (x[0] - MIDDLE),
        initial=packet(0.0),
    )
    solve = cache(lambda steps: mfg.solve(wave, steps))
    ratio, last = order(solve, lambda t: (4 * np.sin(t / 2) - 2 * np.sin(t)) / 3)
    assert 3.7 < ratio < 4.3 and last < 4e-3
    assert np.ptp(solve(200).energy) > 0.1 and solve(200).mass_drift < 1e-13
    assert "V depends on t" in solve(200).report and not wave.autonomous


def test_the_same_wave_in_other_units():
    """Lengths in 1e-6, times in 1e-9, densities in 1e20: the same steps and iterations."""

    def solved(length, time, density, scheme):
        domain = mfg.box(12 * length, 60)
        a, b, c = (fem.Constant(domain.mesh, y) for y in (length, (length / time) ** 2, density))
        wave = mfg.NonlinearSchroedinger(
            domain,
            horizon=0.5 * time,
            hbar=length**2 / time,
            potential=lambda x, t, rho: b * ((x[0] / a - 6) ** 2 / 2 + rho / c),
            initial=lambda x: (c**0.5 * ufl.exp(-((x[0] / a - 5) ** 2)), 0),
        )
        return mfg.solve(wave, 20, scheme)

    for scheme in SECOND:
        one, other = (solved(*units, scheme) for units in ((1.0, 1.0, 1.0), (1e-6, 1e-9, 1e20)))
        assert other.waves / 1e10 == pytest.approx(one.waves, abs=1e-10)
        newton, krylov = (
            np.array([[row[key] for row in y.history] for y in (one, other)])
            for key in ("newton", "krylov")
        )
        same = newton[0] == newton[1]  # round-off may cost one step a Newton step, at a threshold
        assert (~same).sum() <= 1 and (krylov[0] == krylov[1])[same].all()


def test_a_box_with_walls_has_its_eigenfrequencies():
    """The mode sin(pi x) turns with the frequency hbar pi^2 / 2 where psi = 0 at the walls."""
    wave = mfg.NonlinearSchroedinger(
        mfg.box(1, 24),
        horizon=1.0,
        hbar=1.0,
        potential=0.0,
        initial=lambda x: (ufl.sin(np.pi * x[0]), 0),
        zero=("left", "right"),
    )

    def turned(x, t):
        mode, angle = ufl.sin(np.pi * x[0]), np.pi**2 / 2 * t
        return mode * np.cos(angle), -mode * np.sin(angle)

    assert distance(mfg.solve(wave, 400), turned) < 1e-4


def test_a_plane_wave_on_a_torus():
    wave = mfg.NonlinearSchroedinger(
        mfg.box(1, 16, periodic=True),
        horizon=0.2,
        hbar=0.3,
        potential=lambda x, t, rho: 2 * rho,
        initial=lambda x: (ufl.cos(2 * np.pi * x[0]), ufl.sin(2 * np.pi * x[0])),
    )
    solution = mfg.solve(wave, 20, mfg.DelfourFortinPayre())
    assert solution.density(20).x.array == pytest.approx(1.0, abs=2e-3)
    flow = fem.form(solution.current(20)[0] * ufl.dx)
    total = wave.domain.comm.allreduce(fem.assemble_scalar(flow))
    assert total == pytest.approx(0.3 * 2 * np.pi, rel=2e-3)


@pytest.mark.parametrize("scheme", SECOND, ids=str)
def test_a_potential_that_saturates(scheme):
    """No polynomial in rho: the energy is as good as Gauss' rule, or of second order."""
    wave = mfg.NonlinearSchroedinger(
        short(),
        horizon=2.0,
        hbar=1.0,
        potential=lambda x, t, rho: (x[0] - MIDDLE) ** 2 / 2 - 4 * rho / (1 + rho),
        initial=packet(1.0),
    )
    drifts = [mfg.solve(wave, steps, scheme).energy_drift for steps in (50, 100)]
    if isinstance(scheme, mfg.Relaxation):
        assert drifts[1] < 5e-4 and drifts[0] > 3.4 * drifts[1]
    else:
        assert max(drifts) < 1e-7


def test_iterations_are_bounded_in_the_mesh_and_the_step():
    most = []
    for cells in (8, 24):
        wave = partial(
            mfg.NonlinearSchroedinger,
            mfg.box((8, 8), cells),
            hbar=1.0,
            potential=lambda x, t, rho: (x[0] - 4) ** 2 / 2 + (x[1] - 4) ** 2 / 2 - 1 + 5 * rho,
            initial=lambda x: (ufl.exp(-((x[0] - 3) ** 2) - (x[1] - 4) ** 2), 0),
        )
        for dt in (0.2, 0.002):
            solution = mfg.solve(wave(horizon=3 * dt), 3, mfg.DelfourFortinPayre(1))
            most += [row["krylov"] / row["newton"] for row in solution.history[1:]]
    assert max(most) < 20


# Files, pictures


def test_a_wave_that_was_stopped_goes_on(tmp_path):
    path = tmp_path / "wave.npz"
    for scheme in SECOND:
        whole = moving(60, 12, scheme)
        stopped = []

        def stop(row, stopped=stopped):
            stopped.append(row["step"])
            if row["step"] == 5:
                raise RuntimeError("enough")

        with pytest.raises(mfg.ProblemError, match="enough"):
            moving(60, 12, scheme, on_step=stop, checkpoint=mfg.Checkpoint(path, every=0))
        with pytest.raises(mfg.OutOfTime, match="run the same again"):
            moving(60, 12, scheme, checkpoint=mfg.Checkpoint(path, budget=0))

        def note(row, stopped=stopped):
            stopped.append(row["step"])

        again = moving(60, 12, scheme, checkpoint=path, on_step=note)
        assert stopped == [1, 2, 3, 4, 5, *range(6, 13)]
        assert again.waves == pytest.approx(whole.waves, abs=1e-12)
        assert again.modified_energy == pytest.approx(whole.modified_energy, rel=1e-12)
        with pytest.raises(mfg.FileError, match="steps is 12 there and 13 here"):
            moving(60, 13, scheme, checkpoint=path)
        path.unlink()


def test_a_saved_wave_is_measured_anew(tmp_path):
    path = tmp_path / "wave.npz"
    solution = moving(60, 6, mfg.Relaxation())
    solution.save(path)
    loaded = mfg.WaveSolution.load(path, solution.problem)
    assert loaded.scheme == solution.scheme and (loaded.waves == solution.waves).all()
    for name in ("times", "mass", "energy", "modified_energy", "mean_position"):
        assert getattr(loaded, name) == pytest.approx(getattr(solution, name), rel=1e-12)
    other = mfg.NonlinearSchroedinger(
        line(60), horizon=1, hbar=1, potential=0.5, initial=lambda x: soliton(x, 0.0)
    )
    with pytest.raises(mfg.FileError, match="belongs to another problem"):
        mfg.WaveSolution.load(path, other)


def test_pictures_and_files_show_density_and_phase(tmp_path):
    pytest.importorskip("matplotlib")
    solution = moving(60, 4, mfg.Relaxation())
    figure = mfg.plots.plot_wave(solution, tmp_path / "wave.png")
    assert [ax.get_title(loc="left") for ax in figure.axes[:2]] == ["density", "phase"]
    mfg.plots.plot_density(solution, tmp_path / "density.png", t=[0, 1])
    solution.write(tmp_path / "wave.bp")
    assert {path.suffix for path in tmp_path.iterdir()} <= {".png", ".bp", ".xdmf", ".h5"}
    with pytest.raises(mfg.ProblemError, match="not of WaveSolution"):
        mfg.plots.plot_value(solution)
    assert "modified energy, drift" in solution.report and "Relaxation(degree=2)" in str(solution)


# What is refused


def test_a_step_that_fails_says_when():
    wave = mfg.NonlinearSchroedinger(
        line(60),
        horizon=1.0,
        hbar=1.0,
        potential=lambda x, t, rho: 1 / ufl.conditional(ufl.lt(abs(t - 0.3), 0.01), 0.0, 1.0),
        initial=lambda x: soliton(x, 0.0),
    )
    with pytest.raises(mfg.NotConverged, match=r"not finite in the step to t = 0\.4"):
        mfg.solve(wave, 5)
    solution = mfg.solve(wave, 5, throw=False)
    assert not solution.converged and solution.times.tolist() == pytest.approx([0, 0.2])


def good(**changes):
    data = {
        "horizon": 1.0,
        "hbar": 1.0,
        "potential": lambda x, t, rho: rho,
        "initial": lambda x: (1, 0),
    }
    return mfg.NonlinearSchroedinger(line(60), **(data | changes))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"hbar": 0}, "hbar must be a finite number > 0"),
        ({"horizon": "1"}, "horizon must be"),
        ({"initial": lambda x: x[0]}, "it must be a pair"),
        ({"initial": (0, 0)}, "vanishes on the whole mesh"),
        ({"initial": lambda x: (ufl.ln(x[0]), 0)}, r"initial\(x\) is not finite"),
        ({"potential": lambda x, t, rho: 1 / x[0]}, r"potential\(x, t, rho\) is not finite"),
        ({"potential": lambda x, t, rho: ufl.grad(rho)[0]}, "differentiates"),
        ({"zero": ("north",)}, "No boundary is named 'north'.*left, right"),
        ({"zero": "left"}, r"zero must be a list of names"),
    ],
)
def test_data_that_make_no_sense_are_refused(changes, message):
    with pytest.raises((mfg.ProblemError, mfg.MeshError), match=message):
        good(**changes)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"scheme": mfg.Galerkin()}, r"takes Relaxation\(...\) or DelfourFortinPayre\(...\)"),
        ({"method": mfg.Newton()}, "takes nothing"),
        ({"steps": 0}, "steps must be an integer >= 1"),
    ],
)
def test_calls_that_make_no_sense_are_refused(options, message):
    with pytest.raises(mfg.ProblemError, match=message):
        mfg.solve(good(), **({"steps": 2} | options))


def test_schemes_refuse_what_they_cannot():
    with pytest.raises(mfg.ProblemError, match="degree must be 1 or 2"):
        mfg.Relaxation(3)
    singular = good(potential=lambda x, t, rho: ufl.ln(rho))
    with pytest.raises(mfg.ProblemError, match="not finite at rho = 0"):
        mfg.solve(singular, 2)
    assert mfg.solve(singular, 2, mfg.DelfourFortinPayre(1)).mass_drift < 1e-13


@serial_only
def test_waves_are_the_same_on_one_and_three_ranks():
    script = Path(__file__).with_name("waves_on_ranks.py")
    one, three = (numbers_on(ranks, script) for ranks in (1, 3))
    assert three.keys() == one.keys()
    for name, numbers in one.items():
        assert three[name] == pytest.approx(numbers, rel=1e-9, abs=1e-9), name
