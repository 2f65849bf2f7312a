"""Files of a solution: time series for ParaView, checkpoints that any number of ranks can read."""

import io
import json
import logging
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

from mpi4py import MPI

import numpy as np

import dolfinx
from dolfinx.io import XDMFFile

from mfg_fem.errors import FileError, require
from mfg_fem.files import make_folder, on_root, replacing
from mfg_fem.frames import Frames, Nodes
from mfg_fem.schemes import Galerkin, Monotone
from mfg_fem.spacetime import Discretisation, Levels

log = logging.getLogger(__name__)

FORMAT = 1  # of the checkpoint files
SAME_POINT = 1e-6  # of the mean distance of nodes


def write(solution, path: str | Path, every: int = 1):
    """Write density, value function and velocity at the levels 0, every, ... for ParaView.

    Args:
        solution: what to write.
        path: `name.bp` (ADIOS2; holds P2 as P2) or `name.xdmf` (P2 as P1). Without ADIOS2 in
            DOLFINx a .bp becomes an .xdmf. The velocity is averaged to the nodes: see Frames.
        every: write every so many levels; the last one is always written.

    Raises:
        FileError: another suffix, or a folder that cannot be written.
    """
    path, comm = Path(path), solution.problem.domain.comm
    if path.suffix not in (".bp", ".xdmf"):
        raise FileError(f"{path}: ParaView files end in .bp or .xdmf, not {path.suffix!r}.")
    if every < 1:
        raise FileError(f"every must be 1 or more, not {every}.")
    if path.suffix == ".bp" and not dolfinx.has_adios2:
        path = path.with_suffix(".xdmf")
        if comm.rank == 0:
            log.warning("DOLFINx was built without ADIOS2: writing %s instead of .bp", path)
    make_folder(comm, path)
    probe = path.with_name(f".{path.stem}.probe")  # the libraries below may hang or abort instead
    on_root(comm, f"{path} cannot be written", lambda: (probe.touch(), probe.unlink()))

    if path.suffix == ".bp":
        from dolfinx.io import VTXWriter

        frames = Frames(solution, solution.scheme.degree)
        stream = VTXWriter(comm, path, [frames.density, frames.value, frames.velocity])
    else:
        mesh = solution.problem.domain.mesh
        frames = Frames(solution, mesh.ufl_domain().ufl_coordinate_element().embedded_superdegree)
        stream = _Xdmf(comm, path, frames)
    try:
        for n in chosen_levels(solution.steps, every):
            frames.show(n)
            stream.write(float(solution.times[n]))
    finally:
        stream.close()


def chosen_levels(steps: int, every: int) -> list[int]:
    """Levels 0, every, 2 every, ... and the last."""
    return sorted({*range(0, steps + 1, every), steps})


class _Xdmf:
    """XDMFFile with the one call that VTXWriter has."""

    def __init__(self, comm: MPI.Comm, path: Path, frames: Frames):
        self.file, self.frames = XDMFFile(comm, path, "w"), frames
        self.file.write_mesh(frames.value.function_space.mesh)
        self.close = self.file.close

    def write(self, t: float):
        for function in (self.frames.density, self.frames.value, self.frames.velocity):
            self.file.write_function(function, t)


def save(solution, path: str | Path):
    """Save a solution to one file that `load` reads on any number of ranks. Collective.

    The file is a zip of .npy members, which numpy.load reads too: `nodes` (coordinates), `times`,
    `u00000`, `m00000`, ... (nodal values, level by level) and `about` (JSON). It is written under
    another name and renamed: a save that fails leaves an older file as it was.

    Raises:
        FileError: the file cannot be written; on every rank.
    """
    path, comm = Path(path), solution.problem.domain.comm
    nodes = Nodes(solution.discrete.V)
    about = {
        "format": FORMAT,
        "problem": type(solution.problem).__name__,
        "scheme": type(solution.scheme).__name__,
        "scheme_fields": asdict(solution.scheme),
        "horizon": float(solution.problem.horizon),
        "population": float(solution.problem.population),
        "steps": solution.steps,
        "converged": bool(solution.converged),
        "reason": solution.reason,
        "seconds": float(solution.seconds),
        "history": solution.history,
    }
    context = f"{path} cannot be written"
    with replacing(comm, path) as temporary:
        archive = on_root(comm, context, lambda: zipfile.ZipFile(temporary, "w"))

        def put(name: str, array):
            on_root(comm, context, lambda: _put(archive, name, array))

        try:
            text = on_root(comm, context, lambda: json.dumps(about, default=float))
            put("about", text)
            put("nodes", nodes.x)
            put("times", solution.times)
            for n in range(solution.steps + 1):
                put(f"u{n:05d}", nodes.gather(solution.levels.u[n]))
                put(f"m{n:05d}", nodes.gather(solution.levels.m[n]))
        finally:
            on_root(comm, context, lambda: archive.close())


