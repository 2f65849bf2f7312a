"""More of what must be refused: data that are no expressions, that change, that ranks disagree on.

Run as a script on several ranks, this module prints what each raised.
"""

import io
import json
import zipfile
from decimal import Decimal

import numpy as np
import pytest
from cases import default, evacuation
from ranks import leave_numbers, numbers_on, once, raised, serial_only
from test_problem import COMM, build, folder, good_solution, solve, square, wrong_rank

import ufl
from dolfinx import fem

import mfg_fem as mfg
from mfg_fem import hamiltonians as hs
from mfg_fem import plots
from mfg_fem.errors import FileError, LevelError, MeshError, ProblemError

RANK, HUGE, NAN = COMM.rank, 10**400, float("nan")


def running(cost):
    return build(running_cost=cost)


def options(**given):
    return solve(method=mfg.Newton(petsc_options=given))


def picture(draw, *arguments, **given):
    return lambda: draw(good_solution(), folder() / "a.png", *arguments, **given)


def changed(change):
    """A problem whose data are changed after it was stated."""

    def attempt():
        domain = mfg.box((1, 1), 4)
        function = fem.Function(fem.functionspace(domain.mesh, ("Lagrange", 1)))
        function.x.array[:] = 0.1
        problem = default(domain, diffusion=function)
        change(function, domain.mesh.geometry.x)
        mfg.solve(problem, 2)

    return attempt


def damaged(**about):
    """Load a file that says something else of itself; None: nothing."""

    def attempt():
        path, copy = folder() / "good.npz", folder() / "damaged.npz"
        good_solution().save(path)
        if RANK == 0:
            with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w") as new:
                for name in old.namelist():
                    data = old.read(name)
                    if name == "about.npy":
                        text = json.loads(str(np.load(io.BytesIO(data)))) | about
                        text = {key: value for key, value in text.items() if value is not None}
                        np.save(buffer := io.BytesIO(), json.dumps(text))
                        data = buffer.getvalue()
                    new.writestr(name, data)
        COMM.Barrier()
        mfg.Solution.load(copy, default(square()))

    return attempt


class Changes:
    """A callable that makes something else from its second call on."""

    def __init__(self, first, later):
        self.left, self.later = [first], later

    def __call__(self, *arguments):
        return (self.left.pop() if self.left else self.later)(*arguments)


def shared(**given):
    data = {"densities": [np.full((3, 2), 0.4)], "terminal_costs": [lambda x: x[0]]}
    return lambda: mfg.SharedControl(square(), **(data | given))


