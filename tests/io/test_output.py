"""Files: what is written is what was solved, on any number of ranks; failures are one and clean."""

import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

from mpi4py import MPI

import numpy as np
import pytest

import dolfinx
import ufl

import mfg_fem as mfg
from mfg_fem.io.frames import Frames

COMM = MPI.COMM_WORLD
SERIAL = pytest.mark.skipif(COMM.size > 1, reason="starts mpirun itself")


def game(dim=2, cells=8, horizon=0.5):
    """People near the middle, an exit on the left."""
    return mfg.MeanFieldGame(
        mfg.box([1.0] * dim, cells),
        horizon=horizon,
        diffusion=0.1,
        hamiltonian=mfg.hamiltonians.quadratic(),
        running_cost=lambda x, t, m: 1.0 + m,
        terminal_cost=lambda x, m: 2.0,
        initial_density=lambda x: ufl.exp(-10 * (x[0] - 0.5) ** 2),
        population=3.0,
        boundary={"left": mfg.Exit()},
    )


@pytest.fixture(scope="module")
def problem():
    return game()


@pytest.fixture(scope="module")
def solution(problem):
    return mfg.solve(problem, steps=4)


@pytest.fixture
def folder(tmp_path):
    """The same empty folder on every rank."""
    return COMM.bcast(tmp_path)


@pytest.mark.parametrize("scheme", [mfg.Monotone(), mfg.Galerkin(2, "midpoint")], ids=str)
def test_a_saved_solution_comes_back_bit_by_bit(problem, folder, scheme):
    solution = mfg.solve(problem, 4, scheme)
    solution.save(folder / "a.npz")
    again = mfg.Solution.load(folder / "a.npz", problem)
    assert np.array_equal(again.levels.u, solution.levels.u)
    assert np.array_equal(again.levels.m, solution.levels.m)
    assert again.scheme == scheme
    assert again.history == solution.history
    assert (again.converged, again.seconds) == (solution.converged, COMM.bcast(solution.seconds))
    assert again.cost == pytest.approx(solution.cost, rel=1e-12)


def test_numpy_reads_a_saved_solution(problem, solution, folder):
    solution.save(folder / "a.npz")
    with np.load(folder / "a.npz") as data:
        assert np.array_equal(data["times"], solution.times)
        assert len(data["nodes"]) == len(data["u00000"]) == len(data["m00004"]) == 81
        top = COMM.allreduce(solution.levels.m[4].max(), MPI.MAX)
        assert data["m00004"].max() == top


COPY = """
import sys; sys.path += {tests!r}
import mfg_fem as mfg
from test_output import game
mfg.Solution.load({old!r}, game()).save({new!r})
"""


@SERIAL
def test_a_file_saved_on_one_rank_is_read_on_two_and_three(problem, tmp_path):
    mfg.solve(problem, 4, mfg.Galerkin(2)).save(tmp_path / "1.npz")
    for ranks in (2, 3):
        old, new = (str(tmp_path / f"{n}.npz") for n in (ranks - 1, ranks))
        text = COPY.format(
            tests=[str(folder) for folder in Path(__file__).parents[:2]], old=old, new=new
        )
        run = subprocess.run(
            ["mpirun", "-n", str(ranks), sys.executable, "-c", text],
            capture_output=True,
            text=True,
            timeout=120,
            env=os.environ | {"PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe"},
        )
        assert run.returncode == 0, run.stderr
    with np.load(tmp_path / "1.npz") as one, np.load(tmp_path / "3.npz") as three:
        for name in set(one.files) - {"about"}:
            np.testing.assert_allclose(three[name], one[name], rtol=0, atol=1e-14)


def _damage(path, how):
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[:-2000])
    elif how == "text":
        path.write_text("not a solution")
    elif how == "another zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("hello.txt", "hello")
    elif how == "one byte":
        with zipfile.ZipFile(path) as archive:
            place = archive.getinfo("m00002.npy").header_offset + 300
        data = bytearray(path.read_bytes())
        data[place] ^= 1
        path.write_bytes(data)


@pytest.mark.parametrize("how", ["missing", "truncated", "text", "another zip", "one byte"])
def test_a_damaged_file_is_a_file_error_on_every_rank(problem, solution, folder, how):
    path = folder / "a.npz"
    solution.save(path)
    if COMM.rank == 0:
        _damage(path, how)
    COMM.Barrier()
    with pytest.raises(mfg.FileError, match=r"a\.npz"):
        mfg.Solution.load(path, problem)


