"""Meshes with named boundaries, Hamiltonians, boundary conditions, sources, population."""

from mpi4py import MPI

import numpy as np
import pytest
from cases import default, difference, evacuation

import ufl
from dolfinx import fem

import mfg_fem as mfg

COMM = MPI.COMM_WORLD
SIDES = {1: {"left", "right"}, 2: {"left", "right", "bottom", "top"}}
SIDES[3] = SIDES[2] | {"back", "front"}

ROOM = """
SetFactory("OpenCASCADE");
Rectangle(1) = {0, 0, 0, 4, 2};
Disk(2) = {2, 1, 0, 0.5};
BooleanDifference(3) = { Surface{1}; Delete; }{ Surface{2}; Delete; };
door() = Curve In BoundingBox {3.9, -0.1, -0.1, 4.1, 2.1, 0.1};
pillar() = Curve In BoundingBox {1.4, 0.4, -0.1, 2.6, 1.6, 0.1};
Physical Surface("floor") = {3};
Physical Curve("door") = {door()};
Physical Curve("pillar") = {pillar()};
MeshSize {:} = 0.3;
"""


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> mfg.Domain:
    path = COMM.bcast(tmp_path_factory.mktemp("meshes") / "room.geo" if COMM.rank == 0 else None)
    if COMM.rank == 0:
        path.write_text(ROOM)
    COMM.Barrier()
    return mfg.read_mesh(path, COMM)


@pytest.mark.parametrize("dim", SIDES)
def test_sides_of_a_box_have_names(dim):
    assert set(mfg.box((1.0,) * dim, 2).names) == SIDES[dim]


@pytest.mark.parametrize("name, length", [("left", 2), ("right", 2), ("bottom", 3), ("top", 3)])
def test_side_of_a_box_has_its_length(name, length):
    assert mfg.box((3, 2), (6, 5)).measure(name) == pytest.approx(length)


@pytest.mark.parametrize("name, area", [("left", 6), ("bottom", 3), ("front", 2)])
def test_side_of_a_3d_box_has_its_area(name, area):
    assert mfg.box((1, 2, 3), 2).measure(name) == pytest.approx(area)


def test_volume_is_that_of_the_box():
    assert mfg.box((1, 2, 3), 2).volume() == pytest.approx(6)


def test_measure_of_an_unknown_boundary_lists_the_known_ones():
    with pytest.raises(mfg.MeshError, match=r"'exit'.*left, right"):
        mfg.box(1, 4).measure("exit")


def test_names_of_a_gmsh_file_come_back(room):
    assert set(room.names) == {"door", "pillar"}


def test_named_boundary_of_a_gmsh_file_is_where_it_was_drawn(room):
    assert room.measure("door") == pytest.approx(2)


def test_a_name_may_hold_several_curves(room):
    """An inscribed polygon is a little shorter than the circle."""
    assert np.pi * 0.97 < room.measure("pillar") < np.pi


def test_saved_mesh_has_the_names_of_its_geometry(room, tmp_path):
    gmsh = pytest.importorskip("gmsh")
    path = COMM.bcast(tmp_path / "room.msh")
    if COMM.rank == 0:
        path.with_suffix(".geo").write_text(ROOM)
        gmsh.initialize()
        gmsh.option.setNumber("General.Verbosity", 1)
        gmsh.open(str(path.with_suffix(".geo")))
        gmsh.model.mesh.generate(2)
        gmsh.write(str(path))
        gmsh.finalize()
    COMM.Barrier()
    read = mfg.read_mesh(path, COMM)
    assert read.names.keys() == room.names.keys()
    assert read.measure("door") == pytest.approx(room.measure("door"))


@pytest.fixture(scope="module")
def crowd(room) -> mfg.Solution:
    return mfg.solve(
        evacuation(
            room,
            0.1,
            boundary={"door": mfg.Exit(cost=0.5)},
            initial_density=lambda x: ufl.conditional(ufl.lt(x[0], 1.2), 1.0, 0.0),
            population=80,
            horizon=4.0,
        ),
        16,
    )


def test_mass_leaves_only_through_exits(crowd):
    """A pillar and the walls reflect: what is missing went through the door."""
    missing = crowd.mass(0) - crowd.mass(16)
    assert missing == pytest.approx(crowd.gone["door"][-1], rel=1e-10) and missing > 1


def test_initial_density_has_the_mass_of_the_population(crowd):
    assert crowd.mass(0) == pytest.approx(80, rel=1e-12)


def test_value_at_an_exit_is_its_cost(crowd, room):
    u = crowd.value(3)
    dofs = fem.locate_dofs_topological(u.function_space, 1, room.facets("door"))
    assert np.allclose(u.x.array[dofs], 0.5, atol=1e-14)


def test_density_at_an_exit_vanishes(crowd, room):
    m = crowd.density(3)
    dofs = fem.locate_dofs_topological(m.function_space, 1, room.facets("door"))
    assert np.abs(m.x.array[dofs]).max(initial=0.0) <= 1e-14


