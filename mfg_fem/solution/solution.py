"""Solution: what came out, and an honest report of it."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from mpi4py import MPI

import numpy as np

from dolfinx import fem

from mfg_fem._compat import interpolation_points
from mfg_fem.certainty.certificate import Certificate
from mfg_fem.certainty.exploitability import exploitability
from mfg_fem.certainty.players import Players, simulate
from mfg_fem.compilation import pointwise
from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.discrete.spacetime import SpaceTime
from mfg_fem.discrete.stationary import system_of
from mfg_fem.discrete.step import Levels
from mfg_fem.discrete.totals import departures, measure
from mfg_fem.errors import ProblemError, together
from mfg_fem.forms.drift import state_drift
from mfg_fem.io import paraview, saved, view
from mfg_fem.io.frames import Frames
from mfg_fem.mesh.periodic import wrap
from mfg_fem.nonlinear.newton import STALE, Outcome
from mfg_fem.problem.game import MeanField
from mfg_fem.problem.populations import Member, Populations
from mfg_fem.solution.report import body, heading
from mfg_fem.solution.solved import Solved
from mfg_fem.solution.suspicion import reasons
from mfg_fem.validate import index


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Solution(Solved):
    """The value function and the density at all times, and what a user would quote of them.

    Attributes, besides those of `Solved`:
        problem: what was solved.
        masses: population inside the domain at each level.
        gone: exit name -> people who have left through it by each level.
        entered: people who have entered through the source by each level.
        cost: total cost of the population, running, terminal and exit costs, at its discount.
        expected_cost: what the value function says that the players of a game pay: the integral
            of u(0) m0 and, with a source, of u s. At an equilibrium it is the cost without the
            limited cost, to the tolerance of Newton; of a control it means nothing, as u is a
            marginal cost.
        limited_cost: of nodes that lose most of their people in one step of `Sharp`, where both
            equations are not quite adjoint: see `discrete/totals.py`.
        min_density, max_density: smallest and largest nodal density of all levels.
        warnings: sentences: why it is not converged; why it is suspect although it may be.
        place: which of the populations of `everybody` this is.
    """

    problem: MeanField
    masses: np.ndarray
    gone: dict[str, np.ndarray]
    entered: np.ndarray
    cost: float
    expected_cost: float
    limited_cost: float
    min_density: float
    max_density: float
    warnings: tuple[str, ...]
    place: int = field(repr=False)

    @classmethod
    def each(
        cls,
        system: SpaceTime,
        outcome: Outcome,
        history: list[dict],
        seconds: float,
        solvers: str = "",
    ) -> list["Solution"]:
        """Measure the outcome of a solve, population by population. Collective."""
        solved = Solved.measured(system, outcome, history, seconds, solvers)
        totals, departed = measure(system, solved.everybody), departures(system, outcome.X)
        return [cls._of(solved, i, [y[i] for y in totals], departed[i]) for i in range(system.k)]

    @classmethod
    def _of(cls, solved: Solved, i: int, totals: list, departed: tuple) -> "Solution":
        """What is known of population i. Collective."""
        d, levels = solved.discrete, solved.everybody.population(i)
        (running, entering, terminal, expected, limited), (gone, paid) = totals, departed
        bounds = np.array([-levels.m.min(initial=np.inf), levels.m.max(initial=-np.inf)])
        d.comm.Allreduce(MPI.IN_PLACE, bounds, MPI.MAX)
        lowest, highest = -float(bounds[0]), float(bounds[1])
        return cls(
            problem=d.problem.populations[i],
            place=i,
            masses=d.integral(levels.m),
            gone=gone,
            entered=np.concatenate([[0.0], np.cumsum(entering)]),
            cost=float(running.sum() + terminal + paid),
            expected_cost=float(expected),
            limited_cost=float(limited),
            min_density=lowest,
            max_density=highest,
            warnings=reasons(d, i, levels, (lowest, highest), gone),
            **solved.facts(),
        )

    @cached_property
    def levels(self) -> Levels:
        """The nodal values at all time levels."""
        return self.everybody.population(self.place)

    def see(self, n: int) -> None:
        """Set the fields of the discretisation to what step n sees. Collective."""
        t = self.times[n : n + 2].mean()
        self.discrete.set_state(*self.everybody.of_step(n), t)

    @property
    def balance(self) -> np.ndarray:
        """Mass balance at each level: inside + gone - initial - entered, zero up to round-off."""
        return self.masses + sum(self.gone.values()) - self.masses[0] - self.entered

    def mass(self, n: int) -> float:
        """Population inside the domain at level n (0..steps)."""
        return float(self.masses[index("mass", n, len(self.times), "levels")])

    def value(self, n: int) -> fem.Function:
        """Value function at level n (0..steps)."""
        n = self._index("value", n, len(self.times), "levels")
        return self._function(self.levels.u[n], "value")

    def density(self, n: int) -> fem.Function:
        """Density at level n (0..steps), players per unit of volume."""
        n = self._index("density", n, len(self.times), "levels")
        return self._function(self.levels.m[n], "density")

    def velocity(self, n: int) -> fem.Function:
        """Optimal drift -H_p on step n (0..steps-1), constant (P1) or linear (P2) on each cell.

        Of what the scheme sees on that step: u at its start and m at its end, or for the midpoint
        rule, limited or not, averages of both.
        """
        n = self._index("velocity", n, self.steps, "steps")
        mesh = self.problem.domain.mesh
        shape = (self.problem.domain.dim,)
        W = fem.functionspace(mesh, ("DG", self.scheme.degree - 1, shape))
        v, d = fem.Function(W, name="velocity"), self.discrete
        self.see(n)
        a = state_drift(d.problem, d.state, self.place)
        v.interpolate(pointwise(a, interpolation_points(W)))
        return v

    @property
    def nodal_values(self) -> np.ndarray:
        """Value function at this rank's nodes, shape (steps + 1, owned); to read only.

        The nodes of a P2 scheme are the vertices and the middles of the edges, and nodal values
        are values at these points: `coordinates`.
        """
        u = self.levels.u
        return np.broadcast_to(u, u.shape)  # which is read-only

    @property
    def nodal_densities(self) -> np.ndarray:
        """Density at this rank's nodes, shape (steps + 1, owned); to read only."""
        m = self.levels.m
        return np.broadcast_to(m, m.shape)

    @property
    def coordinates(self) -> np.ndarray:
        """Where this rank's nodes are, shape (owned, d).

        A node on the seam of a periodic domain is at the low side of it. Every node belongs to one
        rank, so that those of all ranks together are the nodes of the mesh, each once.
        """
        domain, owned = self.problem.domain, self.discrete.owned
        x = self.discrete.V.tabulate_dof_coordinates()[:owned, : domain.dim]
        return wrap(x, domain.seams)

    def frames(self, degree: int, family: str = "Lagrange") -> Frames:
        """What pictures and files show of it: see `Frames`. Collective."""
        return Frames(self, degree, family)

    def grid(self, n: int) -> Any:
        """Level n (0..steps) as a `pyvista.UnstructuredGrid`: see `io.view.grid`. Collective."""
        n = self._index("grid", n, len(self.times), "levels")
        return view.grid(self, n)

    @property
    def report(self) -> str:
        """A page of numbers: what was solved, true residuals, mass balance, iterations.

        `print(solution)` prints it.
        """
        return "\n".join([*heading(self), *body(self)])

    def exploitability(self, problem: MeanField | None = None) -> Certificate:
        """What a player could still save by leaving this policy: see `certainty`. Collective."""
        return exploitability(self, problem)

    def players(
        self, number: int, seed: int = 0, *, substeps: int = 4, among: bool = False
    ) -> Players:
        """So many players who follow the policy: see `certainty/players.py`. Collective."""
        return simulate([self], number, seed, substeps=substeps, among=among)[0]

    def write(self, path: str | Path, every: int = 1) -> None:
        """Write density, value function and velocity: see `io.paraview.write`. Collective."""
        paraview.write(self, path, every)

    @classmethod
    def load(cls, path: str | Path, problem: MeanField) -> "Solution":
        """Read what `save` wrote; the problem must live on the same mesh. Collective.

        Residuals, masses and cost are measured anew for the problem given; if its residual is not
        what Newton allowed, the solution is that of another problem and not `converged`.
        """
        if isinstance(problem, Member | Populations):
            raise ProblemError(
                f"{problem.title}: crowds are saved, and read, together: see "
                "PopulationsSolution.load."
            )
        if not isinstance(problem, MeanField):
            raise ProblemError(
                f"problem must be the game or control that was saved, not {problem!r}."
            )
        return cls.load_each(path, problem)[0]

    @classmethod
    def load_each(cls, path: str | Path, problem: MeanField | Populations) -> list["Solution"]:
        """Of each population what `load` returns. Collective."""
        problem.check()
        data = saved.load(path, problem)
        discrete = Discretisation(problem, data.scheme)
        u, m = data.levels_on(discrete)
        system = system_of(discrete, data.times)
        if prices := discrete.problem.prices:
            discrete.state.paid.set(data.times, np.array([data.prices[name] for name in prices]))
        if discrete.ends.planned:
            discrete.ends.potential = u[:, -1]
        try:
            X = np.stack([u[:, :-1], m[:, 1:]])
            outcome = Outcome(X, data.converged, data.reason, 0, tolerance=data.tolerance)
            found = cls.each(system, outcome, data.history, data.seconds)
        finally:
            system.destroy()
        norm = found[0].norm
        if norm <= STALE * data.tolerance or not data.converged:
            return found
        reason = f"it does not solve this problem: its residual is {norm:.1e}"
        return [replace(own, converged=False, reason=reason) for own in found]

    def _index(self, what: str, value: int, size: int, of: str) -> int:
        """As `index`, where all ranks ask. Collective."""
        with together(self.discrete.comm):
            return index(what, value, size, of)

    def _function(self, values: np.ndarray, name: str) -> fem.Function:
        function = fem.Function(self.discrete.V, name=name)
        function.x.array[: len(values)] = values
        function.x.scatter_forward()
        return function
