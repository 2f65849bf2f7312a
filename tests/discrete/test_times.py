"""Time levels that are not equally far apart."""

import json
from functools import cache

from mpi4py import MPI

import numpy as np
import pytest
from cases import default, difference
from exact import Heat, errors, game, rates
from ranks import serial_only

import mfg_fem as mfg

MIDPOINT = mfg.Galerkin(degree=2, time="midpoint")
# scheme: its order, steps, cells of a unit interval for so many steps
SCHEMES = {
    mfg.Sharp(): (2, (16, 32), lambda steps: 4 * steps),
    mfg.Monotone(): (1, (32, 64), lambda steps: steps),
    mfg.Galerkin(): (1, (32, 64), lambda steps: 160),
    mfg.Galerkin(time="midpoint"): (2, (16, 32), lambda steps: 4 * steps),
    MIDPOINT: (2, (16, 32), lambda steps: 80),
}


def graded(steps: int, horizon: float) -> np.ndarray:
    """Short steps at first, six times as long in the end."""
    return horizon * np.linspace(0, 1, steps + 1) ** 1.5


@cache
def study(scheme) -> list[dict[str, float]]:
    exact, (_, steps, cells) = Heat(), SCHEMES[scheme]
    return [
        errors(
            mfg.solve(game(exact, mfg.box(1, cells(n))), graded(n, exact.horizon), scheme), exact
        )
        for n in steps
    ]


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_order_is_kept_on_graded_levels(scheme):
    order, steps, _ = SCHEMES[scheme]
    observed = rates([1 / n for n in steps], study(scheme))
    assert min(observed.values()) > order - 0.2, observed
    assert max(study(scheme)[-1].values()) < {1: 0.02, 2: 1e-3}[order]


def square(scheme, times, **changes) -> mfg.Solution:
    problem = default(mfg.box((1.0, 1.0), 16, MPI.COMM_WORLD), coupling=10.0, **changes)
    return mfg.solve(problem, times, scheme)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
def test_mass_is_exact_and_exits_balance(scheme):
    changes = {"boundary": {"right": mfg.Exit(cost=0.1)}, "source": lambda x, t: 1 + t}
    for more in ({}, changes):
        solution = square(scheme, graded(10, 1.0), **more)
        assert np.abs(solution.balance).max() < 1e-12
        np.testing.assert_array_equal(solution.times, graded(10, 1.0))
    assert solution.entered[-1] == pytest.approx(1.5, rel=0.05)


def test_equal_levels_are_a_number_of_steps():
    one, other = (square(None, steps) for steps in (8, np.linspace(0, 1, 9)))
    np.testing.assert_array_equal(one.levels.u, other.levels.u)


@serial_only
def test_few_iterations_where_steps_suddenly_become_ten_times_as_long():
    times = np.concatenate([np.linspace(0, 0.2, 17)[:-1], np.linspace(0.2, 1, 9)])
    uneven, even = square(None, times, diffusion=0.02), square(None, 24, diffusion=0.02)
    assert uneven.history[-1]["form"].startswith("H-form")
    most = [max(row["krylov"] for row in solution.history) for solution in (uneven, even)]
    assert most[0] <= 1.3 * most[1] + 1 and uneven.iterations <= even.iterations + 1


def test_a_guess_on_other_levels_will_do():
    fine = square(None, graded(12, 1.0))
    again = mfg.solve(fine.problem, 12, guess=fine)
    assert again.iterations <= fine.iterations
    assert difference(again.levels.m, square(None, 12).levels.m) < 1e-6


def test_levels_are_saved_and_resumed(tmp_path):
    path = MPI.COMM_WORLD.bcast(tmp_path) / "a.npz"
    whole = square(None, graded(8, 1.0))
    whole.save(path)
    again = mfg.Solution.load(path, whole.problem)
    np.testing.assert_array_equal(again.times, whole.times)
    assert again.converged and again.cost == pytest.approx(whole.cost, rel=1e-12)
    path = path.with_name("b.npz")
    done = mfg.solve(whole.problem, graded(8, 1.0), checkpoint=path)
    assert mfg.solve(whole.problem, graded(8, 1.0), checkpoint=path).seconds == done.seconds
    with pytest.raises(mfg.FileError, match="times is"):
        mfg.solve(whole.problem, 8, checkpoint=path)


@pytest.mark.parametrize(
    "times", [{"a": 1}, [0.0, 0.5], [0.0, 0.6, 0.5, 0.8, 1.0], [0.0, 0.1, 0.2, 0.3, 0.9], None]
)
def test_a_file_whose_levels_make_no_sense_is_damaged(tmp_path, times):
    path, whole = MPI.COMM_WORLD.bcast(tmp_path) / "a.npz", square(None, graded(4, 1.0))
    whole.save(path)
    if MPI.COMM_WORLD.rank == 0:
        with np.load(path) as data:
            parts = dict(data)
        parts["about"] = json.dumps(json.loads(str(parts["about"])) | {"times": times})
        np.savez(path, **parts)
    MPI.COMM_WORLD.Barrier()
    with pytest.raises(mfg.FileError, match=r"a\.npz is damaged.*times"):
        mfg.Solution.load(path, whole.problem)


@pytest.mark.parametrize(
    "times, said",
    [
        ([0.0, 0.5, 0.4, 1.0], "increase"),
        ([0.1, 1.0], "increase from 0"),
        ([0.0, 0.9], "end at the horizon 1"),
        ([0.0, np.nan, 1.0], "finite"),
        ([0.0], "increase"),
        (["a", "b"], "no array of numbers"),
        (np.zeros((2, 2)), "shape"),
        ("10", "integer >= 1"),
    ],
)
def test_levels_that_make_no_sense_are_refused(times, said):
    with pytest.raises(mfg.ProblemError, match=said):
        square(None, times)