# what is wrong: (attempt, error, words its message must have)
WRONG = {
    "horizon too large an integer": (build(horizon=HUGE), ProblemError, "horizon"),
    "population of decimals": (build(population=Decimal(1)), ProblemError, "population"),
    "diffusion true": (build(diffusion=lambda x: True), ProblemError, "true or false"),
    "diffusion between vertices": (
        build(diffusion=lambda x: 0.1 - abs(ufl.sin(4 * ufl.pi * x[0]))),
        ProblemError,
        "diffusion must be positive",
    ),
    "cost a condition": (running(lambda x, t, m: ufl.gt(m, 1)), ProblemError, "conditional"),
    "cost of math": (running(lambda x, t, m: np.sin(3 * t) + m), ProblemError, "functions of UFL"),
    "cost of float(t)": (running(lambda x, t, m: float(t)), ProblemError, "functions of UFL"),
    "cost of float(m)": (running(lambda x, t, m: float(m)), ProblemError, "functions of UFL"),
    "cost of t.value": (running(lambda x, t, m: m * t.value), ProblemError, "running_cost.*value"),
    "cost of too large an integer": (running(lambda x, t, m: HUGE * m), ProblemError, "running_c"),
    "cost of a key": (running(lambda x, t, m: {}["door"]), ProblemError, "KeyError 'door'"),
    "source a condition": (build(source=lambda x, t: ufl.lt(x[0], t)), ProblemError, "source"),
    "hamiltonian of grad p": (
        build(hamiltonian=lambda x, p, m: ufl.div(p) + ufl.dot(p, p)),
        ProblemError,
        "differentiates p",
    ),
    "exit cost true": (
        build(boundary={"left": mfg.Exit(lambda x: True)}),
        ProblemError,
        "boundary.*'left'",
    ),
    "diffusion changed": (
        changed(lambda function, x: function.x.array.fill(-0.1)),
        ProblemError,
        "diffusion must be positive",
    ),
    "mesh changed": (changed(lambda function, x: x[:, 0].fill(0.0)), MeshError, "cannot be used"),
    "mesh folded": (
        changed(lambda function, x: x[:, 0].__setitem__(abs(x[:, 0] - 0.5) < 0.1, 0.9)),
        MeshError,
        "folded",
    ),
    "mobility a text": (lambda: hs.quadratic("1"), ProblemError, "mobility"),
    "exponent a text": (lambda: hs.power("2"), ProblemError, "exponent"),
    "exponents": (lambda: hs.power(np.array([2.0, 3.0])), ProblemError, "exponent"),
    "strength none": (lambda: hs.congestion(None, 1), ProblemError, "strength"),
    "degree a float": (lambda: mfg.Galerkin(2.0), ProblemError, "degree"),
    "degree true": (lambda: mfg.Galerkin(True), ProblemError, "degree"),
    "time an array": (lambda: mfg.Galerkin(1, np.array(["euler", "x"])), ProblemError, "time"),
    "throw a text": (solve(throw="no"), ProblemError, "throw"),
    "progress an array": (solve(progress=np.ones(2)), ProblemError, "progress"),
    "on_step a generator": (
        solve(on_step=lambda row: (yield row)),
        ProblemError,
        "on_step.*generator",
    ),
    "option with a blank": (lambda: options(**{"snes monitor": None})(), ProblemError, "name"),
    "option too large": (lambda: options(snes_max_it=10**30)(), ProblemError, "too large"),
    "option of no place": (options(snes_view="ascii:/none/x.txt"), ProblemError, "snes_view"),
    "option of no viewer": (options(snes_monitor="foo:bar"), ProblemError, "snes_monitor"),
    "coarse space negative": (options(coarse_size=-1), ProblemError, "coarse_size"),
    "Newton of another kind": (options(snes_type="newtontr"), ProblemError, "PETSc's options"),
    "box of too many cells": (lambda: mfg.box(1, HUGE), MeshError, "memory"),
    "names of facets": (lambda: square().facets(["left"]), MeshError, "left"),
    "file without horizon": (damaged(horizon=None), FileError, "about"),
    "file of a text of steps": (damaged(steps="two"), FileError, "steps is 'two'"),
    "file of fewer steps": (damaged(steps=1), FileError, "more levels"),
    "file of no history": (damaged(history=[]), FileError, "history"),
    "file of another scheme": (damaged(scheme="Upwind"), FileError, "Upwind"),
    "picture of no solution": (
        lambda: plots.plot_density("a.npz", folder() / "a.png"),
        ProblemError,
        "Solution",
    ),
    "picture of no time": (picture(plots.plot_density, t="noon"), ProblemError, "t is no array"),
    "picture of a resolution": (picture(plots.plot_density, dpi=None), ProblemError, "dpi"),
    "picture of a unit": (picture(plots.plot_density, length=3), ProblemError, "length"),
    "isolines of no distance": (picture(plots.plot_value, spacing=0), ProblemError, "spacing"),
    "samples complex": (shared(densities=[np.full((3, 2), 1j)]), ProblemError, "complex"),
    # what ranks do not agree on
    "steps on one rank": (lambda: solve(wrong_rank(2, -1))(), ProblemError, "steps"),
    "scheme on one rank": (solve(scheme=wrong_rank(None, "new")), ProblemError, "scheme"),
    "level on one rank": (lambda: good_solution().value(wrong_rank(0, 7)), LevelError, "levels"),
    "names on one rank": (
        build(boundary={wrong_rank("left", "lfet"): mfg.Exit()}),
        MeshError,
        "Do you mean 'left'",
    ),
    "picture on one rank": (
        lambda: plots.plot_density(good_solution(), folder() / "a.png", t=wrong_rank(0.0, 9.0)),
        ProblemError,
        "t must be a time from 0 to 1, not 9",
    ),
}
DIFFERENT = {  # on several ranks only
    "steps": lambda: solve(2 + RANK)(),
    "scheme": solve(scheme=wrong_rank(None, mfg.Galerkin())),
    "guess": lambda: solve(guess=wrong_rank(None, good_solution()))(),
    "checkpoint": lambda: solve(checkpoint=wrong_rank(None, folder() / "c.npz"))(),
    "population": build(population=1.0 + RANK),
    "running_cost": running(lambda x, t, m: (1 + RANK) * m),
    "source": build(source=lambda x, t: fem.Constant(square().mesh, 1.0 + RANK)),
    "boundary": build(boundary=wrong_rank({}, {"left": mfg.Exit()})),
    "cells": lambda: mfg.box((1, 1), 4 + RANK),
    "samples": shared(densities=[np.full((3, 2), 0.4 + 0.1 * RANK)]),
    "every": lambda: good_solution().write(folder() / "a.xdmf", every=1 + RANK),
    "path": lambda: plots.plot_density(good_solution(), wrong_rank(folder() / "a.png", None)),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_refused(wrong):
    attempt, error, words = WRONG[wrong]
    with pytest.raises(error, match=f"(?s){words}"):
        attempt()


@once
def on_two_ranks() -> dict[str, list[str]]:
    return numbers_on(2, __file__, timeout=120)


@serial_only
@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_refused_alike_on_two_ranks(wrong):
    one, other = on_two_ranks()[wrong]
    assert one == other and one.startswith(WRONG[wrong][1].__name__ + ":")


@serial_only
@pytest.mark.parametrize("name", DIFFERENT)
def test_what_differs_between_ranks_is_refused(name):
    one, other = on_two_ranks()[f"{name} differs"]
    assert one == other and f"{name}" in one and "must be the same on every rank" in one


def test_a_callable_is_called_once():
    later = Changes(lambda x, t, m: m, lambda x, t, m: 7 * m)
    costs = [mfg.solve(build(running_cost=f)(), 2).cost for f in (lambda x, t, m: m, later)]
    assert costs[0] == costs[1]


def test_games_of_a_loop_keep_their_data():
    games = []
    for c in (1.0, 7.0):
        games.append(build(running_cost=lambda x, t, m: c * m)())
    costs = [mfg.solve(game, 2).cost for game in games]
    assert costs[0] == pytest.approx(mfg.solve(build(running_cost=lambda x, t, m: m)(), 2).cost)
    assert costs[1] > 2 * costs[0]


def test_exits_that_are_changed_later_change_nothing():
    boundary = {"right": mfg.Exit()}
    game = evacuation(square(), 0.1, boundary=boundary)
    boundary["left"] = "nonsense"
    assert list(mfg.solve(game, 2).gone) == ["right"]
    with pytest.raises(TypeError):
        game.boundary["left"] = mfg.Exit()


def main():
    attempts = {wrong: attempt for wrong, (attempt, *_) in WRONG.items()}
    attempts |= {f"{name} differs": attempt for name, attempt in DIFFERENT.items()}
    leave_numbers(raised(attempts))


if __name__ == "__main__":
    main()
