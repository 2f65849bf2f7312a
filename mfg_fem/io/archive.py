"""One file of nodal fields that any number of ranks can read: a zip of .npy members.

numpy.load reads it too. `about` is JSON; `nodes` are the coordinates in an order that knows nothing
of ranks; the fields follow level by level, `u00000`, `u00001`, ...
"""

import io
import json
import zipfile
from contextlib import contextmanager
from pathlib import Path

from mpi4py import MPI

import numpy as np

from mfg_fem.errors import FileError, require
from mfg_fem.io.files import on_root, replacing
from mfg_fem.mesh.nodes import Nodes

FORMAT = 2
SAME_POINT = 1e-6  # of the mean distance of nodes


@contextmanager
def write(path: Path, nodes: Nodes, about: dict, **arrays):
    """A function put(name, rows of owned values), whose file replaces `path` if all goes well.

    Collective. The arrays are known on rank 0.

    Raises:
        FileError: the file cannot be written; on every rank, and an older one is left as it was.
    """
    comm, context = nodes.comm, f"{path} cannot be written"
    with replacing(comm, path) as temporary:
        archive = on_root(comm, context, lambda: zipfile.ZipFile(temporary, "w"))

        def put(name: str, array):
            on_root(comm, context, lambda: _put(archive, name, array))

        def put_rows(name: str, rows: np.ndarray):
            for n, row in enumerate(rows):
                put(f"{name}{n:05d}", nodes.gather(row))

        try:
            text = {"format": FORMAT} | about
            put("about", on_root(comm, context, lambda: json.dumps(text, default=float)))
            for name, array in {"nodes": nodes.x, **arrays}.items():
                put(name, array)
            yield put_rows
        finally:
            on_root(comm, context, lambda: archive.close())


def about(comm: MPI.Comm, path: Path, what: str) -> dict:
    """The description of the file; `what` it should be is for the message. Collective.

    Raises:
        FileError: no such file, or another kind of file.
    """

    def read() -> dict:
        with zipfile.ZipFile(path) as archive:
            text = json.loads(str(_get(archive, "about")))
        if text["format"] != FORMAT:
            raise ValueError(f"format {text['format']}, this version reads {FORMAT}")
        return text

    return comm.bcast(on_root(comm, f"{path} cannot be read as a {what}", read))


def fit(path: Path, value, like, name: str = "about"):
    """Refuse a value of `about` whose type is not the one given.

    `like` is a type; or a list of one type, for non-empty lists; or a dict of types by name.

    Raises:
        FileError: the type is another one.
    """
    if isinstance(like, dict):
        good = isinstance(value, dict) and like.keys() <= value.keys()
        parts = [(value[key], part, key) for key, part in like.items()] if good else []
    elif isinstance(like, list):
        good = isinstance(value, list) and bool(value)
        parts = [(part, like[0], f"{name}[{k}]") for k, part in enumerate(value)] if good else []
    else:
        good = type(value) is like or (like is float and type(value) is int)
        parts = []
    if not good:
        raise FileError(f"{path} is damaged, or of another version: {name} is {value!r:.100}.")
    for part in parts:
        fit(path, *part)


@contextmanager
def read(path: Path, nodes: Nodes):
    """A function get(name, count) that gives rows of values on the dofs of this rank. Collective.

    Raises:
        FileError: the file belongs to another mesh or degree, or is damaged; on every rank.
    """
    comm, context = nodes.comm, f"{path} cannot be read"
    archive = on_root(comm, context, lambda: zipfile.ZipFile(path))

    def get(name: str) -> np.ndarray:
        values = on_root(comm, context, lambda: _nodal(archive, name, len(nodes.x)))
        return nodes.scatter(values)

    try:
        distance = on_root(comm, context, lambda: mismatch(_get(archive, "nodes"), nodes.x))
        distance = comm.bcast(distance)
        require(
            comm,
            distance <= SAME_POINT,
            f"{path} was saved on another mesh than this problem's: "
            + (
                "the number of nodes differs."
                if np.isinf(distance)
                else f"nodes lie up to {distance:.1e} mean node distances apart."
            ),
            FileError,
        )

        def get_rows(name: str, count: int) -> np.ndarray:
            on_root(comm, context, lambda: _end(archive, name, count))
            return np.array([get(f"{name}{n:05d}") for n in range(count)])

        yield get_rows
    finally:
        if archive is not None:
            archive.close()


def _put(archive: zipfile.ZipFile, name: str, array):
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def _get(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    # Read whole, so that zipfile compares the checksum.
    return np.load(io.BytesIO(archive.read(f"{name}.npy")), allow_pickle=False)


def _end(archive: zipfile.ZipFile, name: str, count: int):
    if f"{name}{count:05d}.npy" in archive.namelist():
        raise ValueError(f"it has more levels of {name} than the {count} of its steps")


def _nodal(archive: zipfile.ZipFile, name: str, nodes: int) -> np.ndarray:
    values = _get(archive, name)
    if values.shape != (nodes,):
        raise ValueError(f"{name} has the shape {values.shape}, expected {(nodes,)}")
    if values.dtype.kind != "f":
        raise ValueError(f"{name} has values of the type {values.dtype}")
    return values.astype(np.float64)


def mismatch(saved: np.ndarray, here: np.ndarray) -> float:
    """Largest distance of a node from its saved place, in mean node distances along an axis."""
    if saved.shape != here.shape:
        return np.inf
    nodes, d = here.shape
    spacing = np.ptp(here, axis=0) / max(nodes ** (1 / d), 1)
    return float((abs(saved - here) / spacing).max())
