"""Compiled forms: killed, damaged or without a place, the next run is none the worse for it."""

import fcntl
import logging
import os
import re
import time
from itertools import count
from pathlib import Path

from mpi4py import MPI

import numpy as np
import pytest
from faults import forked, no_file_grows_beyond
from ranks import serial_only

import ufl
from dolfinx import fem, jit

import mfg_fem as mfg
from mfg_fem import compilation
from mfg_fem.compilation import compiled, pointwise

COMM = MPI.COMM_WORLD
NUMBERS = count(3)
CENTRE = np.array([[1 / 3, 1 / 3]])


def new_form():
    """A form that has not been compiled, and its value."""
    n = next(NUMBERS)
    x = ufl.SpatialCoordinate(mfg.box((1.0, 1.0), 2).mesh)
    return x[0] ** n * ufl.dx, 1 / (n + 1)


def value(form) -> float:
    return COMM.allreduce(fem.assemble_scalar(compiled(form)), MPI.SUM)


@pytest.fixture
def kept(tmp_path, monkeypatch) -> Path:
    """The folder of compiled forms, empty, the same on every rank."""
    folder = COMM.bcast(tmp_path) / "fenics"
    monkeypatch.setitem(jit.DOLFINX_DEFAULT_JIT_OPTIONS, "cache_dir", (folder, ""))
    return folder / "mfg_fem"


def whole(kept) -> list[Path]:
    COMM.Barrier()
    return sorted(place for place in kept.iterdir() if not place.name.startswith("."))


def test_dolfinx_finds_what_was_compiled_and_compiles_nothing_itself(kept):
    form, wanted = new_form()
    x = ufl.SpatialCoordinate(form.ufl_domain())
    for _ in range(2):
        assert value(form) == pytest.approx(wanted)
        compiled([form], degree=1)
        pointwise(ufl.as_vector([x[0], ufl.sin(x[1])]), CENTRE)
    assert [len(list(place.glob("*.c"))) for place in whole(kept)] == [1, 1, 1]


COMPILER = """#!/bin/sh
echo >>"$0.calls"
case " $* " in *" -c "*) step=compiling ;; *) step=linking ;; esac
hang() { if [ "$1 $step" = "$HANG" ]; then touch "$0.hangs"; sleep 100; fi; }
hang before && gcc "$@" && hang after
"""
may_fork = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
MOMENTS = ("", "before compiling", "after compiling", "after linking")  # the first: generating C


@pytest.fixture
def compiler(tmp_path, monkeypatch) -> Path:
    script = tmp_path / "cc"
    script.write_text(COMPILER)
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    return script


def folder(kept, form):
    """Where it is kept, without MPI."""
    options = jit.get_options()
    del options["cache_dir"]
    return compilation._folder(kept, form, options)


@serial_only
@may_fork
@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_in_a_compilation_the_next_run_compiles_at_once(kept, compiler, moment, monkeypatch):
    form, wanted = new_form()
    monkeypatch.setenv("HANG", moment)
    with forked(lambda: folder(kept, form)):
        while not (
            list(kept.glob(".*/*/*.c")) and (not moment or Path(f"{compiler}.hangs").exists())
        ):
            time.sleep(0.001)
    monkeypatch.setenv("HANG", "")
    assert not whole(kept)
    began = time.monotonic()
    assert value(form) == pytest.approx(wanted)
    assert time.monotonic() - began < 8  # DOLFINx would wait for 10
    assert len(whole(kept)) == 1


@serial_only
@may_fork
def test_of_two_processes_one_compiles(kept, compiler):
    form, wanted = new_form()
    with forked(lambda: folder(kept, form)), forked(lambda: folder(kept, form)):
        while not (kept.exists() and whole(kept)):
            time.sleep(0.001)
    assert value(form) == pytest.approx(wanted)
    assert len(Path(f"{compiler}.calls").read_text()) == 2  # to compile and to link
    assert len(whole(kept)) == 1


