"""Periodic domains: who leaves on one side enters on the other.

Run as a script, this module solves some problems and leaves their numbers.
"""

import sys
from dataclasses import dataclass
from functools import cache

from mpi4py import MPI

import numpy as np
import pytest
from cases import default, evacuation
from exact import Heat, errors, game, rates
from ranks import leave_numbers, numbers_on, serial_only
from test_parallel import numbers

import ufl
from dolfinx import fem

import mfg_fem as mfg
from mfg_fem.io.frames import Frames
from mfg_fem.mesh.nodes import Nodes
from mfg_fem.plots.scene import Scene

COMM = MPI.COMM_WORLD
PI = np.pi


@dataclass(frozen=True)
class Waves(Heat):
    """The heat family with one wave per period, its crest off the seam: walls would change it."""

    horizon: float = 0.2

    def m(self, x, t):
        """Density, of mass 1."""
        d, kappa = len(x), self.D - self.k
        product = ufl.exp(-4 * d * kappa * ufl.pi**2 * t)
        for y in list(x):
            product *= ufl.cos(2 * ufl.pi * (y - 0.1))
        return 1 + self.size * product


SHARP, MONOTONE = mfg.Sharp(), mfg.Monotone()
P1, P2 = mfg.Galerkin(), mfg.Galerkin(degree=2, time="midpoint")


