"""Random problems: what solve returns fulfils equations that are assembled independently.

The shapes of the problems are few, so that few forms are compiled; meshes, steps, exits and all
numbers are drawn. MFG_FEM_EXAMPLES says how many problems of each shape, and of more shapes.

    MFG_FEM_EXAMPLES=16 docker/run python3 -m pytest -q tests/test_random.py
"""

import os
from dataclasses import dataclass, replace
from types import SimpleNamespace

from mpi4py import MPI

import numpy as np
import pytest
from independent import Data, Discrete

import ufl
from dolfinx import fem

import mfg_fem as mfg

EXAMPLES = int(os.environ.get("MFG_FEM_EXAMPLES", 4))
GAME, CONTROL = mfg.MeanFieldGame, mfg.MeanFieldControl
SHARP, MONOTONE = mfg.Sharp(), mfg.Monotone()
P1, P2 = mfg.Galerkin(), mfg.Galerkin(degree=2)
P1_MIDPOINT, P2_MIDPOINT = mfg.Galerkin(1, "midpoint"), mfg.Galerkin(2, "midpoint")
SIDES = {1: ("left", "right"), 2: ("left", "right", "bottom", "top")}
SIDES[3] = (*SIDES[2], "back", "front")


@dataclass(frozen=True)
class Shape:
    """What decides on the compiled forms."""

    kind: type
    scheme: mfg.Sharp | mfg.Monotone | mfg.Galerkin
    dim: int
    hamiltonian: str = "quadratic"  # or "general": a power, congestion and wind
    diffusion: str = "number"  # or "field", "tensor"
    source: bool = False
    timed: bool = False

    def __str__(self):
        words = [self.kind.__name__, str(self.scheme), f"{self.dim}D", self.hamiltonian]
        words += [self.diffusion, "source" * self.source, "timed" * self.timed]
        return "-".join(filter(None, words)).replace(" ", "")


SHAPES = [
    Shape(GAME, SHARP, 1, "general", "field", True, True),
    Shape(GAME, SHARP, 2, "general", "tensor", True),
    Shape(CONTROL, SHARP, 2),
    Shape(GAME, SHARP, 3),
    Shape(GAME, MONOTONE, 2, "general", "tensor", True),
    Shape(GAME, P1, 1, "general", "number", True, True),
    Shape(CONTROL, P1_MIDPOINT, 1, "general", "field", False, True),
    Shape(GAME, P2, 2, "quadratic", "field", True),
    Shape(CONTROL, P2_MIDPOINT, 2),
]
if "MFG_FEM_EXAMPLES" in os.environ:
    SHAPES += [
        Shape(GAME, SHARP, 2),
        Shape(CONTROL, SHARP, 2, "general", "field"),
        Shape(GAME, MONOTONE, 3),
        Shape(CONTROL, P1, 2, "quadratic", "tensor", True),
        Shape(GAME, P1_MIDPOINT, 2, "general", "field"),
        Shape(CONTROL, P2, 1, "general"),
        Shape(GAME, P2_MIDPOINT, 1, "general", "field", True, True),
    ]
RANGES = {
    "horizon": (0.3, 2.0),
    "population": (0.5, 3.0),
    "mobility": (0.3, 3.0),
    "power": (1.3, 2.5),
    "smoothing": (0.1, 1.0),
    "strength": (0.0, 5.0),
    "exponent": (0.0, 1.0),
    "wind": (-1.0, 1.0),
    "ground": (0.0, 1.0),
    "hill": (-1.0, 1.0),
    "crowding": (0.0, 5.0),
    "square": (0.0, 1.0),
    "end": (0.0, 1.0),
    "end_hill": (-1.0, 1.0),
    "end_crowding": (0.0, 1.0),
    "width": (0.05, 0.5),
    "entering": (0.0, 2.0),
    "way_out": (0.0, 1.0),
    "way_out_slope": (0.0, 1.0),
}
CELLS = {1: (6, 16), 2: (3, 7), 3: (2, 3)}
STEPS = {False: (1, 8), True: (12, 24)}  # the midpoint rule needs more, where a crowd meets an exit
DIFFUSION = {True: (-3.0, 0.0), False: (-0.8, 0.0)}  # powers of ten: positive schemes, others


