"""Bad input is refused before anything is solved, in words that name it, on every rank alike.

Run as a script on several ranks, this module prints what each bad input raised.
"""

import tempfile
from functools import cache
from pathlib import Path

from mpi4py import MPI

import numpy as np
import pytest
from cases import default, jittered
from ranks import leave_numbers, numbers_on, once, raised, serial_only

import ufl
from dolfinx import fem, jit
from dolfinx import mesh as dmesh

import mfg_fem as mfg

COMM = MPI.COMM_WORLD
MESH, PROBLEM = mfg.MeshError, mfg.ProblemError


@cache
def square() -> mfg.Domain:
    return mfg.box((1, 1), 4)


@cache
def good_solution(n: int = 4, degree: int = 1) -> mfg.Solution:
    return mfg.solve(default(mfg.box((1, 1), n)), 2, mfg.Galerkin(degree))


@cache
def folder() -> Path:
    return Path(COMM.bcast(tempfile.mkdtemp() if COMM.rank == 0 else None))


def build(**data):
    """A problem with one thing wrong."""
    return lambda: default(square(), **data)


def solve(steps=2, scheme=None, method=None, **keywords):
    return lambda: mfg.solve(default(square()), steps, scheme, method, **keywords)


def read(name: str, text: str | bytes):
    def attempt():
        path = folder() / name
        if COMM.rank == 0:
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        COMM.Barrier()
        return mfg.read_mesh(path, COMM)

    return attempt


def matrix(rows):
    return lambda x: ufl.as_matrix(rows)


def norm2(p):
    return ufl.dot(p, p)


def wrong_rank(value, wrong):
    """A callable that differs on the last rank."""
    return wrong if COMM.rank == COMM.size - 1 else value


def fail(*_):
    raise RuntimeError("the file of the map is missing")


NAN = float("nan")
SQUARE = "SetFactory('OpenCASCADE'); Rectangle(1) = {0, 0, 0, 1, 1}; MeshSize {:} = 0.5;\n"

