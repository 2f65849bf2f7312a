"""Flows through lines and doors beside the people they separate."""

import numpy as np
import pytest
from cases import evacuation, jittered
from ranks import leave_numbers, numbers_on, raised, serial_only

import dolfinx
import ufl

import mfg_fem as mfg
from mfg_fem import crowd

LINE = ((0.53, -0.1), (0.67, 1.1))  # from wall to wall


def beyond(x):
    """Who stands on the right of LINE."""
    (a, b), (c, d) = LINE
    return (x[0] - a) * (d - b) - (x[1] - b) * (c - a) > 0


def solved(cells, scheme=None, steps=8, **changes):
    return mfg.solve(evacuation(jittered(2, cells), 0.1, **changes), steps, scheme or mfg.Sharp())


@pytest.fixture(scope="module")
def left():
    return mfg.solve(evacuation(mfg.box((1, 1), 10), 0.1), 8)


def test_a_line_counts_who_comes_to_its_other_side():
    for cells in (6, 12):
        solution = solved(cells)
        passed = crowd.lines(solution, {"line": LINE})["line"].count
        there = crowd.rooms(solution, {"right": beyond})["right"]
        # Of the cells that the line cuts, rooms take the points of a rule.
        expected = there + solution.gone["right"] - there[0]
        np.testing.assert_allclose(passed, expected, atol=1e-3)


def corridor(cells: int):
    """A room above, and below a part of it a corridor, whose mouth is from (0.25, 0.5) to 0.5."""
    mesh = mfg.box((1, 1), cells).mesh
    x = dolfinx.mesh.compute_midpoints(mesh, 2, np.arange(mesh.topology.index_map(2).size_local))
    inside = (x[:, 1] > 0.5) | ((x[:, 0] > 0.25) & (x[:, 0] < 0.5))
    cells = np.flatnonzero(inside).astype(np.int32)
    return mfg.Domain.of(dolfinx.mesh.create_submesh(mesh, 2, cells)[0])


MOUTHS = {
    "its mouth": ((0.25, 0.5), (0.5, 0.5)),
    "into walls": ((0.1, 0.5), (0.7, 0.5)),
    "back": ((0.5, 0.5), (0.25, 0.5)),
    "back into walls": ((1.0, 0.5), (0.0, 0.5)),
}


@pytest.mark.parametrize(
    "scheme",
    [mfg.Sharp(), mfg.Monotone(), mfg.Galerkin(1), mfg.Galerkin(2)],
    ids=["sharp", "monotone", "P1", "P2"],
)
def test_all_who_enter_a_corridor_are_counted_to_round_off(scheme):
    game = evacuation(
        corridor(8), 0.1, running_cost=lambda x, t, m: 9 * x[1], boundary={}, population=10
    )
    solution = mfg.solve(game, 4, scheme)
    people = crowd.rooms(solution, {"corridor": lambda x: x[1] < 0.5})["corridor"]
    for name, passage in crowd.lines(solution, MOUTHS).items():
        entered = -passage.count if name.startswith("back") else passage.count
        np.testing.assert_allclose(entered, people - people[0], atol=1e-7)
        assert passage.width == pytest.approx(0.25)
    assert abs(people[-1] - people[0]) > 0.2


@pytest.mark.parametrize(
    ("scheme", "off"),
    [(mfg.Sharp(), 1e-5), (mfg.Monotone(), 1e-5), (mfg.Galerkin(2), 0.02)],
    ids=["sharp", "monotone", "galerkin"],
)
@pytest.mark.parametrize("inset", [0.0, 1e-6], ids=["on it", "before it"])
def test_a_line_at_an_exit_counts_who_leaves_by_it(scheme, off, inset):
    solution = solved(6, scheme, 4)
    x = 1 - inset
    found = crowd.lines(solution, {"out": ((x, 0), (x, 1)), "back": ((x, 1), (x, 0))})
    np.testing.assert_allclose(found["out"].count, solution.gone["right"], atol=off)
    np.testing.assert_allclose(found["back"].count, -found["out"].count, atol=1e-9)
    assert found["out"].width == pytest.approx(1.0)


def test_parts_of_a_line_add_up_and_its_direction_is_its_sign(left):
    a, b, c = (0.6, 0.0), (0.6, 0.37), (0.6, 1.0)
    found = crowd.lines(left, {"all": (a, c), "low": (a, b), "high": (b, c), "back": (c, a)})
    both = found["low"].count + found["high"].count
    np.testing.assert_allclose(both, found["all"].count, atol=1e-5)
    np.testing.assert_allclose(found["back"].count, -found["all"].count, atol=1e-9)
    assert found["all"].count[-1] > 0.1 and found["low"].width == pytest.approx(0.37)
    assert found["low"].flow @ np.diff(left.times) == pytest.approx(found["low"].count[-1])
    np.testing.assert_allclose(0.37 * found["low"].specific_flow, found["low"].flow)