def _put(archive: zipfile.ZipFile, name: str, array):
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def _get(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    # Read whole, so that zipfile compares the checksum.
    return np.load(io.BytesIO(archive.read(f"{name}.npy")), allow_pickle=False)


@dataclass(frozen=True)
class Saved:
    """What a file says of a solution; its levels are read when a discretisation asks for them."""

    path: Path
    comm: MPI.Comm
    scheme: Monotone | Galerkin
    steps: int
    converged: bool
    reason: str
    history: list[dict]
    seconds: float

    def levels_on(self, discrete: Discretisation) -> Levels:
        """All levels on the dofs this rank owns. Collective.

        Raises:
            FileError: the file belongs to another mesh or degree, or is damaged.
        """
        comm, nodes, context = self.comm, Nodes(discrete.V), f"{self.path} cannot be read"
        archive = on_root(comm, context, lambda: zipfile.ZipFile(self.path))
        try:
            distance = on_root(comm, context, lambda: _mismatch(_get(archive, "nodes"), nodes.x))
            distance = comm.bcast(distance)
            require(
                comm,
                distance <= SAME_POINT,
                f"{self.path} was saved on another mesh than this problem's: "
                + (
                    "the number of nodes differs."
                    if np.isinf(distance)
                    else f"nodes lie up to {distance:.1e} mean node distances apart."
                ),
                FileError,
            )

            def get(name: str) -> np.ndarray:
                values = on_root(comm, context, lambda: _nodal(archive, name, len(nodes.x)))
                return nodes.scatter(values)

            shape = self.steps + 1, discrete.owned
            u, m = np.empty(shape), np.empty(shape)
            for n in range(self.steps + 1):
                u[n], m[n] = get(f"u{n:05d}"), get(f"m{n:05d}")
            return Levels(u, m)
        finally:
            if archive is not None:
                archive.close()


def _nodal(archive: zipfile.ZipFile, name: str, nodes: int) -> np.ndarray:
    values = _get(archive, name)
    if values.shape != (nodes,):
        raise ValueError(f"{name} has the shape {values.shape}, expected {(nodes,)}")
    return values.astype(np.float64)


def _mismatch(saved: np.ndarray, here: np.ndarray) -> float:
    """Largest distance of a node from its saved place, in mean node distances."""
    if saved.shape != here.shape:
        return np.inf
    nodes, d = here.shape
    spacing = np.ptp(here, axis=0).max() / max(nodes ** (1 / d), 1)
    return float(np.linalg.norm(saved - here, axis=1).max() / spacing)


def load(path: str | Path, problem) -> Saved:
    """Read what `save` wrote about a solution of this problem. Collective.

    Raises:
        FileError: no such file, not a saved solution, or one with another horizon.
    """
    path, comm = Path(path), problem.domain.comm

    def read() -> dict:
        with zipfile.ZipFile(path) as archive:
            about = json.loads(str(_get(archive, "about")))
        if about["format"] != FORMAT:
            raise ValueError(f"format {about['format']}, this version reads {FORMAT}")
        return about

    context = f"{path} cannot be read as a saved solution"
    about = comm.bcast(on_root(comm, context, read))
    if not np.isclose(about["horizon"], problem.horizon, rtol=1e-12, atol=0.0):
        raise FileError(
            f"{path} holds a solution with the horizon {about['horizon']:g}; this problem's is "
            f"{problem.horizon:g}."
        )
    for name, here in (("problem", type(problem).__name__), ("population", problem.population)):
        if about[name] != here and comm.rank == 0:
            log.warning("%s: its %s is %s, here it is %s", path, name, about[name], here)
    keys = ("steps", "converged", "reason", "history", "seconds")
    scheme = {"Monotone": Monotone, "Galerkin": Galerkin}[about["scheme"]]
    return Saved(path, comm, scheme(**about["scheme_fields"]), **{k: about[k] for k in keys})
