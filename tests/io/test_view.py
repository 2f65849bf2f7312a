"""Grids for PyVista: whole cells, and the values of the solution at their points.

Run as a script, this module leaves what the grids of all ranks hold together.
"""

import sys

from mpi4py import MPI

import numpy as np
import pytest
from cases import default
from ranks import leave_numbers, numbers_on, serial_only

import ufl

import mfg_fem as mfg

COMM = MPI.COMM_WORLD


def drifting(domain, scheme=None, wind=(2.0, -1.0, 0.5)):
    """Everybody drifts with the wind."""
    still = mfg.hamiltonians.quadratic()
    blown = mfg.hamiltonians.with_drift(still, lambda x: ufl.as_vector(wind[: domain.dim]))
    changes = {"running_cost": lambda x, t, m: 0.0, "initial_density": lambda x: 1.0}
    return mfg.solve(default(domain, hamiltonian=blown, **changes), 2, scheme)


def nodes(grid) -> np.ndarray:
    """Points of each cell."""
    return grid.cells.reshape(grid.n_cells, -1)[:, 1:]


@serial_only
@pytest.mark.parametrize("scheme", [mfg.Monotone(), mfg.Galerkin(2, "midpoint")], ids=str)
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_a_grid_holds_the_nodal_values_of_its_level(dim, scheme):
    pytest.importorskip("pyvista")
    solution = mfg.solve(default(mfg.box((1.0,) * dim, 3)), 2, scheme)
    for n in (0, 2):
        grid = solution.grid(n)
        place = {tuple(x): k for k, x in enumerate(np.round(grid.points, 6)[:, :dim] + 0.0)}
        assert grid.n_cells == {1: 3, 2: 18, 3: 162}[dim]
        assert grid.n_points == len(place) == len(solution.coordinates)
        order = [place[tuple(x)] for x in np.round(solution.coordinates, 6) + 0.0]
        assert np.allclose(grid["value"][order], solution.nodal_values[n], rtol=1e-14)
        assert np.allclose(grid["density"][order], solution.nodal_densities[n], rtol=1e-14)
        assert grid["velocity"].shape == (grid.n_points, 3)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_the_velocity_of_a_grid_is_the_drift(dim):
    pytest.importorskip("pyvista")
    velocity = drifting(mfg.box((1.0,) * dim, 3)).grid(1)["velocity"]
    assert np.allclose(velocity, [*(2.0, -1.0, 0.5)[:dim], *[0.0] * (3 - dim)])


@serial_only
@pytest.mark.parametrize("scheme", [mfg.Monotone(), mfg.Galerkin(2)], ids=str)
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_no_cell_of_a_torus_is_torn(dim, scheme):
    pytest.importorskip("pyvista")
    domain = mfg.box((1.0,) * dim, 4, periodic=[True] + [False] * (dim - 1))
    smooth = {"initial_density": lambda x: 2 + ufl.sin(2 * ufl.pi * x[0])}
    solution = mfg.solve(default(domain, **smooth), 2, scheme)
    grid = solution.grid(0)
    assert np.ptp(grid.points[nodes(grid)], axis=1).max() <= 0.25 * (1 + 1e-6)
    assert np.allclose(np.min(grid.points, axis=0)[:dim], 0, atol=1e-12)
    assert np.allclose(np.max(grid.points, axis=0)[:dim], 1)
    expected = 2 + np.sin(2 * np.pi * grid.points[:, 0])
    ratio = grid["density"] / expected
    assert np.ptp(ratio) < 1e-12 * ratio.max()


@pytest.mark.parametrize("n", [-1, 3, 1.5])
def test_a_level_that_is_not_there_is_refused(n):
    solution = mfg.solve(default(mfg.box(1.0, 3)), 2)
    with pytest.raises(mfg.MFGError, match="grid"):
        solution.grid(n)


def test_without_pyvista_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyvista", None)
    solution = mfg.solve(default(mfg.box(1.0, 3)), 2)
    with pytest.raises(mfg.MissingPackage, match="pip install pyvista"):
        solution.grid(0)


@serial_only
def test_the_grids_of_the_ranks_are_the_whole_domain():
    pytest.importorskip("pyvista")
    one, three = totals(), numbers_on(3, __file__)
    for case in one:
        assert three[case] == pytest.approx(one[case], rel=1e-9, abs=1e-9)


def total(grid) -> list:
    """Cells, and sums over their points of place, density, value and velocity."""
    sums = np.zeros(9)
    if grid.n_cells:
        columns = [grid.points, grid["density"], grid["value"], grid["velocity"]]
        sums[0], sums[1:] = grid.n_cells, np.column_stack(columns)[nodes(grid)].sum(axis=(0, 1))
    return np.sum(COMM.allgather(sums), axis=0).tolist()


def totals() -> dict[str, list]:
    torus = {"initial_density": lambda x: 2 + ufl.sin(2 * ufl.pi * x[0])}
    solutions = {
        "square": mfg.solve(default(mfg.box((1.0, 1.0), 5)), 2),
        "torus": mfg.solve(default(mfg.box((1.0, 1.0), 5, periodic=True), **torus), 2),
        "P2": mfg.solve(default(mfg.box((1.0, 1.0), 3)), 2, mfg.Galerkin(2)),
        "two cells": mfg.solve(default(mfg.box(1.0, 2)), 2),  # one rank of three has none
    }
    return {case: total(solution.grid(1)) for case, solution in solutions.items()}


if __name__ == "__main__":
    leave_numbers(totals())
