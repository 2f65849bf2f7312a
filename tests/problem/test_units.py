"""The same problem in other units of length, time, cost and population has the same solution.

Run as a script, this module solves one problem in two systems of units and says whether they agree.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from cases import gaussian, jittered, landscape
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ranks import leave_numbers, numbers_on, serial_only

import ufl
from dolfinx import fem

import mfg_fem as mfg

GAME, CONTROL = mfg.MeanFieldGame, mfg.MeanFieldControl
SHARP, P1, P2 = mfg.Sharp(), mfg.Galerkin(), mfg.Galerkin(degree=2)
P1_MIDPOINT, P2_MIDPOINT = mfg.Galerkin(1, "midpoint"), mfg.Galerkin(2, "midpoint")


@dataclass(frozen=True)
class Units:
    """How many of the new units are in the length, time, cost and population of order one."""

    length: float = 1.0
    time: float = 1.0
    cost: float = 1.0
    population: float = 1.0


@dataclass(frozen=True)
class Case:
    """A problem in units of order one, on a domain of size one with the horizon one."""

    domain: Callable
    data: dict
    scheme: mfg.Sharp | mfg.Galerkin = SHARP
    kind: type = GAME
    steps: int = 6

    def solved_in(self, units: Units) -> mfg.Solution:
        """The solution of the problem stated anew in these units."""
        one = self.domain()
        one.mesh.geometry.x[:] *= units.length
        seams = {axis: tuple(units.length * np.array(ends)) for axis, ends in one.seams.items()}
        domain = mfg.Domain(one.mesh, one.facet_tags, one.names, seams)
        numbers = (units.length, units.time, units.cost, units.population)
        L, T, C, M = (fem.Constant(domain.mesh, number) for number in numbers)
        density = M / L**domain.dim
        data = self.data
        changes = {
            "diffusion": lambda x: L**2 / T * data["diffusion"](x / L),
            "hamiltonian": lambda x, p, m: (
                C / T * data["hamiltonian"](x / L, p * L / C, m / density)
            ),
            "running_cost": lambda x, t, m: C / T * data["running_cost"](x / L, t / T, m / density),
            "terminal_cost": lambda x, m: C * data["terminal_cost"](x / L, m / density),
            "initial_density": lambda x: density * data["initial_density"](x / L),
            "boundary": {
                name: mfg.Exit(lambda x, cost=cost: C * cost(x / L))
                for name, cost in data.get("exits", {}).items()
            },
        }
        if "door" in data:
            flux, speed = M / (T * L), L / T
            changes["boundary"] = {
                "right": mfg.Door(
                    capacity=data["door"][0] * flux,
                    cost=mfg.WithCrowd(lambda x, t, m: C * data["door"][1](x / L, m / density)),
                ),
                "left": mfg.Entry(mfg.InTime(lambda x, t: flux * t / T)),
                "bottom": mfg.Door(rate=data["door"][2] * speed),
                "top": mfg.Wall(pushes=False),
            }
        if "source" in data:
            changes["source"] = lambda x, t: density / T * data["source"](x / L, t / T)
        numbers = {"horizon": units.time, "discount": data.get("discount", 0.0) / units.time}
        problem = self.kind(domain, population=units.population, **numbers, **changes)
        return mfg.solve(problem, self.steps, self.scheme)


COMMON = {
    "diffusion": lambda x: 0.05,
    "hamiltonian": mfg.hamiltonians.quadratic(),
    "running_cost": lambda x, t, m: m + landscape(x),
    "terminal_cost": lambda x, m: 0.3 * ufl.cos(3 * x[0]),
    "initial_density": gaussian,
}
CONGESTION = {"hamiltonian": mfg.hamiltonians.congestion(2.0, 0.8)}
WIND = {
    "hamiltonian": mfg.hamiltonians.with_drift(
        mfg.hamiltonians.power(1.5, 0.2), lambda x: ufl.as_vector([0.5, ufl.sin(2 * ufl.pi * x[0])])
    )
}
TENSOR = {"diffusion": lambda x: ufl.as_matrix([[0.1, 0.03], [0.03, 0.05]])}
SOURCE = {"source": lambda x, t: (1 + t) * gaussian(x, 0.1)}
WAITING = {"running_cost": lambda x, t, m: 1 + m, "terminal_cost": lambda x, m: 4.0}
EXITS = {"exits": {"right": lambda x: 0.3 + x[1], "top": lambda x: 0.1}}
CASES = {
    "game": Case(lambda: jittered(2, 8), COMMON, P1),
    "control": Case(lambda: mfg.box((1, 1), 8), COMMON | CONGESTION, P1_MIDPOINT, CONTROL),
    "exits": Case(lambda: jittered(2, 8), COMMON | CONGESTION | WAITING | EXITS),
    "doors": Case(
        lambda: jittered(2, 8),
        COMMON | WAITING | {"door": (0.5, lambda x, m: x[1] + m, 0.2)},
    ),
    "torus": Case(
        lambda: mfg.box((1, 1), 4, periodic=True),
        COMMON | TENSOR | WIND | {"terminal_cost": lambda x, m: 0.1 * m},
        P2_MIDPOINT,
        steps=4,
    ),
    "discount": Case(
        lambda: jittered(2, 8), COMMON | CONGESTION | WAITING | EXITS | {"discount": 3.0}
    ),
    "source": Case(
        lambda: mfg.box(1, 16),
        # Those who leave pay what those who stay do: with a jump Galerkin goes through many stages,
        # whose choice is one of round-off.
        COMMON | SOURCE | WAITING | {"exits": {"right": lambda x: 4.0}},
        P2,
    ),
}


def numbers(case: str, units: Units) -> dict:
    """What a solution is made of, in units of order one."""
    solution = CASES[case].solved_in(units)
    density = units.population / units.length**solution.problem.domain.dim
    costs = units.cost * units.population
    return {
        "u": solution.levels.u / units.cost,
        "m": solution.levels.m / density,
        "velocity": solution.velocity(1).x.array * units.time / units.length,
        "cost": np.array(solution.cost) / costs,
        "expected_cost": np.array(solution.expected_cost) / costs,
        "masses": solution.masses / units.population,
        "entered": solution.entered / units.population,
        "gone": np.array([0.0, *(gone[-1] for gone in solution.gone.values())]) / units.population,
        "steps": [row["step"] for row in solution.history],
    }


reference = cache(lambda case: numbers(case, Units()))


def powers_of_ten(low: float, high: float):
    """The middle is the simplest."""
    middle, half = (low + high) / 2, (high - low) / 2
    return st.floats(-1.0, 1.0).map(lambda share: float(10 ** (middle + half * share)))


UNITS = st.builds(
    Units, powers_of_ten(-6, 6), powers_of_ten(-3, 5), powers_of_ten(-12, 6), powers_of_ten(-3, 9)
)
SMALLEST, LARGEST = Units(1e-6, 1e-3, 1e-12, 1e-3), Units(1e6, 1e5, 1e6, 1e9)


def check(one: dict, other: dict):
    """The same numbers, and decisions, on this rank."""
    assert abs(len(other["steps"]) - len(one["steps"])) <= 1
    for name in one.keys() - {"steps"}:
        error = np.abs(other[name] - one[name]).max(initial=0.0)
        assert error <= 1e-10 * np.abs(one[name]).max(initial=0.0), name


@pytest.mark.parametrize("case", CASES)
@given(units=UNITS)
@example(SMALLEST)
@example(LARGEST)
@example(Units(1e-6, 1e5, 1e6, 1e-3))
@settings(derandomize=True, deadline=None, database=None, max_examples=2)
def test_other_units_change_nothing(case, units):
    check(reference(case), numbers(case, units))


@serial_only
def test_other_units_change_nothing_on_two_ranks():
    assert numbers_on(2, __file__, timeout=60) == "the same"


def main():
    check(reference("exits"), numbers("exits", LARGEST))
    leave_numbers("the same")


if __name__ == "__main__":
    main()
