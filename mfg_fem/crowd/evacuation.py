"""People who leave a building by its doors: a game with measured numbers, in SI units."""

from collections.abc import Callable, Iterable
from typing import Any

from mpi4py import MPI

import numpy as np

import ufl

from mfg_fem.mesh.domain import Domain
from mfg_fem.problem.boundary import Door, Exit
from mfg_fem.problem.game import MeanFieldControl, MeanFieldGame
from mfg_fem.validate import number, polygon

FREE_SPEED = 1.34  # m/s, of who walks alone (Weidmann 1993)
CAPACITY = 1.3  # people per metre of door and second (Weidmann 1993)
ALPHA, BETA = 0.42, 1.5  # m^2/person, 1: how a crowd slows who walks in it
CROWDED = 4.0  # people/m^2, among whom to stand costs twice
WAITING = 2 / 3  # s, the cost of a second of standing alone; of one of walking it is 1 s
TOP = 2 / 3**0.5  # the largest speed over the one of who is not in a hurry
STRANDED = 30.0  # s of walking, the cost of being inside at the end


def evacuation(
    domain: Domain,
    people: float,
    doors: Iterable[str],
    *,
    kind: type[MeanFieldGame] = MeanFieldGame,
    initial_density: Any = lambda x: 1.0,
    horizon: float | None = None,
    diffusion: float = 0.08,
    capacity: float | None = CAPACITY,
    free_speed: float = FREE_SPEED,
) -> MeanFieldGame | MeanFieldControl:
    """The game, or the control, of people who leave a building. Collective.

    A player who walks with velocity a where the density is m pays, in seconds,

        2/3 (1 + (m / CROWDED)^4) + 2/3 (1 - sqrt(1 - |a|^2 / W(m)^2))

    per second, at most W(m) = TOP free_speed (1 + ALPHA m)^(-BETA) fast, TOP = 2 / sqrt(3). So

        H(p, m) = sqrt(4/9 + W(m)^2 |p|^2) - 2/3,

    and he walks at W^2 |p| / sqrt(4/9 + W^2 |p|^2). In an even, steady stream u does not change in
    time and H equals the running cost, so that he walks exactly at

        v(m) = W(m) sqrt(1 - 1 / (2 + (m / CROWDED)^4)^2),

    at free_speed alone, where a second of walking costs 1 s, and for 1.34 m/s at 1.01, 0.79, 0.54,
    0.41, 0.33 m/s among 0.5, 1, 2, 3, 4 people/m^2, where Weidmann (1993) has 1.30, 1.06, 0.61,
    0.33, 0.16. Where people queue u falls in time and they go slower; who foresees a long queue
    hurries to it, at most at W. The value function is about the time to a door. Through a door at
    most `capacity` people pass per metre and second. Lachapelle and Wolfram 2011 (congestion);
    Weidmann 1993 (numbers).

    Args:
        domain: the floor plan, in metres.
        people: how many there are.
        doors: names of the boundaries that they can leave by.
        kind: MeanFieldGame, where everybody sees to himself, or MeanFieldControl, one planner.
        initial_density: where people are, x -> UFL; or a polygon in 2D, its corners or one of
            shapely, in which they are evenly spread; by default evenly in the whole domain.
        horizon: in seconds; by default twice as long as walking across and passing the doors take
            one after the other. Where it is short, people hurry.
        diffusion: half the squared noise of walking, m^2/s.
        capacity: people per metre of door and second; None for doors that let everybody pass.
        free_speed: m/s.
    """
    speed = number("free_speed", free_speed, above=True)
    names = [doors] if isinstance(doors, str) else [*doors]
    if horizon is None:
        x, comm = domain.mesh.geometry.x, domain.comm
        ends = np.concatenate([x, -x], axis=1).max(axis=0, initial=-np.inf)
        comm.Allreduce(MPI.IN_PLACE, ends, MPI.MAX)
        width = sum(domain.measure(name) for name in names)
        queue = number("people", people) / ((capacity or CAPACITY) * width)
        horizon = float(2 * (np.linalg.norm(ends[:3] + ends[3:]) / speed + queue))
    if not callable(initial_density):
        initial_density = _in_polygon(polygon("initial_density", initial_density, domain.dim))

    def hamiltonian(x, p, m):
        fastest = TOP * speed / (1 + ALPHA * m) ** BETA
        return ufl.sqrt(WAITING**2 + fastest**2 * ufl.dot(p, p)) - WAITING

    door = Door(rate=10 * speed, capacity=capacity) if capacity else Exit()
    return kind(
        domain,
        horizon=horizon,
        diffusion=diffusion,
        hamiltonian=hamiltonian,
        running_cost=lambda x, t, m: WAITING * (1 + (m / CROWDED) ** 4),
        terminal_cost=lambda x, m: STRANDED,
        initial_density=initial_density,
        population=people,
        boundary={name: door for name in names},
    )


def _in_polygon(corners: np.ndarray) -> Callable:
    """The density of those who are evenly spread in a polygon, x -> UFL: 1 inside and 0 outside."""

    def density(x):
        sign = 1.0  # changes at each side that is to the right of x
        for (a, b), (c, d) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            if b != d:
                beside = ufl.And(ufl.ge(x[1], min(b, d)), ufl.lt(x[1], max(b, d)))
                right = ufl.lt(x[0], a + (c - a) * (x[1] - b) / (d - b))
                sign *= ufl.conditional(ufl.And(beside, right), -1.0, 1.0)
        return (1 - sign) / 2

    return density
