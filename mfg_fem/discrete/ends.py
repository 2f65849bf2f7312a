"""The ends of the time interval: what stands for u at T and for m at 0.

`TerminalCost` is the usual pair, u(T) = u_T(x, m(T)) and m(0) = m0; `TerminalDensity` prescribes
m(T) in the place of u(T). Other ends (no time at all, periodic solutions) are other classes with
the same methods. These take the Discretisation as an argument: with a reference to it PETSc's
objects would be in a cycle, which Python frees late.
"""

from collections.abc import Callable

from mpi4py import MPI
from petsc4py import PETSc

import numpy as np

from dolfinx import fem
from ufl.algorithms import expand_derivatives

from mfg_fem.errors import ProblemError
from mfg_fem.forms.feedback import END
from mfg_fem.forms.terminal import terminal_value
from mfg_fem.mesh.parts import connected_parts

JUMP = 0.7  # of a density within a cell, relative to its largest value, that is sharp
FAR = 20.0  # square of the distance over diffusion and horizon, for which planning is easy
SAME_MASS = 1e-9  # relative to all people


def ends_of(discrete):
    """The ends of the time interval of this problem. Collective."""
    planned = discrete.problem.populations[0].terminal_density is not None
    return (TerminalDensity if planned else TerminalCost)(discrete)


