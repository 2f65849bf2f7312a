"""What is written is read back by the libraries of others, and is the solution to the last bit.

Run as a script with a folder, this module writes there and leaves what the nodes of all ranks hold.
"""

import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from xml.etree import ElementTree

from mpi4py import MPI

import numpy as np
import pytest
from cases import default
from ranks import leave_numbers, numbers_on, serial_only

import mfg_fem as mfg

h5py = pytest.importorskip("h5py")
pytestmark = serial_only
COMM = MPI.COMM_WORLD
SCHEMES = {"P1": mfg.Sharp(), "P2": mfg.Galerkin(2)}
FILES = ("P1.xdmf", "P1.vtkhdf", "P2.vtkhdf")
FIELDS = ("density", "value", "velocity")


def written(folder: Path) -> dict[str, dict[str, list]]:
    """Write solutions of both degrees; their times, nodes and nodal values, gathered from ranks."""
    found = {}
    for name, scheme in SCHEMES.items():
        solution = mfg.solve(default(mfg.box((1.0, 2.0), 4)), [0, 0.1, 0.3, 1.0], scheme)
        for file in FILES:
            if file.startswith(name):
                solution.write(folder / file, every=2)
        arrays = (solution.coordinates, solution.nodal_densities.T, solution.nodal_values.T)
        gathered = [np.concatenate(COMM.allgather(own)).tolist() for own in arrays]
        found[name] = dict(zip(("x", "density", "value"), gathered, strict=True))
    return found


@cache
def on_ranks(ranks: int) -> tuple[TemporaryDirectory, dict]:
    """A folder with the files that these ranks wrote, and what they should hold."""
    folder = TemporaryDirectory()
    if ranks == 1:
        return folder, written(Path(folder.name))
    return folder, numbers_on(ranks, __file__, folder.name)


def read_vtkhdf(path: Path) -> tuple[list, np.ndarray, dict[str, np.ndarray]]:
    """Times, points, and fields at each time."""
    with h5py.File(path) as file:
        root, steps = file["VTKHDF"], file["VTKHDF/Steps"]
        x, count = root["Points"][:], root["NumberOfPoints"][:].sum()
        assert root.attrs["Type"] == b"UnstructuredGrid" and len(x) == count
        assert root["Connectivity"].shape == (root["NumberOfConnectivityIds"][:].sum(),)
        assert root["Types"].shape == (root["NumberOfCells"][:].sum(),)
        fields = {}
        for name, data in root["PointData"].items():
            first = steps["PointDataOffsets"][name]
            fields[name] = np.array([data[k : k + count] for k in first])
            assert len(data) == count * steps.attrs["NSteps"]
        return steps["Values"][:].tolist(), x, fields


def read_xdmf(path: Path) -> tuple[list, np.ndarray, dict[str, np.ndarray]]:
    times, fields = [], {}
    with h5py.File(path.with_suffix(".h5")) as file:
        for series in ElementTree.parse(path).findall(".//Grid[@GridType='Collection']"):
            grids = series.findall("Grid")
            times = [float(grid.find("Time").get("Value")) for grid in grids]
            attribute = [grid.find("Attribute") for grid in grids]
            places = [item.find("DataItem").text.strip().rpartition(":")[2] for item in attribute]
            values = np.array([file[place][:] for place in places])
            fields[attribute[0].get("Name")] = np.squeeze(values)
        return times, file["Mesh/mesh/geometry"][:], fields


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("file", FILES)
def test_a_file_holds_the_solution_to_the_last_bit(file, ranks):
    folder, nodes = on_ranks(ranks)
    read = read_xdmf if file.endswith("xdmf") else read_vtkhdf
    times, x, fields = read(Path(folder.name) / file)
    assert times == [0.0, 0.3, 1.0] and set(fields) == {*FIELDS}
    expected = nodes[file[:2]]
    place = {tuple(y): k for k, y in enumerate(np.round(expected["x"], 9) + 0.0)}
    which = [place[tuple(y)] for y in np.round(x[:, :2], 9) + 0.0]
    assert set(which) == set(range(len(place)))
    for name in ("density", "value"):
        levels = np.array(expected[name])[which].T[[0, 2, 3]]
        assert np.array_equal(fields[name], levels)
    assert fields["velocity"].shape == (3, len(x), 3)
    assert fields["velocity"][..., :2].any() and not fields["velocity"][..., 2].any()


@pytest.mark.parametrize("file", [name for name in FILES if name.endswith("vtkhdf")])
@pytest.mark.parametrize("ranks", [1, 2])
def test_vtk_reads_the_cells_and_the_times(file, ranks):
    reading, pyvista = pytest.importorskip("vtkmodules.vtkIOHDF"), pytest.importorskip("pyvista")
    folder, nodes = on_ranks(ranks)
    reader = reading.vtkHDFReader()
    reader.SetFileName(str(Path(folder.name) / file))
    reader.UpdateInformation()
    assert reader.GetNumberOfSteps() == 3
    for n, level in enumerate((0, 2, 3)):
        reader.SetStep(n)
        reader.Update()
        grid = pyvista.wrap(reader.GetOutput())
        assert reader.GetTimeValue() == (0.0, 0.3, 1.0)[n]
        assert grid.n_cells == 32 and grid.compute_cell_sizes()["Area"].sum() == pytest.approx(2)
        top = np.array(nodes[file[:2]]["density"])[:, level].max()
        assert grid["density"].max() == top


def test_a_velocity_has_three_components_in_1d_too(tmp_path):
    solution = mfg.solve(default(mfg.box(1.0, 3)), 2)
    solution.write(tmp_path / "a.vtkhdf")
    with h5py.File(tmp_path / "a.vtkhdf") as file:
        velocity = file["VTKHDF/PointData/velocity"][:]
        assert file["VTKHDF/PointData/density"].shape == (3 * 4,)
    assert velocity.shape == (3 * 4, 3)
    assert velocity[:, 0].any() and not velocity[:, 1:].any()


def test_without_h5py_the_error_says_what_to_install(monkeypatch, tmp_path):
    solution = mfg.solve(default(mfg.box(1.0, 3)), 2)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(mfg.MissingPackage, match="pip install h5py"):
        solution.write(tmp_path / "a.vtkhdf")
    assert not list(tmp_path.iterdir())


def test_an_old_vtkhdf_stays_where_the_new_one_fails(monkeypatch, tmp_path):
    solution = mfg.solve(default(mfg.box(1.0, 3)), 2)
    solution.write(tmp_path / "a.vtkhdf")
    before = (tmp_path / "a.vtkhdf").read_bytes()

    def full(*arguments, **options):
        raise OSError("No space left on device")

    monkeypatch.setattr(h5py.Dataset, "resize", full)
    with pytest.raises(mfg.FileError, match=r"/a\.vtkhdf cannot be written: No space left"):
        solution.write(tmp_path / "a.vtkhdf")
    assert [path.name for path in tmp_path.iterdir()] == ["a.vtkhdf"]
    assert (tmp_path / "a.vtkhdf").read_bytes() == before


if __name__ == "__main__":
    leave_numbers(written(Path(sys.argv[2])))
