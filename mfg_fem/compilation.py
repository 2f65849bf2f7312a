"""Compiled forms and expressions, cached on disk: each complete, or not at all.

FFCx compiles in a folder that processes share, and a process that finds a half-compiled form there
waits for its end: in vain, in every run, if that compiler was killed. Here each form is compiled in
a new folder, which is renamed when it is complete. If two processes on any hosts compile the same
form, the slower one takes the folder of the faster one. A folder that others may have loaded from
is never changed; a damaged one is skipped.
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

# PLAIN is what DOLFINx compiles with. FAST is for kernels with many roots and small loops: sums may
# be reordered, roots set no errno, and loops over points and functions are unrolled (clang ignores
# the limit). NaN stays NaN, and no CPU's own instructions are used, as hosts may share the cache.
PLAIN = ["-O2", "-g0"]
FAST = [
    "-O3", "-g0", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros",
    "-fassociative-math", "-freciprocal-math", "--param=max-completely-peel-times=16",
]  # fmt: skip
WRITTEN_OUT = {1: 2000, 2: 600}  # most instructions of an unrolled loop, by degree; more slows P2
SCALAR = {"scalar_type": dolfinx.default_scalar_type}
WHOLE = "whole"  # the file that marks a complete folder
ABANDONED = 24 * 3600.0  # seconds; an older unfinished folder is a leftover of a killed process
PATIENCE = 60.0  # most seconds to wait for another process that compiles the same form


def compiled(form, degree: int | None = None):
    """Compile a UFL form or a list of them, optimised if a degree is given. Collective.

    Compiler flags that the user has set are kept. Raises CompileError on every rank.
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
    """Compile a UFL expression for these points of the reference cell. Collective.

    The labels of `ufl.variable` are stripped: they are numbered through a run, so that no cached
    expression would be found again. Raises CompileError on every rank.
    """
    expression = strip_variables(expand_derivatives(expression))
    comm = ufl.domain.extract_domains(expression)[0].ufl_cargo().comm
    options = _kept(comm, (expression, points), jit.get_options())
    return fem.Expression(expression, points, jit_options=options, dtype=SCALAR["scalar_type"])


def _kept(comm: MPI.Comm, ufl_object, options: dict) -> dict:
    """Return the options with a cache folder that has the object compiled. Collective."""
    folder, shared = None, options.pop("cache_dir") / "mfg_fem"
    context = f"A form cannot be compiled (is there a C compiler, and room in {shared}?)"
    with together(comm, CompileError, context):
        if comm.rank == 0:
            folder = _folder(shared, ufl_object, options)
    if comm.size > 1:
        folder = comm.bcast(folder)
        with together(comm, CompileError, context):
            if not _is_whole(folder):  # the folder is on the disk of another host
                folder = _folder(shared, ufl_object, options)
    return options | {"cache_dir": folder}


def _folder(shared: Path, ufl_object, options: dict) -> Path:
    """The folder of the compiled object: in the shared cache, else in a temporary one."""
    build = (sysconfig.get_config_var(name) for name in ("SOABI", "CFLAGS"))
    tag = str((sorted(options.items()), sorted(ffcx.get_options(SCALAR).items()), *build))
    name = compute_signature([ufl_object], tag)
    try:
        return _place(shared, name, ufl_object, options)
    except Exception as exc:  # foreign code may raise anything
        place = _place(_temporary(), name, ufl_object, options)
        if len(os.listdir(_temporary())) == 1:  # the first time
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
            logging.root.handlers = handlers  # FFCx drops them if it fails
        (new / WHOLE).write_text(_digest(new))
        try:
            os.rename(new, place)
        except OSError:
            if not _is_whole(place):  # renamed by a faster process
                raise
    return place


def _next_place(parent: Path, name: str) -> Path:
    """The first complete folder of this name, or the first name that is free."""
    places = (parent / f"{name}-{number}" for number in count())
    return next(place for place in places if _is_whole(place) or not place.exists())


@contextmanager
def _patience(lock: Path):
    """Wait for a process that compiles the same form: this saves work and is needed for no more."""
    with lock.open("w") as file:
        end = time.monotonic() + PATIENCE
        with suppress(OSError):  # this file system has no locks
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
    """Digest of the names of the files, and of the content of the shared libraries."""
    names = sorted(file.name for file in folder.iterdir() if file.name != WHOLE)
    digest = hashlib.sha256(repr(names).encode())
    for file in folder.glob("*.so"):
        digest.update(file.read_bytes())
    return digest.hexdigest()


@cache
def _temporary() -> Path:
    """A folder that is removed when this process ends."""
    folder = tempfile.mkdtemp(prefix="mfg_fem-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