class Formulas:
    """The data of a problem, of numbers k and the functions of UFL or of NumPy."""

    def __init__(self, shape: Shape, k, lib):
        self.shape, self.k, self.lib = shape, k, lib

    def scalar_diffusion(self, x):
        return self.k.D if self.shape.diffusion == "number" else self.k.D * (1 + x[0])

    def hill(self, x):
        return sum(self.lib.cos((3 + i) * x[i]) for i in range(self.shape.dim))

    def hamiltonian(self, x, p, m):
        k, d = self.k, self.shape.dim
        square = sum(p[i] ** 2 for i in range(d))
        if self.shape.hamiltonian == "quadratic":
            return k.mobility * square / 2
        moving = (square + k.smoothing**2) ** (k.power / 2) - k.smoothing**k.power
        moving = k.mobility * moving / k.power
        wind = k.wind * (p[0] if d == 1 else p[0] + x[0] * p[1])
        return moving / (1 + k.strength * m) ** k.exponent - wind

    def running_cost(self, x, t, m):
        k = self.k
        time = 1 + t if self.shape.timed else 1
        return k.ground + k.crowding * m + k.square * m**2 + k.hill * time * self.hill(x)

    def terminal_cost(self, x, m):
        k = self.k
        return k.end + k.end_crowding * m + k.end_hill * self.hill(x)

    def initial_density(self, x):
        square = sum((x[i] - 0.4) ** 2 for i in range(self.shape.dim))
        return self.lib.exp(-square / self.k.width)

    def source(self, x, t):
        if not self.shape.source:
            return 0.0
        return self.k.entering * (1 + t if self.shape.timed else 1) * self.lib.exp(-3 * x[0])

    def way_out(self, x):
        return self.k.way_out + self.k.way_out_slope * x[self.shape.dim - 1]


@dataclass(frozen=True)
class Problem:
    shape: Shape
    cells: tuple[int, ...]
    lengths: tuple[float, ...]
    moves: int  # seed of the jitter
    steps: int
    exits: tuple[str, ...]
    numbers: dict[str, float]

    def domain(self) -> mfg.Domain:
        """A box whose inner vertices are moved by less than a third of the heights of cells."""
        domain = mfg.box(self.lengths, self.cells, MPI.COMM_SELF)
        x, d = domain.mesh.geometry.x, self.shape.dim
        sizes = np.array(self.lengths) / self.cells
        inside = ((x[:, :d] > sizes / 2) & (x[:, :d] < self.lengths - sizes / 2)).all(axis=1)
        far = 0.3 / np.sqrt((1 / sizes**2).sum()) / np.sqrt(d)
        moves = np.random.default_rng(self.moves).uniform(-far, far, (len(x), d))
        x[inside, :d] += moves[inside]
        return domain

    def solve(self) -> tuple[mfg.Solution, Data]:
        domain, shape = self.domain(), self.shape
        constants = {k: fem.Constant(domain.mesh, float(v)) for k, v in self.numbers.items()}
        its = Formulas(shape, SimpleNamespace(**constants), ufl)
        ours = Formulas(shape, SimpleNamespace(**self.numbers), np)
        d = shape.dim
        tensor = np.eye(d) + (0.4 * (1 - np.eye(d)) if shape.diffusion == "tensor" else 0.0)
        problem = shape.kind(
            domain,
            horizon=self.numbers["horizon"],
            population=self.numbers["population"],
            diffusion=lambda x: (
                its.scalar_diffusion(x) * ufl.as_matrix(tensor.tolist())
                if shape.diffusion == "tensor"
                else its.scalar_diffusion(x)
            ),
            hamiltonian=its.hamiltonian,
            running_cost=its.running_cost,
            terminal_cost=its.terminal_cost,
            initial_density=its.initial_density,
            source=its.source if shape.source else None,
            boundary={
                name: mfg.Exit(lambda x, i=i: its.way_out(x) + i / 4)
                for i, name in enumerate(self.exits)
            },
        )
        sides = {}
        for i, name in enumerate(self.exits):
            axis, end = divmod(SIDES[3].index(name), 2)
            where = self.lengths[axis] * end
            sides[name] = (axis, where, lambda x, i=i: ours.way_out(x) + i / 4)
        data = Data(
            lambda x: np.multiply.outer(tensor, ours.scalar_diffusion(x) + 0 * x[0]),
            ours.hamiltonian,
            ours.running_cost,
            ours.terminal_cost,
            ours.initial_density,
            ours.source,
            sides,
            shape.kind is CONTROL,
        )
        return mfg.solve(problem, self.steps, shape.scheme), data


def drawn(shape: Shape, seed: int) -> Problem:
    random, d = np.random.default_rng(seed), shape.dim
    numbers = {name: float(random.uniform(*ends)) for name, ends in RANGES.items()}
    if not shape.scheme.positive:  # layers at exits that meshes so coarse can resolve
        numbers["mobility"] *= 0.3
    numbers["D"] = float(10 ** random.uniform(*DIFFUSION[shape.scheme.positive]))
    low, high = CELLS[d]
    fewest, most = STEPS[shape.scheme in (P1_MIDPOINT, P2_MIDPOINT)]
    return Problem(
        shape,
        tuple(random.integers(low, high + 1, d).tolist()),
        tuple(random.uniform(0.7, 1.5, d).tolist()),
        seed,
        int(random.integers(fewest, most + 1)),
        tuple(random.permutation(SIDES[d])[: random.integers(0, 3)].tolist()),
        numbers,
    )


def close(one, other, size=1.0) -> bool:
    """Equal to round-off."""
    return bool(np.abs(np.asarray(one) - other).max(initial=0.0) <= 1e-10 * size)