# what is wrong: (attempt, error, words its message must have)
BAD = {
    # numbers
    "diffusion negative": (build(diffusion=-0.1), PROBLEM, "diffusion"),
    "diffusion zero": (build(diffusion=0.0), PROBLEM, "diffusion"),
    "diffusion nan": (build(diffusion=NAN), PROBLEM, "diffusion"),
    "diffusion infinite": (build(diffusion=float("inf")), PROBLEM, "diffusion"),
    "diffusion a string": (build(diffusion="0.1"), PROBLEM, "diffusion"),
    "diffusion none": (build(diffusion=None), PROBLEM, "diffusion"),
    "diffusion negative somewhere": (build(diffusion=lambda x: x[0] - 0.5), PROBLEM, "diffusion"),
    "diffusion indefinite": (build(diffusion=matrix([[1, 2], [2, 1]])), PROBLEM, "diffusion"),
    "diffusion asymmetric": (build(diffusion=matrix([[1, 0.1], [0, 1]])), PROBLEM, "symmetric"),
    "diffusion a vector": (build(diffusion=lambda x: x), PROBLEM, "diffusion"),
    "horizon zero": (build(horizon=0), PROBLEM, "horizon"),
    "horizon infinite": (build(horizon=float("inf")), PROBLEM, "horizon"),
    "horizon a string": (build(horizon="1"), PROBLEM, "horizon"),
    "horizon a bool": (build(horizon=True), PROBLEM, "horizon"),
    "population zero": (build(population=0), PROBLEM, "population"),
    "population negative": (build(population=-1.0), PROBLEM, "population"),
    "population nan": (build(population=NAN), PROBLEM, "population"),
    # density
    "density vanishes": (build(initial_density=lambda x: 0.0), PROBLEM, "initial_density"),
    "density outside": (
        build(initial_density=lambda x: ufl.conditional(ufl.gt(x[0], 9), 1.0, 0.0)),
        PROBLEM,
        "initial_density",
    ),
    "density negative": (build(initial_density=lambda x: x[0] - 0.5), PROBLEM, "initial_density"),
    "density nan": (build(initial_density=lambda x: ufl.ln(x[0] - 2)), PROBLEM, "initial_density"),
    "density on the exit only": (
        lambda: mfg.solve(
            build(
                initial_density=lambda x: ufl.conditional(ufl.lt(x[0], 0.1), 1.0, 0.0),
                boundary={"left": mfg.Exit()},
            )(),
            2,
        ),
        PROBLEM,
        "initial_density",
    ),
    # costs
    "running cost nan": (build(running_cost=lambda x, t, m: NAN), PROBLEM, "running_cost"),
    "running cost infinite": (
        build(running_cost=lambda x, t, m: 1 / (x[0] - 0.5)),
        PROBLEM,
        "running_cost",
    ),
    "running cost nan later": (
        build(running_cost=lambda x, t, m: ufl.sqrt(0.5 - t)),
        PROBLEM,
        "running_cost",
    ),
    "running cost a number": (build(running_cost=1.0), PROBLEM, "running_cost"),
    "running cost a vector": (build(running_cost=lambda x, t, m: x), PROBLEM, "running_cost"),
    "running cost text": (build(running_cost=lambda x, t, m: "1"), PROBLEM, "running_cost"),
    "running cost none": (build(running_cost=lambda x, t, m: None), PROBLEM, "running_cost"),
    "running cost signature": (build(running_cost=lambda x, m: m), PROBLEM, "running_cost"),
    "running cost fails": (build(running_cost=fail), PROBLEM, "running_cost.*file of the map"),
    "terminal cost nan": (build(terminal_cost=lambda x, m: ufl.ln(-m)), PROBLEM, "terminal_cost"),
    "terminal cost of grad m": (
        build(terminal_cost=lambda x, m: norm2(ufl.grad(m))),
        PROBLEM,
        "terminal_cost",
    ),
    "source nan": (build(source=lambda x, t: ufl.ln(-1 - x[0])), PROBLEM, "source"),
    "source a number": (build(source=1.0), PROBLEM, "source"),
    "source signature": (build(source=lambda x: 1.0), PROBLEM, "source"),
    # hamiltonians
    "hamiltonian concave": (
        build(hamiltonian=lambda x, p, m: -norm2(p) / 2),
        PROBLEM,
        "hamiltonian.*convex",
    ),
    "hamiltonian two wells": (
        build(hamiltonian=lambda x, p, m: norm2(p) ** 2 - 2 * norm2(p)),
        PROBLEM,
        "hamiltonian.*convex",
    ),
    "hamiltonian with a kink": (
        build(hamiltonian=lambda x, p, m: norm2(p) ** 0.75),
        PROBLEM,
        "hamiltonian",
    ),
    "hamiltonian a vector": (build(hamiltonian=lambda x, p, m: p), PROBLEM, "hamiltonian"),
    "hamiltonian signature": (build(hamiltonian=lambda p: norm2(p)), PROBLEM, "hamiltonian"),
    "hamiltonian nan": (
        build(hamiltonian=lambda x, p, m: norm2(p) / (x[0] - 0.5)),
        PROBLEM,
        "hamiltonian",
    ),
    "hamiltonian a string": (build(hamiltonian="quadratic"), PROBLEM, "hamiltonian"),
    # boundary and mesh
    "boundary unknown": (
        build(boundary={"doors": mfg.Exit()}),
        MESH,
        "'doors'.*bottom, left, right, top",
    ),
    "boundary a list": (build(boundary=["left"]), PROBLEM, "boundary"),
    "boundary not an exit": (build(boundary={"left": 0.0}), PROBLEM, "boundary.*'left'"),
    "boundary cost nan": (build(boundary={"left": mfg.Exit(NAN)}), PROBLEM, "boundary.*'left'"),
    "boundary cost text": (build(boundary={"left": mfg.Exit("no")}), PROBLEM, "boundary.*'left'"),
    "boundary without facets": (
        lambda: default(
            mfg.Domain(square().mesh, square().facet_tags, {"gate": 77}),
            boundary={"gate": mfg.Exit()},
        ),
        MESH,
        "gate",
    ),
    "quadrilaterals": (
        lambda: mfg.MeanFieldGame(
            dmesh.create_unit_square(COMM, 4, 4, cell_type=dmesh.CellType.quadrilateral),
            **ARGUMENTS,
        ),
        MESH,
        "quadrilateral",
    ),
    "no mesh": (lambda: mfg.MeanFieldGame("hall.msh", **ARGUMENTS), MESH, "domain"),
    "names without tags": (lambda: mfg.Domain(square().mesh, None, {"a": 1}), MESH, "facet_tags"),
    "box of no length": (lambda: mfg.box((1, 0), 4), MESH, "lengths"),
    "box of no cells": (lambda: mfg.box((1, 1), 0), MESH, "cells"),
    "box of half cells": (lambda: mfg.box((1, 1), 2.5), MESH, "cells"),
    # mesh files
    "mesh file missing": (lambda: mfg.read_mesh("nowhere.msh", COMM), MESH, "nowhere.msh"),
    "mesh file is a folder": (lambda: mfg.read_mesh("tests", COMM), MESH, "tests"),
    "mesh file of another kind": (read("mesh.stl", "solid"), MESH, r"\.stl"),
    "mesh file without names": (read("a.geo", SQUARE), MESH, "physical group"),
    "mesh file not a mesh": (read("b.msh", b"\x00\x01 nothing"), MESH, "b.msh"),
    "mesh file with a mistake": (read("c.geo", "Rectangle(1) = {0, 0"), MESH, "c.geo"),
    "mesh file empty": (read("d.msh", ""), MESH, "d.msh"),
    "mesh file with quadrilaterals": (
        read("e.geo", SQUARE + "Recombine Surface {1}; Physical Surface('all') = {1};"),
        MESH,
        "e.geo|quadrilateral",
    ),
    # solve
    "no problem": (lambda: mfg.solve("crowd", 2), PROBLEM, "problem"),
    "steps zero": (solve(0), PROBLEM, "steps"),
    "steps negative": (solve(-1), PROBLEM, "steps"),
    "steps a float": (solve(2.5), PROBLEM, "steps"),
    "steps a bool": (solve(True), PROBLEM, "steps"),
    "scheme a string": (solve(scheme="monotone"), PROBLEM, "scheme"),
    "scheme a class": (solve(scheme=mfg.Monotone), PROBLEM, "scheme"),
    "method a string": (solve(method="newton"), PROBLEM, "method"),
    "guess a string": (solve(guess="last.bp"), PROBLEM, "guess"),
    "guess from a finer mesh": (lambda: solve(guess=good_solution(5))(), PROBLEM, "guess"),
    "guess from a moved mesh": (
        lambda: mfg.solve(default(jittered(2, 4)), 2, guess=good_solution()),
        PROBLEM,
        "guess",
    ),
    "guess of another degree": (lambda: solve(guess=good_solution(4, 2))(), PROBLEM, "guess"),
    "galerkin degree": (lambda: mfg.Galerkin(degree=3), PROBLEM, "degree"),
    "galerkin time": (lambda: mfg.Galerkin(time="rk4"), PROBLEM, "time"),
    "newton rtol": (lambda: mfg.Newton(rtol=0), PROBLEM, "rtol"),
    "newton rtol text": (lambda: mfg.Newton(rtol="1e-8"), PROBLEM, "rtol"),
    "newton max_it": (lambda: mfg.Newton(max_it=0), PROBLEM, "max_it"),
    "newton continuation": (lambda: mfg.Newton(continuation="yes"), PROBLEM, "continuation"),
    "newton options": (lambda: mfg.Newton(petsc_options="-snes_monitor"), PROBLEM, "petsc_options"),
    "power too small": (lambda: mfg.hamiltonians.power(1.0), PROBLEM, "exponent"),
    # wrong on one rank only (in serial: that one)
    "one rank's callable fails": (
        build(running_cost=wrong_rank(lambda x, t, m: m, fail)),
        PROBLEM,
        "file of the map",
    ),
    "one rank's hamiltonian fails": (
        build(hamiltonian=wrong_rank(mfg.hamiltonians.quadratic(), fail)),
        PROBLEM,
        "hamiltonian",
    ),
    "cost nan in a corner": (
        build(running_cost=lambda x, t, m: ufl.sqrt(0.9 - x[0] * x[1])),
        PROBLEM,
        "running_cost",
    ),
    "density negative in a corner": (
        build(initial_density=lambda x: 0.9 - x[0] * x[1]),
        PROBLEM,
        "initial_density",
    ),
    "diffusion asymmetric in a corner": (
        build(
            diffusion=lambda x: ufl.as_matrix(
                [[1, ufl.conditional(ufl.gt(x[0] * x[1], 0.7), 0.1, 0.0)], [0, 1]]
            )
        ),
        PROBLEM,
        "symmetric",
    ),
}
ARGUMENTS = {
    "horizon": 1.0,
    "diffusion": 0.1,
    "hamiltonian": mfg.hamiltonians.quadratic(),
    "running_cost": lambda x, t, m: m,
    "terminal_cost": lambda x, m: 0.0,
    "initial_density": lambda x: 1.0,
}


