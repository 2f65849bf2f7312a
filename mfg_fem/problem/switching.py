"""Rates at which players of one crowd become players of another."""

from dolfinx import fem

from mfg_fem.errors import ProblemError
from mfg_fem.problem.crowding import Crowding
from mfg_fem.problem.moments import check_not_negative


def rate_name(pair: tuple[str, str]) -> str:
    """What messages call the rate from one crowd to another."""
    return f"switching[{pair!r}]"


def check_rates(problem, crowding: Crowding):
    """Evaluate the rates: they must be finite, and not negative. Collective."""
    mesh, t = problem.domain.mesh, fem.Constant(problem.domain.mesh, 0.0)
    if problem.stationary and (timed := problem.data.timed):
        raise ProblemError(f"{timed[0]} depends on t, and there is no time without a horizon.")
    crowding.initial()
    for name in map(rate_name, problem.switching):
        rate = problem.data(name, x=problem.x, t=t, m=crowding.seen_by(problem, t))
        check_not_negative(mesh, name, rate, t, problem.duration)
