"""Time series of a solution for ParaView."""

import ctypes
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mpi4py import MPI

import numpy as np

import dolfinx.io

from mfg_fem.errors import FileError, alike, needs, together
from mfg_fem.io.files import file_path, replacing, reserving
from mfg_fem.io.vtkhdf import Series
from mfg_fem.validate import count

log = logging.getLogger(__name__)


def write(solution, path: str | Path, every: int = 1, kind: Callable | None = None):
    """Write the fields of a solution at the levels 0, every, ... for ParaView.

    Of games and controls they are density, value function and velocity.

    Args:
        solution: what to write.
        path: `name.bp` (ADIOS2, for ParaView alone), `name.vtkhdf` (one file, for PyVista too;
            needs h5py) or `name.xdmf` (P2 as P1). Without ADIOS2 in DOLFINx a .bp becomes an .xdmf.
            The velocity is averaged to the nodes: see Frames.
        every: write every so many levels; the last one is always written.
        kind: what makes the Functions that are written, `solution.frames` by default.

    The files are written beside their place and moved there when they are complete. The space they
    may take is reserved first and released level by level, so that a full disk is an error here. If
    a disk fails, HDF5 may still end the process, and ADIOS2 wait for ever on several ranks.

    Raises:
        FileError: another suffix, a folder that cannot be written or has no room; what was there is
            left as it was.
    """
    comm, kind = solution.problem.domain.comm, kind or solution.frames
    with together(comm):
        path = file_path(path)
        levels = chosen_levels(solution.steps, every)
        if path.suffix not in (".bp", ".vtkhdf", ".xdmf"):
            raise FileError(
                f"{path}: ParaView files end in .bp, .vtkhdf or .xdmf, not {path.suffix!r}."
            )
        if path.suffix == ".vtkhdf":
            needs("h5py", "h5py")
    alike(comm, every=every, suffix=path.suffix)
    if path.suffix == ".bp" and not dolfinx.has_adios2:
        path = path.with_suffix(".xdmf")
        if comm.rank == 0:
            log.warning("DOLFINx was built without ADIOS2: writing %s instead of .bp", path)
    adios2, context = path.suffix == ".bp", f"{path} cannot be written"
    with replacing(comm, path, folder=adios2) as temporary:
        if path.suffix != ".xdmf":
            family = "DG" if solution.problem.domain.seams else "Lagrange"
            frames = kind(solution.scheme.degree, family)
        else:
            element = solution.problem.domain.mesh.ufl_domain().ufl_coordinate_element()
            frames = kind(element.embedded_superdegree)
        first, each = _sizes(frames, mesh_once=not adios2)
        # On a full disk both libraries would end the process, or hang on several ranks.
        room, size = temporary.with_name("room"), first + each * len(levels)
        with reserving(comm, context, room, size) as free:
            free(first)
            try:
                _write_levels(frames, levels, temporary, context, lambda: free(each))
            except RuntimeError as exc:
                raise FileError(f"{context}: {exc}") from exc


def _write_levels(frames, levels: list[int], path: Path, context: str, ahead: Callable[[], None]):
    """Write the levels into a new file, and call `ahead` before each."""
    functions = frames.functions
    stream: Any = None
    mesh = functions[0].function_space.mesh
    try:
        if path.suffix == ".bp":
            stream = dolfinx.io.VTXWriter(mesh.comm, path, functions)
        elif path.suffix == ".vtkhdf":
            stream = Series(mesh.comm, path, functions, context)
        else:
            stream = dolfinx.io.XDMFFile(mesh.comm, path, "w")
            stream.write_mesh(mesh)
        for n in levels:
            frames.show(n)
            ahead()
            t = float(frames.solution.times[n])
            if path.suffix == ".xdmf":
                for function in functions:
                    stream.write_function(function, t)
            else:
                stream.write(t)
        stream.close()
    except RuntimeError:
        # The destructor of the stream would fail too, and end the process: it must never run.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(stream))
        raise


def chosen_levels(steps: int, every: int) -> list[int]:
    """Levels 0, every, 2 every, ... and the last."""
    return sorted({*range(0, steps + 1, count("every", every)), steps})


def _sizes(frames, mesh_once: bool) -> tuple[int, int]:
    """Upper bounds of the bytes of a file before the first level, and of each level. Collective."""
    V = frames.density.function_space
    numbers = sum(1 + 2 * len(y.ufl_shape) for y in frames.functions)
    topology, comm = V.mesh.topology, V.mesh.comm
    maps = (V.dofmap.index_map, topology.index_map(topology.dim))
    here = np.array([i.size_local + i.num_ghosts for i in maps])
    nodes, cells = (int(k) for k in comm.allreduce(here, MPI.SUM))
    mesh = 8 * (5 * nodes + cells * (V.dofmap.list.shape[1] + 2))
    each = 8 * numbers * nodes + (0 if mesh_once else mesh)
    return mesh + 2**20, each + each // 4 + 2**15
