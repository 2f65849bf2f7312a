"""Compiled forms and expressions, kept for later runs whole or not at all.

FFCx compiles in a folder that processes share, and who finds a form half compiled there waits for
the end: in vain, each time, if that compiler was killed. So here each form is compiled in a new
folder, which is renamed when it is whole; of two processes that do so, on any hosts, the slower one
takes what the faster one made. No folder that others may have loaded from is changed: one that was
damaged is passed over.
"""

import atexit
import fcntl
import hashlib
import logging
import os
import shutil
import sysconfig
import tempfile
import time
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path

from mpi4py import MPI

import numpy as np

import dolfinx
import ffcx
import ufl
from dolfinx import fem, jit
from ffcx.naming import compute_signature
from ufl.algorithms import expand_derivatives, strip_variables

from mfg_fem.errors import CompileError, together

log = logging.getLogger(__name__)

# What DOLFINx compiles with, and what takes half of the time from kernels with many roots and small
# loops: sums may be reordered, roots set no errno, and loops over points and functions are written
# out (clang has no such limit and ignores it). NaN stays NaN, and no CPU's own instructions are
# used, as a folder of compiled forms may be shared.
PLAIN = ["-O2", "-g0"]
FAST = [
    "-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros",
    "-fassociative-math", "-freciprocal-math", "--param=max-completely-peel-times=16",
]  # fmt: skip
WRITTEN_OUT = {1: 2000, 2: 600}  # instructions a loop, by degree: with more, P2 gets slower
SCALAR = {"scalar_type": dolfinx.default_scalar_type}
WHOLE = "whole"  # the file that says so
ABANDONED = 24 * 3600.0  # seconds after which an unfinished folder is a leftover
PATIENCE = 60.0  # seconds to wait at most for another process that compiles the same


def compiled(form, degree: int | None = None):
    """UFL forms, one or a list, compiled: for speed if a degree is given. Collective.

    Flags that the user has set are kept.

    Raises:
        CompileError: there is no compiler, no room, or FFCx does not know a term; on every rank.
    """
    if isinstance(form, list | tuple):
        return [compiled(part, degree) for part in form]
    options = jit.get_options()
    if degree and options["cffi_extra_compile_args"] == PLAIN:
        limit = f"--param=max-completely-peeled-insns={WRITTEN_OUT[degree]}"
        options["cffi_extra_compile_args"] = [*FAST, limit]
    comm = form.ufl_domain().ufl_cargo().comm
    return fem.form(form, jit_options=_kept(comm, form, options))


def pointwise(expression, points: np.ndarray) -> fem.Expression:
    """A UFL expression compiled for these points of the reference cell. Collective.

    Labels of `ufl.variable` are numbered through, and with them no compiled expression would be
    found again.

    Raises:
        CompileError: there is no compiler, no room, or FFCx does not know a term; on every rank.
    """
    expression = strip_variables(expand_derivatives(expression))
    comm = ufl.domain.extract_domains(expression)[0].ufl_cargo().comm
    options = _kept(comm, (expression, points), jit.get_options())
    return fem.Expression(expression, points, jit_options=options, dtype=SCALAR["scalar_type"])


def _kept(comm: MPI.Comm, ufl_object, options: dict) -> dict:
    """The options, with a folder in which DOLFINx finds the object compiled. Collective."""
    folder, shared = None, options.pop("cache_dir") / "mfg_fem"
    context = f"A form cannot be compiled (is there a C compiler, and room in {shared}?)"
    with together(comm, CompileError, context):
        if comm.rank == 0:
            folder = _folder(shared, ufl_object, options)
    if comm.size > 1:
        folder = comm.bcast(folder)
        with together(comm, CompileError, context):
            if not _is_whole(folder):  # it is on the disk of another host
                folder = _folder(shared, ufl_object, options)
    return options | {"cache_dir": folder}


def _folder(shared: Path, ufl_object, options: dict) -> Path:
    """The folder of the compiled object, in the shared one if that can be."""
    build = (sysconfig.get_config_var(name) for name in ("SOABI", "CFLAGS"))
    tag = str((sorted(options.items()), sorted(ffcx.get_options(SCALAR).items()), *build))
    name = compute_signature([ufl_object], tag)
    try:
        return _place(shared, name, ufl_object, options)
    except Exception as exc:  # foreign code may raise anything
        place = _place(_temporary(), name, ufl_object, options)
        if len(os.listdir(_temporary())) == 1:  # said once
            log.warning("compiled forms cannot be kept for other runs in %s: %s", shared, exc)
        return place


def _place(parent: Path, name: str, ufl_object, options: dict) -> Path:
    place = _next_place(parent, name)
    if place.exists():
        return place
    parent.mkdir(parents=True, exist_ok=True)
    for leftover in parent.glob(".*"):
        with suppress(FileNotFoundError):
            if time.time() - leftover.stat().st_mtime > ABANDONED:
                shutil.rmtree(leftover, ignore_errors=True)
    with _patience(parent / f".{name}"), tempfile.TemporaryDirectory(prefix=".", dir=parent) as own:
        place = _next_place(parent, name)
        if place.exists():
            return place
        new = Path(own, name)
        handlers = logging.root.handlers.copy()
        try:
            jit.ffcx_jit(MPI.COMM_SELF, ufl_object, dict(SCALAR), options | {"cache_dir": new})
        finally:
            logging.root.handlers = handlers  # FFCx forgets them where it fails
        (new / WHOLE).write_text(_digest(new))
        try:
            os.rename(new, place)
        except OSError:
            if not _is_whole(place):  # by a faster process
                raise
    return place


def _next_place(parent: Path, name: str) -> Path:
    """The first folder that is whole, or the first name that is not taken."""
    places = (parent / f"{name}-{number}" for number in count())
    return next(place for place in places if _is_whole(place) or not place.exists())


@contextmanager
def _patience(lock: Path):
    """Wait some time for a process that compiles the same form. It saves work and no more."""
    with lock.open("w") as file:
        end = time.monotonic() + PATIENCE
        with suppress(OSError):  # no locks here
            while time.monotonic() < end:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.02)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _is_whole(folder: Path) -> bool:
    try:
        return (folder / WHOLE).read_text() == _digest(folder)
    except (OSError, ValueError):
        return False


def _digest(folder: Path) -> str:
    """Of the names of the files, and of what is loaded from them."""
    names = sorted(file.name for file in folder.iterdir() if file.name != WHOLE)
    digest = hashlib.sha256(repr(names).encode())
    for file in folder.glob("*.so"):
        digest.update(file.read_bytes())
    return digest.hexdigest()


@cache
def _temporary() -> Path:
    """A folder of this run."""
    folder = tempfile.mkdtemp(prefix="mfg_fem-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
