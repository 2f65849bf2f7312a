"""Time series in one file of VTK's HDF5 format, for ParaView and PyVista.

https://docs.vtk.org/en/latest/vtk_file_formats/vtkhdf_file_format/
"""

from pathlib import Path

from mpi4py import MPI

import numpy as np

from mfg_fem.errors import needs
from mfg_fem.io.files import on_root
from mfg_fem.io.view import at_points, piece


class Series:
    """A new file with nodal Functions that share their nodes, at times to come. Collective.

    The cells of each rank have points of their own. The grid is written once, and rank 0 writes.
    The context is what an error says first.

    Raises:
        FileError: the file cannot be written; on every rank.
    """

    def __init__(self, comm: MPI.Comm, path: Path, functions: list, context: str):
        self._comm, self._context = comm, context
        self._functions = {y.name.replace("/", "|"): y for y in functions}  # h5py would make groups
        nodes, types, x, self._used = piece(functions[0].function_space)
        parts = comm.gather((nodes, types, x))
        self._root = on_root(comm, self._context, lambda: self._begin(path, parts))

    def write(self, t: float):
        """The values of the Functions as they are now, which belong to the time t."""
        values = {name: at_points(y, self._used) for name, y in self._functions.items()}
        parts = self._comm.gather(values)
        on_root(self._comm, self._context, lambda: self._append(t, parts))

    def close(self):
        """No more times."""
        on_root(self._comm, self._context, lambda: self._root.file.close())

    def _begin(self, path: Path, parts: list[tuple]):
        """The grid, and columns that each time makes longer."""
        root = needs("h5py", "h5py").File(path, "w").create_group("VTKHDF")
        root.attrs["Version"] = np.array([2, 0])
        root.attrs["Type"] = np.bytes_("UnstructuredGrid")
        nodes, types, x = zip(*parts, strict=True)
        first = np.cumsum([0, *(len(own) for own in x)])
        cells = np.concatenate([own + k for own, k in zip(nodes, first[:-1], strict=True)])
        root["NumberOfPoints"] = [first[-1]]
        root["NumberOfCells"] = [len(cells)]
        root["NumberOfConnectivityIds"] = [cells.size]
        root["Points"] = np.concatenate(x)
        root["Types"] = np.concatenate(types).astype(np.uint8)
        root["Connectivity"] = cells.ravel()
        root["Offsets"] = cells.shape[1] * np.arange(len(cells) + 1)
        steps = root.create_group("Steps")
        steps.attrs["NSteps"] = 0
        columns = ["PartOffsets", "PointOffsets", "NumberOfParts"]
        columns += [f"PointDataOffsets/{name}" for name in self._functions]
        for name in columns:
            steps.create_dataset(name, (0,), dtype=np.int64, maxshape=(None,))
        for name in ("CellOffsets", "ConnectivityIdOffsets"):
            steps.create_dataset(name, (0, 1), dtype=np.int64, maxshape=(None, 1))
        steps.create_dataset("Values", (0,), dtype=np.float64, maxshape=(None,))
        for name, function in self._functions.items():
            shape = (3,) if function.ufl_shape else ()
            root.create_dataset(
                f"PointData/{name}", (0, *shape), dtype=np.float64, maxshape=(None, *shape)
            )
        return root

    def _append(self, t: float, parts: list[dict[str, np.ndarray]]):
        steps = self._root["Steps"]
        steps.attrs["NSteps"] += 1
        for name in ("PartOffsets", "PointOffsets", "CellOffsets", "ConnectivityIdOffsets"):
            _extend(steps[name], [0])  # the same grid again
        _extend(steps["NumberOfParts"], [1])
        _extend(steps["Values"], [t])
        for name in self._functions:
            data = self._root["PointData"][name]
            _extend(steps["PointDataOffsets"][name], [len(data)])
            _extend(data, np.concatenate([own[name] for own in parts]))


def _extend(dataset, rows):
    """Put the rows after those that are there."""
    count = len(dataset)
    dataset.resize(count + len(rows), axis=0)
    dataset[count:] = rows