@pytest.mark.parametrize(
    "dim, scheme, cells, steps, rate, largest",
    [
        (1, MONOTONE, (16, 32), lambda n: n * n // 16, 1.9, 7e-3),
        (1, SHARP, (16, 32), lambda n: n, 1.9, 7e-3),
        (1, P1, (16, 32), lambda n: n * n // 16, 1.9, 7e-3),
        (1, P2, (8, 16), lambda n: n * n // 4, 2.8, 6e-4),
        (2, SHARP, (8, 16), lambda n: n, 1.8, 6e-2),
        (2, P1, (8, 16), lambda n: n * n // 8, 1.8, 5.5e-2),
        (2, P2, (4, 8), lambda n: n * n // 4, 2.7, 1.2e-2),
    ],
)
def test_errors_on_a_torus_fall_at_the_rate_of_the_scheme(dim, scheme, cells, steps, rate, largest):
    exact, found = Waves(), []
    for n in cells:
        problem = game(exact, mfg.box((1.0,) * dim, n, periodic=True))
        found.append(errors(mfg.solve(problem, steps(n), scheme), exact))
    assert min(rates([1 / n for n in cells], found).values()) > rate
    assert max(found[-1].values()) < largest


def test_walls_would_change_the_solution():
    exact = Waves()
    solution = mfg.solve(game(exact, mfg.box(1.0, 32)), 64)
    assert errors(solution, exact)["m(T)"] > 0.05


def shifted(x, shift: float):
    """Data of period 1, not symmetric, moved by `shift` along every axis."""
    waves = [ufl.sin(2 * PI * (y - shift)) + ufl.cos(4 * PI * (y - shift + 0.1)) for y in list(x)]
    return sum(waves)


@pytest.mark.parametrize("dim, scheme", [(1, MONOTONE), (2, MONOTONE), (2, mfg.Galerkin(2))])
def test_data_shifted_by_half_a_period_shift_the_solution(dim, scheme):
    cells = 8
    domain = mfg.box((1.0,) * dim, cells, periodic=True)
    fields = []
    for shift in (0.0, 0.5):
        problem = default(
            domain,
            hamiltonian=mfg.hamiltonians.congestion(1.0, 1.0),
            diffusion=0.05,
            running_cost=lambda x, t, m, s=shift: m + shifted(x, s),
            initial_density=lambda x, s=shift: ufl.exp(shifted(x, s)),
        )
        solution = mfg.solve(problem, 6, scheme, mfg.Newton(rtol=1e-13))
        nodes = Nodes(domain, solution.discrete.V)
        grid = (cells * scheme.degree,) * dim
        fields.append([nodes.gather(y.T) for y in (solution.levels.u, solution.levels.m)])
    if COMM.rank == 0:
        for one, other in zip(*fields, strict=True):
            one, other = (y.reshape(*grid, -1) for y in (one, other))
            moved = np.roll(one, [n // 2 for n in grid], axis=range(dim))
            assert np.abs(moved - other).max() < 1e-10


@pytest.fixture(scope="module")
def windy() -> mfg.Solution:
    """A crowd on the seam of a tube, a wind along it that carries it all the way around."""
    wind = mfg.hamiltonians.with_drift(
        mfg.hamiltonians.quadratic(), lambda x: ufl.as_vector([1.0, 0.0])
    )
    problem = default(
        mfg.box((1.0, 0.5), (24, 6), periodic=(True, False)),
        diffusion=1e-3,
        hamiltonian=wind,
        running_cost=lambda x, t, m: m,
        initial_density=lambda x: ufl.exp(30 * (ufl.cos(2 * PI * x[0]) - 1)),
    )
    return mfg.solve(problem, 24)


def test_mass_stays_on_a_torus(windy):
    assert np.abs(windy.masses - 1).max() < 1e-13


def test_density_on_a_torus_stays_positive(windy):
    assert windy.min_density >= 0


def phase(solution: mfg.Solution, n: int) -> float:
    """Where the crowd is on the circle at level n, as an angle."""
    m, x = solution.density(n), ufl.SpatialCoordinate(solution.problem.domain.mesh)
    parts = [wave(2 * PI * x[0]) * m * ufl.dx for wave in (ufl.cos, ufl.sin)]
    parts = [COMM.allreduce(fem.assemble_scalar(fem.form(part))) for part in parts]
    return float(np.arctan2(*parts[::-1]))


def test_a_wind_carries_a_crowd_around(windy):
    for n, angle in ((6, PI / 2), (18, -PI / 2)):
        assert phase(windy, n) == pytest.approx(angle, abs=0.3)


def test_mass_leaves_a_tube_through_its_end():
    problem = evacuation(
        mfg.box((1.0, 1.0), 8, periodic=(False, True)), 0.1, boundary={"right": mfg.Exit()}
    )
    solution = mfg.solve(problem, 8)
    assert solution.gone["right"][-1] > 0.5
    assert np.abs(solution.balance).max() < 1e-12


@pytest.mark.parametrize(
    "periodic, names",
    [
        (True, set()),
        ((True, False, False), {"bottom", "top", "back", "front"}),
        ((False, True, True), {"left", "right"}),
    ],
)
def test_sides_that_are_glued_have_no_name(periodic, names):
    domain = mfg.box((1.0, 2.0, 3.0), 3, periodic=periodic)
    assert set(domain.names) == names
    assert domain.volume() == pytest.approx(6.0)
    areas = {"left": 6, "right": 6, "bottom": 3, "top": 3, "back": 2, "front": 2}
    for name in sorted(names):  # in one order on all ranks
        assert domain.measure(name) == pytest.approx(areas[name])


CHANNEL = """
SetFactory("OpenCASCADE");
Rectangle(1) = {-1, 0, 0, 2, 1};
Disk(2) = {0, 0.5, 0, 0.2};
BooleanDifference(3) = { Surface{1}; Delete; }{ Surface{2}; Delete; };
inlet() = Curve In BoundingBox {-1.1, -0.1, -0.1, -0.9, 1.1, 0.1};
outlet() = Curve In BoundingBox {0.9, -0.1, -0.1, 1.1, 1.1, 0.1};
low() = Curve In BoundingBox {-1.1, -0.1, -0.1, 1.1, 0.1, 0.1};
high() = Curve In BoundingBox {-1.1, 0.9, -0.1, 1.1, 1.1, 0.1};
pillar() = Curve In BoundingBox {-0.3, 0.2, -0.1, 0.3, 0.8, 0.1};
Periodic Curve {outlet()} = {inlet()} Translate {2, 0, 0};
Physical Surface("floor") = {3};
Physical Curve("ends") = {inlet(), outlet()};
Physical Curve("walls") = {low(), high()};
Physical Curve("pillar") = {pillar()};
MeshSize {:} = 0.2;
"""


def test_a_gmsh_mesh_with_a_periodic_curve_can_be_glued(tmp_path):
    pytest.importorskip("gmsh")
    path = COMM.bcast(tmp_path / "channel.geo")
    if COMM.rank == 0:
        path.write_text(CHANNEL)
    COMM.Barrier()
    channel = mfg.glue(mfg.read_mesh(path), (True, False))
    assert channel.seams == {0: (pytest.approx(-1.0), pytest.approx(1.0))}
    assert set(channel.names) == {"walls", "pillar"}
    assert channel.measure("walls") == pytest.approx(4.0)
    problem = default(
        channel,
        diffusion=0.05,
        running_cost=lambda x, t, m: m + ufl.cos(PI * x[0]),
        initial_density=lambda x: 1.0,
    )
    solution = mfg.solve(problem, 4)
    assert np.abs(solution.masses - 1).max() < 1e-12


@pytest.mark.parametrize(
    "make, error, message",
    [
        (lambda: mfg.box(1.0, 2, periodic=True), mfg.MeshError, "axis 0.*three or more"),
        (
            lambda: mfg.box((1.0, 1.0), 4, periodic=(True,)),
            mfg.MeshError,
            "a list of 2 of them",
        ),
        (
            lambda: mfg.glue(mfg.box((1.0, 1.0), 4, periodic=(True, False)), (False, True)),
            mfg.MeshError,
            "periodic already",
        ),
        (
            lambda: evacuation(mfg.box((1.0, 1.0), 4, periodic=(True, False))),
            mfg.MeshError,
            "'right'.*bottom, top.*periodic axis",
        ),
        (
            lambda: default(mfg.box(1.0, 4, periodic=True), terminal_cost=lambda x, m: x[0]),
            mfg.ProblemError,
            r"terminal_cost\(x, m\) is not periodic.*up to 1",
        ),
        (
            lambda: default(mfg.box(1.0, 4, periodic=True), initial_density=lambda x: 1 + x[0]),
            mfg.ProblemError,
            r"initial_density\(x\) is not periodic",
        ),
        (
            lambda: evacuation(
                mfg.box((1.0, 1.0), 4, periodic=(False, True)),
                boundary={"right": mfg.Exit(cost=lambda x: x[1])},
            ),
            mfg.ProblemError,
            "cost is not periodic",
        ),
        (
            lambda: mfg.SharedControl(
                mfg.box((1.0, 1.0), 4, periodic=True),
                densities=[lambda x: 1.0],
                terminal_costs=[lambda x: 0.0],
            ),
            mfg.ProblemError,
            "cannot live on a periodic",
        ),
    ],
)
def test_error_says_what_is_not_periodic(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_sides_that_do_not_match_cannot_be_glued():
    domain = mfg.box((1.0, 1.0), 4)
    x = domain.mesh.geometry.x
    x[(x[:, 0] > 0.99) & (abs(x[:, 1] - 0.5) < 0.1), 1] += 0.05
    with pytest.raises(mfg.MeshError, match=r"across axis 0 do not match.*Periodic Curve"):
        mfg.glue(domain)


# Files and pictures: a cell on a seam must not be drawn across the domain.


def extents(x: np.ndarray, cells: np.ndarray) -> float:
    """The length of the longest cell along any axis."""
    return float(np.ptp(x[cells], axis=1).max())


@pytest.mark.parametrize("periodic", [True, (True, False)])
def test_cells_of_a_picture_are_as_small_as_those_of_the_mesh(periodic):
    domain = mfg.box((1.0, 1.0), 6, periodic=periodic)
    solution = mfg.solve(game_without_costs(domain), 2)
    scene = Scene(solution)
    shot = scene.at(0)
    if COMM.rank == 0:
        plan = scene.plan
        assert extents(plan.x, plan.cells) < 0.17 and len(plan.x) == 49
        assert len(plan.walls) == (0 if periodic is True else 12)
        exact = 1 + 0.5 * np.cos(2 * PI * plan.x[:, 0])
        assert np.abs(shot.density - exact).max() < 1e-12


def game_without_costs(domain):
    return default(
        domain,
        running_cost=lambda x, t, m: 0.0,
        initial_density=lambda x: 1 + 0.5 * ufl.cos(2 * PI * x[0]),
    )


def test_nodes_of_a_file_lie_in_the_cells(tmp_path):
    """DG frames: the coordinate as a Function is the coordinate of its node."""
    domain = mfg.box((1.0, 1.0), 4, periodic=True)
    frames = Frames(mfg.solve(game_without_costs(domain), 2), 1, "DG").show(0)
    V = frames.density.function_space
    x = V.tabulate_dof_coordinates()[:, 0]
    assert np.abs(frames.density.x.array - 1 - 0.5 * np.cos(2 * PI * x)).max() < 1e-12
    corners = x[V.dofmap.list]
    assert np.ptp(corners, axis=1).max() < 0.26


@pytest.mark.parametrize("suffix", [".bp", ".xdmf"])
def test_a_torus_can_be_written(tmp_path, suffix):
    path = COMM.bcast(tmp_path) / f"torus{suffix}"
    mfg.solve(game_without_costs(mfg.box((1.0, 1.0), 4, periodic=True)), 2).write(path)
    assert path.exists() or path.with_suffix(".xdmf").exists()


# The same on any number of ranks.

CASES = {
    "circle": lambda: mfg.solve(torus_game(1, 40), 8),
    "torus": lambda: mfg.solve(torus_game(2, 10), 6),
    "P2": lambda: mfg.solve(torus_game(2, 6), 6, P2),
    "3D": lambda: mfg.solve(torus_game(3, 4), 3),
    "tube": lambda: mfg.solve(evacuation(mfg.box((1, 1), 10, periodic=(False, True)), 0.1), 8),
}


def torus_game(dim: int, cells: int) -> mfg.MeanFieldGame:
    """A game on a torus without any symmetry."""
    return default(
        mfg.box((1.0,) * dim, cells, periodic=True),
        running_cost=lambda x, t, m: m + shifted(x, 0.0),
        initial_density=lambda x: ufl.exp(shifted(x, 0.2)),
    )


@cache
def here(case: str) -> mfg.Solution:
    return CASES[case]()


@pytest.fixture(scope="module")
def on(tmp_path_factory):
    """Numbers of all cases on three ranks, and the file of one of them."""
    path = tmp_path_factory.mktemp("ranks") / "torus.npz"
    return numbers_on(3, __file__, path), path


@serial_only
@pytest.mark.parametrize("case", CASES)
def test_numbers_on_a_torus_do_not_depend_on_the_ranks(case, on):
    one, many = numbers(here(case)), on[0][case]
    assert one["converged"] and one["iterations"] == many["iterations"]
    for name in ("cost", "min_density", "l2_u", "l2_m", "gone"):
        assert many[name] == pytest.approx(one[name], rel=1e-10, abs=1e-14)
    assert many["balance"] < 1e-12


@serial_only
def test_a_torus_saved_on_many_ranks_is_read_on_one(on):
    _, path = on
    one = here("torus")
    read = mfg.Solution.load(path, one.problem)
    assert np.abs(read.levels.m - one.levels.m).max() < 1e-10
    assert np.abs(read.levels.u - one.levels.u).max() < 1e-10


if __name__ == "__main__":
    solutions = {name: solve() for name, solve in CASES.items()}
    solutions["torus"].save(sys.argv[2])
    leave_numbers({name: numbers(solution) for name, solution in solutions.items()})
