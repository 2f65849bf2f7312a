"""PopulationsSolution: what several crowds do, crowd by crowd and together."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dolfinx import fem

from mfg_fem.certainty.certificate import Certificate
from mfg_fem.certainty.exploitability import exploitability
from mfg_fem.certainty.players import Players, simulate
from mfg_fem.errors import ProblemError
from mfg_fem.io import paraview
from mfg_fem.io.frames import CrowdFrames
from mfg_fem.problem.populations import Populations
from mfg_fem.solution.report import body, heading, lasting_body, lasting_heading
from mfg_fem.solution.solution import Solution
from mfg_fem.solution.solved import Solved
from mfg_fem.solution.stationary import StationarySolution

Part = Solution | StationarySolution


class PopulationsSolution(Solved, Mapping):
    """The value functions and densities of several crowds, at all times or for ever.

    `solution["tourists"]` is the Solution (without a horizon the StationarySolution) of one crowd,
    with its value function, density, velocity, people who have gone, cost, pictures and players.

    Attributes, besides those of `Solved`:
        problem: what was solved.
        whole: of each crowd its Solution; without a horizon one long time step.
    """

    def __init__(self, problem: Populations, whole: list[Solution]):
        self.problem, self.whole = problem, whole
        parts = map(StationarySolution.of, whole) if problem.stationary else whole
        self._parts: dict[str, Part] = dict(zip(problem.crowds, parts, strict=True))
        first = next(iter(self._parts.values()))
        super().__init__(**first.facts() | {"times": whole[0].times})

    def __getitem__(self, name: str) -> Any:
        """The solution of one crowd."""
        if name not in self._parts:
            crowds = ", ".join(map(repr, self._parts))
            raise ProblemError(f"There is no crowd {name!r}: they are {crowds}.")
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        """The names of the crowds."""
        return iter(self._parts)

    def __len__(self) -> int:
        """Number of crowds."""
        return len(self._parts)

    def _of(self, what: str, at: tuple) -> Any:
        """What a method of a crowd returns; the last argument is its name."""
        if not at or not isinstance(at[-1], str):
            crowds = ", ".join(map(repr, self._parts))
            raise ProblemError(f"{what}: the last argument is the name of a crowd, of {crowds}.")
        return getattr(self[at[-1]], what)(*at[:-1])

    def value(self, *at: int | str) -> fem.Function:
        """At (n, name) the value function of a crowd at level n; at (name) if stationary."""
        return self._of("value", at)

    def density(self, *at: int | str) -> fem.Function:
        """At (n, name) the density of a crowd at level n; at (name) if stationary."""
        return self._of("density", at)

    def velocity(self, *at: int | str) -> fem.Function:
        """At (n, name) the drift of a crowd on step n; at (name) if stationary."""
        return self._of("velocity", at)

    def mass(self, n: int, name: str) -> float:
        """People of a crowd inside the domain at level n."""
        return self._of("mass", (n, name))

    @property
    def gone(self) -> dict[str, dict[str, np.ndarray]]:
        """Crowd -> boundary -> people of this crowd who have left through it by each level."""
        return {name: part.gone for name, part in zip(self, self.whole, strict=True)}

    @property
    def entered(self) -> dict[str, np.ndarray]:
        """Crowd -> people of this crowd who have entered by each level."""
        return {name: part.entered for name, part in zip(self, self.whole, strict=True)}

    @property
    def cost(self) -> float:
        """What all players pay together; without a horizon per unit of time.

        What is paid in a crowd counts at the discount of this crowd, from the start.
        """
        return sum(part.cost for part in self._parts.values())

    @property
    def expected_cost(self) -> float:
        """What the value functions say of `cost`: of a game the same, also with switching.

        But not if crowds with a horizon and different discounts exchange players: a player has
        discounted at the rate of each crowd that he has been in. See `discrete/spacetime.py`.
        """
        return sum(part.expected_cost for part in self._parts.values())

    @property
    def balance(self) -> Any:
        """Mass balance of all crowds together: zero up to round-off."""
        return sum(part.balance for part in self._parts.values())

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences that begin with the crowd: why it is not converged, or suspect."""
        pairs = [(name, y) for name, part in self.items() for y in part.warnings]
        return tuple(f"{name}: {text}" for name, text in pairs)

    @property
    def report(self) -> str:
        """A page of numbers, crowd by crowd."""
        lasts = self.problem.stationary
        lines = (lasting_heading if lasts else heading)(self, len(self))
        for name, part in self.items():
            own = (lasting_body if lasts else body)(part)
            lines += [f"  {name}", *(f"  {line}" for line in own)]
        cost = "cost of all per unit of time" if lasts else "total cost of all"
        return "\n".join(
            [
                *lines,
                f"  mass balance of all, defect   {np.abs(self.balance).max():.1e}",
                f"  {cost:<30}{self.cost:.8g}",
                *([f"  NOTE: {self.problem.doubt}"] if self.problem.doubt else []),
            ]
        )

    def exploitability(self, problem: Populations | None = None) -> Certificate:
        """What all players together could still save by leaving their policies. Collective.

        In another problem, of crowds with the same names, it judges what these would do there. See
        `certainty`.
        """
        return exploitability(self, problem)

    def players(
        self, number: int, seed: int = 0, *, substeps: int = 4, among: bool = False
    ) -> dict[str, Players]:
        """So many players of all crowds, by name: see `certainty/players.py`. Collective.

        A player who changes crowds is a row of the positions of each, where he is at the time.
        """
        found = simulate(self.whole, number, seed, substeps=substeps, among=among)
        return dict(zip(self, found, strict=True))

    def frames(self, degree: int, family: str = "Lagrange") -> CrowdFrames:
        """What files show of it: see `Frames`. Collective."""
        return CrowdFrames(self, degree, family)

    def write(self, path: str | Path, every: int = 1) -> None:
        """Write the fields of all crowds, by name: see `io.paraview.write`. Collective."""
        paraview.write(self, path, every)

    @classmethod
    def load(cls, path: str | Path, problem: Populations) -> "PopulationsSolution":
        """Read what `save` wrote, as `Solution.load` does. Collective."""
        if not isinstance(problem, Populations):
            raise ProblemError(f"problem must be the Populations that were saved, not {problem!r}.")
        return cls(problem, Solution.load_each(path, problem))
