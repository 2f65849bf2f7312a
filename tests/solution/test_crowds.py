"""What a solution of several crowds can do, by name.

Run as a script, this module leaves what it finds on its ranks.
"""

import xml.etree.ElementTree as ElementTree
from functools import cache
from itertools import product

from mpi4py import MPI
from petsc4py import PETSc

import numpy as np
import pytest
from crowds import SEEING, crowd, everything, two
from ranks import leave_numbers, numbers_on, serial_only

import dolfinx
import ufl
from dolfinx import fem

import mfg_fem as mfg
from mfg_fem.errors import FileError, OutOfTime, ProblemError
from mfg_fem.resnet import criteria, fit


def weighted(w):
    """A cost of the crowd with this weight."""
    return lambda x, t, m: mfg.smooth(w * m["a"], 0.2) + x[0] * mfg.total(w * m["b"])


def hdf5(folder, dataset: str) -> np.ndarray:
    """The numbers of a dataset of `crowds.h5`."""
    viewer = PETSc.ViewerHDF5().create(str(folder / "crowds.h5"), "r")
    group, _, name = dataset.rpartition("/")
    viewer.pushGroup(group)
    found = PETSc.Vec().create()
    found.setName(name)
    found.load(viewer)
    viewer.destroy()
    return found.array.copy()


@cache
def solved(n: int = 16, **changes) -> mfg.PopulationsSolution:
    return mfg.solve(two(mfg.box(1.0, n), **changes), n, mfg.Galerkin(1, "midpoint"))


def test_files_of_crowds_hold_the_nodal_values_by_name_and_time(tmp_path):
    one, other = "a & <b>", "c/d"
    crowds = {name: crowd(running_cost=lambda x, t, m: m[other]) for name in (one, other)}
    problem = mfg.Populations(mfg.box((1, 1), 3), horizon=1.0, crowds=crowds)
    solution, path = mfg.solve(problem, [0.0, 0.25, 1.0]), tmp_path / "crowds.xdmf"
    solution.write(path)
    nodes = solution.density(0, one).function_space.tabulate_dof_coordinates()[:, :2]
    order, found = np.lexsort(nodes.round(6).T), set()
    own = np.lexsort(hdf5(tmp_path, "/Mesh/mesh/geometry").reshape(-1, 2).round(6).T)
    for grid in ElementTree.parse(path).iter("Grid"):
        time, field = grid.find("Time"), grid.find("Attribute")
        if time is None:
            continue
        what, name = field.get("Name").split(" ", 1)
        n = [*solution.times].index(float(time.get("Value")))
        found.add((what, name, n))
        if what != "velocity":
            values = hdf5(tmp_path, field.find("DataItem").text.partition(":")[2])
            assert (values[own] == getattr(solution, what)(n, name).x.array[order]).all()
    assert found == {*product(("density", "value", "velocity"), crowds, range(3))}
    solution.write(tmp_path / "crowds.bp")
    if dolfinx.has_adios2:
        known = b"".join(file.read_bytes() for file in (tmp_path / "crowds.bp").iterdir())
        assert all(f"{what} {name}".encode() in known for what, name, _ in found)


def test_a_crowd_is_a_level_of_pyvista():
    pytest.importorskip("pyvista")
    solution = mfg.solve(two(mfg.box((1, 1), 3)), 2)
    grid = solution["a"].grid(1)
    assert grid.point_data["density"] == pytest.approx(solution.density(1, "a").x.array)


@pytest.mark.parametrize("dim", [1, 2])
def test_each_crowd_has_panels_of_its_own(dim, tmp_path):
    pytest.importorskip("matplotlib")
    solution = mfg.solve(two(mfg.box((1,) * dim, 3)), 2)
    figure = mfg.plots.plot_density(solution, tmp_path / "crowds.png", t=(0, 1))
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    flat = ["a,  t = 0 s", "a,  t = 1 s", "b,  t = 0 s", "b,  t = 1 s", ""]  # and the colour bar
    assert titles == (["a", "b"] if dim == 1 else flat)
    assert (tmp_path / "crowds.png").stat().st_size > 1000
    with pytest.raises(ProblemError, match=r"Take one of its crowds: solution\['a'\]"):
        mfg.plots.animate(solution)


