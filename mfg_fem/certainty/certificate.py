"""Certificate: what a player could still save, with the numbers that it was found from."""

from dataclasses import dataclass

import numpy as np

from dolfinx import fem

from mfg_fem.errors import ProblemError, together
from mfg_fem.validate import index


@dataclass(frozen=True, eq=False, repr=False)
class Certificate:
    """What a player could still save by leaving a policy. See `exploitability`.

    Of a problem without a horizon all costs, and the people in `gone`, are per unit of time.

    Attributes:
        bregman: the exploitability of the whole population, as a Bregman distance; >= 0.
        costs: the same number as a difference of costs. What differs is the error of both.
        relative: `bregman` as a part of the size of the cost.
        crowd: the L1 distance of the solution's density from the one that its policy makes, on
            average over time, as a part of the population; None if the policy is a velocity, which
            has no density of its own.
        cost: what the population pays that follows the policy.
        excess: the largest excess demand of each market in any step, as that of a `Solution`, of
            who follows the policy at the prices of the solution.
        times: the levels of the finer grid; without a horizon one, infinity.
        gone: exit name -> people who have left through it by each of these levels; of several
            crowds those of all.
        nodes: of the finer mesh.
        sharpness: of the scheme there, `Sharp(sharpness)`.
        control: whether it is the gap of a planner.
    """

    bregman: float
    costs: float
    relative: float
    crowd: float | None
    cost: float
    excess: dict[str, float]
    times: np.ndarray
    gone: dict[str, np.ndarray]
    nodes: int
    sharpness: float
    control: bool
    _space: fem.FunctionSpace
    _densities: dict[str, np.ndarray]

    def density(self, n: int, crowd: str | None = None) -> fem.Function:
        """The density that the policy makes, at level n of `times`, on the finer mesh.

        That of everybody, or of one of several crowds.
        """
        with together(self._space.mesh.comm):
            n = index("density", n, len(self.times), "levels")
            if crowd is not None and crowd not in self._densities:
                raise ProblemError(f"density: {crowd!r} is none of {[*self._densities]}.")
        names = self._densities if crowd is None else [crowd]
        own = np.sum([self._densities[name][n] for name in names], axis=0)
        m = fem.Function(self._space, name="density")
        m.x.array[: len(own)] = own
        m.x.scatter_forward()
        return m

    @property
    def stationary(self) -> bool:
        """Whether it is of a problem without a horizon, so that costs are per unit of time."""
        return bool(np.isinf(self.times[-1]))

    @property
    def report(self) -> str:
        """The numbers, and on what grid they were found."""
        what = "gap of the planner" if self.control else "exploitability"
        grid = f"{self.nodes} nodes"
        if self.stationary:
            what += " per unit of time"
        else:
            grid += f" x {len(self.times) - 1} steps"
        less = f" (at sharpness {self.sharpness:g})" if self.sharpness < 1 else ""
        lines = [
            f"{what} on {grid}{less}",
            f"  Bregman distance              {self.bregman:.3e}, "
            f"{100 * self.relative:.2g} % of the cost",
            f"  difference of costs           {self.costs:.3e}",
            f"  cost of the policy            {self.cost:.8g}",
        ]
        if self.crowd is not None:
            lines.append(f"  L1 distance of the densities  {self.crowd:.1e} of the population")
        for name, excess in self.excess.items():
            lines.append(f"  {f'excess demand of {name}':<30}{excess:.1e} of its size")
        return "\n".join(lines)

    def __str__(self) -> str:
        """The report."""
        return self.report

    def __repr__(self) -> str:
        """Its first line."""
        return f"<Certificate: {self.report.splitlines()[0]}>"
