"""From an easy problem to the one that was asked: what Newton starts from, chosen automatically.

1. *Even crowd.* The population spread evenly at all times and the best response u of one player
   to it (a nonlinear HJB sweep). From there Newton takes 4 to 7 steps on games without congestion.
2. *Path.* Where that fails (congestion with little diffusion): theta goes from 0 to 1, players see
   the crowd (1 - theta) even + theta m and diffuse with D stretch^(1 - theta). At theta = 0 each
   plays alone: an HJB and then a linear Fokker-Planck equation. The step in theta adapts.
3. *Nested in time.* With congestion all that happens on a four times coarser time grid first.

Both parameters are Constants of the compiled forms, so that no stage compiles anything.
"""

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from mfg_fem.newton import Newton, NewtonSolver, Outcome
from mfg_fem.spacetime import Discretisation, Levels, SpaceTime

log = logging.getLogger(__name__)

STAGE_MAX_IT = 12  # a stage that needs more is better split
SMALLEST_STEP = 1 / 64
STRETCHES = (1.0, 8.0, 64.0)
COARSENING = 4
FEWEST_COARSE_STEPS = 8


def solve_stages(
    discrete: Discretisation,
    steps: int,
    method: Newton,
    guess: Levels | None,
    record: Callable[[dict], None],
) -> tuple[SpaceTime, Outcome]:
    """Solve the discrete problem; returns its space-time system and the last outcome."""
    auto = method.continuation == "auto"
    grids = [steps]
    if auto and guess is None and discrete.congested and steps >= COARSENING * FEWEST_COARSE_STEPS:
        grids.insert(0, steps // COARSENING)
    nested = None
    for grid in grids:
        system = SpaceTime(discrete, grid)
        newton = NewtonSolver(system, method, record)
        try:
            path = _Path(newton, method)
            if guess is not None:
                outcome = path.target(refine_in_time(guess, grid), "guess", method.max_it)
            elif nested is not None:
                X = path.respond(refine_in_time(nested, grid))
                outcome = path.target(X, "nested", method.max_it)
            else:
                max_it = STAGE_MAX_IT if auto else method.max_it
                outcome = path.target(path.start, "cold", max_it)
            if auto and not outcome.converged:
                log.info("Newton stopped (%s); going through easier problems", outcome.reason)
                outcome = path.follow(outcome)
            if outcome.converged:
                outcome = replace(outcome, X=newton.sweeps.transport(outcome.X))
        finally:
            newton.destroy()
            system.destroy()
        nested = system.levels(outcome.X) if outcome.converged else None
    return system, outcome


class _Path:
    """The stages on one time grid."""

    def __init__(self, newton: NewtonSolver, method: Newton):
        self.newton, self.method = newton, method
        self.state = newton.system.discrete.state
        self.grid = f"{newton.system.steps} steps"
        self.set(1.0, 1.0)
        self.start = self.respond(newton.system.even_crowd())
        # Residuals are measured by that of this start, which no guess makes small; but it may be
        # huge because of a step at an exit, or zero where the even crowd is the solution.
        norm = np.linalg.norm(newton.norms(self.start))
        natural = newton.natural_norm(self.start)
        self.atol = method.rtol * np.clip(norm, natural / 100, 10 * natural)

    def set(self, share: float, stretch: float):
        """Give the forms a point of the path."""
        self.state.share.value, self.state.stretch.value = share, stretch

    def respond(self, X: np.ndarray) -> np.ndarray:
        """X with the best response to its crowd for u; X itself if that sweep has failed.

        Only the monotone scheme promises that it does not.
        """
        norms, response = self.newton.norms, self.newton.sweeps.best_response(X)
        return response if norms(response)[0] <= norms(X)[0] else X

    def target(self, X: np.ndarray, name: str, max_it: int) -> Outcome:
        """Newton on the problem that was asked."""
        self.set(1.0, 1.0)
        X = self.newton.system.hold(X)
        return self.newton.solve(X, self.atol, max_it, f"{self.grid}, {name}")

    def follow(self, failed: Outcome) -> Outcome:
        """Walk theta from 0 to 1; the last outcome, or `failed` if no path arrives."""
        for stretch in STRETCHES:
            theta, step, X = 0.0, 0.5, self._alone(stretch)
            while step >= SMALLEST_STEP:
                share, factor = theta, stretch ** (1 - theta)
                self.set(share, factor)
                last = theta == 1.0
                outcome = self.newton.solve(
                    X,
                    self.atol if last else 1e3 * self.atol,
                    self.method.max_it if last else STAGE_MAX_IT,
                    f"{self.grid}, crowd {share:.3g}, diffusion x{factor:.3g}",
                )
                if outcome.converged and last:
                    return outcome
                if outcome.converged:
                    X, reached = outcome.X, theta
                    step *= 2 if outcome.iterations <= 4 else 1
                elif theta == 0.0:
                    break
                else:
                    theta, step = reached, (theta - reached) / 2
                theta = min(1.0, theta + step)
        self.set(1.0, 1.0)
        return replace(failed, reason=f"{failed.reason}; and no easier problem led to it")

    def _alone(self, stretch: float) -> np.ndarray:
        """Each player alone: the best response to an even crowd, and the density it makes."""
        self.set(0.0, stretch)
        return self.newton.sweeps.transport(self.respond(self.newton.system.even_crowd()))


def refine_in_time(levels: Levels, steps: int) -> np.ndarray:
    """Unknowns on a grid of `steps` steps by linear interpolation of all levels in time."""
    coarse = len(levels.u) - 1
    position = np.arange(steps + 1) * coarse / steps
    left = np.minimum(position.astype(int), coarse - 1)
    weight = (position - left)[:, None]
    u, m = ((1 - weight) * y[left] + weight * y[left + 1] for y in (levels.u, levels.m))
    return np.stack([u[:-1], m[1:]])
