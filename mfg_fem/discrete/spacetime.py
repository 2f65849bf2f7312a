"""The space-time system: its unknowns, its residual, its Jacobian by time step.

Unknowns are u^0..u^{N-1} and m^1..m^N on the owned dofs, an array of shape (2, N, owned), time
major, so that ownership is purely spatial. u^N = u_T(x, m^N) is eliminated dof by dof, m^0 is
given. With the pair (U, M) = (u^n, m^{n+1}), or both averages for the midpoint rule, step n reads

    hjb^n = Mass (u^n - u^{n+1}) / dt + dA/dm (U, M) = 0
    fp^n  = Mass (m^{n+1} - m^n) / dt + dA/du (U, M) = 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from mpi4py import MPI
from petsc4py import PETSc

import numpy as np

from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.discrete.step import pair

ROUND_OFF = 1e-15  # of a value function


@dataclass(frozen=True)
class Levels:
    """All levels 0..N of a solution on the owned dofs: arrays of shape (N + 1, owned)."""

    u: np.ndarray
    m: np.ndarray

    def pair(self, n: int, scheme) -> tuple[np.ndarray, np.ndarray]:
        """What step n of the scheme sees of u and m."""
        return pair(scheme, self.u[n : n + 2], self.m[n : n + 2])


class SpaceTime:
    """Residual and Jacobian blocks of a Discretisation with `steps` equal time steps.

    The blocks of step n are the PETSc matrices  A = d hjb^n / d u^n,  B = d fp^n / d m^{n+1},
    F = - d hjb / d M,  D = d fp / d U; all levels share one sparsity pattern, and one F where it
    depends on nothing that changes. `uniform`: at the last linearisation all steps saw the same.
    """

    def __init__(self, discrete: Discretisation, steps: int):
        self.discrete, self.steps = discrete, steps
        self.comm, self.owned = discrete.comm, discrete.owned
        self.nodes = discrete.V.dofmap.index_map.size_global
        self.dt = discrete.problem.horizon / steps
        self.half = 0.5 if discrete.scheme.midpoint else 0.0  # weight of the other level
        create = discrete.pattern.create
        self.A, self.B, self.D = ([create() for _ in range(steps)] for _ in range(3))
        self.F = [create()] * steps if discrete.steady_um else [create() for _ in range(steps)]
        self.terminal_slope = np.zeros(self.owned)
        self.uniform, self.assembled = False, 0
        self._x, self._y = discrete.mass.createVecs()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the unknowns and of the residual on this rank."""
        return 2, self.steps, self.owned

    @property
    def diffusion(self) -> float:
        """Mean of tr D / d, as continuation stretches it."""
        return self.discrete.mean_diffusion * self.discrete.state.stretch.value

    @property
    def diffusion_number(self) -> float:
        """Diffusion times dt over the square of the mesh size, whatever continuation stretches.

        Rounded, as sums on ranks differ in the last digit.
        """
        return round(self.dt * self.discrete.mean_diffusion / self.discrete.mesh_size**2, 6)

    @property
    def least_rate(self) -> float:
        """The least diagonal entry of the mass over dt. Collective."""
        return (
            self.comm.allreduce(self.discrete.norm_weights.min(initial=np.inf), MPI.MIN) / self.dt
        )

    def destroy(self):
        """Free the matrices."""
        for mat in (*self.A, *self.B, *self.F, *self.D):
            mat.destroy()

    def even_crowd(self) -> np.ndarray:
        """The whole population spread evenly at all times, u = what it costs at the end.

        Without exits u also has what that crowd costs on average until then, so that the HJB rows
        of each step add up to zero.
        """
        d = self.discrete
        m = np.full(self.owned, d.state.crowd.value)
        u_T, _ = d.terminal_values(m)
        X = self.hold(np.stack([np.tile(y, (self.steps, 1)) for y in (u_T, m)]))
        if not d.exits:
            sums = self.comm.allreduce(self.residual(X)[0].sum(axis=1), MPI.SUM)
            X[0] -= self.dt / d.volume * sums[::-1].cumsum()[::-1, None]
        return X

    def hold(self, X: np.ndarray) -> np.ndarray:
        """X with u = cost and m = 0 at the exits."""
        X, held = X.copy(), self.discrete.held
        X[0][:, held], X[1][:, held] = self.discrete.exit_cost[held], 0.0
        return X

    def levels(self, X: np.ndarray) -> Levels:
        """Levels 0..N of both fields: u^N from the terminal cost, m^0 from the problem."""
        u_T, _ = self.discrete.terminal_values(X[1, -1])
        return Levels(np.vstack([X[0], u_T]), np.vstack([self.discrete.m0, X[1]]))

    def _see(self, pair: tuple, n: int):
        self.discrete.set_state(*pair, (n + 0.5) * self.dt)

    def _each(self, levels: Levels, assemble: Callable):
        """Each step n, and what is assembled at the pair it sees.

        That is done once for steps in a row that see the same, as at a start from an even crowd.
        """
        self.assembled, found, alike = 0, None, self._alike(levels)
        for n in range(self.steps):
            if not alike[n]:
                self._see(levels.pair(n, self.discrete.scheme), n)
                found = assemble()
                self.assembled += 1
            yield n, found

    def _alike(self, levels: Levels) -> np.ndarray:
        """Whether forms are the same for each step as for the one before it. Collective.

        That is for the same m, and u but for a constant.
        """
        if not self.discrete.autonomous:
            return np.zeros(self.steps, bool)
        ends, before = np.full((self.steps, 5), np.inf), None  # the first has none before it
        for n in range(self.steps):
            seen = levels.pair(n, self.discrete.scheme)
            if before:
                ends[n, 4] = np.abs(seen[0]).max(initial=0.0)
                for i, change in enumerate(map(np.subtract, seen, before)):
                    ends[n, i] = change.max(initial=-np.inf)
                    ends[n, 2 + i] = -change.min(initial=np.inf)
            before = seen
        self.comm.Allreduce(MPI.IN_PLACE, ends, MPI.MAX)
        up_u, up_m, down_u, down_m, size = ends.T
        return (up_m == 0.0) & (down_m == 0.0) & (up_u + down_u <= ROUND_OFF * size)

    def residual(self, X: np.ndarray, held: bool = True) -> np.ndarray:
        """The hjb and fp rows; with held=False those of exit dofs are minus the outflow.

        Else these are how far the values are from what an exit holds them at, in the mass over dt.
        """
        levels, R = self.levels(X), np.empty(self.shape)
        for n, rows in self._each(levels, lambda: self.discrete.assemble_rows("residual")):
            R[:, n] = rows
            R[0, n] += self._rate(levels.u[n] - levels.u[n + 1])
            R[1, n] += self._rate(levels.m[n + 1] - levels.m[n])
        if held:
            dofs, rates = self.discrete.held, self._held_rates
            R[0][:, dofs] = rates * (X[0][:, dofs] - self.discrete.exit_cost[dofs])
            R[1][:, dofs] = rates * X[1][:, dofs]
        return R

    def fp_residual(self, X: np.ndarray) -> np.ndarray:
        """The fp rows of `residual`, where B has been assembled at X."""
        d = self.discrete
        if d.congested or "entering" in d.totals:
            levels, R = self.levels(X), np.empty(self.shape[1:])
            for n, rows in self._each(levels, lambda: d.assemble_rows("fp")):
                R[n] = rows + self._rate(levels.m[n + 1] - levels.m[n])
        else:  # linear in the density: a product will do
            R = self.mult_B(X[1])
            R[0] -= self.other_level(self.B, 0, d.m0)
        R[:, d.held] = 0.0
        return R

    @cached_property
    def _held_rates(self) -> np.ndarray:
        return self.discrete.norm_weights[self.discrete.held] / self.dt

    def _rate(self, change: np.ndarray) -> np.ndarray:
        return self.mult_mass(change) / self.dt

    def linearise(self, X: np.ndarray) -> np.ndarray:
        """Assemble the blocks at X.

        Returns the coefficients f and a of F and D at the dofs, shape (2, steps, owned).
        """
        d, levels, coefficients = self.discrete, self.levels(X), np.empty(self.shape)
        _, self.terminal_slope = d.terminal_values(X[1, -1])
        for n, (entries, coupling) in self._each(
            levels, lambda: (d.assemble_jacobian(), d.coupling())
        ):
            (uu, um), (mu, mm) = entries.transpose(1, 2, 0)
            self._fill_diagonal(self.A[n], uu)
            self._fill_diagonal(self.B[n], mm)
            d.pattern.fill(self.D[n], mu)
            if not (n and d.steady_um):
                d.pattern.fill(self.F[n], -um)
            coefficients[:, n] = coupling
        self.uniform = self.assembled == 1
        return coefficients

    def hjb_row(self, X: np.ndarray, n: int, u_next: np.ndarray) -> np.ndarray:
        """The hjb row of step n of X, given u^{n+1}."""
        d, m_before = self.discrete, X[1, n - 1] if n else self.discrete.m0
        self._see(pair(d.scheme, (X[0, n], u_next), (m_before, X[1, n])), n)
        row = d.assemble_rows("hjb") + self._rate(X[0, n] - u_next)
        row[d.held] = 0.0
        return row

    def fill_hjb(self, A: PETSc.Mat):
        """Assemble A where the last `hjb_row` was."""
        self._fill_diagonal(A, self.discrete.assemble_block("uu"))

    def linearise_fp(self, X: np.ndarray):
        """Assemble B alone at X."""
        d = self.discrete
        for n, entries in self._each(self.levels(X), lambda: d.assemble_block("mm")):
            self._fill_diagonal(self.B[n], entries)

    @cached_property
    def _rate_entries(self) -> list[np.ndarray]:
        return self.discrete.pattern.split(self.discrete.step_entries / self.dt)

    def _fill_diagonal(self, block: PETSc.Mat, entries: np.ndarray):
        if self.half:
            entries = (1 - self.half) * entries
        self.discrete.pattern.fill(block, entries, self._rate_entries)

    def measure(self, levels: Levels) -> tuple[np.ndarray, np.ndarray, float, float]:
        """Running cost and people entering in each step, shape (N,); terminal cost; value.

        The last is what the value function expects players to pay: that of those who are there at
        the start and, with a source, of those who enter.
        """
        d = self.discrete

        def rates():
            return [d.total(name) for name in ("running", "entering", "expected")]

        local = np.array([self.dt * np.array(found) for _, found in self._each(levels, rates)])
        last = self.mult_mass(d.terminal_cost(levels.m[-1])) @ levels.m[-1]
        first = self.mult_mass(levels.u[0]) @ levels.m[0]
        sums = np.concatenate([local.ravel(), [last, first]])
        sums = self.comm.allreduce(sums, MPI.SUM)
        running, entering, expected = sums[:-2].reshape(local.shape).T
        return running, entering, sums[-2], sums[-1] + expected.sum()

    def mult(self, mat: PETSc.Mat, x: np.ndarray) -> np.ndarray:
        """Owned values of mat x. Collective."""
        self._x.array[:] = x
        mat.mult(self._x, self._y)
        return self._y.array_r.copy()

    def _mult_each(self, mats: list[PETSc.Mat], x: np.ndarray) -> np.ndarray:
        """Owned values of the product of each level's matrix and x there. Collective."""
        y = np.empty_like(x)
        for n, mat in enumerate(mats):
            y[n] = self.mult(mat, x[n])
        return y

    def mult_mass(self, x: np.ndarray, free: bool = False) -> np.ndarray:
        """Owned values of the mass matrix times x, or of its part without exits. Collective."""
        d = self.discrete
        weights, matrix = (d.free_weights, d.free_mass) if free else (d.weights, d.mass)
        return weights * x if d.scheme.lumped else self.mult(matrix, x)

    def other_level(self, block: list[PETSc.Mat], n: int, x: np.ndarray) -> np.ndarray:
        """Minus the block of step n on the level that is not its own: Mass/dt - s K."""
        y = self.mult_mass(x, free=True) / self.dt
        if self.half:  # A = Mass/dt + K/2, so Mass/dt - K/2 = 2 Mass/dt - A
            y = 2 * y - self.mult(block[n], x)
            y[self.discrete.held] = 0.0
        return y

    def mult_F(self, dm: np.ndarray) -> np.ndarray:
        """What a change of the density adds to the right-hand side of the HJB rows."""
        s, d = self.half, self.discrete
        dM = dm
        if s:
            dM = (1 - s) * dm
            dM[1:] += s * dm[:-1]
        y = self._mult_each(self.F, dM)
        y[:, d.held] = 0.0
        y[-1] += self.other_level(self.A, self.steps - 1, self.terminal_slope * dm[-1])
        return y

    def mult_D(self, du: np.ndarray, dm_last: np.ndarray) -> np.ndarray:
        """The fp rows of a change of the value function; u^N follows the last density."""
        s, dU = self.half, du
        if s:
            dU = (1 - s) * du
            dU[:-1] += s * du[1:]
            dU[-1] += s * self.terminal_slope * dm_last
        y = self._mult_each(self.D, dU)
        y[:, self.discrete.held] = 0.0
        return y

    def mult_A(self, du: np.ndarray) -> np.ndarray:
        """HJB rows of a change of u^0..u^{N-1}."""
        y = self._mult_each(self.A, du)
        for n in range(self.steps - 1):
            y[n] -= self.other_level(self.A, n, du[n + 1])
        return y

    def mult_B(self, dm: np.ndarray) -> np.ndarray:
        """Fokker-Planck rows of a change of m^1..m^N."""
        y = self._mult_each(self.B, dm)
        for n in range(1, self.steps):
            y[n] -= self.other_level(self.B, n, dm[n - 1])
        return y

    def mult_jacobian(self, dX: np.ndarray) -> np.ndarray:
        """The whole Jacobian."""
        (du, dm), y = dX, np.empty_like(dX)
        y[0], y[1] = self.mult_A(du), self.mult_B(dm)
        y[0] -= self.mult_F(dm)
        y[1] += self.mult_D(du, dm[-1])
        return y

    def row_scale(self) -> np.ndarray:
        """What rows are multiplied with: shape (2, 1, owned).

        Their Euclidean norm is then the root mean square over space-time of the residuals, those of
        the HJB equation in U / T and of the Fokker-Planck equation in M / T: see `units.py`.
        """
        d, units = self.discrete, self.discrete.problem.units
        unit = np.array([units.cost, units.density])[:, None, None] / units.time
        return np.sqrt(self.dt / (d.volume * units.time) / d.norm_weights) / unit
