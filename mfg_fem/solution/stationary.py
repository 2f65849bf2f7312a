"""StationarySolution: what lasts for ever, and an honest report of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpi4py import MPI

import numpy as np

from dolfinx import fem

from mfg_fem.certainty.certificate import Certificate
from mfg_fem.certainty.exploitability import exploitability
from mfg_fem.discrete.stationary import constant_cost
from mfg_fem.errors import ProblemError
from mfg_fem.problem.game import MeanField
from mfg_fem.solution.report import lasting_body, lasting_heading
from mfg_fem.solution.solution import Solution
from mfg_fem.solution.solved import Solved


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class StationarySolution(Solved):
    """The value function and the density of a problem without a horizon.

    Attributes, besides those of `Solved`:
        problem: what was solved.
        cost_rate: lambda in -div(D grad u) + H + lambda = f, what a player of an ergodic game pays
            per unit of time; None with a discount or with exits.
        cost: what the population pays per unit of time, when it leaves too.
        expected_cost: the same as the value function has it, lambda population + gamma int u m +
            int u s; of a game without open boundaries it is the cost, to the tolerance of Newton,
            and of a control nothing.
        mass: people who are there.
        leaving: exit name -> people who leave through it per unit of time.
        entering: people who enter per unit of time.
        whole: one long time step of this, in which nothing changes.
    """

    problem: MeanField
    cost_rate: float | None
    cost: float
    expected_cost: float
    mass: float
    leaving: dict[str, float]
    entering: float
    whole: Solution = field(repr=False)

    @classmethod
    def of(cls, whole: Solution) -> "StationarySolution":
        """What a solve has left. Collective."""
        d, problem, long = whole.discrete, whole.problem, whole.times[-1]
        u, m = whole.levels.u[0], whole.levels.m[0]
        everybody = whole.everybody
        held, weighed = d.mass.createVecs()
        held.array[:] = m
        d.mass.mult(held, weighed)
        value = d.comm.allreduce(float(u @ weighed.array_r), MPI.SUM)  # of those who are there
        rate = constant_cost(d, whole.place, everybody.u[:, 0], everybody.m[:, 0])
        expected = (whole.expected_cost - value) / long + problem.discount * value
        size = np.sqrt(long / problem.units.time)
        facts = whole.facts() | {
            "times": np.array([np.inf]),
            "prices": {name: float(y[0]) for name, y in whole.prices.items()},
            "residuals": {name: float(y / size) for name, y in whole.residuals.items()},
        }
        return cls(
            problem=problem,
            cost_rate=rate,
            cost=whole.cost / long,
            expected_cost=expected + (rate or 0.0) * float(whole.masses[0]),
            mass=float(whole.masses[0]),
            leaving={name: float(y[-1]) / long for name, y in whole.gone.items()},
            entering=float(whole.entered[-1]) / long,
            whole=whole,
            **facts,
        )

    def frames(self, *arguments: Any) -> Any:
        """The fields as nodal Functions, as those of a Solution. Collective."""
        return self.whole.frames(*arguments)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences: why it is not converged; why it is suspect although it may be."""
        return self.whole.warnings

    @property
    def balance(self) -> float:
        """How many more people come than go, per unit of time: zero up to round-off."""
        return self.entering - sum(self.leaving.values())

    def value(self) -> fem.Function:
        """Value function; where a constant is free, with the mean 0.

        That is the mean over the crowds that exchange people with this one, if there are any.
        """
        found, d = self.whole.value(0), self.discrete
        if self.cost_rate is not None:
            group = next(y for y in d.problem.groups if self.whole.place in y)
            found.x.array[:] -= d.integral(self.whole.everybody.u[group, 0]).mean() / d.volume
        return found

    def density(self) -> fem.Function:
        """Density, players per unit of volume."""
        return self.whole.density(0)

    def velocity(self) -> fem.Function:
        """Optimal drift -H_p, constant (P1) or linear (P2) on each cell."""
        return self.whole.velocity(0)

    @property
    def nodal_values(self) -> np.ndarray:
        """Value function at this rank's nodes, see `coordinates`; shape (owned,)."""
        return self.value().x.array[: self.discrete.owned]

    @property
    def nodal_densities(self) -> np.ndarray:
        """Density at this rank's nodes, shape (owned,); to read only."""
        return self.whole.nodal_densities[0]

    @property
    def coordinates(self) -> np.ndarray:
        """Where this rank's nodes are, shape (owned, d)."""
        return self.whole.coordinates

    @property
    def report(self) -> str:
        """A page of numbers: what was solved, true residuals, who comes and goes, iterations."""
        return "\n".join([*lasting_heading(self), *lasting_body(self)])

    def exploitability(self, problem: MeanField | None = None) -> Certificate:
        """What a player could still save per unit of time: see `certainty`. Collective."""
        return exploitability(self, problem)

    def write(self, path: str | Path) -> None:
        """Write density, value function and velocity: see `io.paraview.write`. Collective."""
        self.whole.write(path, every=self.whole.steps)

    def save(self, path: str | Path) -> None:
        """Save to one file that `load` reads on any number of ranks. Collective."""
        self.whole.save(path)

    @classmethod
    def load(cls, path: str | Path, problem: MeanField) -> "StationarySolution":
        """Read what `save` wrote; the problem must live on the same mesh. Collective."""
        if isinstance(problem, MeanField) and not problem.stationary:
            raise ProblemError("This problem has a horizon: see Solution.load.")
        return cls.of(Solution.load(path, problem))