class TerminalCost:
    """u_i(T) = u_T,i(x, m(T)), eliminated dof by dof, and m(0) = m0, scaled to the population.

    For a game u_T,i is the terminal cost g_i, for a control the derivative of m g.

    Attributes:
        start: nodal values of the initial densities, shape (k, owned).
    """

    planned = False  # whether m(T) is prescribed

    def __init__(self, discrete):
        u_T, slopes, g, fed = terminal_value(discrete.problem, discrete.state)
        self.u_T = [discrete.nodal(e) for e in u_T]
        self.slopes = [[discrete.nodal(e) for e in row] for row in slopes]
        self.fed = [[discrete.nodal(e) for e in row] for row in fed]
        self.sees = any(expand_derivatives(e) != 0 for row in fed for e in row)
        self.g = [discrete.nodal(e) for e in g]
        self.start = np.stack([_density(discrete, i) for i in range(discrete.k)])

    def values(self, discrete, m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """u(T), (k, owned), the exit cost at Dirichlet dofs; its m_j-derivatives, (k, k, owned)."""
        self._see(discrete, m)
        slopes = np.stack([[discrete.interpolate(e) for e in row] for row in self.slopes])
        for own, exits in zip(slopes, discrete.exits, strict=True):
            own[:, exits.held] = 0.0
        return _with_exits(discrete, self.u_T), slopes

    def _see(self, discrete, m: np.ndarray):
        discrete.set_state(np.zeros_like(m), m, discrete.problem.duration)
        if self.sees:
            discrete.feedback.update(discrete, END)

    def costs(self, discrete, m: np.ndarray) -> np.ndarray:
        """g(x, m), shape (k, owned), the exit cost at Dirichlet dofs."""
        self._see(discrete, m)
        return _with_exits(discrete, self.g)

    def feedback(self, discrete, m: np.ndarray) -> Callable[[np.ndarray], np.ndarray] | None:
        """How u(T) changes with m through quantities of the crowd, if it does. Collective."""
        if not self.sees:
            return None
        self._see(discrete, m)
        slopes = np.stack([[discrete.interpolate(e) for e in row] for row in self.fed])
        for own, exits in zip(slopes, discrete.exits, strict=True):
            own[:, exits.held] = 0.0
        blocks = discrete.feedback.linearised(discrete, END)
        return lambda dm: np.einsum("iqx,qx->ix", slopes, np.stack(blocks.changes(None, dm)))


class TerminalDensity:
    """m(T) = m_T and m(0) = m0, both with a floor; u(T) is given as nodal values.

    Attributes:
        start, target: nodal values of m0 and m_T with their floor, shape (1, owned).
        potential: nodal values of u(T), shape (1, owned).
        smoothed: by how much a sharp density was changed, as a part of the population: see `_soft`.
        background: people who are everywhere because of the floor, as a part of the population.
            Both are pairs, of m0 and m_T.
    """

    planned = True

    def __init__(self, discrete):
        given = [_density(discrete, 0), _density(discrete, 0, "terminal_density")]
        self.soft = [_soft(discrete, m) for m in given]
        (problem,) = discrete.problem.populations
        moved = discrete.integral(np.abs(np.subtract(self.soft, given)))
        self.smoothed = tuple(moved / problem.population)
        part = connected_parts(discrete.V)
        self.parts = discrete.comm.allreduce(part.max(initial=-1), MPI.MAX) + 1
        self.part = part[: discrete.owned]
        self._check_parts(discrete)
        self.potential = np.zeros((1, discrete.owned))
        self.lift(discrete, problem.floor)

    def sums(self, discrete, values: np.ndarray) -> np.ndarray:
        """The sum of owned nodal values over each connected part of the domain. Collective."""
        return discrete.comm.allreduce(np.bincount(self.part, values, self.parts), MPI.SUM)

    def _check_parts(self, discrete):
        """Refuse densities that differ in their mass where nobody can go from part to part."""
        people = np.array([self.sums(discrete, m * discrete.weights) for m in self.soft])
        differ = np.abs(people[1] - people[0])
        if differ.max() > SAME_MASS * people[0].sum():
            worst = differ.argmax()
            raise ProblemError(
                f"The domain has {self.parts} parts that nobody can leave, and in one of them are "
                f"{people[0, worst]:.6g} people at the start and {people[1, worst]:.6g} at the "
                "end: scale initial_density and terminal_density there, or join the parts."
            )

    def lift(self, discrete, floor: float):
        """Set both densities, with this floor. Collective."""
        population, found, background = discrete.problem.population, [], []
        for m in self.soft:
            largest = discrete.comm.allreduce(m.max(initial=0.0), MPI.MAX)
            least = discrete.comm.allreduce(m.min(initial=np.inf), MPI.MIN)
            more = max(floor * largest - least, 0.0)
            people = population + more * discrete.volume
            found.append((m + more) * (population / people))
            background.append(more * discrete.volume / people)
        self.background = tuple(background)
        start, target = (self.sums(discrete, m * discrete.weights) for m in found)
        self.start, self.target = found[0][None], (found[1] * (start / target)[self.part])[None]

    def distance(self, discrete) -> float:
        """How far people go: from mean to mean, with the difference of the spreads. Collective.

        It is at most the Wasserstein distance W2 (Gelbrich 1990), but not less than a tenth of the
        size of the domain.
        """
        population, moments = discrete.problem.population, []
        x = discrete.V.tabulate_dof_coordinates()[: discrete.owned, : discrete.problem.domain.dim].T
        for m in (self.start[0], self.target[0]):
            mean = discrete.integral(x * m) / population
            spread = discrete.integral((x - mean[:, None]) ** 2 * m) / population
            moments.append(np.concatenate([mean, np.sqrt(spread)]))
        return max(float(np.linalg.norm(moments[1] - moments[0])), 0.1 * discrete.diameter)

    def easy_diffusion(self, discrete) -> float:
        """A diffusion with which people spread about as far as they go. Collective."""
        return self.distance(discrete) ** 2 / (FAR * discrete.problem.duration)

    def values(self, discrete, m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """u(T), (k, owned), and its derivatives in the densities, which are zero."""
        return self.potential, np.zeros((1, 1, discrete.owned))

    def feedback(self, discrete, m: np.ndarray) -> None:
        """Of nothing."""

    def costs(self, discrete, m: np.ndarray) -> np.ndarray:
        """Zero, shape (k, owned): nobody pays for where the end is."""
        return np.zeros_like(self.potential)


def _soft(discrete, m: np.ndarray) -> np.ndarray:
    """A density m, after one implicit heat step of the time h^2 if it jumps from node to node.

    Newton does not resolve a jump in log m, and a bridge to one costs more than a finite amount.
    """
    cells = discrete.V.dofmap.list
    whole = fem.Function(discrete.V)
    whole.x.array[: discrete.owned] = m
    whole.x.scatter_forward()
    values = whole.x.array[cells]
    jump, largest = (
        discrete.comm.allreduce(y.max(initial=0.0), MPI.MAX) for y in (np.ptp(values, axis=1), m)
    )
    if jump <= JUMP * largest:
        return m
    matrix = discrete.stiffness.copy()
    matrix.scale(discrete.mesh_size**2)
    matrix.axpy(1.0, discrete.mass)
    solver = PETSc.KSP().create(discrete.comm)
    solver.setOperators(matrix)
    solver.setType("cg")
    solver.setTolerances(rtol=1e-12)
    x, y = matrix.createVecs()
    x.array[:] = m
    discrete.mass.mult(x, y)
    solver.solve(y, x)
    soft = np.maximum(x.array, 0.0)
    solver.destroy()
    matrix.destroy()
    return soft * (discrete.integral(m) / discrete.integral(soft))


def _with_exits(discrete, expressions: list) -> np.ndarray:
    values = np.stack([discrete.interpolate(e) for e in expressions])
    for own, exits in zip(values, discrete.exits, strict=True):
        own[exits.held] = exits.cost(discrete.problem.duration)
    return values


def _density(discrete, i: int, name: str = "initial_density") -> np.ndarray:
    population = discrete.problem.populations[i]
    expression = population.m0 if name == "initial_density" else population.m_T
    m0 = np.maximum(discrete.interpolate(discrete.nodal(expression(population.x))), 0.0)
    m0[discrete.exits[i].held] = 0.0
    mass = discrete.integral(m0)
    if not mass > 0:
        raise ProblemError(
            f"{population.label}{name}(x) vanishes at every node that is not on an exit, so it "
            "cannot be scaled to the population. Is the mesh fine enough for it?"
        )
    beyond = discrete.exits[i].density  # at open boundaries, as it is
    rest = population.population - discrete.integral(beyond)
    if not rest >= 0 or (rest == 0 and not population.empty):
        raise ProblemError(
            f"{population.label}population={population.population:g}, and there are more people at "
            "the open boundaries alone, with the densities that were given for them."
        )
    return m0 * (rest / mass) + beyond
