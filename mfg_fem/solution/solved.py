"""Solved: what a solve leaves of all populations together."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from mfg_fem.discrete.clearing import Clearing
from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.discrete.planning import Planning
from mfg_fem.discrete.schemes import Scheme
from mfg_fem.discrete.spacetime import SpaceTime
from mfg_fem.discrete.step import Levels
from mfg_fem.io import saved
from mfg_fem.nonlinear.newton import Outcome


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Solved:
    """What a solve leaves of all populations together.

    Attributes:
        scheme: how the problem was discretised.
        times: levels 0..steps; infinity for what lasts for ever.
        residuals: L2 space-time norms of the HJB and Fokker-Planck residuals, the latter for the
            density divided by its mean.
        prices: the price of each market in each step, by name; without a horizon one number.
        excess: the largest excess demand of each market in any step, relative to its size there if
            people were everywhere alike: zero up to the tolerance of Newton.
        terminal_gap: L1 distance of the density at the end from the terminal density, if one was
            prescribed, as a part of the population.
        converged, reason: whether Newton reached its tolerance, and PETSc's reason. Of a loaded
            solution: whether its residual, in the problem it was loaded for, is that small.
        norm, tolerance: of the residual, as in the history, and what it was to be at most.
        history: one dict per Newton step with the keys stage, step, krylov (iterations), form (of
            the linear equations, and their preconditioner), forcing (their relative tolerance),
            hjb, fp (root mean squares of the residuals in U / T and M / T, see `units.py`; fp has
            those of markets besides), du, dm (of the changes in U and M; those of prices, which
            have no common unit, are in none), mass, min_density, step_length (step 0 of a stage is
            its start).
        seconds: wall time of solve, of all its runs if it was resumed.
        solvers: how the linear equations were solved; nothing of a loaded solution.
        everybody: the nodal values of all populations.
        discrete: the problem on its mesh.
    """

    scheme: Scheme
    times: np.ndarray
    residuals: dict[str, float]
    prices: dict[str, Any]
    excess: dict[str, float]
    terminal_gap: float
    converged: bool
    reason: str
    norm: float
    tolerance: float
    history: list[dict]
    seconds: float
    solvers: str
    everybody: Levels = field(repr=False)
    discrete: Discretisation = field(repr=False)

    @staticmethod
    def measured(
        system: SpaceTime, outcome: Outcome, history: list[dict], seconds: float, solvers: str
    ) -> "Solved":
        """Measure the outcome of a solve. Collective."""
        d, X, norms = system.discrete, outcome.X, system.norms(outcome.X)
        norm, gap, units = float(np.linalg.norm(norms)), 0.0, d.problem.units
        if d.ends.planned:
            planning = Planning(system)
            norm, gap = planning.norm(X), planning.gap(X[1, :, -1])
        excess: dict[str, float] = {}
        if d.problem.prices:
            clearing = Clearing(system)
            norm, excess = clearing.norm(X), clearing.defect(X)
        physical = norms * np.sqrt(d.volume / units.time) * [units.cost, 1.0]
        return Solved(
            scheme=d.scheme,
            times=system.times,
            residuals={"hjb": float(physical[0]), "fp": float(physical[1])},
            prices=d.state.paid.by_name,
            excess=excess,
            terminal_gap=gap,
            converged=outcome.converged,
            reason=outcome.reason,
            norm=norm,
            tolerance=outcome.tolerance,
            history=history,
            seconds=seconds,
            solvers=solvers,
            everybody=system.levels(X),
            discrete=d,
        )

    def facts(self) -> dict:
        """Its attributes, for a solution that has them too."""
        return {y.name: getattr(self, y.name) for y in fields(Solved)}

    @property
    def steps(self) -> int:
        """Number of time steps."""
        return len(self.times) - 1

    @property
    def iterations(self) -> int:
        """Newton steps in all stages."""
        return sum(row["step"] > 0 for row in self.history)

    @property
    def report(self) -> str:
        """A page of numbers: what was solved, residuals, mass balance, iterations."""
        raise NotImplementedError

    def __str__(self) -> str:
        """The report."""
        return self.report

    def __repr__(self) -> str:
        """Its first line."""
        return f"<{type(self).__name__} of {self.report.splitlines()[0]}>"

    def save(self, path: str | Path) -> None:
        """Save to one file that `load` reads on any number of ranks. Collective."""
        saved.save(self, path)
