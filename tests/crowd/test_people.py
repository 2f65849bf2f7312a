"""Rooms, exit times, densities at points, times above a density: beside what is known exactly."""

from dataclasses import replace
from types import SimpleNamespace

from mpi4py import MPI

import numpy as np
import pytest
from cases import evacuation

import mfg_fem as mfg
from mfg_fem import crowd
from mfg_fem.solution.solution import Solution


@pytest.fixture(scope="module")
def solution():
    return mfg.solve(evacuation(mfg.box((1, 1), 8), 0.1), 8)


def with_densities(solution: Solution, of_level) -> Solution:
    """The same solution with the density of_level(t, x) at its nodes."""
    m = np.array([of_level(t, solution.coordinates.T) for t in solution.times])
    everybody = replace(solution.everybody, m=m[None])
    return replace(solution, everybody=everybody)


@pytest.mark.parametrize("degree", [1, 2])
def test_rooms_that_cover_the_domain_have_everybody(degree):
    game = evacuation(mfg.box((1, 1), 6), 0.1)
    solution = mfg.solve(game, 2, mfg.Galerkin(degree))
    corners = [(-1, -1), (0.37, -1), (0.64, 2), (-1, 2)]
    found = crowd.rooms(
        solution,
        {
            "all": lambda x: x[0] < 2,
            "half": lambda x: x[0] < 0.5,
            "other half": [(0.5, 0), (1, 0), (1, 1), (0.5, 1)],
            "polygon": corners,
            "rest": lambda x: (x[0] - 0.37) * 3 >= (x[1] + 1) * 0.27,
        },
    )
    np.testing.assert_allclose(found["all"], solution.masses, rtol=1e-12)
    np.testing.assert_allclose(found["half"] + found["other half"], solution.masses, rtol=1e-12)
    np.testing.assert_allclose(found["polygon"] + found["rest"], solution.masses, rtol=1e-12)


def test_geometries_of_shapely_are_rooms_lines_and_where_people_start(solution):
    shapely = pytest.importorskip("shapely")
    corners, ends = [(0.2, 0.1), (0.9, 0.1), (0.5, 0.8)], ((0.5, 0), (0.5, 1))
    shape, line = shapely.Polygon(corners), shapely.LineString(ends)
    found = crowd.rooms(solution, {"room": corners, "shape": shape})
    np.testing.assert_array_equal(found["room"], found["shape"])
    counts = [crowd.lines(solution, {"gate": y})["gate"].count for y in (ends, line)]
    np.testing.assert_array_equal(*counts)
    room = mfg.box((8.0, 4.0), (17, 9))
    start = [(0, 0), (6, 0), (3, 4)]
    games = [
        crowd.evacuation(room, 3, ["right"], initial_density=y)
        for y in (start, shapely.Polygon(start))
    ]
    np.testing.assert_array_equal(*(mfg.solve(y, 4).nodal_densities[0] for y in games))


def test_a_room_that_cuts_cells_has_its_part_of_them(solution):
    even = with_densities(solution, lambda t, x: 1 + x[1] * t)
    found = crowd.rooms(even, {"room": [(0.1, 0.2), (0.83, 0.2), (0.83, 0.71), (0.1, 0.71)]})
    exact = 0.73 * (0.51 + (0.71**2 - 0.2**2) / 2 * even.times)
    np.testing.assert_allclose(found["room"], exact, rtol=0.01)


def test_exit_times_are_interpolated_and_none_after_the_horizon(solution):
    times, out = np.array([0.0, 1.0, 3.0, 4.0]), np.array([0.0, 4.0, 8.0, 9.5])
    crowds = replace(
        solution, times=times, masses=10 - out, gone={"a": out / 2, "b": out / 2}, entered=0 * out
    )
    assert crowd.exit_times(crowds, (20, 50, 95, 98)) == {20: 0.5, 50: 1.5, 95: 4.0, 98: None}
    assert crowd.mean_exit_time(crowds) == pytest.approx((4 * 0.5 + 4 * 2 + 1.5 * 3.5) / 9.5)
    entered = replace(crowds, masses=5 + 0 * out, entered=np.array([0.0, 5, 5, 5]))
    assert crowd.exit_times(entered, (50,)) == {50: 1.5}


def test_nobody_leaves_where_there_is_no_exit():
    closed = mfg.solve(evacuation(mfg.box(1, 4), 0.1, boundary={}), 2)
    assert crowd.exit_times(closed) == {50: None, 95: None, 98: None, 99: None}
    assert crowd.mean_exit_time(closed) is None and crowd.doors(closed) == {}


