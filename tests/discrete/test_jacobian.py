"""Every block of the Jacobian against finite differences of the residual."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from cases import default, gaussian
from parts import system_of

import ufl

import mfg_fem as mfg
from mfg_fem.discrete.spacetime import SpaceTime

GAME, CONTROL = mfg.MeanFieldGame, mfg.MeanFieldControl
SHARP, MONOTONE = mfg.Sharp(), mfg.Monotone()
P1, P2 = mfg.Galerkin(), mfg.Galerkin(degree=2)
P1_MIDPOINT, P2_MIDPOINT = mfg.Galerkin(1, "midpoint"), mfg.Galerkin(2, "midpoint")

CONGESTION = {"hamiltonian": mfg.hamiltonians.congestion(2.0, 0.8)}
POWER = {"hamiltonian": mfg.hamiltonians.power(1.5, smoothing=0.5)}
WIND = {
    "hamiltonian": mfg.hamiltonians.with_drift(
        mfg.hamiltonians.quadratic(2.0), lambda x: ufl.as_vector([-x[1], x[0]])
    )
}
TENSOR = {"diffusion": lambda x: (1 + x[0]) * ufl.as_matrix([[0.2, 0.05], [0.05, 0.1]])}
SPACE = {"diffusion": lambda x: 0.05 + 0.1 * x[0]}
TERMINAL = {"terminal_cost": lambda x, m: x[0] * m**2 + ufl.sin(m)}
EXIT = {"boundary": {"right": mfg.Exit(cost=lambda x: 1 + x[0])}}
SOURCE = {"source": lambda x, t: (1 + t) * gaussian(x)}
NONLINEAR = {"running_cost": lambda x, t, m: ufl.exp(-t) * m**2 + ufl.ln(1 + m)}
DOORS = {
    "boundary": {
        "right": mfg.Door(2.0, 0.5, mfg.WithCrowd(lambda x, t, m: x[1] + m**2)),
        "left": mfg.Entry(mfg.InTime(lambda x, t: t + x[1])),
        "top": mfg.Wall(pushes=False),
    },
    "diffusion": mfg.InTime(lambda x, t: 0.1 + 0.1 * t * x[0]),
    "hamiltonian": mfg.InTime(lambda x, t, p, m: (1 + t) * (p[0] ** 2 + p[1] ** 2 - p[1]) / 2),
}
LIMIT = {
    "hamiltonian": mfg.hamiltonians.consumption(lambda x: 0.5 + x[0], 1.5),
    "boundary": {"left": mfg.Wall(pushes=False)},
}
CAPACITY = {"boundary": {"right": mfg.Door(capacity=0.5)}}
DISCOUNT = {"discount": 3.0}
TIMED = CONGESTION | TERMINAL | EXIT

CASES = [
    (GAME, SHARP, 1, CONGESTION | TERMINAL),
    (GAME, SHARP, 2, TENSOR | POWER),
    (CONTROL, SHARP, 2, TIMED),
    (GAME, SHARP, 3, CONGESTION | SPACE | EXIT),
    (GAME, MONOTONE, 2, TENSOR | POWER),
    (GAME, SHARP, 1, LIMIT),
    (CONTROL, SHARP, 2, DOORS),
    (GAME, P2_MIDPOINT, 2, CAPACITY | TERMINAL),
    (CONTROL, P1, 2, TENSOR | CONGESTION | NONLINEAR | TERMINAL),
    (GAME, P1, 1, POWER | EXIT),
    (GAME, P1, 2, WIND | SPACE | TERMINAL),
    (CONTROL, P1_MIDPOINT, 1, CONGESTION | TERMINAL | NONLINEAR),
    (GAME, P2, 2, TIMED | TENSOR),
    (GAME, P2_MIDPOINT, 2, TIMED | NONLINEAR),
    (CONTROL, P2_MIDPOINT, 3, CONGESTION | TERMINAL),
    (GAME, SHARP, 2, TIMED | SOURCE | NONLINEAR | DISCOUNT),
    (CONTROL, MONOTONE, 2, TIMED | DISCOUNT),
    (GAME, P1_MIDPOINT, 2, TIMED | DISCOUNT),
]


def name(kind, scheme, dim, data) -> str:
    known = {k: v for k, v in globals().items() if isinstance(v, dict) and k.isupper()}
    parts = [k for k, v in known.items() if v and all(data.get(i) is v[i] for i in v)]
    return "-".join([kind.__name__, str(scheme).replace(" ", ""), f"{dim}D", *parts])


@dataclass
class Checked:
    """Largest defect of each block relative to its largest entry in the direction taken.

    `alone`: that of each row by itself, and of two blocks, relative to those of both rows.
    """

    defects: dict[str, float]
    alone: dict[str, float]
    held: float


@cache
def checked(index: int) -> Checked:
    kind, scheme, dim, data = CASES[index]
    problem = default(mfg.box((1.0,) * dim, {1: 10, 2: 4, 3: 2}[dim]), kind, **data)
    system = system_of(problem, 3, scheme)
    (exits,) = system.discrete.exits
    random = np.random.default_rng(3)
    X = np.stack([random.uniform(low, low + 1, system.shape[1:]) for low in (-0.5, 0.5)])
    X = system.hold(X)
    system.linearise(X)
    defects, held = {}, 0.0
    for column in (0, 1):
        dX = np.zeros(system.shape)
        dX[column] = random.uniform(-1, 1, system.shape[1:])
        system.discrete.release(dX[column])
        exact = system.mult_jacobian(dX)
        # Central differences of fourth order: round-off and truncation are both below 1e-9.
        e = 2e-4
        plus, minus, plus2, minus2 = (system.residual(X + k * e * dX) for k in (1, -1, 2, -2))
        differences = (8 * (plus - minus) - (plus2 - minus2)) / (12 * e)
        for row in (0, 1):
            defect = np.abs(exact[row] - differences[row]).max()
            size = np.abs(differences[row]).max()
            defects["um"[row] + "um"[column]] = float(defect / size)
        held = max(held, np.abs(exact[..., exits.held]).max(initial=0.0))
    alone = by_themselves(system, X)
    system.destroy()
    return Checked(defects, alone, held)


def by_themselves(system: SpaceTime, X: np.ndarray) -> dict[str, float]:
    dx = np.random.default_rng(4).standard_normal(system.owned)
    (hjb, fp), u = system.residual(X), system.levels(X).u
    J = system.jacobian
    A, B = J.product(J.A[0][1], dx), J.product(J.B[0][1], dx)
    pairs = {
        "fp": (system.fp_residual(X), fp),
        "hjb": (system.hjb_rows(X, 1, u[:, 2])[0], hjb[0, 1]),
    }
    system.linearise_hjb(1)
    pairs["uu"] = J.product(J.A[0][1], dx), A
    system.linearise_fp(X)
    pairs["mm"] = J.product(J.B[0][1], dx), B
    return {key: float(np.abs(x - y).max() / np.abs(y).max()) for key, (x, y) in pairs.items()}


IDS = [name(*case) for case in CASES]


@pytest.mark.parametrize("block", ["uu", "um", "mu", "mm"])
@pytest.mark.parametrize("index", range(len(CASES)), ids=IDS)
def test_block_of_the_jacobian_is_the_derivative_of_the_residual(index, block):
    assert checked(index).defects[block] < 1e-6


@pytest.mark.parametrize("index", range(len(CASES)), ids=IDS)
def test_rows_and_blocks_by_themselves_are_those_of_both(index):
    assert max(checked(index).alone.values()) < 1e-12


@pytest.mark.parametrize("index", [i for i, c in enumerate(CASES) if "boundary" in c[3]])
def test_exit_rows_feel_nothing(index):
    assert checked(index).held == 0.0
