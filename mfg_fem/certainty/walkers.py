"""Players while they walk, and change from crowd to crowd: see `players.py`."""

from collections.abc import Sequence
from math import ceil, exp, log2

from mpi4py import MPI

import numpy as np

from dolfinx import fem

from mfg_fem.certainty.behaviour import Behaviour
from mfg_fem.certainty.walk import Floor
from mfg_fem.mesh.periodic import wrap

FEW = 2.0  # jumps on average, for which their numbers are summed over
CERTAIN = 1e-14  # what the chances of their numbers may lack of 1

at = Floor.at


class Walkers:
    """The players of this rank.

    Attributes:
        crowds: how those of each population behave.
        of: the crowd of each player of this rank.
        weight: people for whom one player stands.
        total: the number of players of all ranks, in the order in which they enter.
        entry: the step in which each of them enters, -1 for those who are there at the start.
        first: the crowd in which each of them enters.
        exchanging: for each crowd those with which it exchanges players, and itself.
        cost: what each player of this rank has paid in each crowd, shape (crowds, players).
    """

    def __init__(self, solutions: Sequence, number: int, seed: int, substeps: int, among: bool):
        whole = solutions[0]
        self.seed, self.substeps, self.among = seed, substeps, among
        self.discrete, self.everybody, self.times = whole.discrete, whole.everybody, whole.times
        self.state, self.domain = self.discrete.state, whole.problem.domain
        self.comm = self.domain.comm
        self.discounts = np.array([own.problem.discount for own in solutions])
        densities, places = [*self.state.densities], [own.place for own in solutions]
        if among:
            V = fem.functionspace(self.domain.mesh, ("Lagrange", 1))
            for i in places:
                densities[i] = fem.Function(V)
        self.m = [densities[i] for i in places]
        self.crowds = [Behaviour(self.discrete, i, densities) for i in places]
        groups = self.discrete.problem.groups
        self.exchanging = [
            [places.index(j) for group in groups if i in group for j in group] for i in places
        ]
        self.floor = self.crowds[0].floor
        people = np.array([own.problem.population for own in solutions])
        self.weight = people.sum() / number
        self._count(
            np.diff(np.rint(np.cumsum([0.0, *people]) / self.weight).astype(np.int64)),
            [np.rint(own.entered / self.weight).astype(np.int64) for own in solutions],
        )
        self.own = np.array_split(np.arange(self.total), self.comm.size)[self.comm.rank]

    def _count(self, present: np.ndarray, entered: list[np.ndarray]):
        """Number the players: those present at the start by crowd, then those who enter by crowd.

        The latter are given by each time level.
        """
        steps, crowds = np.arange(len(self.times) - 1), np.arange(len(present))
        entry = [np.repeat(steps, np.diff(number)) for number in entered]
        self.entry = np.concatenate([np.full(present.sum(), -1), *entry])
        self.first = np.concatenate(
            [np.repeat(crowds, present), np.repeat(crowds, [len(y) for y in entry])]
        )
        self.total = len(self.entry)

    def _seen(self, n: int, share: float) -> list[np.ndarray]:
        """What players of each crowd do and pay a share of step n after level n. Collective."""
        whole, times = self.everybody, self.times
        levels = [(level, part) for level, part in ((n, 1 - share), (n + 1, share)) if part]
        t = sum(part * times[level] for level, part in levels)
        fields = (sum(part * y[:, level] for level, part in levels) for y in (whole.u, whole.m))
        self.discrete.set_state(*fields, t)
        self.state.at(t, n)
        if self.among:
            self._deposit()
        return [own.table() for own in self.crowds]

    def _deposit(self):
        """Let the densities be those that the players make. Collective."""
        floor, d = self.floor, self.domain.dim
        nodes, index_map = floor.nodes, floor.V.dofmap.index_map
        size = index_map.size_global
        volumes = np.bincount(nodes.ravel(), np.repeat(floor.volumes, d + 1), size) / (d + 1)
        for c, m in enumerate(self.m):
            who = self._inside(c)
            people = np.bincount(nodes[self.cell[who]].ravel(), self.weights[who].ravel(), size)
            people = self.weight * self.comm.allreduce(people, MPI.SUM)
            m.x.array[: index_map.size_local] = (people / volumes)[slice(*index_map.local_range)]
            m.x.scatter_forward()

    def _inside(self, c: int) -> np.ndarray:
        """The players of this rank who are inside, in this crowd."""
        return np.flatnonzero(self.inside & (self.of == c))

    def _random(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *key])

    def walk(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Let all walk from the start to the end. Collective.

        Returns:
            For each crowd the positions of this rank's players at the levels, NaN of those who are
            not in it or not inside, shape (levels, players, d); how many of its players have left
            by each level, by name, shape (levels, names).
        """
        own, parts, steps = self.own, self.substeps, np.diff(self.times)
        self.cell = np.zeros(len(own), dtype=np.int64)
        self.weights = np.zeros((len(own), self.domain.dim + 1))
        self.cost, self.inside = np.zeros((len(self.crowds), len(own))), np.zeros(len(own), bool)
        self.out, self.of = np.full(len(own), -1), self.first[own]
        present = np.flatnonzero(self.entry[own] < 0)
        self._place(present, [[y.start] for y in self.crowds], 0)
        self.inside[present] = True
        found, then = [self._where()], self._seen(0, 0.0)
        for n, dt in enumerate(steps):
            entering = np.flatnonzero(self.entry[own] == n)
            if (self.entry == n).any():
                self.state.at(self.times[n : n + 2].mean())
                self._place(entering, [y.ways_in for y in self.crowds], n)
            moments = self._random(n, parts).integers(parts, size=self.total)[own]
            if not self.among:  # prices jump between steps
                now = self._seen(n, 0.0) if n and self.state.paid.prices else then
                then = self._seen(n, 1.0)
            for k in range(parts):
                self.inside[entering[moments[entering] == k]] = True
                share = (k + 0.5) / parts
                if self.among:
                    tables = self._seen(n, share)
                else:
                    pairs = zip(now, then, strict=True)
                    tables = [(1 - share) * y + share * z for y, z in pairs]
                self._step(tables, n, k, dt / parts)
            found.append(self._where())
        self._seen(len(steps) - 1, 1.0)
        for c, crowd in enumerate(self.crowds):
            who = self._inside(c)
            g = at(crowd.ends()[..., 0], self.cell[who], self.weights[who])
            self.cost[c, who] += self._worth(self.times[-1])[c] * g
        by_crowd = [zip(*levels, strict=True) for levels in zip(*found, strict=True)]
        return [(np.array(paths), np.array(left)) for paths, left in by_crowd]

    def _worth(self, t: float) -> np.ndarray:
        """What costs at this time count, of each crowd."""
        return np.exp(-self.discounts * t)

    def _place(self, who: np.ndarray, samplers: list[list], n: int):
        """Draw where players enter in step n, with what each crowd is drawn from. Collective."""
        random = self._random(n, self.substeps + 1)
        numbers = random.random((self.total, self.domain.dim + 3))[self.own]
        chance, ends = random.random(self.total)[self.own], self.discrete.ends
        for c, own in enumerate(samplers):
            shares, chosen = [sampler.shares() for sampler in own], who[self.of[who] == c]
            if ends.planned:  # the floor of the density
                (given,), part, volumes = shares, ends.background[0], self.floor.volumes
                even = np.broadcast_to(volumes[:, None, None], given.shape)
                shares = [(1 - part) * given / given.sum() + part * even / even.sum()]
            sums = np.cumsum([share.sum() for share in shares])
            for i, sampler in enumerate(own):
                way = np.searchsorted(sums, chance[chosen] * sums[-1], side="right")
                a = chosen[way.clip(max=len(sums) - 1) == i]
                self.cell[a], self.weights[a] = sampler.draw(shares[i], numbers[a])

    def _step(self, tables: list[np.ndarray], n: int, k: int, dt: float):
        """Let all players inside change crowds, walk and pay in substep k of step n. Collective.

        Half of the changes are before the walk and half after it, so that the splitting is of
        second order (Strang 1968).
        """
        random, own = self._random(n, k), self.own
        noise = random.standard_normal((self.total, self.domain.dim))[own]
        chance, exponential = random.random(self.total)[own], np.zeros((2, len(own)))
        if any(crowd.doors.cells.size for crowd in self.crowds):
            exponential = random.standard_exponential((2, self.total))[:, own]
        changes = np.zeros((2, len(own)))
        if any(crowd.targets for crowd in self.crowds):
            changes = random.random((2, self.total))[:, own]
        worth = self._worth(self.times[n] + (k + 0.5) * dt)
        self._change(tables, dt / 2, changes[0])
        self._pay(tables, worth * dt / 2)
        for c, (crowd, table) in enumerate(zip(self.crowds, tables, strict=True)):
            who = self._inside(c)
            before = self.cell[who], self.weights[who]
            numbers = noise[who], chance[who], exponential[:, who]
            stride = crowd.step(table, before, dt, *numbers)
            self.cell[who], self.weights[who] = stride.cell, stride.weights
            self.out[who] = stride.out
            leaving = who[stride.out >= 0]
            # Who leaves does so in the middle of the step, on average.
            self.cost[c, leaving] += worth[c] * crowd.fees(table, stride)
            self.inside[leaving] = False
        if self.among:
            tables = self._seen(n, (k + 0.5) / self.substeps)
        self._pay(tables, worth * dt / 2)
        self._change(tables, dt / 2, changes[1])

    def _change(self, tables: list[np.ndarray], dt: float, chance: np.ndarray):
        """Let players change crowds in a time dt, at the rates where they are.

        Each has occasions to do so at random times, with a bound of all rates as their rate.
        """
        rates = [crowd.rates(table) for crowd, table in zip(self.crowds, tables, strict=True)]
        bound = max(y.sum(axis=2).max() for y in rates)
        never = exp(-bound * dt)
        who = np.flatnonzero(self.inside & (chance >= never))
        if not len(who):
            return
        here, of, k = (self.cell[who], self.weights[who]), self.of[who], len(self.crowds)
        jump = np.tile(np.eye(k), (len(who), 1, 1))
        for c, (crowd, own) in enumerate(zip(self.crowds, rates, strict=True)):
            to = at(own, *here) / bound
            jump[:, c, crowd.targets] = to
            jump[:, c, c] -= to.sum(axis=1)
        shares = _transitions(jump, bound * dt)[np.arange(len(who)), of]
        shares[np.arange(len(who)), of] -= never
        chosen = np.cumsum(shares, axis=1) < (chance[who] - never)[:, None]
        self.of[who] = chosen.sum(axis=1).clip(max=k - 1)

    def _pay(self, tables: list[np.ndarray], duration: np.ndarray):
        """Let players inside pay for being where they are, for so long in each crowd."""
        for c, (crowd, table) in enumerate(zip(self.crowds, tables, strict=True)):
            who = self._inside(c)
            self.cost[c, who] += duration[c] * crowd.pace(table, self.cell[who], self.weights[who])

    def _where(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each crowd what `walk` returns, at the present level."""
        x = wrap(self.floor.places(self.cell, self.weights), self.domain.seams)
        found = []
        for c, crowd in enumerate(self.crowds):
            here, gone = self.inside & (self.of == c), (self.out >= 0) & (self.of == c)
            left = np.bincount(self.out[gone], minlength=len(crowd.names))
            found.append((np.where(here[:, None], x, np.nan), left))
        return found


def _transitions(jump: np.ndarray, mean: float) -> np.ndarray:
    """The chances of changes after a Poisson number of jumps of this mean (Jensen 1953).

    Both are matrices for each player, shape (players, k, k), with a row for the crowd before.
    """
    halvings = max(0, ceil(log2(mean / FEW)))
    part = mean / 2**halvings
    found, n, weight, known = np.zeros_like(jump), 0, exp(-part), 0.0
    term = np.broadcast_to(np.eye(jump.shape[1]), jump.shape)
    while 1 - known > CERTAIN:
        found, known = found + weight * term, known + weight
        n += 1
        term, weight = term @ jump, weight * part / n
    for _ in range(halvings):
        found = found @ found
    return found
