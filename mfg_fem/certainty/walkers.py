"""Players while they walk: see `players.py`."""

from mpi4py import MPI

import numpy as np

import ufl
from dolfinx import fem

from mfg_fem.certainty.sample import FluxSampler, Sampler
from mfg_fem.certainty.touch import Facets
from mfg_fem.certainty.walk import Floor
from mfg_fem.forms.boundary import door_rate
from mfg_fem.mesh.periodic import wrap
from mfg_fem.problem.boundary import Door, Entry, Exit

at = Floor.at


class Walkers:
    """The players of this rank.

    Attributes:
        names: of the boundaries that people can leave through.
        weight: people for whom one player stands.
        total: the number of players of all ranks, in the order in which they enter.
        entry: the step in which each of them enters, -1 for those who are there at the start.
        cost: what each player of this rank has paid.
    """

    def __init__(self, solution, number: int, seed: int, substeps: int, among: bool):
        self.solution, self.seed, self.substeps, self.among = solution, seed, substeps, among
        self.discrete, self.state = solution.discrete, solution.discrete.state
        problem = solution.problem
        self.comm, self.domain = problem.domain.comm, problem.domain
        self._exits, self._doors = problem.named(Exit), problem.named(Door)
        self.names = [*self._exits, *self._doors]
        self.floor = Floor(self.domain, self._exits, self._doors, problem.named(Entry))
        self.exits, self.doors = (Facets(self.floor, y) for y in (self._exits, self._doors))
        self.weight = problem.population / number
        entered = np.rint(solution.entered / self.weight).astype(np.int64)
        self.total = number + int(entered[-1])
        steps = np.repeat(np.arange(solution.steps), np.diff(entered))
        self.entry = np.concatenate([np.full(number, -1), steps])
        self.own = np.array_split(np.arange(self.total), self.comm.size)[self.comm.rank]
        self._tables()

    def _tables(self):
        """State what players do and pay, at the corners of cells."""
        problem, mesh, d = self.solution.problem, self.domain.mesh, self.domain.dim
        x, t, one = problem.x, self.state.t, fem.Constant(mesh, 1.0)
        p = ufl.variable(ufl.grad(self.state.fields[2 * self.solution.place]))
        m = self._crowd()
        H, D, here = problem.H(x, t, p, m), problem.D(x, t), (x, t, m)
        H_p = ufl.diff(H, p)
        terms = {
            "drift": [*(ufl.div(D) - H_p)],
            "pace": [ufl.dot(p, H_p) - H + problem.f(*here)],
            "leaving": [problem.at_boundary(name, "cost", *here) for name in self.names],
            "rates": [door_rate(problem, name, *here) for name in self._doors],
        }
        ends = np.cumsum([0, *map(len, terms.values()), d * d, d * d])
        names = [*terms, "D", "noise"]
        self.columns = {y: slice(*ends[i : i + 2]) for i, y in enumerate(names)}
        self.moving = self.floor.table(ufl.as_vector([y for some in terms.values() for y in some]))
        self.ends = self.floor.table(ufl.as_vector([problem.g(x, m), x[0]]))
        components = [D[i, j] for i, j in np.ndindex(*D.ufl_shape)]
        self.spreading = self.floor.table(ufl.as_vector([*components, x[0]]))
        self.spread = self._spread()
        self.timed = problem.data.depends("diffusion", "t")
        self.start = [Sampler(self.floor, one * problem.m0(x))]
        self.ways_in: list[Sampler | FluxSampler] = []
        if problem.source is not None:
            self.ways_in.append(Sampler(self.floor, one * problem.s(x, t)))
        if entries := problem.named(Entry):
            flux = {name: problem.at_boundary(name, "flux", x, t) for name in entries}
            self.ways_in.append(FluxSampler(self.floor, flux))

    def _crowd(self):
        """What the callables get for m."""
        densities = [*self.state.densities]
        if self.among:
            self.m = densities[self.solution.place] = fem.Function(self.floor.V)
        return self.discrete.problem.crowd(densities, self.state.quantities)

    def _spread(self) -> np.ndarray:
        """D and a root of 2 D at present at the corners of cells, side by side. Collective."""
        d, D = self.domain.dim, self.spreading()[..., :-1]
        root = np.linalg.cholesky(2 * D.reshape(*D.shape[:2], d, d))
        return np.concatenate([D, root.reshape(D.shape)], axis=2)

    def _seen(self, n: int, share: float = 0.0) -> np.ndarray:
        """What players do and pay a share of step n after level n. Collective."""
        whole, times = self.solution.everybody, self.solution.times
        levels = [(level, part) for level, part in ((n, 1 - share), (n + 1, share)) if part]
        self.discrete.set_state(
            *(sum(part * y[:, level] for level, part in levels) for y in (whole.u, whole.m)),
            sum(part * times[level] for level, part in levels),
        )
        if self.among:
            self._deposit()
        if self.timed:
            self.spread = self._spread()
        return np.concatenate([self.moving(), self.spread], axis=2)

    def _deposit(self):
        """Let m be the density that the players make. Collective."""
        nodes, index_map = self.floor.nodes, self.floor.V.dofmap.index_map
        size, d = index_map.size_global, self.domain.dim
        corners = nodes[self.cell[self.inside]].ravel()
        people = np.bincount(corners, self.weights[self.inside].ravel(), size)
        people = self.weight * self.comm.allreduce(people, MPI.SUM)
        volumes = np.bincount(nodes.ravel(), np.repeat(self.floor.volumes, d + 1), size) / (d + 1)
        self.m.x.array[: index_map.size_local] = (people / volumes)[slice(*index_map.local_range)]
        self.m.x.scatter_forward()

    def _random(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *key])

    def walk(self) -> tuple[np.ndarray, np.ndarray]:
        """Let all walk from the start to the end. Collective.

        Returns:
            Positions of this rank's players at the levels, NaN of those who are not inside, shape
            (levels, players, d); how many of them have left, by name, shape (levels, names).
        """
        times, own, parts = self.solution.times, self.own, self.substeps
        self.cell = np.zeros(len(own), dtype=np.int64)
        self.weights = np.zeros((len(own), self.domain.dim + 1))
        self.cost, self.inside = np.zeros(len(own)), np.zeros(len(own), dtype=bool)
        self.out = np.full(len(own), -1)
        present = np.flatnonzero(self.entry[own] < 0)
        self._place(present, self.start, 0)
        self.inside[present] = True
        paths, left, now = [self._where()], [self._left()], self._seen(0)
        for n, dt in enumerate(np.diff(times)):
            entering = np.flatnonzero(self.entry[own] == n)
            if (self.entry == n).any():
                self.state.at(times[n : n + 2].mean())
                self._place(entering, self.ways_in, n)
            moments = self._random(n, parts).integers(parts, size=self.total)[own]
            then = now if self.among else self._seen(n + 1)
            for k in range(parts):
                self.inside[entering[moments[entering] == k]] = True
                share = (k + 0.5) / parts
                worth = self._worth(times[n] + share * dt)
                table = self._seen(n, share) if self.among else (1 - share) * now + share * then
                stayed = self._move(table, dt / parts, worth, (n, k))
                if self.among:
                    table = self._seen(n, share)
                self._pay(stayed, worth * dt / (2 * parts), table)
            paths.append(self._where())
            left.append(self._left())
            now = then
        self._seen(len(times) - 1)
        g = at(self.ends()[..., 0], self.cell, self.weights)
        self.cost += np.where(self.inside, self._worth(times[-1]) * g, 0.0)
        return np.array(paths), np.array(left)

    def _worth(self, t: float) -> float:
        """What costs at this time count."""
        return np.exp(-self.solution.problem.discount * t)

    def _place(self, who: np.ndarray, samplers: list, n: int):
        """Draw where players enter in step n. Collective."""
        random = self._random(n, self.substeps + 1)
        numbers = random.random((self.total, self.domain.dim + 3))[self.own[who]]
        chance = random.random(self.total)[self.own[who]]
        shares, ends = [sampler.shares() for sampler in samplers], self.solution.discrete.ends
        if ends.planned:  # the floor of the density
            (given,), part, volumes = shares, ends.background[0], self.floor.volumes
            even = np.broadcast_to(volumes[:, None, None], given.shape)
            shares = [(1 - part) * given / given.sum() + part * even / even.sum()]
        sums = np.cumsum([share.sum() for share in shares])
        way = np.searchsorted(sums, chance * sums[-1], side="right").clip(max=len(sums) - 1)
        for i, sampler in enumerate(samplers):
            a = who[way == i]
            self.cell[a], self.weights[a] = sampler.draw(shares[i], numbers[way == i])

    def _move(self, table: np.ndarray, dt: float, worth: float, key: tuple) -> np.ndarray:
        """One step of all players inside; they pay for its first half. Returns who stays inside."""
        d, random, who = self.domain.dim, self._random(*key), np.flatnonzero(self.inside)
        noise = random.standard_normal((self.total, d))[self.own[who]]
        chance = random.random(self.total)[self.own[who]]
        self._pay(who, worth * dt / 2, table)
        before = self.cell[who], self.weights[who]
        drift = table[..., self.columns["drift"]]
        D, root = (
            at(table[..., self.columns[y]], *before).reshape(-1, d, d) for y in ("D", "noise")
        )
        stride = _Stride(self, table[..., self.columns["rates"]], before, D, dt)
        exponential = np.zeros((2, len(who)))
        if self._doors:
            exponential = random.standard_exponential((2, self.total))[:, self.own[who]]
        seen = at(drift, *before)
        step = dt * seen + np.sqrt(dt) * np.einsum("nij,nj->ni", root, noise)
        stride.go(np.arange(len(who)), step, exponential[0])
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
        self.cell[who], self.weights[who], self.out[who] = stride.cell, stride.weights, stride.out
        leaving = who[stride.out >= 0]
        # Who leaves does so in the middle of the step, on average.
        costs = at(table[..., self.columns["leaving"]], self.cell[leaving], self.weights[leaving])
        self.cost[leaving] += worth * costs[np.arange(len(leaving)), self.out[leaving]]
        self.inside[leaving] = False
        return who[stride.out < 0]

    def _pay(self, who: np.ndarray, duration: float, table: np.ndarray):
        """Let these players pay for being where they are, for so long."""
        pace = table[..., self.columns["pace"]]
        self.cost[who] += duration * at(pace, self.cell[who], self.weights[who])[:, 0]

    def _where(self) -> np.ndarray:
        """Positions of this rank's players, NaN of those who are not inside."""
        x = self.floor.places(self.cell, self.weights)
        return np.where(self.inside[:, None], wrap(x, self.domain.seams), np.nan)

    def _left(self) -> np.ndarray:
        """How many of this rank's players have left, by name."""
        return np.bincount(self.out[self.out >= 0], minlength=len(self.names))


