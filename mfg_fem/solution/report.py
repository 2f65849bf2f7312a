"""The page of numbers that a solution prints."""

from typing import Any

import numpy as np


def heading(solution: Any, populations: int = 1) -> list[str]:
    """What was solved and how: lines for a solution of so many populations."""
    nodes, steps = solution.discrete.V.dofmap.index_map.size_global, solution.steps
    krylov = sum(row["krylov"] for row in solution.history)
    stages = len({row["stage"] for row in solution.history})
    return [
        f"{solution.problem.title}, {solution.scheme}: {nodes} nodes x {steps} steps, "
        f"{2 * populations * nodes * steps} unknowns",
        f"  {'converged' if solution.converged else 'NOT CONVERGED'} ({solution.reason})",
        f"  Newton steps {solution.iterations} in {stages} stage(s), Krylov {krylov}, "
        f"{solution.seconds:.1f} s",
        f"  last step by the {solution.history[-1]['form'] or 'guess alone'}",
        *([f"  solvers                       {solution.solvers}"] if solution.solvers else []),
        *_markets(solution),
        "  residuals (L2)                HJB {hjb:.1e}, FP {fp:.1e}; ".format(**solution.residuals)
        + f"{solution.norm:.1e} of {solution.tolerance:.1e} allowed",
    ]


def _markets(solution: Any) -> list[str]:
    """Prices, in the first and in the last step, and how nearly markets clear."""
    prices = {name: np.atleast_1d(y)[[0, -1]] for name, y in solution.prices.items()}
    ends = {name: [f"{y:.8g}" for y in both] for name, both in prices.items()}
    return [
        f"  price {name:<24}{' to '.join(dict.fromkeys(values))}, excess demand "
        f"{solution.excess[name]:.1e}"
        for name, values in ends.items()
    ]


def body(part: Any) -> list[str]:
    """The lines of one population: who is where, what it costs, what is suspect."""
    gone = [f"  gone through {name:<16} {y[-1]:.6g}" for name, y in part.gone.items()]
    entered = f", entered {part.entered[-1]:.6g}" if part.entered.any() else ""
    defect = f"  mass balance, largest defect  {np.abs(part.balance).max():.1e}"
    return [
        f"  inside at the end             {part.masses[-1]:.6g} of {part.masses[0]:.6g}" + entered,
        *gone,
        *_ends(part),
        *([defect] if part.problem.keeps_its_players else []),
        f"  smallest density              {part.min_density:.3e}",
        f"  total cost                    {part.cost:.8g}" + _duality(part),
        *(f"  WARNING: {text}" for text in part.warnings),
    ]


def lasting_heading(solution: Any, populations: int = 1) -> list[str]:
    """As `heading`, without a horizon."""
    nodes = solution.discrete.V.dofmap.index_map.size_global
    return [
        f"{solution.problem.title} without a horizon, {solution.scheme}: {nodes} nodes, "
        f"{2 * populations * nodes} unknowns",
        *heading(solution)[1:],
    ]


def lasting_body(part: Any) -> list[str]:
    """As `body`, of a `StationarySolution`."""
    entering, beside = [], ""
    if part.entering:
        entering = [f"  entering per unit of time     {part.entering:.6g}"]
    if part.problem.value_is_cost:
        beside = f" ({part.cost - part.expected_cost:+.1e} beside what u says)"
    rate = part.cost_rate
    return [
        f"  people inside                 {part.mass:.6g}",
        *entering,
        *(f"  leaving through {k:<14}{v:.6g}" for k, v in part.leaving.items()),
        *([] if rate is None else [f"  lambda                        {rate:.8g}"]),
        f"  smallest density              {part.whole.min_density:.3e}",
        f"  cost per unit of time         {part.cost:.8g}{beside}",
        *(f"  WARNING: {text}" for text in part.warnings),
    ]


def _ends(part: Any) -> list[str]:
    """What a planning problem has besides."""
    ends = part.discrete.ends
    if not ends.planned:
        return []
    background, smoothed = (
        "{:.2g} % and {:.2g} %".format(*(100 * share for share in shares))
        for shares in (ends.background, ends.smoothed)
    )
    return [
        f"  L1 distance at the end        {part.terminal_gap:.1e} of the population",
        f"  background, start and end     {background} of the population (floor=)",
        f"  smoothed, start and end       {smoothed} of the population moved",
    ]


def _duality(part: Any) -> str:
    """How far the cost of a game is from what its value function says."""
    if not part.problem.value_is_cost:
        return ""
    defect = part.cost - part.expected_cost - part.limited_cost
    limited = f" {part.limited_cost:+.1e} (limited steps)" if part.limited_cost else ""
    return f" ({defect:+.1e} beside int u(0) m0{limited})"