@pytest.mark.parametrize("planner", [None, "all"])
def test_players_of_a_crowd_see_all_crowds(planner):
    sees = {"running_cost": SEEING["running_cost"]}
    sees["terminal_cost"] = lambda x, m: x[0] * mfg.total(m["a"] * x[0])
    problem = two(mfg.box(1.0, 24), a=sees, b={"population": 2.0}, planner=planner)
    solution = mfg.solve(problem, 16, mfg.Galerkin(1, "midpoint"))
    for own in solution.values():
        players = own.players(6000)
        assert abs(players.cost - own.cost) <= 3 * players.standard_error + 2e-3 * own.cost
        x, moment = players.positions(8)[:, 0], own.levels.m[8] * own.coordinates[:, 0]
        mean = solution.discrete.integral(moment) / own.problem.population
        assert abs(x.mean() - mean) <= 3 * x.std() / len(x) ** 0.5 + 2e-3


def test_players_in_the_way_of_their_crowd_see_the_others_too():
    pays = {"running_cost": lambda x, t, m: m["a"] + m["b"]}
    alone, among = (solved(8, a=None)["a"].players(4000, among=y) for y in (False, True))
    assert among.cost == pytest.approx(alone.cost, rel=0.01) and among.cost != alone.cost
    other = mfg.solve(two(mfg.box(1.0, 8), a=pays, b={"population": 5.0}), 8)["a"]
    assert other.players(4000, among=True).cost == pytest.approx(other.cost, rel=0.01)


def test_two_crowds_of_a_kind_are_as_exploitable_as_one():
    data = {
        "diffusion": 0.1,
        "hamiltonian": mfg.hamiltonians.quadratic(),
        "terminal_cost": lambda x, m: 0.0,
        "initial_density": lambda x: 1.2 + ufl.cos(ufl.pi * x[0]),
    }
    domain, place = mfg.box(1.0, 8), lambda x: (x[0] - 0.3) ** 2
    costs = {"running_cost": lambda x, t, m: m.all + place(x)}
    crowds = dict.fromkeys("ab", mfg.Crowd(**data | costs))
    one = mfg.MeanFieldGame(
        domain, horizon=1.0, running_cost=lambda x, t, m: 2 * m + place(x), **data
    )
    expected = mfg.solve(one, 4).exploitability()
    many = mfg.solve(mfg.Populations(domain, horizon=1.0, crowds=crowds), 4)
    found = many["b"].exploitability()
    assert found.bregman == pytest.approx(expected.bregman, rel=1e-6)
    assert found.cost == pytest.approx(expected.cost, rel=1e-9)


def test_functions_in_what_is_smoothed_are_those_of_the_finer_mesh_too():
    domain, found = mfg.box(1.0, 4), []
    weight = fem.Function(fem.functionspace(domain.mesh, ("Lagrange", 1)))
    weight.x.array[:] = 1.3
    for w in (1.3, weight):
        solution = mfg.solve(two(domain, a={"running_cost": weighted(w)}), 2)
        found.append(solution["a"].exploitability().bregman)
    assert found[1] == pytest.approx(found[0], rel=1e-9)


@pytest.mark.parametrize("horizon", [1.0, None])
def test_exploitability_falls_with_the_mesh(horizon):
    sees = SEEING if horizon else {"running_cost": SEEING["running_cost"]}
    found = []
    for n in (8, 16):
        steps = {"steps": n} if horizon else {}
        solution = mfg.solve(two(mfg.box(1.0, n), horizon, a=sees), **steps)
        found.append(solution["a"].exploitability())
        assert found[-1].bregman == pytest.approx(found[-1].costs, rel=0.1)
    assert found[0].bregman / 3 > found[1].bregman > 0