class _Stride:
    """Players in one step of the walk.

    Attributes:
        cell, weights: where they are.
        out: the exit or door that they have left through, or -1.
    """

    def __init__(
        self, walkers: Walkers, rates: np.ndarray, before: tuple, D: np.ndarray, dt: float
    ):
        self.floor, self.doors = walkers.floor, walkers.doors
        self.rates, self.D, self.dt = rates, D, dt
        self.cell, self.weights = (y.copy() for y in before)
        self.out, self._first = np.full(len(D), -1), len(walkers.names) - rates.shape[2]
        self._hazard, self._facet = np.zeros(len(D)), np.full(len(D), -1)

    def go(self, who: np.ndarray, step: np.ndarray, exponential: np.ndarray):
        """Let some go by these steps; exits let them out, and doors push them back."""
        before, D = (self.cell[who], self.weights[who]), self.D[who]
        cell, weights, met = self.floor.walk(*before, step, D)
        after = self.cell[who], self.weights[who] = cell, weights
        self.out[who] = np.where(self.floor.is_exit(met), met, -1)
        if not self.rates.shape[2]:
            return
        variance, mirrored = self.dt * D, met >= self._first
        found, facet, local, way = self.doors.pushed(before, after, mirrored, variance, exponential)
        chosen = self.out[who[found]] < 0
        found, facet, local, way = (y[chosen] for y in (found, facet, local, way))
        pushed = who[found]
        cell, weights, _ = self.floor.walk(cell[found], weights[found], way, D[found])
        self.cell[pushed], self.weights[pushed], self._facet[pushed] = cell, weights, facet
        foot = self.doors.foot(facet, self.floor.places(cell, weights))
        rates = at(self.rates, *foot)[np.arange(len(facet)), self.doors.name[facet] - self._first]
        self._hazard[pushed] += self.dt * rates * local

    def back(self, who: np.ndarray, before: tuple):
        """Let some be where they were before the step."""
        self.cell[who], self.weights[who] = (y[who] for y in before)
        self._hazard[who] = 0.0

    def leave(self, exponential: np.ndarray):
        """Let those leave through doors whose time there is up."""
        who = np.flatnonzero((self.out < 0) & (self._hazard > exponential))
        facet = self._facet[who]
        places = self.floor.places(self.cell[who], self.weights[who])
        self.out[who] = self.doors.name[facet]
        self.cell[who], self.weights[who] = self.doors.foot(facet, places)