def test_nobody_waits_long_for_a_process_that_was_stopped(kept, monkeypatch):
    monkeypatch.setattr(compilation, "PATIENCE", 0.1)
    monkeypatch.setattr(fcntl, "flock", busy)
    form, wanted = new_form()
    assert value(form) == pytest.approx(wanted)


def busy(*_):
    raise BlockingIOError


@pytest.mark.parametrize("how", ["half of it", "nothing", "none", "no mark of FFCx"])
def test_what_is_damaged_is_compiled_anew(kept, how):
    form, wanted = new_form()
    assert value(form) == pytest.approx(wanted)
    (place,) = whole(kept)
    if COMM.rank == 0:
        (library,), (mark,) = place.glob("*.so"), place.glob("*.cached")
        if how == "no mark of FFCx":
            mark.unlink()
        else:  # this process has the file open: change another of the name
            content = library.read_bytes()
            library.unlink()
            if how != "none":
                library.write_bytes(content[: len(content) // 2 if how == "half of it" else 0])
    COMM.Barrier()
    assert value(form) == pytest.approx(wanted)
    assert len(whole(kept)) == 2
    assert value(form) == pytest.approx(wanted)
    assert len(whole(kept)) == 2


def test_without_a_folder_of_its_own_a_run_uses_another_and_says_so_once(
    kept, monkeypatch, caplog, tmp_path
):
    temporary = COMM.bcast(tmp_path) / "temporary"
    monkeypatch.setattr(compilation, "_temporary", lambda: temporary)
    if COMM.rank == 0:
        temporary.mkdir()
        kept.parent.write_text("a file in the way")
    COMM.Barrier()
    for _ in range(2):
        form, wanted = new_form()
        assert value(form) == pytest.approx(wanted)
    assert len(whole(temporary)) == 2
    assert caplog.text.count("compiled forms cannot be kept") == (COMM.rank == 0)


def test_a_folder_that_is_read_only_is_read(kept):
    """As root nothing is read-only; but nothing may be written where a form is there."""
    form, wanted = new_form()
    assert value(form) == pytest.approx(wanted)
    before = {path: path.stat().st_mtime_ns for path in kept.rglob("*")}
    assert value(form) == pytest.approx(wanted)
    assert {path: path.stat().st_mtime_ns for path in kept.rglob("*")} == before


def test_without_a_compiler_there_is_one_error_on_every_rank_and_the_log_goes_on(
    kept, monkeypatch, caplog
):
    form, wanted = new_form()
    with monkeypatch.context() as patch:
        patch.setenv("CC", "/no/compiler/here")
        handlers = logging.root.handlers.copy()
        with pytest.raises(mfg.CompileError, match=r"C compiler.*/no/compiler/here"):
            compiled(form)
        assert logging.root.handlers == handlers
    assert value(form) == pytest.approx(wanted)


def test_on_a_full_disk_there_is_one_error_and_later_none(kept):
    form, wanted = new_form()
    with no_file_grows_beyond(2000), pytest.raises(mfg.CompileError, match="room in"):
        compiled(form)
    assert value(form) == pytest.approx(wanted)


def test_leftovers_of_killed_compilations_go_after_a_day(kept):
    if COMM.rank == 0:
        for name, age in ((".old", 90_000), (".new", 80_000)):
            (kept / name).mkdir(parents=True)
            os.utime(kept / name, times=2 * (time.time() - age,))
    COMM.Barrier()
    value(new_form()[0])
    COMM.Barrier()
    assert (kept / ".new").exists() and not (kept / ".old").exists()


def test_all_forms_of_the_package_are_compiled_here():
    package = Path(mfg.__file__).parent
    bare = re.compile(r"\bfem\.(form|Expression)\(|\bffcx_jit\(")
    found = {path.name for path in package.rglob("*.py") if bare.search(path.read_text())}
    assert found == {"compilation.py"}
