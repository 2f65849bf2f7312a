"""What a solution adds up to: who leaves and enters, and costs. All costs are discounted."""

from collections.abc import Sequence

from mpi4py import MPI

import numpy as np

from mfg_fem.discrete.spacetime import SpaceTime
from mfg_fem.discrete.step import Levels
from mfg_fem.problem.boundary import Door


def departures(system: SpaceTime, X: np.ndarray) -> list[tuple[dict[str, np.ndarray], float]]:
    """Of each population who has left by each level, by boundary; what they paid. Collective.

    At exits the rows of the Fokker-Planck equation at Dirichlet dofs say who leaves.
    """
    rows = system.residual(X, held=False)[1]
    return [_departed(system, X, i, own) for i, own in enumerate(rows)]


def by_boundary(flows: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Who of all populations has left through each boundary, of those of each of them."""
    names = dict.fromkeys(name for own in flows for name in own)
    return {name: np.sum([own[name] for own in flows if name in own], axis=0) for name in names}


def _departed(
    system: SpaceTime, X: np.ndarray, i: int, rows: np.ndarray
) -> tuple[dict[str, np.ndarray], float]:
    d, rule, dt = system.discrete, system.jacobian.rule.population(i), system.dt
    exits, c, population = d.exits[i], rule.c[:, None], d.problem.populations[i]
    leaving = -dt[:, None] * rows[:, exits.held]  # in each step
    costs = rule.of_levels[:, None] * exits.costs(system.times)
    parts = [(leaving * ((1 - c) * costs[:-1] + c * costs[1:])).sum(axis=1)]
    parts += [leaving[:, np.isin(exits.held, dofs)].sum(axis=1) for dofs in exits.dofs.values()]
    if doors := population.named(Door):
        names = ["paid", *(f"leaving {name}" for name in doors)]
        each = system.each(system.levels(X), lambda: [d.total(name, i) for name in names])
        paid, *through = np.array([dt[n] * np.array(found) for n, found in each]).T
        parts[0] += rule.of_steps * paid
        parts += through
    paid, *flows = system.comm.allreduce(np.array(parts), MPI.SUM)
    by_name = dict(zip((*exits.dofs, *doors), flows, strict=True))
    gone = {name: np.append(0.0, np.cumsum(by_name[name])) for name in population.ways_out}
    return gone, float(paid.sum())


def measure(system: SpaceTime, levels: Levels) -> tuple[np.ndarray, ...]:
    """Running costs and people entering, (k, N); terminal, expected and limited costs, (k,).

    The expected costs are what the value function predicts for those who are there at the start
    and for those who enter. The limited costs are

        sum_n sum_x W (s - c_n) (m^n - m^{n+1}) (v^n - v^{n+1}),     v^n = exp(-gamma t^n) u^n,

    by which the cost of a game exceeds them where weights s of the density are not c_n: sum M hjb
    - U fp over all steps, in which the diffusion cancels. Collective.
    """
    d, k, names = system.discrete, system.k, ("running", "entering", "expected")

    def rates():
        return [[d.total(name, i) for i in range(k)] for name in names]

    rule, steps = levels.rule, system.each(levels, rates)
    local = np.array([system.dt[n] * np.array(found) for n, found in steps])
    local[:, [0, 2]] *= rule.of_steps.T[:, None]
    g = rule.of_levels[:, -1:] * d.ends.costs(d, levels.m[:, -1])
    pairs = [(g, levels.m[:, -1]), (levels.u[:, 0], levels.m[:, 0])]
    ends = [
        system.jacobian.mult_mass(cost) @ m
        for costs, densities in pairs
        for cost, m in zip(costs, densities, strict=True)
    ]
    ends += list(_limited(system, levels))
    sums = system.comm.allreduce(np.concatenate([local.ravel(), ends]), MPI.SUM)
    running, entering, expected = sums[: local.size].reshape(local.shape).transpose(1, 2, 0)
    terminal, first, limited = sums[local.size :].reshape(3, k)
    return running, entering, terminal, first + expected.sum(axis=1), limited


def _limited(system: SpaceTime, levels: Levels) -> np.ndarray:
    """This rank's part of the limited costs."""
    found, rule = np.zeros(system.k), levels.rule
    if rule.limited:
        for n in range(system.steps):
            before, after = levels.m[:, n], levels.m[:, n + 1]
            moved = (rule.weight(n, before, after) - rule.c[n]) * (before - after)
            fall = levels.u[:, n] - rule.discount[:, n, None] * levels.u[:, n + 1]
            change = rule.of_levels[:, n, None] * fall
            found += np.sum(system.discrete.weights * moved * change, axis=1)
    return found
