"""What the forms of a step depend on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

import basix.ufl
import ufl
from dolfinx import fem

from mfg_fem.forms.boundary import Standing
from mfg_fem.forms.cell import to_vertices
from mfg_fem.problem.interactions import Quantity
from mfg_fem.problem.market import Prices


class Paid:
    """The prices at all times: in each step one value, which the Constants of a problem take.

    Attributes:
        times: time levels.
        values: of each price in each step, shape (prices, steps).
    """

    def __init__(self, prices: Prices):
        self.prices = prices
        self.set(np.array([0.0, np.inf]), np.array([[float(y.value)] for y in prices.values()]))

    def set(self, times: np.ndarray, values: np.ndarray):
        """Take over values."""
        self.times, self.values = times, values.reshape(len(self.prices), len(times) - 1)

    def at(self, times: float | np.ndarray) -> np.ndarray:
        """The values at these times, the first or last beyond the steps."""
        return self.values[:, np.searchsorted(self.times[1:-1], times, "right")]

    @property
    def by_name(self) -> dict[str, np.ndarray]:
        """The values in each step by the name of the market."""
        return {name: y.copy() for name, y in zip(self.prices, self.values, strict=True)}

    @property
    def lists(self) -> dict[str, list[float]]:
        """The same as a file has it."""
        return {name: y.tolist() for name, y in self.by_name.items()}


@dataclass(frozen=True)
class StepState:
    """What the forms of a step depend on; changing it compiles nothing.

    Attributes:
        fields: the blocked Function (u_1, m_1, ..., u_k, m_k).
        corners: the densities at the vertices of each cell, constant on it, population by
            population: known to kernels only (`discrete/packing.py`), where they cost nothing.
        t: the time.
        stretch, share, crowd, limit: the parameters of continuation, see `functional.py`.
        layers: of each population, boundary name -> rho of `discrete/layers.py`.
        quantities: each `Quantity` of the crowd, and the Function that stands for it.
        shadows: each of them, and what all pay for a change of it, a Function: see `feedback.py`.
        paid: the prices that Constants in the forms are set to.
        along_edges: of `Monotone`, the diffusion along edges by the id of the population.
        standing: those of `discrete/standing.py`, of populations that have any, by the id.
        changing: Functions that depend on t or prices, each with what fills it.
    """

    fields: fem.Function
    corners: fem.Function
    t: fem.Constant
    stretch: fem.Constant
    share: fem.Constant
    crowd: tuple[fem.Constant, ...]
    limit: fem.Constant
    layers: Sequence[dict[str, fem.Function]]
    quantities: dict[Quantity, fem.Function]
    shadows: dict[Quantity, fem.Function]
    paid: Paid
    along_edges: dict[int, fem.Function] = field(default_factory=dict)
    standing: dict[int, Standing] = field(default_factory=dict)
    changing: list[tuple[fem.Function, Callable[[], None]]] = field(default_factory=list)

    @classmethod
    def on(
        cls,
        V: fem.FunctionSpace,
        crowd: Sequence[float],
        layers: Sequence[dict[str, fem.Function]],
        quantities: Sequence[Quantity] = (),
        plans: bool = False,
        prices: Prices | None = None,
    ) -> "StepState":
        """A state on V; `crowd` has the uniform density of each population."""
        t, stretch, share, limit = (fem.Constant(V.mesh, y) for y in (0.0, 1.0, 1.0, 1.0))
        element = basix.ufl.blocked_element(V.ufl_element(), shape=(2 * len(crowd),))
        fields = fem.Function(fem.functionspace(V.mesh, element))
        uniform = tuple(fem.Constant(V.mesh, float(density)) for density in crowd)
        shape = (len(crowd), V.mesh.topology.dim + 1)
        corners = fem.Function(fem.functionspace(V.mesh, ("DG", 0, shape)))
        made = {y: fem.Function(V) for y in quantities}
        shadows = {y: fem.Function(V) for y in (quantities if plans else ())}
        parameters = t, stretch, share, uniform, limit
        paid = Paid(prices or Prices(V.mesh, ()))
        return cls(fields, corners, *parameters, layers, made, shadows, paid)

    def around(self, problem, corners: Sequence, quantities: dict) -> list:
        """What is seen at each vertex of a cell, where these are the densities and quantities."""
        return [
            problem.crowd(
                self.seen([y[v] for y in corners]),
                {y: z + ufl.dot(ufl.grad(z), vector) for y, z in quantities.items()},
            )
            for v, vector in enumerate(to_vertices(problem.domain.mesh))
        ]

    def at(self, t: float, step: int | None = None):
        """Set the time, and prices to those at that time, or to those of a step. Collective."""
        numbers = [t, *(self.paid.at(t) if step is None else self.paid.values[:, step])]
        if any(y.value != z for y, z in zip(self.numbers, numbers, strict=True)):
            for constant, value in zip(self.numbers, numbers, strict=True):
                constant.value = value
            for _, fill in self.changing:
                fill()

    @property
    def others(self) -> list[fem.Function]:
        """The Functions beside fields and corners that change from step to step."""
        timed = (function for function, _ in self.changing)
        return [*timed, *self.quantities.values(), *self.shadows.values()]

    @property
    def numbers(self) -> list[fem.Constant]:
        """The Constants that change from step to step."""
        return [self.t, *self.paid.prices.values()]

    @property
    def densities(self) -> tuple:
        """The density of each population."""
        return tuple(self.fields[j] for j in range(1, self.fields.ufl_shape[0], 2))

    def seen(self, densities: Sequence) -> tuple:
        """The seen densities, if the populations have these densities."""
        pairs = zip(self.crowd, densities, strict=True)
        return tuple((1 - self.share) * uniform + self.share * m for uniform, m in pairs)
