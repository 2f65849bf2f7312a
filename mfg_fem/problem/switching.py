"""Rates at which players of one crowd become players of another."""

from dolfinx import fem

from mfg_fem.errors import ProblemError
from mfg_fem.mesh.values import VertexValues, check_finite
from mfg_fem.problem.crowding import Crowding
from mfg_fem.problem.data import moments


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
        values = VertexValues(mesh, rate)
        for t.value in moments(problem.duration, problem.data.depends(name, "t")):
            (ends,) = values.extremes()
            check_finite(ends, name, f" at t = {float(t.value):g}")
            if ends[0] < 0:
                raise ProblemError(
                    f"{name} is negative somewhere, {ends[0]:.3g} at t = {float(t.value):g}: a "
                    "rate must be >= 0."
                )
