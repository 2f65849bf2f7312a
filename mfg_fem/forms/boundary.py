"""People who leave and enter through boundaries, per unit of volume of the boundary's layer.

With the density rho of a boundary in space (`discrete/layers.py`), the functional has

    sum_doors rho kappa m (u - c) - sum_entries rho j u,

the derivatives of which are the conditions of `Door` and `Entry`.
"""

from dataclasses import dataclass
from typing import Any

import ufl
from dolfinx import fem

from mfg_fem.forms.smooth import smooth_max
from mfg_fem.problem.boundary import Door, Entry

WIDTH = 1e-3  # of the speed to cross the domain within the horizon: kinks are as wide
HALF = 0.05  # of the mean density: half of a door's capacity passes there by default


@dataclass(frozen=True)
class Standing:
    """Where the players of a population stand still, and walls of theirs that do not push.

    Attributes:
        population: whose they are.
        normal: the unit outer normal at nodes of these walls, 0 at others; None without any.
        still: at each node the p with H_p = 0, the gradient of the value function for which players
            stand still, and 1; or p = 0 and 0 where there is none or a boundary pushes.
    """

    population: Any
    normal: fem.Function | None
    still: fem.Function


def hamiltonian(population, standing, x, t, p, m):
    """H, and at walls that do not push its least value on p + s n, s >= 0.

    `Standing` is None where there are no such walls. With p_0 for which players stand still,
    H_p = H_pp (p - p_0) for an H that is quadratic, as it is in more than one dimension, so that

        s = max(n.H_pp (p_0 - p), 0) / (n.H_pp n);

    in one dimension that is max(n.(p_0 - p), 0), which is right for any convex H.
    """
    if standing is None or standing.normal is None:
        return population.H(x, t, p, m)
    n, d = standing.normal, population.domain.dim
    still = ufl.variable(ufl.as_vector([standing.still[i] for i in range(d)]))
    H_p = ufl.diff(population.H(x, t, still, m), still)
    H_pp = ufl.diff(H_p, still)
    along = ufl.dot(H_pp, n)
    curvature = ufl.dot(n, along) + (1 - ufl.dot(n, n)) * ufl.tr(H_pp)  # none is 0
    units, mesh = population.units, population.domain.mesh
    width = fem.Constant(mesh, WIDTH * units.length / units.time)
    slope = ufl.dot(along, still - p) - ufl.dot(H_p, n)
    return population.H(x, t, p + smooth_max(slope, 0, width) / curvature * n, m)


def leaving(population, layers: dict, t, m, seen):
    """People who leave through the doors of these layers."""
    x, doors = population.x, population.named(Door)
    return m * sum(
        rho * door_rate(population, name, x, t, seen)
        for name, rho in layers.items()
        if name in doors
    )


def paid(population, layers: dict, t, m, seen):
    """What they pay."""
    found = 0
    for name in population.named(Door):
        cost = population.at_boundary(name, "cost", population.x, t, seen)
        found += cost * leaving(population, {name: layers[name]}, t, m, seen)
    return found


def entering(population, layers: dict, t):
    """People who come in through entries."""
    entries = population.named(Entry)
    fluxes = (population.at_boundary(name, "flux", population.x, t) for name in entries)
    return sum(layers[name] * flux for name, flux in zip(entries, fluxes, strict=True))


def door_rate(population, name: str, x, t, seen):
    """The speed kappa at which people leave through a door."""
    door = population.boundary[name]
    rate, q = (
        None if getattr(door, key) is None else population.at_boundary(name, key, x, t, seen)
        for key in ("rate", "capacity")
    )
    if q is None:
        return rate
    crowd = population.who_leaves(name, seen)
    if rate is not None:
        return ufl.conditional(ufl.gt(q, 0), rate * q / (rate * crowd + q), 0.0)  # closed: q = 0
    mean = population.units.density
    return q / (crowd + fem.Constant(population.domain.mesh, HALF * mean))