@pytest.mark.parametrize("wrong", BAD)
def test_bad_input_is_refused_in_words(wrong):
    attempt, error, words = BAD[wrong]
    with pytest.raises(error, match=f"(?s){words}"):
        attempt()


@pytest.mark.parametrize("missing", ARGUMENTS)
def test_no_argument_of_a_problem_has_a_hidden_default(missing):
    with pytest.raises((TypeError, mfg.ProblemError), match=missing):
        mfg.MeanFieldGame(square(), **{k: v for k, v in ARGUMENTS.items() if k != missing})


def test_a_plain_mesh_will_do_for_a_domain():
    assert mfg.MeanFieldGame(square().mesh, **ARGUMENTS).domain.mesh is square().mesh


def test_a_density_may_be_negative_by_round_off_alone():
    domain = mfg.box(1.0, 8)
    start = fem.Function(fem.functionspace(domain.mesh, ("Lagrange", 1)))
    start.x.array[:] = 1.0
    start.x.array[0] = -1e-15
    assert mfg.solve(default(domain, initial_density=start), 1).levels.m[0].min() == 0
    start.x.array[0] = -1e-6
    with pytest.raises(mfg.ProblemError, match="negative somewhere"):
        default(domain, initial_density=start)


def test_numbers_of_numpy_will_do():
    steps, D = np.int64(2), np.float64(0.1)
    assert mfg.solve(default(square(), diffusion=D), steps).converged