def test_the_density_on_a_line_is_its_mean_there():
    game = evacuation(
        mfg.box((2, 1), (8, 4)), 0.1, initial_density=lambda x: 1 + x[0], population=4, boundary={}
    )
    solution = mfg.solve(game, 1, mfg.Galerkin(1))
    found = crowd.lines(solution, {"x": ((0.3, 0.5), (1.1, 0.5)), "y": ((0.5, 1.0), (0.5, -3.0))})
    assert found["x"].density[0] == pytest.approx(1.7)
    assert found["y"].density[0] == pytest.approx(1.5) and found["y"].width == pytest.approx(1.0)


def test_doors_have_their_width_and_the_density_before_them():
    game = evacuation(mfg.box((2, 1), (8, 4)), 0.1, boundary={"right": mfg.Door(rate=0.7)})
    solution = mfg.solve(game, 4, mfg.Monotone())
    door = crowd.doors(solution)["right"]
    assert door.width == pytest.approx(1.0)
    np.testing.assert_allclose(door.specific_flow, 0.7 * door.density[1:], rtol=1e-9)


def crowds():
    data = {
        "diffusion": 0.1,
        "hamiltonian": lambda x, p, m: ufl.dot(p, p) / (2 * (1 + mfg.smooth(m.all, 0.2))),
        "terminal_cost": lambda x, m: 4.0,
        "initial_density": lambda x: 1.0,
        "boundary": {"right": mfg.Exit()},
    }
    return mfg.Populations(
        mfg.box((1, 1), 6),
        horizon=1.0,
        crowds={
            "slow": mfg.Crowd(running_cost=lambda x, t, m: m.all, **data),
            "fast": mfg.Crowd(running_cost=lambda x, t, m: 4.0, **data),
        },
        switching={("slow", "fast"): lambda x, t, m: x[0]},
    )


def test_crowds_are_counted_one_by_one_and_together():
    solution, line = mfg.solve(crowds(), 4), {"out": ((1, 0), (1, 1)), "mid": ((0.5, 0), (0.5, 1))}
    both, each = crowd.lines(solution, line), [crowd.lines(y, line) for y in solution.values()]
    for name in line:
        together = sum(one[name].count for one in each)
        np.testing.assert_allclose(both[name].count, together, atol=1e-12)
    for found, part in zip(each, solution.values(), strict=True):
        np.testing.assert_allclose(found["out"].count, part.gone["right"], atol=1e-8)


WRONG = {
    "outside": lambda s: crowd.lines(s, {"far": ((2, 0), (2, 1))}),
    "a point": lambda s: crowd.lines(s, {"point": ((0, 0), (0, 0))}),
    "a shape": lambda s: crowd.lines(s, {"half": (0, 1)}),
    "no names": lambda s: crowd.lines(s, [((0, 0), (0, 1))]),
    "no solution": lambda s: crowd.doors(s.problem),
    "a marker": lambda s: crowd.rooms(s, {"hall": lambda x: x[0]}),
    "a polygon": lambda s: crowd.rooms(s, {"hall": [(0, 0), (1, 1)]}),
    "a time": lambda s: crowd.density_at(s, [[0.5, 0.5]], 2.0),
    "percent": lambda s: crowd.exit_times(s, [0]),
}
SAID = {
    "outside": "'far'.*lies outside",
    "a point": "'point'.*same point",
    "a shape": "'half'.*shape",
    "no names": "must be a dict",
    "no solution": "doors takes the solution of a problem with a horizon.*MeanFieldGame",
    "a marker": "'hall'.*one truth value",
    "a polygon": "three corners",
    "a time": "times must be a time from 0 to 1",
    "percent": "percent must be above 0",
}


@pytest.mark.parametrize("name", WRONG)
def test_what_makes_no_sense_is_refused(left, name):
    with pytest.raises(mfg.ProblemError, match=SAID[name]):
        WRONG[name](left)


def measured():
    solution = solved(6, steps=4)
    line = crowd.lines(solution, {"line": LINE})["line"]
    room = crowd.rooms(solution, {"room": [(0.2, 0.1), (0.9, 0.3), (0.5, 0.9)]})["room"]
    grid = crowd.on_grid(solution, 0.3, 0.4)
    above = crowd.time_above(solution, 1.0)
    m = float(solution.discrete.integral(above.x.array[: solution.discrete.owned]))
    return {
        "count": line.count.tolist(),
        "density": line.density.tolist(),
        "room": room.tolist(),
        "grid": grid.density.ravel().tolist(),
        "above": m,
        "door": crowd.doors(solution)["right"].density.tolist(),
        "errors": raised({name: lambda w=w: w(solution) for name, w in WRONG.items()}),
    }


@serial_only
def test_the_numbers_and_the_errors_are_the_same_on_any_ranks():
    one = measured()
    for ranks in (2, 3):
        other = numbers_on(ranks, __file__)
        for name, said in other.pop("errors").items():
            assert said == one["errors"][name] * ranks and "nothing" not in said[0]
        for name, found in other.items():
            np.testing.assert_allclose(found, one[name], rtol=1e-6, atol=1e-9)


if __name__ == "__main__":
    leave_numbers(measured())