REFUSED = {
    "hydrodynamics": lambda s: mfg.hydrodynamics(s["a"]),
    "hydrodynamics of all": mfg.hydrodynamics,
    "structure": lambda s: mfg.structure(s["b"]),
    "stability": lambda s: mfg.stability(s["a"]),
    "stability of all": mfg.stability,
    "fit": lambda s: fit(s["a"], layers=1, width=1),
    "fit of all": fit,
    "criteria": lambda s: criteria(s["a"]),
    "exploitability in a crowd": lambda s: s.exploitability(s["a"].problem),
    "exploitability of a crowd elsewhere": lambda s: s["a"].exploitability(s.problem),
    "velocity in a crowd": lambda s: mfg.exploitability(lambda x, t: x, s["a"].problem),
    "velocity in all": lambda s: mfg.exploitability(lambda x, t: x, s.problem),
    "solve": lambda s: mfg.solve(s["a"].problem, 2),
    "load": lambda s: mfg.Solution.load("none.npz", s["a"].problem),
    "load all": lambda s: mfg.Solution.load("none.npz", s.problem),
    "guess": lambda s: mfg.solve(s.problem, 2, guess=s["a"]),
    "name": lambda s: s["c"],
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_of_one_population_is_refused(what):
    with pytest.raises(ProblemError, match=r"rowd|Populations"):
        REFUSED[what](solved(4))


def test_quantities_of_the_crowd_are_refused_where_they_are_not_known():
    data = {
        "horizon": 1.0,
        "diffusion": 0.1,
        "hamiltonian": mfg.hamiltonians.quadratic(),
        "running_cost": lambda x, t, m: mfg.smooth(m, 0.2),
        "terminal_cost": lambda x, m: x[0],
        "initial_density": lambda x: 1.0,
    }
    domain = mfg.box(1.0, 4)
    game, control = (
        mfg.solve(kind(domain, **data), 2) for kind in (mfg.MeanFieldGame, mfg.MeanFieldControl)
    )
    certificate = game.exploitability()
    assert certificate.bregman == pytest.approx(certificate.costs, rel=1e-3)
    assert control.players(100).cost == pytest.approx(control.cost, rel=0.1)
    for attempt in (
        control.exploitability,
        lambda: game.players(10, among=True),
        lambda: mfg.hydrodynamics(game),
        lambda: mfg.exploitability(lambda x, t: x, game.problem),
    ):
        with pytest.raises(ProblemError, match=r"smooth\(\) (or|and) total\(\)"):
            attempt()


def test_a_file_knows_its_crowds(tmp_path):
    domain = mfg.box(1.0, 4)
    problem = two(domain)
    solution, path = mfg.solve(problem, 2), tmp_path / "crowds.npz"
    solution["a"].save(path)  # with the others
    again = mfg.PopulationsSolution.load(path, problem)
    assert again.converged and again["b"].cost == pytest.approx(solution["b"].cost, rel=1e-12)
    crowds = problem.crowds
    others = mfg.Populations(domain, horizon=1.0, crowds={"b": crowds["b"], "a": crowds["a"]})
    with pytest.raises(
        FileError, match="holds the crowds 'a', 'b'; this problem has the crowds 'b'"
    ):
        mfg.PopulationsSolution.load(path, others)
    with pytest.raises(ProblemError, match="other crowds"):
        mfg.solve(others, 2, guess=solution)
    near = mfg.solve(problem, 4, guess=solution)
    assert near.iterations < mfg.solve(problem, 4).iterations


def test_a_solve_of_crowds_goes_on_where_it_was(tmp_path):
    problem = two(mfg.box(1.0, 6), switching={("a", "b"): 1.0})
    whole, stopped = mfg.solve(problem, 3), 0
    settings = mfg.Checkpoint(tmp_path / "run.npz", every=0, budget=0)
    solution = None
    while solution is None:
        try:
            solution = mfg.solve(problem, 3, checkpoint=settings)
        except OutOfTime:
            stopped += 1
    assert stopped >= whole.iterations == solution.iterations
    assert solution.everybody.u == pytest.approx(whole.everybody.u, rel=1e-6, abs=1e-6)
    assert solution.everybody.m == pytest.approx(whole.everybody.m, rel=1e-6, abs=1e-6)
    assert mfg.solve(problem, 3, checkpoint=settings).history == solution.history
    with pytest.raises(FileError, match="belongs to another solve"):
        mfg.solve(two(problem.domain, planner="all"), 3, checkpoint=settings)


EMPTY = {"population": 0.0}
EXIT = {"boundary": {"right": mfg.Exit()}}
COMING = {"source": lambda x, t: 1.0}


@pytest.mark.parametrize("scheme", [mfg.Sharp(), mfg.Monotone()], ids=str)
@pytest.mark.parametrize("leaving", [{}, EXIT], ids=["closed", "exit"])
def test_a_crowd_may_be_empty_at_first(scheme, leaving):
    problem = two(mfg.box(1.0, 8), b=EMPTY | leaving, switching={("a", "b"): 2.0})
    solution = mfg.solve(problem, 8, scheme)
    assert solution.mass(0, "b") == 0 < solution.mass(8, "b")
    assert solution.everybody.m.min() >= 0 and not solution.warnings
    assert np.abs(solution.balance).max() < 1e-13
    limited = sum(part.limited_cost for part in solution.values())
    assert solution.cost == pytest.approx(solution.expected_cost + limited, rel=1e-7)


def test_people_who_come_in_one_crowd_leave_in_the_other():
    problem = two(mfg.box(1.0, 16), None, a=COMING, b=EMPTY | EXIT, switching={("a", "b"): 2.0})
    state = mfg.solve(problem)
    assert state["a"].mass == pytest.approx(0.5, rel=1e-9)  # 1 comes per unit of time
    assert state["a"].cost_rate is state["b"].cost_rate is None
    assert state["b"].leaving["right"] == pytest.approx(1.0, rel=1e-9)
    assert state.cost == pytest.approx(state.expected_cost, rel=1e-7)
    with pytest.raises(ProblemError, match="Crowd 'b' can never leave"):
        two(problem.domain, None, a=COMING | EXIT, switching={("a", "b"): 2.0})


def test_one_crowd_lasts_beside_one_that_leaves():
    state = mfg.solve(two(mfg.box(1.0, 16), None, b=COMING | EXIT))
    assert state["b"].cost_rate is None and state["a"].mass == pytest.approx(1.0, rel=1e-12)
    assert state["a"].cost == pytest.approx(state["a"].cost_rate, rel=1e-7)
    assert state.cost == pytest.approx(state.expected_cost, rel=1e-7)
    assert "lambda" in state.report and "per unit of time" in state.report


def test_what_crowds_who_exchange_people_lose_by_a_change_stays():
    """The free constant is one for both, so that the difference of their value functions is known.

    With nothing to move for, and costs of 0 and 1, it solves w (rate + back) = -1.
    """
    still = [{"running_cost": lambda x, t, m, i=i: 0.0 * x[0] + i} for i in range(2)]
    rates = {("a", "b"): 2.0, ("b", "a"): 1.0}
    state = mfg.solve(two(mfg.box(1.0, 4), None, a=still[0], b=still[1], switching=rates))
    difference = state.value("a").x.array - state.value("b").x.array
    assert difference == pytest.approx(-1 / 3, rel=1e-6)
    assert state["a"].cost_rate == pytest.approx(state["b"].cost_rate, rel=1e-6)
    assert state["a"].cost_rate == pytest.approx(2 / 3, rel=1e-6)


def numbers():
    found = []
    for scheme in (mfg.Sharp(), mfg.Galerkin(2)):
        problem = everything(mfg.box((1, 1), 4, MPI.COMM_WORLD))
        solution = mfg.solve(problem, 3, scheme, mfg.Newton(rtol=1e-11))
        everybody, add = solution.everybody, problem.domain.comm.allreduce
        found += [solution.iterations, solution.cost, solution.expected_cost]
        found += [own[-1] for own in solution.gone["b"].values()]
        found += add(np.vdot(everybody.u, everybody.u)), add(everybody.m.sum())
    return [float(y) for y in found]


@serial_only
def test_crowds_are_the_same_on_two_ranks():
    assert numbers_on(2, __file__, timeout=120) == pytest.approx(numbers(), rel=1e-8)


if __name__ == "__main__":
    leave_numbers(numbers())