@pytest.mark.parametrize(
    ("other", "message"),
    [(lambda: game(cells=9), "another mesh"), (lambda: game(horizon=1.0), "horizon")],
    ids=["mesh", "horizon"],
)
def test_a_file_of_another_problem_is_refused(solution, folder, other, message):
    solution.save(folder / "a.npz")
    with pytest.raises(mfg.FileError, match=message):
        mfg.Solution.load(folder / "a.npz", other())


@pytest.mark.parametrize("scheme", [mfg.Monotone(), mfg.Galerkin(2)], ids=str)
@pytest.mark.parametrize("name", ["new/a.bp", "new/a.xdmf"])
def test_paraview_files_are_written_where_asked(problem, folder, scheme, name):
    if name.endswith(".bp") and not dolfinx.has_adios2:
        pytest.skip("DOLFINx without ADIOS2")
    mfg.solve(problem, 4, scheme).write(folder / name, every=3)
    assert (folder / name).exists()


def test_without_adios2_a_bp_becomes_an_xdmf_with_a_warning(solution, folder, monkeypatch, caplog):
    monkeypatch.setattr(dolfinx, "has_adios2", False)
    solution.write(folder / "a.bp")
    assert (folder / "a.xdmf").exists()
    assert COMM.rank > 0 or "ADIOS2" in caplog.text


@pytest.mark.parametrize("name", ["a.vtk", "a"])
def test_an_unknown_suffix_is_refused_before_anything_is_written(solution, folder, name):
    with pytest.raises(mfg.FileError, match="xdmf"):
        solution.write(folder / "new" / name)
    assert not (folder / "new").exists()


def test_a_velocity_that_is_constant_stays_so_when_averaged_to_the_nodes():
    domain = mfg.box([1.0, 1.0], 6)
    drifting = mfg.MeanFieldGame(
        domain,
        horizon=0.1,
        diffusion=0.1,
        hamiltonian=mfg.hamiltonians.with_drift(
            mfg.hamiltonians.quadratic(), lambda x: ufl.as_vector([2.0, -1.0])
        ),
        running_cost=lambda x, t, m: 0.0,
        terminal_cost=lambda x, m: 1.0,
        initial_density=lambda x: 1.0,
    )
    frames = Frames(mfg.solve(drifting, 2), 1).show(1)
    assert np.allclose(frames.velocity.x.array.reshape(-1, 2), [2.0, -1.0])


def test_who_does_not_move_at_all_has_a_velocity_of_zero(folder):
    still = replace(game(), hamiltonian=lambda x, p, m: 0.0)
    solution = mfg.solve(still, 2)
    solution.write(folder / "still.xdmf")
    assert not solution.velocity(1).x.array.any()
    assert solution.exploitability().bregman == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_every_picture_is_drawn_in_every_dimension(dim, folder):
    pytest.importorskip("matplotlib")
    solution = mfg.solve(game(dim, cells=4), 4)
    mfg.plots.plot_density(solution, folder / "density.png", dpi=50)
    mfg.plots.plot_value(solution, folder / "value.pdf", t=[0.0, 0.25])
    mfg.plots.plot_exits(solution, folder / "exits.svg", capacity=1.3)
    mfg.plots.plot_difference(solution, solution, folder / "difference.png", t=0.25, dpi=50)
    mfg.plots.animate(solution, folder / "film.gif", every=2, dpi=50)
    names = {"density.png", "value.pdf", "exits.svg", "difference.png", "film.gif"}
    COMM.Barrier()
    assert {path.name for path in folder.iterdir()} == names


def test_a_film_has_the_frames_asked_for(solution, folder):
    Image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    mfg.plots.animate(solution, folder / "a.gif", every=2, dpi=50)
    with Image.open(folder / "a.gif") as film:
        assert film.n_frames == 3  # levels 0, 2, 4


def test_a_picture_has_the_size_and_the_colours_of_its_densities(solution, folder):
    Image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    figure = mfg.plots.plot_density(solution, folder / "a.png", t=0.0, dpi=50)
    if COMM.rank == 0:
        with Image.open(folder / "a.png") as picture:
            assert picture.size == pytest.approx(50 * figure.get_size_inches(), abs=1)
            assert len(picture.convert("RGB").getcolors(10**6)) > 200


def test_a_picture_that_cannot_be_drawn_is_a_file_error_on_every_rank(solution, folder):
    pytest.importorskip("matplotlib")
    with pytest.raises(mfg.FileError, match="cannot be drawn"):
        mfg.plots.plot_density(solution, folder / "a.nonsense")
    with pytest.raises(mfg.FileError, match=r"\.gif or \.mp4"):
        mfg.plots.animate(solution, folder / "a.avi")
    assert not list(folder.iterdir())