@pytest.mark.parametrize("scheme", [mfg.Monotone(), mfg.Galerkin(2, "midpoint")], ids=str)
@pytest.mark.parametrize("first, second", [("right", "top"), ("top", "right")])
def test_a_corner_of_two_exits_is_that_of_the_first(first, second, scheme):
    exits = {first: mfg.Exit(1.0), second: mfg.Exit(2.0)}
    solution = mfg.solve(evacuation(mfg.box((1, 1), 4), 0.3, boundary=exits), 4, scheme)
    for n in (0, 4):
        u = solution.value(n)
        x = u.function_space.tabulate_dof_coordinates()
        corner = np.isclose(x[:, 0], 1) & np.isclose(x[:, 1], 1)
        assert np.allclose(u.x.array[corner], 1.0, rtol=0, atol=1e-14)
    assert abs(solution.balance).max() <= 1e-7 and solution.gone.keys() == exits.keys()


def test_a_dear_exit_is_used_less():
    gone = [
        mfg.solve(
            evacuation(
                mfg.box((1, 1), 8), 0.1, boundary={"left": mfg.Exit(), "right": mfg.Exit(cost)}
            ),
            8,
        ).gone
        for cost in (0.0, 2.0)
    ]
    assert gone[1]["right"][-1] < gone[0]["right"][-1]


def test_source_adds_the_people_it_says():
    """S = 2 t (1 + x) for unit time on the unit interval adds 3/2, exactly at midpoints in time."""
    source = lambda x, t: 2 * t * (1 + x[0])  # noqa: E731
    solution = mfg.solve(default(mfg.box(1, 16), source=source), 8)
    assert solution.entered[-1] == pytest.approx(1.5, rel=1e-12)
    assert solution.mass(8) == pytest.approx(2.5, rel=1e-12)


def test_population_only_scales_the_density_where_nobody_minds_the_crowd():
    one, many = (
        mfg.solve(default(mfg.box((1, 1), 8), coupling=0.0, population=n), 8).levels
        for n in (1.0, 250.0)
    )
    assert difference(many.m, 250 * one.m) < 1e-8 and difference(many.u, one.u) < 1e-8


def test_population_scales_with_the_coupling():
    """With c -> c/n, n players see what one saw."""
    one, many = (
        mfg.solve(default(mfg.box((1, 1), 8), coupling=1 / n, population=n), 8).levels
        for n in (1.0, 250.0)
    )
    assert difference(many.m, 250 * one.m) < 1e-7


def test_even_crowd_on_flat_ground_stays_even():
    problem = default(
        mfg.box((1, 1), 6), initial_density=lambda x: 3.0, running_cost=lambda x, t, m: m
    )
    levels = mfg.solve(problem, 4).levels
    assert np.abs(levels.m - 1).max() < 1e-10
    assert np.allclose(levels.u, np.linspace(1, 0, 5)[:, None], atol=1e-10)


def test_velocity_is_minus_the_gradient_for_the_quadratic_hamiltonian():
    solution = mfg.solve(default(mfg.box((1, 1), 8)), 4, mfg.Monotone())
    v, u = solution.velocity(1), solution.value(1)
    square = ufl.dot(v + ufl.grad(u), v + ufl.grad(u)) * ufl.dx
    assert fem.assemble_scalar(fem.form(square)) < 1e-24


def hamiltonian(H, p, m=1.0) -> float:
    x = ufl.as_vector([0.3, 0.7])
    return float(H(x, ufl.as_vector(list(p)), m))


@pytest.mark.parametrize(
    "H, value",
    [
        (mfg.hamiltonians.quadratic(), 12.5),
        (mfg.hamiltonians.quadratic(2.0), 25.0),
        (mfg.hamiltonians.power(2.0, 1.0), 12.5),
        (mfg.hamiltonians.power(1.5, 1e-9), 5**1.5 / 1.5),
        (mfg.hamiltonians.congestion(3.0, 0.5), 12.5 / 2),
        (
            mfg.hamiltonians.with_drift(
                mfg.hamiltonians.quadratic(), lambda x: ufl.as_vector([1.0, 2.0])
            ),
            12.5 - 11,
        ),
    ],
)
def test_hamiltonian_has_its_value_at_3_4(H, value):
    assert hamiltonian(H, (3.0, 4.0)) == pytest.approx(value)


def test_hamiltonian_of_a_player_at_rest_is_zero():
    assert hamiltonian(mfg.hamiltonians.power(1.3), (0.0, 0.0)) == pytest.approx(0)


def test_a_wind_carries_players_who_do_nothing():
    """Mobility that small leaves the wind b alone: the mean moves by b T where no wall is near."""
    H = mfg.hamiltonians.with_drift(
        mfg.hamiltonians.quadratic(1e-8), lambda x: ufl.as_vector([0.5])
    )
    problem = default(
        mfg.box(4, 200),
        diffusion=0.01,
        hamiltonian=H,
        running_cost=lambda x, t, m: 0.0,
        initial_density=lambda x: ufl.exp(-((x[0] - 1.5) ** 2) / 0.08),
    )
    solution = mfg.solve(problem, 20)
    x = solution.discrete.V.tabulate_dof_coordinates()[: solution.discrete.owned, 0]
    mean = solution.discrete.integral(solution.levels.m * x)
    assert mean[-1] - mean[0] == pytest.approx(0.5, abs=1e-3)
