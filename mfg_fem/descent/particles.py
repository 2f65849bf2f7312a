"""The reduced problem of a shared control on particles: the samples themselves, moved by the field.

    X^{k+1} = X^k + dt v^k(X^k) + sqrt(2 D dt) xi^k,      v^k in P1,
    J = sum_p [ sum_c w_pc Phi_c(X_p^K) + w_p sum_k dt (alpha/2) |v^k(X_p^k)|^2 ]  + regularisation,

where particle p carries the mass w_pc of class c (of one class, or of several: `Samples`), w_p is
their sum, and xi is drawn once, so that J is a function of the field alone (sample average
approximation). The adjoint along a trajectory is

    l^k = l^{k+1} + dt (Dv^k)^T (l^{k+1} + alpha w v^k),      l^K = sum_c w_c grad Phi_c,

and dJ/dv^k gathers dt (l^{k+1} + alpha w v^k) at the corners of each particle's cell. Masses are
positive and exact by construction, and only the noise of the problem spreads them.
Lagrange-Galerkin spreads a density by about h/2 in each step; a descent then prefers steep fields
that pull the classes apart before they have mixed on the mesh. Phi is exact at the end of a
particle if it has a method `at` (see `SharedControl`), else its P1 interpolant is used.
"""

from mpi4py import MPI

import numpy as np

from mfg_fem.descent.objective import ReducedProblem
from mfg_fem.errors import ProblemError, together
from mfg_fem.mesh.locate import clip
from mfg_fem.problem.samples import Samples


class ParticleProblem(ReducedProblem):
    """J and its exact gradient; each rank carries its part of the particles."""

    def __init__(self, problem, steps: int, seed: int):
        if not problem.of_samples:
            raise ProblemError(
                "Particles() moves samples: give densities as arrays (n_c, d), or solve with "
                "LagrangeGalerkin()."
            )
        super().__init__(problem, steps)
        samples = Samples.of(problem.densities)
        mine = slice(self.comm.rank, None, self.comm.size)
        self.start = samples.points[mine]
        self.shares = (samples.shares * (self.masses / samples.shares.sum(axis=0)))[mine]
        self.weight = self.shares.sum(axis=1)
        self.costs = self.replica.gather(np.ascontiguousarray(self.terminal.T))
        self.kicks = np.zeros((steps, 1, 1))
        if problem.diffusion > 0:
            # Every rank draws for all particles: each has the same noise on any number of ranks.
            xi = np.random.default_rng(seed).standard_normal(
                (steps, len(samples.points), problem.domain.dim)
            )
            self.kicks = np.sqrt(2 * problem.diffusion * self.dt) * xi[:, mine]

    def objective_and_gradient(self, w: np.ndarray) -> tuple[float, np.ndarray]:
        """J(w) and dJ/dw. Collective."""
        problem, dt, weight = self.problem, self.dt, self.weight[:, None]
        field = self.replica.gather(self.velocity(w).swapaxes(0, 1).copy()).swapaxes(0, 1)
        value = problem.regularisation * dt / 2 * np.sum(w * w)
        x, path = self.start, []
        for v, kick in zip(field, self.kicks, strict=True):
            nodes, weights, slopes = self._place(x)
            speed = np.einsum("ni,nid->nd", weights, v[nodes])
            value += dt * problem.effort / 2 * np.sum(weight * speed**2)
            free = x + dt * speed + kick
            x = np.clip(free, *self.box)  # particles stop at walls
            path.append((nodes, weights, slopes, speed, x == free))
        cost, slope = self._arrival(x)
        value += cost
        costate, gradient = slope, np.zeros(field.shape)
        for k in reversed(range(self.steps)):
            nodes, weights, slopes, speed, moving = path[k]
            costate = costate * moving
            push = dt * (costate + problem.effort * weight * speed)
            for d in range(push.shape[1]):
                parts = weights * push[:, d : d + 1]
                gradient[k, :, d] = np.bincount(nodes.ravel(), parts.ravel(), field.shape[1])
            along = np.einsum("nd,nid->ni", push, field[k][nodes])
            costate = costate + np.einsum("ni,nid->nd", along, slopes)
        self.comm.Allreduce(MPI.IN_PLACE, gradient, MPI.SUM)
        total = self.comm.allreduce(float(value), MPI.SUM)
        pulled = self.pull_back(gradient[:, self.replica.owned])
        return total, pulled + problem.regularisation * dt * w

    def _arrival(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Terminal cost of all particles and its gradient at each, shape (n, d). Collective."""
        total, gradient, placed = 0.0, np.zeros(x.shape), None
        with together(self.comm, ProblemError, "terminal_costs at points"):
            for c, terminal in enumerate(self.problem.terminal_costs):
                here = self.shares[:, c] > 0
                if hasattr(terminal, "at"):
                    cost, slope = _of_user(terminal, x[here], c)
                else:
                    placed = placed or self._place(x)  # once, for all classes
                    nodes, weights, slopes = (part[here] for part in placed)
                    corners = self.costs[nodes, c]
                    cost = np.sum(weights * corners, axis=1)
                    slope = np.einsum("ni,nid->nd", corners, slopes)
                share = self.shares[here, c]
                total += share @ cost
                gradient[here] += share[:, None] * slope
        return total, gradient

    def _place(self, x: np.ndarray):
        """Corners of the cells the points are in, their weights and these weights' gradients."""
        cell, weights, _ = self.replica.locate(x)
        return self.replica.cells[cell], clip(weights), self.replica.gradients[cell]


def _of_user(terminal, x: np.ndarray, c: int) -> tuple[np.ndarray, np.ndarray]:
    """The values and gradients that `at` of a terminal cost returns, checked."""
    cost, slope = (np.asarray(part, dtype=float) for part in terminal.at(x))
    if cost.shape != x.shape[:1] or slope.shape != x.shape:
        raise ProblemError(
            f"terminal_costs[{c}].at returned the shapes {cost.shape} and {slope.shape}, expected "
            f"{x.shape[:1]} and {x.shape}."
        )
    if not (np.isfinite(cost).all() and np.isfinite(slope).all()):
        raise ProblemError(f"terminal_costs[{c}].at is not finite where a particle ends.")
    return cost, slope