def test_the_time_above_a_density(solution):
    found = crowd.time_above(with_densities(solution, lambda t, x: 4 * x[0] * t), 1.0)
    x = solution.coordinates[:, 0]
    exact = np.clip(1 - 1 / np.maximum(4 * x, 1e-9), 0, 1)
    np.testing.assert_allclose(found.x.array[: len(x)], exact, atol=1e-12)
    always = crowd.time_above(with_densities(solution, lambda t, x: 2 + 0 * x[0]), 1.9)
    np.testing.assert_allclose(always.x.array, 1.0)


def test_a_grid_has_the_density_inside_and_nan_outside(solution, tmp_path):
    linear = with_densities(solution, lambda t, x: 1 + x[0] + 2 * x[1] + t)
    grid = crowd.on_grid(linear, 0.4, [0.0, 0.3])
    assert grid.shape == (3, 3) and np.isnan(grid.density).sum() == 0
    x, y = grid.points.T
    np.testing.assert_allclose(grid.density, 1 + x + 2 * y + np.array([[0.0], [0.3]]), rtol=1e-9)
    assert np.isnan(crowd.density_at(linear, [[1.5, 0.5], [0.5, 0.5]], 0.0))[0].tolist() == [1, 0]
    path = MPI.COMM_WORLD.bcast(tmp_path) / "grid.csv"
    grid.write(path)
    first, *rows = path.read_text().splitlines()
    assert first == "x [m],y [m],density at 0 s [persons/m^2],density at 0.3 s [persons/m^2]"
    assert len(rows) == 9 and rows[0] == "0.2,0.2,1.6,1.9"


@pytest.mark.parametrize(
    ("delay", "waits"),
    [
        (crowd.UniformDelay(0.2, 0.8), lambda t: np.clip((0.8 - t) / 0.6, 0, 1)),
        (crowd.LogNormalDelay(0.4, 0.2), None),
    ],
    ids=["uniform", "log-normal"],
)
def test_who_has_waited_for_his_delay_moves(delay, waits):
    if waits is None:
        samples = np.sort(np.random.default_rng(0).lognormal(
            np.log(0.4) - np.log1p(0.25) / 2, np.sqrt(np.log1p(0.25)), 100_000
        ))  # fmt: skip

        def waits(t):
            return 1 - np.searchsorted(samples, t) / len(samples)

    game = evacuation(mfg.box(1, 8), 0.1, population=5.0)
    errors = []
    for steps in (8, 16):
        solution = mfg.solve(crowd.with_premovement(game, delay), steps, mfg.Monotone())
        errors.append(abs(solution["waiting"].masses / 5 - waits(solution.times)).max())
        assert abs(solution.balance).max() < 1e-12
    assert errors[1] < 0.65 * errors[0] and errors[1] < 0.1
    m = solution["waiting"].levels.m[[0, 8]]
    still = m * (solution["waiting"].masses[0] / solution["waiting"].masses[[0, 8]])[:, None]
    np.testing.assert_allclose(still[0], still[1], atol=0.01 * still.max())
    assert sum(crowd.gone(solution).values())[-1] == pytest.approx(
        5 - crowd.inside(solution)[-1], abs=1e-12
    )


@pytest.mark.parametrize("kind", [mfg.MeanFieldGame, mfg.MeanFieldControl])
def test_after_a_short_delay_people_leave_so_much_later(kind):
    door = mfg.Door(rate=mfg.WithCrowd(lambda x, t, m: 1 / (1 + m)))
    game = evacuation(
        mfg.box(1, 8), 0.1, kind=kind, boundary={"right": door},
        hamiltonian=mfg.InTime(lambda x, t, p, m: (1 + t) * p[0] ** 2 / (2 * (1 + m))),
    )  # fmt: skip
    at_once = mfg.solve(game, 8)
    soon = mfg.solve(crowd.with_premovement(game, crowd.UniformDelay(0.0, 0.2)), 8)
    later = np.interp(soon.times - 0.1, at_once.times, at_once.gone["right"])
    np.testing.assert_allclose(crowd.gone(soon)["right"], later, atol=0.1 * later[-1])


def test_premovement_refuses_what_it_cannot_state():
    game = evacuation(mfg.box(1, 4), 0.1)
    delay = crowd.UniformDelay(0, 1)
    for wrong, what in (
        ((game, 3.0), "delay must be"),
        ((SimpleNamespace(), delay), "MeanFieldGame or a MeanFieldControl"),
    ):
        with pytest.raises(mfg.ProblemError, match=what):
            crowd.with_premovement(*wrong)
    with pytest.raises(mfg.ProblemError, match="latest"):
        crowd.UniformDelay(2, 1)
    with pytest.raises(mfg.ProblemError, match=r"LogNormalDelay\.std"):
        crowd.LogNormalDelay(2, 0)
