"""Finitely many players who follow the policy of a solution, each with noise of its own.

    dX = (a + div D) dt + sqrt(2 D) dW,      a = -H_p(x, grad u, m),

by Heun's steps, with u and m of the solution, linear between its time levels (div D,
as D acts in divergence form). Walls mirror them. Who is at the distance d of an exit before a step
dt and at d' after it has been there in between with the probability exp(-d d' / (D dt)), that of a
Brownian bridge (Baldi 1995; Gobet 2000). Their numbers and costs scatter about those of the density
that the policy makes, without the numerical diffusion of a scheme.
"""

from dataclasses import dataclass
from pathlib import Path

from mpi4py import MPI

import numpy as np

import ufl
from dolfinx import fem

from mfg_fem.certainty.finer import refuse_open
from mfg_fem.certainty.walk import Floor, Sampler
from mfg_fem.errors import ProblemError, alike, together
from mfg_fem.io.files import file_path, on_root, replacing
from mfg_fem.mesh.periodic import wrap
from mfg_fem.validate import count, index

EVEN = 1e-9  # relative difference of steps that count as equal


@dataclass(frozen=True, eq=False, repr=False)
class Players:
    """Players who have followed the policy of a solution. See `simulate`.

    Attributes:
        number: of all players, those who have entered through a source too.
        weight: people for whom one player stands.
        times: the time levels of the solution.
        gone: exit name -> people who have left through it by each level.
        inside: people inside the domain at each level.
        inside_error: its standard errors.
        cost: of the whole population, estimated by the players' mean.
        standard_error: of the cost.
    """

    number: int
    weight: float
    times: np.ndarray
    gone: dict[str, np.ndarray]
    inside: np.ndarray
    inside_error: np.ndarray
    cost: float
    standard_error: float
    _comm: MPI.Comm
    _paths: np.ndarray  # of this rank's players, (levels, players, d)

    def positions(self, n: int) -> np.ndarray:
        """Where the players are at level n, shape (number, d), on every rank. Collective.

        Those who have left, or have not entered yet, are NaN.
        """
        with together(self._comm):
            n = index("positions", n, len(self.times), "levels")
        return np.concatenate(self._comm.allgather(self._paths[n]))

    def write(self, path: str | Path) -> None:
        """Write trajectories as the text that PedPy reads. Collective.

        Columns are the number of the player, the frame (a time level) and x, y, z, of lengths in
        metres and times in seconds; coordinates that the domain does not have are 0.

        Raises:
            ProblemError: time levels that are not equally far from each other.
            FileError: the file cannot be written.
        """
        steps = np.diff(self.times)
        with together(self._comm):
            path = file_path(path)
            if np.ptp(steps) > EVEN * self.times[-1]:
                raise ProblemError(
                    "Trajectories have a frame rate: solve with equal time steps to write them."
                )
        everybody = [self.positions(n) for n in range(len(self.times))]

        def put(file: Path):
            with file.open("w", encoding="utf-8") as stream:
                stream.write(f"# framerate: {1 / steps[0]:.12g}\n# id frame x/m y/m z/m\n")
                for frame, x in enumerate(everybody):
                    who = np.flatnonzero(np.isfinite(x[:, 0]))
                    rows = np.zeros((len(who), 5))
                    rows[:, 0], rows[:, 1], rows[:, 2 : 2 + x.shape[1]] = who + 1, frame, x[who]
                    np.savetxt(stream, rows, ["%d", "%d", "%.6f", "%.6f", "%.6f"], "\t")

        with replacing(self._comm, path) as temporary:
            on_root(self._comm, f"{path} cannot be written", lambda: put(temporary))

    @property
    def report(self) -> str:
        """The numbers, with their standard errors."""
        left = [f"  gone through {name:<16} {flow[-1]:.6g}" for name, flow in self.gone.items()]
        return "\n".join(
            [
                f"{self.number} players, each for {self.weight:.6g} people",
                f"  inside at the end             {self.inside[-1]:.6g} "
                f"+- {self.inside_error[-1]:.2g}",
                *left,
                f"  total cost                    {self.cost:.6g} +- {self.standard_error:.2g}",
            ]
        )

    def __str__(self) -> str:
        """The report."""
        return self.report

    def __repr__(self) -> str:
        """Its first line."""
        return f"<Players: {self.report.splitlines()[0]}>"


