"""Solutions that are suspect say so: in `warnings`, in the report, and by one SolutionWarning."""

import re
import warnings

from mpi4py import MPI

import numpy as np
import pytest
from cases import default, evacuation
from crowds import two

import ufl
from dolfinx import mesh as dmesh

import mfg_fem as mfg


def named(mesh, **places) -> mfg.Domain:
    """A domain with names for the facets where these functions of x are true."""
    mesh.topology.create_connectivity(mesh.topology.dim - 1, mesh.topology.dim)
    found = [dmesh.locate_entities(mesh, mesh.topology.dim - 1, f) for f in places.values()]
    tags = np.concatenate([np.full(len(f), k, np.int32) for k, f in enumerate(found, start=1)])
    facets, first = np.unique(np.concatenate(found), return_index=True)
    tags = dmesh.meshtags(mesh, mesh.topology.dim - 1, facets, tags[first])
    return mfg.Domain(mesh, tags, {name: k for k, name in enumerate(places, start=1)})


def at(axis: int, value: float):
    return lambda x: np.isclose(x[axis], value)


def two_rooms() -> mfg.Domain:
    """Two squares with nothing between them; the way out is at the left."""
    mesh = mfg.box((3, 1), (6, 2)).mesh
    cells = dmesh.locate_entities(mesh, 2, lambda x: (x[0] < 1.01) | (x[0] > 1.99))
    owned = cells[cells < mesh.topology.index_map(2).size_local]
    return named(dmesh.create_submesh(mesh, 2, owned)[0], exit=at(0, 0.0))


def negative():
    game = evacuation(mfg.box((1, 1), 8), 0.005, running_cost=lambda x, t, m: 1.0)
    return mfg.solve(game, 4, mfg.Galerkin())


def sealed():
    boundary = {"exit": mfg.Exit()}
    crowd = {"initial_density": lambda x: ufl.conditional(ufl.lt(x[0], 1.5), x[0], 1.0)}
    return mfg.solve(evacuation(two_rooms(), 0.1, boundary=boundary, population=3.0, **crowd), 2)


def inside():
    domain = named(mfg.box((1, 1), 4).mesh, fence=at(0, 0.5), door=at(0, 1.0))
    return mfg.solve(evacuation(domain, 0.1, boundary={"door": mfg.Exit()}), 2)


def two_exits() -> mfg.Domain:
    places = {"main exit": at(0, 1.0), "side exit": at(1, 0.0), "wall": at(0, 0.0)}
    return named(mfg.box((1, 1), 4).mesh, **places)


def unused():
    return mfg.solve(evacuation(two_exits(), 0.1, boundary={"main exit": mfg.Exit()}), 2)


def hidden():
    square, names = mfg.box((1, 1), 4), {"a": 1, "b": 1}
    domain = mfg.Domain(square.mesh, square.facet_tags, names)
    return mfg.solve(evacuation(domain, 0.1, boundary={n: mfg.Exit() for n in names}), 2)


def loose():
    options = {"snes_rtol": 0.1}
    return mfg.solve(default(mfg.box(1, 8)), 2, method=mfg.Newton(petsc_options=options))


def test_an_exit_of_another_crowd_is_not_suspect():
    ways = {"a": "main exit", "b": "side exit"}
    exits = {name: {"boundary": {way: mfg.Exit()}} for name, way in ways.items()}
    assert not mfg.solve(two(two_exits(), **exits), 2).warnings


SUSPECT = {
    negative: "density is negative, down to -",
    sealed: "^2 people are in parts",
    inside: "'fence' lie inside",
    unused: "'side exit' of the mesh are no exits",
    hidden: "Nobody can pass 'b'",
    loose: "was asked for",
}


@pytest.mark.parametrize("solve", SUSPECT)
def test_a_suspect_solution_says_why(solve):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        solution = solve()
    assert solution.converged and len(solution.warnings) == 1
    assert re.search(SUSPECT[solve], solution.warnings[0])
    assert f"WARNING: {solution.warnings[0]}" in solution.report
    raised = [str(w.message) for w in caught if issubclass(w.category, mfg.SolutionWarning)]
    assert raised == ([solution.warnings[0]] if MPI.COMM_WORLD.rank == 0 else [])


def test_two_reasons_are_one_warning():
    domain = named(mfg.box((1, 1), 4).mesh, fence=at(0, 0.5), exit=at(0, 1.0), exit2=at(0, 0.0))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        solution = mfg.solve(evacuation(domain, 0.1, boundary={"exit": mfg.Exit()}), 2)
    assert len(solution.warnings) == 2
    assert len(caught) == (MPI.COMM_WORLD.rank == 0)


@pytest.mark.parametrize("scheme", [mfg.Monotone(), mfg.Galerkin()], ids=repr)
def test_a_good_solution_is_not_suspect(scheme):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solution = mfg.solve(evacuation(mfg.box((1, 1), 8), 0.2), 4, scheme)
    assert not solution.warnings and "WARNING" not in solution.report


def test_people_who_can_reach_no_exit_are_counted_where_they_start():
    """Those in the room with the exit are not."""
    crowd = {"initial_density": lambda x: ufl.conditional(ufl.lt(x[0], 1.5), 1.0, 0.0)}
    boundary = {"exit": mfg.Exit()}
    assert not mfg.solve(evacuation(two_rooms(), 0.1, boundary=boundary, **crowd), 2).warnings
