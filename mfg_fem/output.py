"""Files of a solution: time series for ParaView, saved ones that any number of ranks can read."""

import ctypes
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from mpi4py import MPI

import numpy as np

import dolfinx.io

from mfg_fem import archive
from mfg_fem.discretisation import Discretisation
from mfg_fem.errors import FileError, ProblemError, alike, together
from mfg_fem.files import file_path, replacing, reserving
from mfg_fem.frames import Frames, Nodes
from mfg_fem.schemes import Galerkin, Monotone
from mfg_fem.spacetime import Levels
from mfg_fem.validate import count

log = logging.getLogger(__name__)

# What a file says of itself, by types.
NUMBERS = ("step", "krylov", "forcing", "hjb", "fp", "du", "dm", "mass", "min_density")
ROW = {"stage": str, "form": str} | dict.fromkeys((*NUMBERS, "step_length"), float)
ABOUT = {"problem": str, "scheme": str, "scheme_fields": dict, "steps": int}
ABOUT |= {"horizon": float, "population": float}
OUTCOME = {"converged": bool, "reason": str, "tolerance": float, "seconds": float, "history": [ROW]}


def write(solution, path: str | Path, every: int = 1):
    """Write density, value function and velocity at the levels 0, every, ... for ParaView.

    Args:
        solution: what to write.
        path: `name.bp` (ADIOS2; holds P2 as P2) or `name.xdmf` (P2 as P1). Without ADIOS2 in
            DOLFINx a .bp becomes an .xdmf. The velocity is averaged to the nodes: see Frames.
        every: write every so many levels; the last one is always written.

    The files are written beside their place and moved there when they are complete. Before, as much
    space is occupied as they may take, and given back level by level. What remains is a disk that
    fails: then HDF5 may end the process, and ADIOS2 wait for ever on several ranks.

    Raises:
        FileError: another suffix, a folder that cannot be written or has no room; what was there is
            left as it was.
    """
    comm = solution.problem.domain.comm
    with together(comm):
        path = file_path(path)
        levels = chosen_levels(solution.steps, every)
        if path.suffix not in (".bp", ".xdmf"):
            raise FileError(f"{path}: ParaView files end in .bp or .xdmf, not {path.suffix!r}.")
    alike(comm, every=every, suffix=path.suffix)
    if path.suffix == ".bp" and not dolfinx.has_adios2:
        path = path.with_suffix(".xdmf")
        if comm.rank == 0:
            log.warning("DOLFINx was built without ADIOS2: writing %s instead of .bp", path)
    adios2, context = path.suffix == ".bp", f"{path} cannot be written"
    with replacing(comm, path, folder=adios2) as temporary:
        if adios2:
            family = "DG" if solution.problem.domain.seams else "Lagrange"
            frames = Frames(solution, solution.scheme.degree, family)
        else:
            element = solution.problem.domain.mesh.ufl_domain().ufl_coordinate_element()
            frames = Frames(solution, element.embedded_superdegree)
        first, each = _sizes(frames, mesh_once=not adios2)
        # Where a disk is full, both libraries end the process, or hang on several ranks.
        room, size = temporary.with_name("room"), first + each * len(levels)
        with reserving(comm, context, room, size) as free:
            free(first)
            try:
                _write_levels(frames, levels, temporary, lambda: free(each))
            except RuntimeError as exc:
                raise FileError(f"{context}: {exc}") from exc


def _write_levels(frames: Frames, levels: list[int], path: Path, ahead: Callable[[], None]):
    """Write the levels into a new file, with a call ahead of each."""
    functions, stream = [frames.density, frames.value, frames.velocity], None
    mesh = frames.value.function_space.mesh
    try:
        if path.suffix == ".bp":
            stream = dolfinx.io.VTXWriter(mesh.comm, path, functions)
        else:
            stream = dolfinx.io.XDMFFile(mesh.comm, path, "w")
            stream.write_mesh(mesh)
        for n in levels:
            frames.show(n)
            ahead()
            t = float(frames.solution.times[n])
            if path.suffix == ".bp":
                stream.write(t)
            else:
                for function in functions:
                    stream.write_function(function, t)
        stream.close()
    except RuntimeError:
        # Its destructor would fail too, and end the process: let it never be called.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(stream))
        raise


def chosen_levels(steps: int, every: int) -> list[int]:
    """Levels 0, every, 2 every, ... and the last."""
    return sorted({*range(0, steps + 1, count("every", every)), steps})


def _sizes(frames: Frames, mesh_once: bool) -> tuple[int, int]:
    """Bytes that the start of a file takes at most, and that each level does. Collective."""
    V = frames.value.function_space
    topology, comm = V.mesh.topology, V.mesh.comm
    maps = (V.dofmap.index_map, topology.index_map(topology.dim))
    here = np.array([i.size_local + i.num_ghosts for i in maps])
    nodes, cells = (int(k) for k in comm.allreduce(here, MPI.SUM))
    mesh = 8 * (5 * nodes + cells * (V.dofmap.list.shape[1] + 2))
    each = 8 * 5 * nodes + (0 if mesh_once else mesh)
    return mesh + 2**20, each + each // 4 + 2**15


def save(solution, path: str | Path, **more):
    """Save a solution to one file that `load` reads on any number of ranks. Collective.

    The file is a zip of .npy members, which numpy.load reads too: `nodes` (coordinates), `times`,
    `u00000`, `m00000`, ... (nodal values, level by level) and `about` (JSON). It is written under
    another name and renamed: a save that fails leaves an older file as it was.

    What stands in `more` is added to `about`.

    Raises:
        FileError: the file cannot be written; on every rank.
    """
    with together(solution.problem.domain.comm):
        path = file_path(path)
    about = description(solution.problem, solution.scheme, solution.steps) | {
        "converged": bool(solution.converged),
        "reason": solution.reason,
        "tolerance": float(solution.tolerance),
        "seconds": float(solution.seconds),
        "history": solution.history,
    }
    nodes = Nodes(solution.problem.domain, solution.discrete.V)
    with archive.write(path, nodes, about | more, times=solution.times) as put:
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
    tolerance: float
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
    comm = problem.domain.comm
    with together(comm):
        path = file_path(path)
    about = archive.about(comm, path, "saved solution")
    if "stage" in about:
        raise FileError(f"{path} is the checkpoint of a solve that has not finished.")
    archive.fit(path, about, ABOUT | OUTCOME)
    if not np.isclose(about["horizon"], problem.horizon, rtol=1e-12, atol=0.0):
        raise FileError(
            f"{path} holds a solution with the horizon {about['horizon']:g}; this problem's is "
            f"{problem.horizon:g}."
        )
    for name, here in (("problem", type(problem).__name__), ("population", problem.population)):
        if about[name] != here and comm.rank == 0:
            log.warning("%s: its %s is %s, here it is %s", path, name, about[name], here)
    try:
        scheme = {"Monotone": Monotone, "Galerkin": Galerkin}[about["scheme"]]
        scheme = scheme(**about["scheme_fields"])
    except (KeyError, TypeError, ProblemError) as exc:
        wanted = f"{about['scheme']} {about['scheme_fields']}"
        raise FileError(f"{path} is damaged, or of another version: no scheme {wanted}.") from exc
    if about["steps"] < 1:
        raise FileError(f"{path} is damaged: it has {about['steps']} steps.")
    return Saved(path, scheme, about["steps"], **{key: about[key] for key in OUTCOME})