def equations_hold(ours: Discrete, solution: mfg.Solution) -> bool:
    """To the tolerance of Newton. What it does last changes the residual: see `solution.STALE`."""
    units = solution.problem.units
    scale = np.sqrt(ours.weights.sum() / units.time) * np.array([units.cost, units.density])
    round_off = 1e-11 * np.linalg.norm(ours.sizes() / scale)
    norm = np.linalg.norm(ours.norms() / scale)
    return solution.converged and norm <= 10 * solution.tolerance + round_off


def residuals_are_those_reported(ours: Discrete, solution: mfg.Solution) -> bool:
    reported = np.array([solution.residuals["hjb"], solution.residuals["fp"]])
    reported[1] *= solution.problem.units.density
    return bool((np.abs(ours.norms() - reported) <= 1e-10 * ours.sizes()).all())


def crowd_begins_as_told(ours: Discrete, solution: mfg.Solution) -> bool:
    m0 = ours.initial_density()
    return close(solution.levels.m[0], m0, m0.max())


def value_function_ends_as_told(ours: Discrete, solution: mfg.Solution) -> bool:
    u_T = ours.terminal_value()
    return close(solution.levels.u[-1], u_T, 1 + np.abs(u_T).max())


def exits_hold_their_cost_and_nobody(ours: Discrete, solution: mfg.Solution) -> bool:
    """A corner of two is that of the first."""
    u, m = (level[:, ours.held] for level in (solution.levels.u, solution.levels.m))
    return close(u, ours.exit_cost[ours.held]) and close(m, 0.0)


def people_are_counted(ours: Discrete, solution: mfg.Solution) -> bool:
    """What is missing is what the Fokker-Planck rows lack; nothing, if those are linear in m."""
    gone, missing = ours.gone(), ours.residuals[1][:, ~ours.held].sum(axis=1)
    pairs = [(solution.gone[name], gone[name]) for name in gone]
    pairs += [(solution.entered, ours.entered())]
    pairs += [(solution.masses, solution.levels.m @ ours.weights)]
    pairs += [(solution.balance[1:], ours.dt * missing.cumsum())]
    return all(close(*pair, solution.masses.max()) for pair in pairs)


def costs_are_those_of_the_equations(ours: Discrete, solution: mfg.Solution) -> bool:
    found = np.array([solution.cost, solution.expected_cost, solution.limited_cost])
    wanted = np.array([ours.cost(), ours.expected_cost(), ours.limited_cost()])
    return close(found, wanted, np.abs(wanted).max())


def cost_is_what_the_value_function_says(ours: Discrete, solution: mfg.Solution) -> bool:
    """Of a planner, whose value function is a marginal cost, less the harm that crowds do."""
    harm = ours.harm() if ours.data.planned else 0.0
    expected = solution.expected_cost + solution.limited_cost + ours.gap()
    return close(solution.cost, expected - harm, abs(expected) + abs(harm))


def velocity_is_that_of_the_pair_a_step_sees(ours: Discrete, solution: mfg.Solution) -> bool:
    found = [solution.velocity(n) for n in range(solution.steps)]
    wanted = [ours.velocity(n, v.function_space) for n, v in enumerate(found)]
    found = [v.x.array.reshape(-1, ours.d) for v in found]
    return close(found, np.array(wanted), 1 + np.abs(wanted).max())


def density_is_never_negative(ours: Discrete, solution: mfg.Solution) -> bool:
    """Of the scheme that promises it."""
    largest = solution.levels.m.max()
    return not ours.monotone or solution.levels.m.min() >= -1e-12 * largest


CHECKS = (
    equations_hold,
    residuals_are_those_reported,
    crowd_begins_as_told,
    value_function_ends_as_told,
    exits_hold_their_cost_and_nobody,
    people_are_counted,
    costs_are_those_of_the_equations,
    cost_is_what_the_value_function_says,
    velocity_is_that_of_the_pair_a_step_sees,
    density_is_never_negative,
)
DRAWN = [
    pytest.param(shape, len(SHAPES) * i + number, id=f"{shape}-{i}")
    for number, shape in enumerate(SHAPES)
    for i in range(EXAMPLES)
]


@pytest.mark.filterwarnings("ignore::mfg_fem.errors.SolutionWarning")  # meshes are coarse
@pytest.mark.parametrize("shape, seed", DRAWN)
def test_solution_fulfils_equations_assembled_without_the_package(shape, seed):
    solution, data = drawn(shape, seed).solve()
    ours = Discrete(solution, data)
    assert not [check.__name__ for check in CHECKS if not check(ours, solution)]


@pytest.mark.filterwarnings("ignore::mfg_fem.errors.SolutionWarning")
def test_residual_is_what_newton_allowed_where_densities_are_strongly_negative(monkeypatch):
    """There the density that solves its equation exactly would take the value function from its."""
    monkeypatch.setitem(DIFFUSION, False, (-1.3, 0.0))
    monkeypatch.setitem(STEPS, True, (1, 8))
    problem = drawn(Shape(CONTROL, P2_MIDPOINT, 2), 116)
    numbers = problem.numbers | {"mobility": problem.numbers["mobility"] / 0.3}
    solution, _ = replace(problem, numbers=numbers).solve()
    assert solution.converged and solution.min_density < 0
    assert solution.norm <= 2 * solution.tolerance
