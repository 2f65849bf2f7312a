"""How players of one population behave: how they move, what they pay, and where they come in."""

from collections.abc import Sequence

import numpy as np

import ufl
from dolfinx import fem

from mfg_fem.certainty.sample import FluxSampler, Sampler
from mfg_fem.certainty.stride import Stride
from mfg_fem.certainty.touch import Facets, Points
from mfg_fem.certainty.walk import Floor
from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.forms.boundary import door_rate
from mfg_fem.problem.boundary import Door, Entry, Exit

at = Floor.at


class Behaviour:
    """What players of a population do in the present fields of a discretisation. Collective.

    Args:
        discrete: of the problem.
        place: number of the population.
        densities: of all populations, as these players see them.

    Attributes:
        floor: the domain with the boundaries that this population meets.
        names: of the boundaries that people can leave through.
        targets: numbers of the populations that players change into.
        start: draws from the initial density.
        ways_in: draw from the source and the fluxes of entries.
    """

    def __init__(self, discrete: Discretisation, place: int, densities: Sequence):
        self.problem = problem = discrete.problem.populations[place]
        exits, doors = problem.named(Exit), problem.named(Door)
        self.names = [*exits, *doors]
        self.floor = Floor(problem.domain, exits, doors, problem.named(Entry))
        self.exits, self.doors = (Facets(self.floor, y) for y in (exits, doors))
        self.targets = [j for i, j in discrete.problem.switches if i == place]
        self._tables(discrete, place, densities)

    def _tables(self, discrete: Discretisation, place: int, densities: Sequence):
        """State what players do and pay, at the corners of cells."""
        problem, state, floor = self.problem, discrete.state, self.floor
        mesh, d = problem.domain.mesh, problem.domain.dim
        x, t, one = problem.x, state.t, fem.Constant(mesh, 1.0)
        p = ufl.variable(ufl.grad(state.fields[2 * place]))
        m = discrete.problem.crowd(densities, state.quantities)
        H, D, here = problem.H(x, t, p, m), problem.D(x, t), (x, t, m)
        H_p = ufl.diff(H, p)
        terms = {
            "drift": [*(ufl.div(D) - H_p)],
            "pace": [ufl.dot(p, H_p) - H + problem.f(*here)],
            "leaving": [problem.at_boundary(name, "cost", *here) for name in self.names],
            "doors": [door_rate(problem, name, *here) for name in problem.named(Door)],
            "changing": [discrete.problem.rate(place, j, *here) for j in self.targets],
        }
        ends = np.cumsum([0, *map(len, terms.values()), d * d, d * d])
        names = [*terms, "D", "noise"]
        self.columns = {y: slice(*ends[i : i + 2]) for i, y in enumerate(names)}
        self.moving = floor.table(ufl.as_vector([y for some in terms.values() for y in some]))
        self.ends = floor.table(ufl.as_vector([problem.g(x, m), x[0]]))
        components = [D[i, j] for i, j in np.ndindex(*D.ufl_shape)]
        self.spreading = floor.table(ufl.as_vector([*components, x[0]]))
        self.spread = self._spread()
        self.timed = problem.data.depends("diffusion", "t")
        self.start = Sampler(floor, one * problem.m0(x))
        self.ways_in: list[Sampler | FluxSampler] = []
        if problem.source is not None:
            self.ways_in.append(Sampler(floor, one * problem.s(x, t)))
        if entries := problem.named(Entry):
            flux = {name: problem.at_boundary(name, "flux", x, t) for name in entries}
            self.ways_in.append(FluxSampler(floor, flux))

    def _spread(self) -> np.ndarray:
        """D and a root of 2 D at present at the corners of cells, side by side. Collective."""
        d, D = self.floor.domain.dim, self.spreading()[..., :-1]
        root = np.linalg.cholesky(2 * D.reshape(*D.shape[:2], d, d))
        return np.concatenate([D, root.reshape(D.shape)], axis=2)

    def table(self) -> np.ndarray:
        """What players do and pay at present at the corners of cells. Collective."""
        if self.timed:
            self.spread = self._spread()
        return np.concatenate([self.moving(), self.spread], axis=2)

    def rates(self, table: np.ndarray) -> np.ndarray:
        """The rates of a table at which players change into each of the targets."""
        return table[..., self.columns["changing"]]

    def pace(self, table: np.ndarray, cell: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """What players at these points pay per unit of time, by a table."""
        return at(table[..., self.columns["pace"]], cell, weights)[:, 0]

    def fees(self, table: np.ndarray, stride: Stride) -> np.ndarray:
        """What those pay who have left in a stride, by a table."""
        who = np.flatnonzero(stride.out >= 0)
        costs = at(table[..., self.columns["leaving"]], stride.cell[who], stride.weights[who])
        return costs[np.arange(len(who)), stride.out[who]]

    def step(
        self,
        table: np.ndarray,
        before: Points,
        dt: float,
        noise: np.ndarray,
        chance: np.ndarray,
        exponential: np.ndarray,
    ) -> Stride:
        """Take one of Heun's steps, by a table.

        Args:
            table: as from `table`.
            before: where the players are.
            dt: the length of the step.
            noise: normal numbers, shape (points, d).
            chance: uniform numbers, shape (points,).
            exponential: numbers for the way to doors and through them, shape (2, points).
        """
        drift, d = table[..., self.columns["drift"]], noise.shape[1]
        D, root = (
            at(table[..., self.columns[y]], *before).reshape(-1, d, d) for y in ("D", "noise")
        )
        rates = table[..., self.columns["doors"]]
        stride = Stride(self.doors, len(self.names) - rates.shape[2], rates, before, D, dt)
        seen = at(drift, *before)
        step = dt * seen + np.sqrt(dt) * np.einsum("nij,nj->ni", root, noise)
        stride.go(np.arange(len(noise)), step, exponential[0])
        # Heun's correction, so that the drift is that of both ends. At a door it is a part of the
        # step, as who is pushed back by it alone would stand at the door.
        stay = np.flatnonzero(stride.out < 0)
        more = dt / 2 * (at(drift, stride.cell[stay], stride.weights[stay]) - seen[stay])
        near = self.doors.near(stride.cell[stay], dt * D)
        stride.go(stay[~near], more[~near], np.zeros(len(stay) - near.sum()))
        again = stay[near]
        stride.back(again, before)
        stride.go(again, step[again] + more[near], exponential[0, again])
        touched = self.exits.touched(before, (stride.cell, stride.weights), dt * D, chance)
        stride.out = np.where(stride.out < 0, touched, stride.out)
        stride.leave(exponential[1])
        return stride