@once
def on_two_ranks() -> dict[str, list[str]]:
    """What each bad input raised on each rank, by one run of this file."""
    return numbers_on(2, __file__, timeout=400)


@serial_only
@pytest.mark.parametrize("wrong", BAD)
def test_bad_input_is_refused_alike_on_two_ranks(wrong):
    one, other = on_two_ranks()[wrong]
    assert one == other and one.startswith(BAD[wrong][1].__name__ + ":")


def test_data_are_looked_at_again_only_if_they_have_changed(monkeypatch):
    domain, looks = mfg.box((1, 1), 2), []
    size = fem.Constant(domain.mesh, 1.0)
    problem = default(domain, running_cost=lambda x, t, m: mfg.smooth(size * m, 0.1))
    look = mfg.MeanFieldGame.look
    monkeypatch.setattr(mfg.MeanFieldGame, "look", lambda self: (looks.append(1), look(self)))
    problem.check()
    assert not looks
    size.value = NAN
    with pytest.raises(mfg.ProblemError, match="not finite"):
        problem.check()
    size.value = 1.0  # nothing that was seen in between is kept
    problem.check()
    problem.check()
    assert len(looks) == 2


def test_a_problem_stated_again_compiles_nothing():
    default(mfg.box((1, 1), 4))
    cache = Path(jit.get_options()["cache_dir"])
    before = set(cache.iterdir())
    default(mfg.box((1, 1), 4))
    assert set(cache.iterdir()) == before


def main():
    leave_numbers(raised({wrong: attempt for wrong, (attempt, *_) in BAD.items()}))


if __name__ == "__main__":
    main()
