"""PETSc: options with a private prefix, reasons in words, lifetimes."""

from contextlib import contextmanager

from petsc4py import PETSc

PREFIX = "mfg_"


@contextmanager
def options(defaults: dict, user: dict):
    """Put options with the prefix `mfg_` into PETSc's database around a call, then take them out.

    The command line (and PETSC_OPTIONS) wins over `user`, which wins over `defaults`.
    Names are without the prefix: {"snes_monitor": None, "sweep_pc_type": "ilu"}.
    """
    database = PETSc.Options()
    ours = {
        PREFIX + key.removeprefix("-").removeprefix(PREFIX): value
        for key, value in (defaults | user).items()
    }
    ours = {key: value for key, value in ours.items() if not database.hasName(key)}
    try:
        for key, value in ours.items():
            database.setValue(key, value)
        yield
    finally:
        for key in ours:
            database.delValue(key)


def reason(obj) -> str:
    """The converged reason of a SNES, KSP or TAO in words."""
    code = obj.getConvergedReason()
    for name, value in vars(obj.ConvergedReason).items():
        if value == code and not name.startswith("_"):
            return name.lower().replace("_", " ")
    return f"reason {code}"
