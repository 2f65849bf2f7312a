"""VelocityField: what a network is fitted to, from a solution of the package or a formula."""

import warnings
from collections.abc import Callable
from itertools import pairwise
from math import factorial, gcd, lcm
from typing import Any

import numpy as np

from mfg_fem.errors import ProblemError
from mfg_fem.flows import nodal_values
from mfg_fem.mesh.locate import Replica, as_points, small_step
from mfg_fem.problem.alone import refuse_crowds
from mfg_fem.solution.shared import SharedSolution
from mfg_fem.solution.solution import Solution
from mfg_fem.validate import Seed, array, count, generator, increasing, moment, number

FINE = 128  # steps of the reference flow, at least
CLOSE = 1e-10  # times closer than this part of the horizon are the same
FAR = 0.1  # a point is outside if it is further from its cell than this part of its height
SOME = 0.005  # share of the points outside that is worth a warning


class LeavesDomain(UserWarning):
    """Points left the domain, which the players of a game or a control never do."""


class VelocityField:
    """A velocity v(x, t) on [0, T]: P1 in space, constant in time on each of K steps.

        dX/dt = v(X, t) dt + noise dW

    Calling it and its flows happen on each rank for itself, for any points, without communication.
    A point outside the mesh takes the velocity of its nearest cell.

    Args:
        replica: the mesh, whole on every rank.
        times: levels 0 = t_0 < ... < t_K = T.
        nodal: velocity on step k at the nodes, shape (K, nodes, d).
        start: initial density at the nodes, from which `sample` draws, or None.
        discrete: whether one explicit Euler step per step of the field is the flow that was
            optimised (discretise, then optimise). The reference is then that polygon.

    Attributes:
        dim, steps, horizon: d, K and T.
    """

    def __init__(
        self,
        replica: Replica,
        times: np.ndarray,
        nodal: np.ndarray,
        *,
        start: np.ndarray | None = None,
        discrete: bool = False,
    ):
        self.replica, self.discrete = replica, bool(discrete)
        self.times = increasing("times", times)
        shape = len(self.times) - 1, *replica.x.shape
        self.nodal = array("nodal velocities (steps, nodes, d)", nodal, shape)
        self.start = None if start is None else array("the initial density", start, shape[1:2])

    @classmethod
    def of(
        cls, solution: Any, *, current: bool = False, ignore_exits: bool = False
    ) -> "VelocityField":
        """The field of a solution of the package. Collective.

        For a SharedControl it is the field itself, and its Euler polygon what was optimised.
        For a game or a control it is the drift v = -H_p, averaged to the nodes (L2 projection on
        P1, lumped). The players follow it with the noise sqrt(2 D); the flow without noise has
        another density. With `current` it is the current velocity

            omega = v - D grad m / m,        m_t + div(m omega) = 0,

        whose flow without noise carries the density of the solution (Nelson 1967). Where m is
        below 1e-4 of its maximum, noise of the scheme, it is the drift. D has the scheme's edge
        viscosity here, so that the density carried is the one that was computed. That of Monotone
        is itself too wide, by O(h): in a linear-quadratic control with the standard deviation
        .106 at the end it was .127 on 48 x 48 cells and .117 on 96 x 96, and so was the flow's.
        The drift with noise gave .106 on both, Galerkin(1, "midpoint") with `current` .107 on the
        coarser.

        A flow of points knows neither periodic domains nor exits, which are refused, nor walls:
        points that noise takes across one stay outside, and a LeavesDomain warning says how many.

        Args:
            solution: a Solution, a SharedSolution, a VelocityField (returned as it is), or
                anything that has a method velocity_field().
            current: the current velocity instead of the drift.
            ignore_exits: take a solution with exits all the same: points that leave go on outside.

        Raises:
            ProblemError: a periodic domain, exits, or a current velocity that does not exist.
        """
        refuse_crowds("A velocity field", solution)
        if isinstance(solution, Solution):
            return cls(**nodal_values.of_solution(solution, current, ignore_exits))
        if current:
            raise ProblemError("current=True needs the Solution of a game or a control.")
        if isinstance(solution, VelocityField):
            return solution
        if isinstance(solution, SharedSolution):
            return cls(**nodal_values.of_shared(solution))
        if hasattr(solution, "velocity_field"):
            return solution.velocity_field()
        raise ProblemError(
            f"{type(solution).__name__} has no velocity field. Give a solution of the package, or "
            "wrap a formula: VelocityField.from_callable(v, dim=..., horizon=...)."
        )

    @staticmethod
    def from_callable(
        v: Callable, *, dim: int, horizon: float, steps: int = FINE
    ) -> "VelocityField":
        """The field of a formula: v(x, t) on x of shape (n, d), t a number, returns (n, d).

        `steps` is only how finely `flow` steps unless it is told.
        """
        return _Formula(v, dim, horizon, steps)

    def velocity_field(self) -> "VelocityField":
        """The field itself, as what is judged by `exploitability` has to say its field."""
        return self

    @property
    def dim(self) -> int:
        """Dimension d of space."""
        return self.nodal.shape[2]

    @property
    def steps(self) -> int:
        """Number K of steps."""
        return len(self.times) - 1

    @property
    def horizon(self) -> float:
        """Final time T."""
        return float(self.times[-1])

    def __call__(self, x: np.ndarray, t: float) -> np.ndarray:
        """Velocities at points, shape (n, d); at a level t_k that of the step that starts there."""
        return self.replica.interpolate(as_points(x, self.dim), self.nodal[self._step(t)])

    def jacobian(self, x: np.ndarray, t: float) -> np.ndarray:
        """D v at points, shape (n, d, d), constant on each cell."""
        cell, _, _ = self.replica.locate(as_points(x, self.dim))
        corners = self.nodal[self._step(t)][self.replica.cells[cell]]
        return np.einsum("nci,ncj->nij", corners, self.replica.gradients[cell])

    def outside(self, x: np.ndarray) -> np.ndarray:
        """Which points are outside of the mesh, by more than a tenth of a cell: shape (n,)."""
        _, weights, _ = self.replica.locate(as_points(x, self.dim))
        return weights.min(axis=1, initial=0.0) < -FAR

    def warn_outside(self, x: np.ndarray, what: str) -> None:
        """Say how many of the points x are outside, if it is more than a few."""
        share = np.mean(self.outside(x)) if len(x) else 0.0
        if share > SOME:
            warnings.warn(
                f"{what} takes {100 * share:.3g} % of the points out of the domain, where the "
                "field is that of the nearest cell: neither flows nor layers turn back at walls. "
                "Give the domain more room; or, for a game or a control, take the current "
                "velocity without noise, VelocityField.of(solution, current=True).",
                LeavesDomain,
                stacklevel=3,
            )

    def flow(
        self,
        x: np.ndarray,
        steps: int | None = None,
        substeps: int = 1,
        noise: float = 0.0,
        rng: Seed = None,
    ) -> np.ndarray:
        """Trajectories by explicit Euler steps, x + dt v(x, t) + noise sqrt(dt) xi.

        Args:
            x: starting points, shape (n, d).
            steps: levels to return besides the first; by default those of the field.
            substeps: Euler steps between two levels.
            noise: amplitude; the density then diffuses with D = noise^2 / 2.
            rng: numpy Generator or a seed.

        Returns:
            Positions at the levels 0..steps of equal distance, shape (steps + 1, n, d).
        """
        x, rng = as_points(x, self.dim), generator("rng", rng)
        noise, substeps = number("noise", noise), count("substeps", substeps)
        levels = self.times
        if steps is not None:
            levels = np.linspace(0.0, self.horizon, count("steps", steps) + 1)
        path = [x]
        for t, end in pairwise(levels):
            dt = (end - t) / substeps
            for j in range(substeps):
                x = x + dt * self(x, t + j * dt)
                if noise:
                    x = x + noise * np.sqrt(dt) * rng.standard_normal(x.shape)
            path.append(x)
        self.warn_outside(x, "The flow")
        return np.array(path)

    def reference(self, x: np.ndarray, layers: int) -> np.ndarray:
        """Positions at the ends of `layers` equal layers, shape (layers + 1, n, d).

        Midpoint steps, many to a layer, for a field in continuous time. For a `discrete` field,
        the polygon of one Euler step per step of the field, wherever the layers end on it.
        """
        ends = np.linspace(0.0, self.horizon, count("layers", layers) + 1)
        if not self.discrete:
            path = [as_points(x, self.dim)]
            for t, end in pairwise(ends):
                path.append(self.unchecked_advance(path[-1], t, end, self.substeps(layers)))
            self.warn_outside(path[-1], "The flow")
            return np.array(path)
        polygon = self.flow(x)
        step = np.clip(np.searchsorted(self.times, ends, side="right") - 1, 0, self.steps - 1)
        share = ((ends - self.times[step]) / np.diff(self.times)[step])[:, None, None]
        return (1 - share) * polygon[step] + share * polygon[step + 1]

    def advance(self, x: np.ndarray, t: float, end: float, substeps: int) -> np.ndarray:
        """Positions at the time `end` of points that are at x at the time t, by midpoint steps.

        One Euler step for a `discrete` field over a whole step of it: it is what was optimised.
        """
        x = self.unchecked_advance(as_points(x, self.dim), t, end, count("substeps", substeps))
        self.warn_outside(x, "The flow")
        return x

    def unchecked_advance(self, x: np.ndarray, t: float, end: float, substeps: int) -> np.ndarray:
        """What `advance` does, without a look at the domain."""
        if self.discrete:
            close = CLOSE * self.horizon
            levels = self.times[(self.times > t + close) & (self.times < end - close)]
            levels = np.concatenate([[t], levels, [end]])
            for a, b in pairwise(levels):
                x = x + (b - a) * self(x, (a + b) / 2)
            return x
        dt = (end - t) / substeps
        for j in range(substeps):
            middle = t + (j + 0.5) * dt  # inside a step of the field, whatever the rounding
            x = x + dt * self(x + dt / 2 * self(x, middle), middle)
        return x

    def substeps(self, layers: int) -> int:
        """Midpoint steps in each of `layers` layers: many, and if possible none across a level."""
        wanted = max(FINE, 2 * self.steps)
        aligned = self.steps // gcd(self.steps, layers)
        if lcm(self.steps, layers) > 2 * wanted:
            aligned = 1
        return aligned * -(-wanted // (layers * aligned))

    def sample(self, n: int, rng: Seed = None) -> np.ndarray:
        """Draw n points from the initial density, shape (n, d), on any number of ranks alike."""
        if self.start is None:
            raise ProblemError("this field knows no initial density: give samples of your own.")
        rng, cells = generator("rng", rng), self.replica.cells
        cells = _sorted(self.replica.x, cells)
        corners = self.replica.x[cells]
        volumes = abs(np.linalg.det(corners[:, 1:] - corners[:, :1])) / factorial(self.dim)
        density = np.maximum(self.start, 0.0)[cells]
        mass = volumes * density.sum(axis=1)
        cell = rng.choice(len(cells), size=count("n", n, 0), p=mass / mass.sum())
        # P1 on a cell is a mixture of barycentric coordinates, each Dirichlet(1, .., 2, .., 1).
        share = np.cumsum(density[cell], axis=1)
        corner = (rng.random(n)[:, None] * share[:, -1:] > share).sum(axis=1)
        weights = rng.standard_exponential((n, self.dim + 1))
        weights[np.arange(n), corner] += rng.standard_exponential(n)
        weights /= weights.sum(axis=1, keepdims=True)
        return np.einsum("nc,ncd->nd", weights, corners[cell])

    def _step(self, t: float) -> int:
        t = moment("t", t, self.horizon)
        k = np.searchsorted(self.times, t + CLOSE * self.horizon, side="right") - 1
        return int(np.clip(k, 0, self.steps - 1))

    def __repr__(self) -> str:
        """Size of the field."""
        return f"VelocityField({self.dim}D, horizon={self.horizon:g}, steps={self.steps})"


class _Formula(VelocityField):
    """A velocity given by a formula, exact in space and in time."""

    def __init__(self, v: Callable, dim: int, horizon: float, steps: int):
        if not callable(v):
            raise ProblemError(f"the velocity must be a callable v(x, t), not {v!r}.")
        self.v, self._dim, self.discrete, self.start = v, count("dim", dim), False, None
        horizon = number("horizon", horizon, above=True)
        self.times = np.linspace(0.0, horizon, count("steps", steps) + 1)

    @property
    def dim(self) -> int:
        """Dimension d of space."""
        return self._dim

    def __call__(self, x: np.ndarray, t: float) -> np.ndarray:
        """Velocities at points, shape (n, d)."""
        x = as_points(x, self.dim)
        value = np.asarray(self.v(x, t), dtype=float)
        if value.shape != x.shape:
            raise ProblemError(
                f"v(x, t) returned the shape {value.shape} for x of the shape {x.shape}."
            )
        return value

    def jacobian(self, x: np.ndarray, t: float) -> np.ndarray:
        """D v at points, shape (n, d, d), by central differences."""
        x = as_points(x, self.dim)
        h = small_step(x, 1e-5, self.horizon * float(np.abs(self(x, t)).max(initial=0.0)))
        columns = [(self(x + h * e, t) - self(x - h * e, t)) / (2 * h) for e in np.eye(self.dim)]
        return np.stack(columns, axis=2)

    def outside(self, x: np.ndarray) -> np.ndarray:
        """No point is: a formula has no walls."""
        return np.zeros(len(x), dtype=bool)


def _sorted(x: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Cells, and corners in them, in an order that does not depend on how they are numbered."""
    order = np.lexsort(np.moveaxis(x[cells], -1, 0), axis=-1)
    cells = np.take_along_axis(cells, order, axis=1)
    return cells[np.lexsort(x[cells].reshape(len(cells), -1).T)]
