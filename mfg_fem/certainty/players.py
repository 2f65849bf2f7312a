"""Finitely many players who follow the policy of a solution, each with noise of its own.

    dX = (a + div D) dt + sqrt(2 D) dW,      a = -H_p(x, grad u, m),

by Heun's steps, with u and m of the solution, linear between its time levels (div D,
as D acts in divergence form). Walls mirror them. Who is at the distance d of an exit before a step
dt and at d' after it has been there in between with the probability exp(-d d' / (D dt)), that of a
Brownian bridge (Baldi 1995; Gobet 2000). A `Door` of the rate kappa lets out who has the local time
l at it with the probability 1 - exp(-kappa l), each paying what it costs then and there
(`touch.py`); the rate of one with a capacity, and costs `WithCrowd`, are those in the solution's
density. Through an `Entry` people come in as its flux is. Their numbers and costs scatter about
those of the density that the policy makes, without the numerical diffusion of a scheme. A player of
one of several crowds sees all of them as they are in the solution, as smooth() and total() do, and
everybody pays the prices that markets have in the solution in each step.

*Who changes crowds* does so at the rates at the place where he is, as costs are read there: during
half of a substep before he walks, and during half of it afterwards. He walks and pays as those of
his crowd do.

*Among each other.* With `among` m is the density that the players make themselves, everybody's
weight w = population / N shared by the nodes of the cell that she is in and divided by their
volumes w_i. So they get in their own way,

    m_N(x) = sum_j w K(x, X_j),      K(x, y) = sum_i phi_i(x) phi_i(y) / w_i,

and in a game with H(x, p) and f = c m each pays more than among infinitely many, by

    cost(N) - cost(infinity) = c w int (E K(X, X) - E K(X, X')) dt + O(dt),

X and X' being two players, independent of each other (Cardaliaguet, Delarue, Lasry, Lions 2019 have
the rate 1 / N). A node at the boundary takes the mean of a cell for the density there, so that
where people queue at a door the costs of many are those of the solution but for the mesh size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mpi4py import MPI

import numpy as np

from mfg_fem.certainty.finer import refuse_open
from mfg_fem.certainty.walkers import Walkers
from mfg_fem.errors import ProblemError, alike, together
from mfg_fem.io.files import file_path, on_root, replacing
from mfg_fem.validate import count, flag, index

EVEN = 1e-9  # relative difference of steps that count as equal


@dataclass(frozen=True, eq=False, repr=False)
class Players:
    """Players who have followed the policy of a solution. See `simulate`.

    Attributes:
        number: of all players, those who have entered through a source or an entry too, and with
            several crowds those of all who walk together.
        weight: people for whom one player stands.
        times: the time levels of the solution.
        gone: name of an exit or a door -> people who have left through it by each level.
        inside: people inside the domain at each level.
        inside_error: its standard errors.
        cost: of the whole population, estimated by the players' mean; of a crowd what players
            pay while they are in it.
        standard_error: of the cost, if players are independent: not of those among each other.
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

        Those who have left, have not entered yet, or are in another crowd are NaN.
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


def simulate(
    solutions: Sequence, number: int, seed: int = 0, *, substeps: int = 4, among: bool = False
) -> list[Players]:
    """Let players follow the policies of solutions: see above. Collective.

    The same players walk on any number of ranks, each of which moves a part of them.

    Args:
        solutions: a Solution, or those of all populations of a game.
        number: of players who are there at the start, for the populations of all solutions.
        seed: an integer >= 0; another seed lets others walk.
        substeps: of each time step; the error of their law is of first order in their length.
        among: whether players see the densities that they make themselves, not the solution's.

    Returns:
        Those of each population, in the order of the solutions.

    Raises:
        ProblemError: arguments that make no sense, or boundaries where nobody knows what players
            do: `Open`, and `Wall(pushes=False)`.
    """
    comm = solutions[0].problem.domain.comm
    with together(comm):
        number, seed = count("number", number), count("seed", seed, 0)
        substeps, among = count("substeps", substeps), flag("among", among)
        for own in solutions:
            refuse_open(own.problem)
            if own.problem.stationary:
                raise ProblemError("players walk for a time, and the problem has no horizon.")
            if len(solutions) == 1 and not own.problem.keeps_its_players:
                raise ProblemError(
                    f"players: those of {own.problem.title} change from or into other crowds: take "
                    "the players of all crowds, solution.players(...) of the PopulationsSolution."
                )
            if among and own.problem.quantities:
                raise ProblemError(
                    "players: smooth() and total() are of the density of the solution, not of the "
                    "one that players make themselves: leave out among=True."
                )
    alike(comm, number=number, seed=seed, substeps=substeps, among=among)
    walkers = Walkers(solutions, number, seed, substeps, among)
    return [_counted(walkers, c, *found) for c, found in enumerate(walkers.walk())]


def _counted(walkers: Walkers, c: int, paths: np.ndarray, left: np.ndarray) -> Players:
    """What is known of the players of crowd c, of all ranks. Collective."""
    times, weight, comm = walkers.times, walkers.weight, walkers.comm
    inside, cost = np.isfinite(paths[..., 0]).sum(axis=1), walkers.cost[c]
    counts = comm.allreduce(np.column_stack([inside, left]), MPI.SUM)
    sums = comm.allreduce(np.array([cost.sum(), cost @ cost]), MPI.SUM)
    # Who may be in this crowd, by the step of entry.
    entry = np.sort(walkers.entry[np.isin(walkers.first, walkers.exchanging[c])])
    inside, number = counts[:, 0], np.searchsorted(entry, np.arange(len(times)))
    share = np.divide(inside, number, out=np.zeros(len(times)), where=number > 0)
    variance = max(sums[1] - sums[0] ** 2 / max(len(entry), 1), 0.0)
    return Players(
        number=walkers.total,
        weight=weight,
        times=times,
        gone=dict(zip(walkers.crowds[c].names, weight * counts[:, 1:].T, strict=True)),
        inside=weight * inside,
        inside_error=weight * np.sqrt(inside * (1 - share)),
        cost=float(weight * sums[0]),
        standard_error=float(weight * np.sqrt(variance)),
        _comm=comm,
        _paths=paths,
    )
