"""PETSc options with the private prefix `mfg_`; errors and converged reasons in words."""

import ctypes
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path

from petsc4py import PETSc

import numpy as np

from mfg_fem.errors import MFGError, ProblemError
from mfg_fem.validate import is_integer

PREFIX = "mfg_"
PREFIXES = ("", "schur_", "hform_", "sweep_", "matched_", "start_")
COMMON = """
    snes_max_it snes_rtol snes_atol snes_monitor snes_view ksp_type ksp_rtol ksp_max_it ksp_monitor
    pc_type pc_factor_levels coarse_size wave_number tao_type tao_monitor tao_max_it tao_gttol
""".split()
NAME = re.compile(r"-?[A-Za-z]\w*", re.ASCII)
VIEWERS = ["", *"ascii binary draw socket matlab hdf5 vtk python cgns true false 1 0".split()]
LOST = -1  # PETSc's error code if the exception of a Python callback is lost
LATE = re.compile("view|monitor|converged_reason|test|log")  # read during a solve or after


@contextmanager
def options(ours: Mapping[str, object]):
    """Put options with the prefix `mfg_` into PETSc's database during a with block.

    Options that are there already, from the command line or PETSC_OPTIONS, win. Names have no
    prefix: {"snes_monitor": None, "sweep_pc_type": "ilu"}. If a name is given with and without the
    prefix, the later one wins.
    """
    check_names(ours)  # the user may have changed the dict
    database = PETSc.Options()
    ours = {
        PREFIX + key.removeprefix("-").removeprefix(PREFIX): value for key, value in ours.items()
    }
    ours = {key: value for key, value in ours.items() if not database.hasName(key)}
    try:
        for key, value in ours.items():
            database.setValue(key, value)
        yield
    finally:
        for key in ours:
            database.delValue(key)


def check_names(user):
    """Raise ProblemError unless `user` is a dict of names and integers that PETSc can take."""
    if not (isinstance(user, Mapping) and all(isinstance(name, str) for name in user)):
        raise ProblemError(
            f'petsc_options must be a dict of PETSc options such as {{"snes_monitor": None}}, not '
            f"{user!r}."
        )
    largest = np.iinfo(PETSc.IntType).max
    for name, value in user.items():
        if not NAME.fullmatch(name):
            raise ProblemError(f"petsc_options: {name!r} cannot be the name of an option.")
        if is_integer(value) and not -largest <= value <= largest:
            raise ProblemError(f"petsc_options[{name!r}] is too large an integer for PETSc.")


def words(error: PETSc.Error) -> str:
    """The message of a PETSc error, without the rank: the same on every rank."""
    if error.ierr == LOST:
        return "an exception in Python, of which PETSc has lost what it was, such as an interrupt"
    return re.sub(r"^\[\d+\] ", "", str(error).splitlines()[-1]).rstrip(".")


def from_outside() -> list[str]:
    """Our options on the command line or in PETSC_OPTIONS, without prefix; not inside `options`."""
    names = PETSc.Options().getAll()
    return [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)]


def check_read(names: Iterable[str], read: Callable[[], None]):
    """Refuse options of these names that `read` does not ask PETSc for. Collective.

    The names are in PETSc's database, here with or without prefix; `read` sets up every object that
    has options. Raises ProblemError on every rank, also if PETSc refuses a value.
    """
    names = [name.removeprefix("-").removeprefix(PREFIX) for name in names]
    for name in names:
        if LATE.search(name):
            _check_viewer(name)
    try:
        read()
    except PETSc.Error as error:
        if isinstance(error.__cause__, MFGError):
            raise error.__cause__ from None
        reason = error.__cause__ or words(error)
        raise ProblemError(f"PETSc refuses an option: {reason}.") from error
    library, flag = ctypes.CDLL(PETSc.__file__), ctypes.c_uint64()
    for name in names:
        library.PetscOptionsUsed(None, f"{PREFIX}{name}".encode(), ctypes.byref(flag))
        if flag.value & 0xFF or LATE.search(name):  # PetscBool has one byte or four
            continue
        known = {*from_outside(), *(prefix + end for prefix in PREFIXES for end in COMMON)}
        known -= {*names}
        near = [f"-{PREFIX}{k}" for k in difflib.get_close_matches(name, known)]
        raise ProblemError(
            f"Nothing here has the PETSc option -{PREFIX}{name}. "
            + (f"Do you mean {' or '.join(near)}?" if near else "See help(mfg_fem.Newton).")
        )


def _check_viewer(name: str):
    """Refuse a viewer that cannot open its file: during the solve only rank 0 would fail."""
    kind, _, rest = PETSc.Options().getString(f"{PREFIX}{name}", "").partition(":")
    path = Path(rest.split(":")[0] or "stdout")
    if kind not in VIEWERS or not path.parent.is_dir() or path.is_dir():
        raise ProblemError(
            f"-{PREFIX}{name} prints to no place that there is: give it no value, or one such as "
            "ascii:file.txt in a folder that exists."
        )


def reason(obj) -> str:
    """The converged reason of a SNES, KSP or TAO in words."""
    code = obj.getConvergedReason()
    for name, value in vars(obj.ConvergedReason).items():
        if value == code and not name.startswith("_"):
            return name.lower().replace("_", " ")
    return f"reason {code}"
