"""Meshes and problems that several test modules share."""

from mpi4py import MPI

import numpy as np

import ufl
from dolfinx import fem

import mfg_fem as mfg


def jittered(dim: int, cells: int, comm=MPI.COMM_WORLD) -> mfg.Domain:
    """The unit box with its inner vertices moved at random by up to 0.49 h/2, alike on any ranks.

    No cell turns over: the heights of a cell are at least h / sqrt(2).
    """
    domain = mfg.box((1.0,) * dim, cells, comm)
    x = domain.mesh.geometry.x
    random = np.random.default_rng(7)
    shape = (cells + 1,) * dim
    moves = random.standard_normal((*shape, dim))
    moves *= (
        0.49
        / 2
        / cells
        * random.uniform(size=(*shape, 1))
        / np.linalg.norm(moves, axis=-1, keepdims=True)
    )
    vertex = np.rint(x[:, :dim] * cells).astype(int)
    inside = np.all((vertex > 0) & (vertex < cells), axis=1)
    x[inside, :dim] += moves[tuple(vertex[inside].T)]
    return domain


def gaussian(x, width: float = 0.2):
    """A crowd in the middle of the unit box."""
    return ufl.exp(-sum((y - 0.5) ** 2 for y in list(x)) / (2 * width**2))


def landscape(x):
    """A cost with a hill and a valley."""
    waves = (ufl.sin, ufl.cos, ufl.cos)[: len(x)]
    return sum(wave(2 * ufl.pi * y) / 2 for wave, y in zip(waves, list(x), strict=True))


def default(domain: mfg.Domain, kind=mfg.MeanFieldGame, coupling: float = 1.0, **changes):
    """The test problem of the measurements: unit box, T = 1, f = c m + landscape, g = 0."""
    c = fem.Constant(domain.mesh, coupling)
    data = {
        "horizon": 1.0,
        "diffusion": 0.1,
        "hamiltonian": mfg.hamiltonians.quadratic(),
        "running_cost": lambda x, t, m: c * m + landscape(x),
        "terminal_cost": lambda x, m: 0.0,
        "initial_density": gaussian,
    }
    return kind(domain, **(data | changes))


def evacuation(domain: mfg.Domain, diffusion=0.02, exponent=1.0, kind=mfg.MeanFieldGame, **changes):
    """Everybody wants out through the right side; moving in a crowd is hard."""
    data = {
        "horizon": 1.0,
        "diffusion": diffusion,
        "hamiltonian": mfg.hamiltonians.congestion(4.0, exponent),
        "running_cost": lambda x, t, m: 1 + m,
        "terminal_cost": lambda x, m: 4.0,
        "initial_density": gaussian,
        "boundary": {"right": mfg.Exit()},
    }
    return kind(domain, **(data | changes))


def line(cells=16, kind=mfg.MeanFieldGame, domain=None, **changes):
    """People on a line who would like to be near its right end and not in a crowd."""
    data = {
        "horizon": 1.0,
        "diffusion": 0.05,
        "hamiltonian": mfg.hamiltonians.quadratic(),
        "running_cost": lambda x, t, m: m,
        "terminal_cost": lambda x, m: (x[0] - 0.7) ** 2,
        "initial_density": lambda x: ufl.exp(-((x[0] - 0.3) ** 2) / 0.02),
    }
    return kind(domain or mfg.box(1.0, cells), **(data | changes))


def robin(rate: float, D: float) -> float:
    """The least wave number k with D k tan k = rate: cos(k x) on (0, 1) with a door at x = 1."""
    low, high = 0.0, np.pi / 2
    for _ in range(100):
        k = (low + high) / 2
        low, high = (k, high) if D * k * np.tan(k) < rate else (low, k)
    return low


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Largest difference relative to the largest value."""
    return float(np.abs(one - other).max() / np.abs(other).max())
