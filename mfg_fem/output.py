"""Files of a solution: time series for ParaView, saved ones that any number of ranks can read."""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path

from mpi4py import MPI

import numpy as np

import dolfinx
from dolfinx.io import XDMFFile

from mfg_fem import archive
from mfg_fem.discretisation import Discretisation
from mfg_fem.errors import FileError
from mfg_fem.files import make_folder, on_root
from mfg_fem.frames import Frames, Nodes
from mfg_fem.schemes import Galerkin, Monotone
from mfg_fem.spacetime import Levels

log = logging.getLogger(__name__)


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

        family = "DG" if solution.problem.domain.seams else "Lagrange"
        frames = Frames(solution, solution.scheme.degree, family)
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


def save(solution, path: str | Path, mark: str | None = None, **more):
    """Save a solution to one file that `load` reads on any number of ranks. Collective.

    The file is a zip of .npy members, which numpy.load reads too: `nodes` (coordinates), `times`,
    `u00000`, `m00000`, ... (nodal values, level by level) and `about` (JSON). It is written under
    another name and renamed: a save that fails leaves an older file as it was.

    The mark names the temporary file: see `files.replacing`; `more` is added to `about`.

    Raises:
        FileError: the file cannot be written; on every rank.
    """
    about = description(solution.problem, solution.scheme, solution.steps) | {
        "converged": bool(solution.converged),
        "reason": solution.reason,
        "seconds": float(solution.seconds),
        "history": solution.history,
    }
    nodes = Nodes(solution.problem.domain, solution.discrete.V)
    with archive.write(Path(path), nodes, about | more, mark, times=solution.times) as put:
        put("u", solution.levels.u)
        put("m", solution.levels.m)


def description(problem, scheme: Monotone | Galerkin, steps: int) -> dict:
    """What a file says of the problem it belongs to."""
    return {
        "problem": type(problem).__name__,
        "scheme": type(scheme).__name__,
        "scheme_fields": asdict(scheme),
        "horizon": float(problem.horizon),
        "population": float(problem.population),
        "steps": int(steps),
    }


@dataclass(frozen=True)
class Saved:
    """What a file says of a solution; its levels are read when a discretisation asks for them."""

    path: Path
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
        with archive.read(self.path, Nodes(discrete.problem.domain, discrete.V)) as get:
            return Levels(get("u", self.steps + 1), get("m", self.steps + 1))


def load(path: str | Path, problem) -> Saved:
    """Read what `save` wrote about a solution of this problem. Collective.

    Raises:
        FileError: no such file, not a saved solution, or one with another horizon.
    """
    path, comm = Path(path), problem.domain.comm
    about = archive.about(comm, path, "saved solution")
    if "stage" in about:
        raise FileError(f"{path} is the checkpoint of a solve that has not finished.")
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
    return Saved(path, scheme(**about["scheme_fields"]), **{k: about[k] for k in keys})
