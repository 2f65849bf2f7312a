"""The discrete equations of a solution once more, in NumPy, from the cells of its mesh alone.

Nothing of the package's forms is used, and no derivative of UFL: those of the data are taken by
complex steps. One process.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import combinations
from math import factorial

import numpy as np

import basix

import mfg_fem as mfg
from mfg_fem._compat import geometry_dofmap, interpolation_points

CELLS = {1: basix.CellType.interval, 2: basix.CellType.triangle, 3: basix.CellType.tetrahedron}
STEP = 1e-100


def slope(function: Callable, y: np.ndarray, axis: int | None = None) -> np.ndarray:
    """The derivative of a function of arrays at y, or in y[axis], to round-off."""
    z = y.astype(complex)
    z[... if axis is None else axis] += STEP * 1j
    return np.broadcast_to(np.imag(function(z)) / STEP, y.shape if axis is None else y[axis].shape)


@dataclass(frozen=True)
class Data:
    """What a problem is made of, as functions of arrays: x and p have their components first.

    `sides` are the exits, in their order: name -> (axis, coordinate, cost(x)).
    """

    diffusion: Callable  # x -> an array (d, d, ...)
    hamiltonian: Callable
    running_cost: Callable
    terminal_cost: Callable
    initial_density: Callable
    source: Callable
    sides: dict[str, tuple[int, float, Callable]]
    planned: bool


class Discrete:
    """What a solution has to fulfil, and its numbers."""

    def __init__(self, solution: mfg.Solution, data: Data):
        self.solution, self.data, self.scheme = solution, data, solution.scheme
        self.monotone = isinstance(self.scheme, mfg.Monotone)  # Sharp too
        self.sharp = isinstance(self.scheme, mfg.Sharp)
        V, mesh = solution.value(0).function_space, solution.problem.domain.mesh
        self.d, self.dofs = mesh.geometry.dim, V.dofmap.list
        self.size = V.dofmap.index_map.size_local
        self.nodes = V.tabulate_dof_coordinates()[: self.size, : self.d].T
        self.corners = mesh.geometry.x[:, : self.d][geometry_dofmap(mesh)]  # (cells, d + 1, d)
        self._integrate()
        self.mass = self.assemble(np.einsum("cq,qi,qj->cij", self.dx, self.phi, self.phi))
        self.weights = self.mass.sum(axis=1)
        self.dt = solution.problem.horizon / solution.steps
        self._find_exits()
        self._average()

    def _integrate(self):
        """Points of the rule in each cell, and there the basis and its gradients."""
        d, degree = self.d, self.scheme.degree
        cell = CELLS[d]
        if self.monotone:
            at = np.vstack([np.zeros(d), np.eye(d)])
            weights = np.full(d + 1, 1 / factorial(d + 1))
        else:
            at, weights = basix.make_quadrature(cell, 3 * degree)
        nodes = basix.create_element(
            basix.ElementFamily.P, cell, degree, basix.LagrangeVariant.gll_warped
        ).points
        self.coefficients = np.linalg.inv(self._monomials(nodes)[0])
        self.J = J = np.swapaxes(self.corners[:, 1:] - self.corners[:, :1], 1, 2)
        self.K = K = np.linalg.inv(J)
        self.phi, self.grad, self.x = self.basis(at)
        volume = np.abs(np.linalg.det(J))
        self.volumes = volume / factorial(d)
        self.dx = volume[:, None] * weights
        self.bary = np.concatenate([-K.sum(axis=1)[:, None], K], axis=1)  # (cells, d + 1, d)

    def basis(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """At points of the reference cell: the basis (points, basis), its gradients on each cell.

        These have the shape (cells, points, basis, d); and the points there, (d, cells, points).
        """
        values, gradients = self._monomials(at)
        reference = np.einsum("qmk,mi->qik", gradients, self.coefficients)
        x = self.corners[:, None, 0] + at @ np.swapaxes(self.J, 1, 2)
        gradients = np.einsum("qik,ckl->cqil", reference, self.K)
        return values @ self.coefficients, gradients, np.moveaxis(x, -1, 0)

    def _monomials(self, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All up to the degree, and their gradients, at points (n, d)."""
        d, degree = self.d, self.scheme.degree
        powers = [a for a in np.ndindex(*(degree + 1,) * d) if sum(a) <= degree]
        values = np.stack([np.prod(y ** np.array(a), axis=1) for a in powers], axis=1)
        gradients = np.zeros((*values.shape, d))
        for m, a in enumerate(powers):
            for k in range(d):
                if a[k]:
                    lower = np.array(a) - np.eye(d, dtype=int)[k]
                    gradients[:, m, k] = a[k] * np.prod(y**lower, axis=1)
        return values, gradients

    def assemble(self, local: np.ndarray) -> np.ndarray:
        """A vector or a matrix from its parts on each cell."""
        total = np.zeros((self.size,) * (local.ndim - 1))
        if local.ndim == 2:
            np.add.at(total, self.dofs, local)
        else:
            np.add.at(total, (self.dofs[:, :, None], self.dofs[:, None, :]), local)
        return total

    def _find_exits(self):
        """The first of two exits has the corner."""
        self.exit_cost, self.exits = np.zeros(self.size), {}
        free = np.ones(self.size, bool)
        for name, (axis, where, cost) in self.data.sides.items():
            here = free & np.isclose(self.nodes[axis], where, atol=1e-12)
            self.exits[name] = here
            self.exit_cost[here] = np.broadcast_to(cost(self.nodes), self.size)[here]
            free &= ~here
        self.held = ~free

    def _average(self):
        """Weights of the later u and of the earlier m in each step, at all dofs."""
        steps, m = self.solution.steps, self.solution.levels.m
        self.c = np.full(steps, 0.5 * (getattr(self.scheme, "time", "euler") == "midpoint"))
        if self.sharp:
            volume = self.volumes.sum()
            points = np.broadcast_to(self.data.diffusion(self.x), (self.d, self.d, *self.dx.shape))
            D = np.sum(self.dx * np.trace(points)) / self.d / volume
            rate = D * (np.pi / volume ** (1 / self.d)) ** 2
            for n in range(steps):
                ramp = max(0.0, 1 - (4 / (steps - n)) ** 2) if self.data.sides else 1.0
                self.c[n] = self.scheme.sharpness * ramp * min(0.5, 1 / (rate * self.dt))
        self.s = np.repeat(self.c[:, None], self.size, axis=1)
        if self.sharp:
            for n, i in np.ndindex(self.s.shape):
                kept = 2 * m[n + 1, i] / m[n, i] if m[n, i] > 0 else np.inf
                if kept < 1 or m[n + 1, i] <= 0:
                    self.s[n, i] *= 1 - (1 - max(kept, 0.0)) ** 3 if m[n + 1, i] > 0 else 0.0

    # --- the data of a step ---

    def seen(self, n: int) -> tuple[np.ndarray, np.ndarray, float]:
        """The pair of step n at the dofs, and its time."""
        u, m, c, s = self.solution.levels.u, self.solution.levels.m, self.c[n], self.s[n]
        U, M = (1 - c) * u[n] + c * u[n + 1], s * m[n] + (1 - s) * m[n + 1]
        return U, M, (n + 0.5) * self.dt

    def at_points(self, u, m) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The gradient of u (d, cells, points), u and m at the points."""
        p = np.einsum("cqil,ci->lcq", self.grad, u[self.dofs])
        return p, u[self.dofs] @ self.phi.T, m[self.dofs] @ self.phi.T

    def H_p(self, x, p, m) -> np.ndarray:
        H = self.data.hamiltonian
        return np.stack([slope(lambda p: H(x, p, m), p, k) for k in range(self.d)])

    def price(self, p, t: float) -> Callable:
        """H - f at the points, as a function of the density there."""
        H, f = self.data.hamiltonian, self.data.running_cost
        return lambda m: H(self.x, p, m) - f(self.x, t, m)

    def source_at(self, t: float) -> np.ndarray:
        return np.broadcast_to(self.data.source(self.x, t), self.dx.shape)

    def diffusion(self, u, m) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows of the diffusion of u and of m where a step sees these two.

        And the part of the first that does not depend on u but through coefficients.
        """
        if self.monotone:
            return self._edge_fluxes(u, m)
        D = np.broadcast_to(self.data.diffusion(self.x), (self.d, self.d, *self.dx.shape))
        K = np.einsum("cq,cqik,klcq,cqjl->cij", self.dx, self.grad, D, self.grad)
        matrix = self.assemble(K)
        return matrix @ u, matrix @ m, 0 * u

    def _edge_fluxes(self, u, m) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Along each edge of each cell, with a coefficient that outweighs the transport."""
        d, g, dofs = self.d, self.bary, self.dofs
        p, _, at_vertex = self.at_points(u, m)
        H_p = self.H_p(self.x, p, at_vertex)  # (d, cells, vertices)
        D = self.data.diffusion(self.corners.mean(axis=1).T)
        D = np.broadcast_to(D, (d, d, len(dofs)))
        size = np.trace(D) / d / self.volumes.sum() ** (1 / d)
        length = np.linalg.norm(g, axis=2)
        around = {}
        edges = list(combinations(range(d + 1), 2))
        for i, j in edges:
            kappa = -np.einsum("ck,klc,cl->c", g[:, i], D, g[:, j])
            for cell, pair in enumerate(np.sort(dofs[:, [i, j]]).tolist()):
                total = around.setdefault(tuple(pair), np.zeros(2))
                total += self.volumes[cell] * np.array([kappa[cell], 1.0])
        rows, still = np.zeros((2, self.size)), self._still(m)
        standing = np.zeros(self.size)
        for i, j in edges:
            totals = np.array([around[tuple(e)] for e in np.sort(dofs[:, [i, j]]).tolist()])
            width = 0.05 * size * (length[:, i] + length[:, j])
            to_i = np.einsum("kc,ck->c", H_p[:, :, j], g[:, i])
            to_j = np.einsum("kc,ck->c", H_p[:, :, i], g[:, j])
            b = smax(to_i, to_j, width) / (d + 1)
            kappa = totals[:, 0] / totals[:, 1]
            coefficient = smax(kappa, b, width)
            along = self.corners[:, j] - self.corners[:, i]
            for a, sign in ((i, -1), (j, 1)):
                both = (np.einsum("kc,ck->c", H_p[:, :, a], g[:, b]) for b in (i, j))
                own = smax(kappa, smax(*both, width) / (d + 1), width)
                stay = np.einsum("ck,kc->c", along, still[:, dofs[:, a]])
                np.add.at(standing, dofs[:, a], -sign * self.volumes * (own - kappa) * stay)
            if self.sharp:
                alpha = self._smooth(m[dofs[:, i]], m[dofs[:, j]], i, j)
                coefficient = alpha * kappa + (1 - alpha) * coefficient
            coefficient = self.volumes * coefficient
            for row, y in zip(rows, (u, m), strict=True):
                flux = coefficient * (y[dofs[:, j]] - y[dofs[:, i]])
                np.add.at(row, dofs[:, i], -flux)
                np.add.at(row, dofs[:, j], flux)
        return rows[0] + standing, rows[1], standing

    def _still(self, m) -> np.ndarray:
        """The p with H_p = 0 at inner nodes, (d, nodes): one step of Newton from even densities.

        Sharp does without.
        """
        p = np.zeros((self.d, self.size))
        if self.sharp:
            return p
        even = np.full(self.size, self.solution.problem.population / self.volumes.sum())
        for density in (*[even] * 20, m):
            H_p = partial(self.H_p, self.nodes, m=density)
            H_pp = np.stack(
                [(H_p(p + e) - H_p(p - e)) / 2e-5 for e in 1e-5 * np.eye(self.d)[..., None]]
            )
            p = p - np.linalg.solve(H_pp.transpose(2, 1, 0), H_p(p).T[..., None])[..., 0].T
        sides = np.sort(self.dofs[:, [list(e) for e in combinations(range(self.d + 1), self.d)]])
        facets, count = np.unique(sides.reshape(-1, self.d), axis=0, return_counts=True)
        p[:, facets[count == 1]] = 0.0
        return p

    def _smooth(self, one, other, i: int, j: int) -> np.ndarray:
        """How smooth the density is along an edge of each cell, by its values at both ends."""
        volume = self.volumes.sum()
        length = np.linalg.norm(self.corners[:, i] - self.corners[:, j], axis=1)
        few = 8 * length / volume ** (1 / self.d) * self.solution.problem.population / volume
        both = 4 * np.maximum(one, 0) * np.maximum(other, 0)
        return self.scheme.sharpness * both / ((one + other) ** 2 + few**2)

    # --- what has to hold ---

    def rows(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Both residuals of step n, tested with each basis function, exits included."""
        levels, data = self.solution.levels, self.data
        u, m, t = self.seen(n)
        p, _, M = self.at_points(u, m)

        price = self.price(p, t)
        cost = price(M) + (M * slope(price, M) if data.planned else 0.0)
        flow = M * self.H_p(self.x, p, M)
        of_u, of_m, _ = self.diffusion(u, m)
        hjb = of_u + self.assemble((self.dx * cost) @ self.phi)
        fp = of_m + self.assemble(np.einsum("cq,kcq,cqik->ci", self.dx, flow, self.grad))
        fp -= self.assemble((self.dx * self.source_at(t)) @ self.phi)
        hjb += self.mass @ (levels.u[n] - levels.u[n + 1]) / self.dt
        fp += self.mass @ (levels.m[n + 1] - levels.m[n]) / self.dt
        return hjb, fp

    @cached_property
    def residuals(self) -> np.ndarray:
        """Those of all steps, shape (2, steps, dofs)."""
        return np.stack([self.rows(n) for n in range(self.solution.steps)], axis=1)

    def norms(self) -> np.ndarray:
        """L2 norms in space-time of those of both equations, at dofs that are free."""
        scaled = self.residuals / np.sqrt(np.diag(self.mass) / self.dt)
        return np.linalg.norm(scaled[:, :, ~self.held], axis=(1, 2))

    def sizes(self) -> np.ndarray:
        """The norms of the rates of change by which residuals are small."""
        levels = self.solution.levels
        largest = np.array([np.abs(levels.u).max(), np.abs(levels.m).max()])
        return largest / self.dt * np.sqrt(self.weights.sum() * self.solution.problem.horizon)

    def initial_density(self) -> np.ndarray:
        m0 = np.broadcast_to(self.data.initial_density(self.nodes), self.size).copy()
        m0[self.held] = 0.0
        return m0 * self.solution.problem.population / (self.weights @ m0)

    def terminal_value(self) -> np.ndarray:
        m, g = self.solution.levels.m[-1], self.data.terminal_cost
        u = g(self.nodes, m)
        if self.data.planned:
            u = u + m * slope(lambda m: g(self.nodes, m), m)
        return np.where(self.held, self.exit_cost, u)

    def gone(self) -> dict[str, np.ndarray]:
        """People through each exit by each level: what the equation lacks there."""
        leaving = -self.dt * self.residuals[1]
        return {
            name: np.concatenate([[0.0], np.cumsum(leaving[:, here].sum(axis=1))])
            for name, here in self.exits.items()
        }

    def entered(self) -> np.ndarray:
        """People who have entered by each level."""
        times = [self.seen(n)[2] for n in range(self.solution.steps)]
        entering = [self.dt * np.sum(self.dx * self.source_at(t)) for t in times]
        return np.concatenate([[0.0], np.cumsum(entering)])

    def cost(self) -> float:
        """Moving and running, at the end, and at the exits."""
        data, total = self.data, 0.0
        for n in range(self.solution.steps):
            u, m, t = self.seen(n)
            p, _, M = self.at_points(u, m)
            moving = (p * self.H_p(self.x, p, M)).sum(axis=0) - data.hamiltonian(self.x, p, M)
            total += self.dt * np.sum(self.dx * M * (moving + data.running_cost(self.x, t, M)))
            total -= self.dt * self.diffusion(u, m)[2] @ m
        m = self.solution.levels.m[-1]
        at_end = np.where(self.held, self.exit_cost, data.terminal_cost(self.nodes, m))
        leaving = -self.dt * self.residuals[1][:, self.held]
        return total + at_end @ self.mass @ m + (leaving @ self.exit_cost[self.held]).sum()

    def expected_cost(self) -> float:
        """Of those who are there at the start and of those who enter, by the value function."""
        levels = self.solution.levels
        total = levels.u[0] @ self.mass @ levels.m[0]
        for n in range(self.solution.steps):
            u, _, t = self.seen(n)
            total += self.dt * np.sum(self.dx * (u[self.dofs] @ self.phi.T) * self.source_at(t))
        return total

    def limited_cost(self) -> float:
        """Of dofs whose weights s are not c."""
        u, m = np.diff(self.solution.levels.u, axis=0), np.diff(self.solution.levels.m, axis=0)
        return float(np.sum(self.weights * (self.s - self.c[:, None]) * u * m))

    def harm(self) -> float:
        """What the crowd costs itself by being there, and a planner counts."""
        levels, data, total = self.solution.levels, self.data, 0.0
        for n in range(self.solution.steps):
            u, m, t = self.seen(n)
            p, _, M = self.at_points(u, m)
            total -= self.dt * np.sum(self.dx * M**2 * slope(self.price(p, t), M))
        m = levels.m[-1]
        at_end = m * slope(lambda m: data.terminal_cost(self.nodes, m), m)
        return total + np.where(self.held, 0.0, at_end) @ self.mass @ m

    def gap(self) -> float:
        """Cost beyond the expected one that the residuals stand for."""
        total = 0.0
        for n in range(self.solution.steps):
            u, m, _ = self.seen(n)
            hjb, fp = self.residuals[:, n]
            total += self.dt * (fp @ np.where(self.held, 0.0, u) - hjb @ m)
        return total

    def velocity(self, n: int, W) -> np.ndarray:
        """-H_p at the nodes of W, which has a polynomial on each cell; shape (nodes, d)."""
        u, m, _ = self.seen(n)
        phi, gradients, x = self.basis(interpolation_points(W))
        p = np.einsum("cqil,ci->lcq", gradients, u[self.dofs])
        v = -self.H_p(x, p, m[self.dofs] @ phi.T)
        found = np.empty((W.dofmap.index_map.size_local, self.d))
        found[W.dofmap.list] = np.moveaxis(v, 0, -1)
        return found


def smax(a, b, width):
    return (a + b + np.hypot(a - b, width)) / 2