def simulate(solution, number: int, seed: int = 0, substeps: int = 4) -> Players:
    """Let players follow the policy of a solution: see above. Collective.

    The same players walk on any number of ranks, each of which moves a part of them.

    Args:
        solution: a Solution.
        number: of players who are there at the start, for the whole population.
        seed: an integer >= 0; another seed lets others walk.
        substeps: of each time step; the error of their law is of first order in their length.

    Raises:
        ProblemError: arguments that make no sense.
    """
    comm = solution.problem.domain.comm
    with together(comm):
        number, seed = count("number", number), count("seed", seed, 0)
        substeps = count("substeps", substeps)
        refuse_open(solution.problem)
    alike(comm, number=number, seed=seed, substeps=substeps)
    return _Crowd(solution, number, seed, substeps).players()


class _Crowd:
    """The players of this rank while they walk."""

    def __init__(self, solution, number: int, seed: int, substeps: int):
        self.solution, self.seed, self.substeps = solution, seed, substeps
        problem = solution.problem
        self.comm, self.domain = problem.domain.comm, problem.domain
        self.names = [*problem.boundary]
        self.floor = Floor(self.domain, self.names)
        self.weight = problem.population / number
        entered = np.rint(solution.entered / self.weight).astype(np.int64)
        self.total, self.first = number + int(entered[-1]), number
        # The step in which each player enters, -1 for those who are there at the start.
        steps = np.repeat(np.arange(solution.steps), np.diff(entered))
        self.entry = np.concatenate([np.full(number, -1), steps])
        parts = np.array_split(np.arange(self.total), self.comm.size)
        self.own = parts[self.comm.rank]
        self._tables()

    def _tables(self):
        """State what players do and pay, at the corners of cells."""
        problem, V, mesh = self.solution.problem, self.solution.discrete.V, self.domain.mesh
        x, self.t = problem.x, fem.Constant(mesh, 0.0)
        self.u, self.m = fem.Function(V), fem.Function(V)
        p = ufl.variable(ufl.grad(self.u))
        H, D = problem.H(x, self.t, p, self.m), problem.D(x, self.t)
        H_p = ufl.diff(H, p)
        rate = ufl.dot(p, H_p) - H + problem.f(x, self.t, self.m)
        self.moving = self.floor.table(ufl.as_vector([*(ufl.div(D) - H_p), rate]))
        one = fem.Constant(mesh, 1.0)
        self.start = Sampler(self.floor, one * problem.m0(x))
        if problem.source is not None:
            self.source = Sampler(self.floor, one * problem.s(x, self.t))
        costs = [
            problem.g(x, self.m),
            *(problem.at_boundary(name, "cost", x, self.t) for name in self.names),
        ]
        self.ends = self.floor.table(ufl.as_vector([*costs, x[0]]))
        self.paid = self.ends()
        components = [D[i, j] for i, j in np.ndindex(*D.ufl_shape)]
        D = self.floor.table(ufl.as_vector([*components, x[0]]))()[..., :-1]
        self.D = D.reshape(*D.shape[:2], self.domain.dim, self.domain.dim)
        self.noise = np.linalg.cholesky(2 * self.D)

    def _see(self, n: int) -> np.ndarray:
        """What players do and pay at level n."""
        for function, of in ((self.u, self.solution.value), (self.m, self.solution.density)):
            function.x.array[:] = of(n).x.array
        self.t.value = self.solution.times[n]
        return self.moving()

    def _random(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, *key])

    def players(self) -> Players:
        """Let them walk from the start to the end. Collective."""
        times, d, own = self.solution.times, self.domain.dim, self.own
        gamma = self.solution.problem.discount
        self.cell = np.zeros(len(own), dtype=np.int64)
        self.weights = np.zeros((len(own), d + 1))
        self.cost, self.inside = np.zeros(len(own)), np.zeros(len(own), dtype=bool)
        self.out = np.full(len(own), -1)
        now = self._see(0)
        present = np.flatnonzero(own < self.first)
        self._place(present, self.start, 0)
        self.inside[present] = True
        paths, left = [self._where()], [self._left()]
        for n, dt in enumerate(np.diff(times)):
            then = self._see(n + 1)
            entering = np.flatnonzero((own >= self.first) & (self.entry[own] == n))
            if (self.entry == n).any():
                self._place(entering, self.source, n)
            moments = self._random(n, self.substeps).integers(self.substeps, size=self.total)[own]
            for k in range(self.substeps):
                self.inside[entering[moments[entering] == k]] = True
                share = (k + 0.5) / self.substeps
                self.worth = np.exp(-gamma * (times[n] + share * dt))
                self._move(now, then, share, dt / self.substeps, (n, k))
            paths.append(self._where())
            left.append(self._left())
            now = then
        g = self.floor.at(self.ends()[..., 0], self.cell, self.weights)
        self.cost += np.where(self.inside, np.exp(-gamma * times[-1]) * g, 0.0)
        return self._counted(np.array(paths), np.array(left))

    def _place(self, who: np.ndarray, sampler: Sampler, n: int):
        """Draw where players enter in step n. Collective."""
        values, ends = sampler.values(), self.solution.discrete.ends
        if ends.planned:  # the floor of the density
            share = ends.background[0]
            mean = values.mean(axis=(1, 2)) @ self.floor.volumes / self.floor.volumes.sum()
            values = (1 - share) * values / mean + share
        random = self._random(n, self.substeps + 1).random((self.total, self.domain.dim + 3))
        self.cell[who], self.weights[who] = sampler.draw(values, random[self.own[who]])

    def _move(self, now: np.ndarray, then: np.ndarray, share: float, dt: float, key: tuple):
        """One step of all players inside, between what they do at two levels."""
        d, random = self.domain.dim, self._random(*key)
        noise = random.standard_normal((self.total, d))[self.own]
        chance = random.random(self.total)[self.own]
        who, at = np.flatnonzero(self.inside), self.floor.at
        before, table = (self.cell[who], self.weights[who]), (1 - share) * now + share * then
        seen, D = at(table, *before), at(self.D, *before)
        step = dt * seen[:, :d] + np.sqrt(dt) * np.einsum(
            "nij,nj->ni", at(self.noise, *before), noise[who]
        )
        cell, weights, out = self.floor.walk(*before, step, D)
        # Heun's correction, so that the drift is that of both ends.
        stay = np.flatnonzero(out < 0)
        ends = cell[stay], weights[stay]
        step = dt / 2 * (at(table, *ends) - seen[stay])[:, :d]
        cell[stay], weights[stay], out[stay] = self.floor.walk(*ends, step, D[stay])
        after = cell, weights
        touched = self.floor.crossed(before, after, dt * D, chance[who])
        out = np.where(out < 0, touched, out)
        self.cell[who], self.weights[who], self.out[who] = cell, weights, out
        # Who leaves does so in the middle of the step, on average.
        pace = self.worth * table[..., d]
        self.cost[who] += dt / 2 * (at(pace, *before) + (out < 0) * at(pace, *after))
        for which in range(len(self.names)):
            leaving = who[out == which]
            self.cost[leaving] += self.worth * at(
                self.paid[..., 1 + which], self.cell[leaving], self.weights[leaving]
            )
        self.inside[who] = out < 0

    def _where(self) -> np.ndarray:
        """Positions of this rank's players, NaN of those who are not inside."""
        x = self.floor.places(self.cell, self.weights)
        return np.where(self.inside[:, None], wrap(x, self.domain.seams), np.nan)

    def _left(self) -> np.ndarray:
        """How many of this rank's players have left, by exit."""
        return np.bincount(self.out[self.out >= 0], minlength=len(self.names))

    def _counted(self, paths: np.ndarray, left: np.ndarray) -> Players:
        """What is known of the players of all ranks. Collective."""
        times, weight = self.solution.times, self.weight
        inside = np.isfinite(paths[..., 0]).sum(axis=1)
        counts = self.comm.allreduce(np.column_stack([inside, left]), MPI.SUM)
        sums = self.comm.allreduce(np.array([self.cost.sum(), self.cost @ self.cost]), MPI.SUM)
        inside, mean = counts[:, 0], sums / self.total
        share = inside / np.searchsorted(self.entry, np.arange(len(times)))
        error = weight * np.sqrt(inside * (1 - share))
        variance = max(mean[1] - mean[0] ** 2, 0.0)
        return Players(
            number=self.total,
            weight=weight,
            times=times,
            gone=dict(zip(self.names, weight * counts[:, 1:].T, strict=True)),
            inside=weight * inside,
            inside_error=error,
            cost=float(weight * sums[0]),
            standard_error=float(weight * np.sqrt(self.total * variance)),
            _comm=self.comm,
            _paths=paths,
        )
