"""The fluid of a game or a control: velocities, energies, information, along time."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import overload

from mpi4py import MPI

import numpy as np

import ufl
from dolfinx import fem

from mfg_fem._compat import interpolation_points
from mfg_fem.compilation import pointwise
from mfg_fem.errors import ProblemError, together
from mfg_fem.fluid.assembly import Curvature, OnCells
from mfg_fem.fluid.energies import correction, energy, integrands
from mfg_fem.fluid.kind import Kind, lacks
from mfg_fem.fluid.page import page
from mfg_fem.fluid.pictures import write
from mfg_fem.fluid.shared import SharedFluid
from mfg_fem.forms.cell import at_vertices
from mfg_fem.forms.drift import drift
from mfg_fem.forms.integrals import Totals
from mfg_fem.problem.alone import refuse_crowds, refuse_quantities
from mfg_fem.solution.shared import SharedSolution
from mfg_fem.solution.solution import Solution
from mfg_fem.validate import index

EMPTY = 1e-12  # densities below this share of the largest have no current velocity of their own


@overload
def hydrodynamics(solution: Solution) -> "Fluid": ...


@overload
def hydrodynamics(solution: SharedSolution) -> SharedFluid: ...


def hydrodynamics(solution: Solution | SharedSolution) -> "Fluid | SharedFluid":
    """The fluid of a solution: what moves the density without noise. Collective.

    With the drift v = -H_p the density m is also carried by the current velocity

        omega = v - D grad log m,        m_t + div(m omega) = s        (Nelson 1967).

    If D is a number and H = alpha |p|^2 / 2 + b(x).p + c(x), then omega = -b - alpha grad ut with
    the Madelung potential ut = u + (D / alpha) log m, and with b = 0 and V = f - c

        m_t = div(m alpha grad ut),   -ut_t + alpha |grad ut|^2 / 2 = V + Q,
        Q = -(2 D^2 / alpha) lap sqrt(m) / sqrt(m),

    with the quantum potential Q of the osmotic energy D^2 / (2 alpha) I(m), where I(m) = int
    |grad m|^2 / m is the Fisher information. Without exits and sources, what people pay for moving
    is

        moving_cost = kinetic + osmotic + (D / alpha) d Ent / dt,    Ent = int m log m,

    whether the divergence of omega vanishes or not: a planner minimises kinetic energy *plus*
    osmotic energy *plus* F, and a term of the two ends. The action of Schroedinger's equation has
    the last two with the other sign, with hbar = 2 D, the squared noise: that is another problem,
    Nelson's, of waves. To this one belongs a pair of heat equations, phi = exp(-alpha u / (2 D))
    and psi = m / phi.

    The equations are those of the Hamiltonian

        E(u, m) = int -D grad u.grad m - m H(x, grad u, m) + s u  dx + F(m),

    m_t = dE/du and -u_t = dE/dm, with F = int m f for a control and int int_0^1 m f(x, r m) dr for
    a game; so E is conserved if no data depend on t, with exits and sources too.

    Args:
        solution: of a MeanFieldGame or MeanFieldControl, in any scheme; or of a SharedControl,
            which has a `SharedFluid`.

    Raises:
        ProblemError: what is no solution.
    """
    if isinstance(solution, SharedSolution):
        return SharedFluid(solution)
    refuse_crowds("hydrodynamics", solution)
    if not isinstance(solution, Solution):
        raise ProblemError(
            f"hydrodynamics takes a solution, not {type(solution).__name__}: see mfg_fem.solve."
        )
    refuse_quantities("hydrodynamics", solution.problem)
    return Fluid(solution)


class Fluid:
    """The fluid of a solution: see `hydrodynamics`. All that is computed is collective.

    Arrays have one number for each time level 0..N, in the units of the problem, and None in the
    place of quantities that this problem has not.

    Attributes:
        solution, times: what it is made of, and its time levels.
        reasons: name -> why a quantity is None, or why one that other problems and schemes conserve
            is not conserved here.
        mobility, diffusion: alpha and D above, None if H or D are of another kind. H is looked at
            for three random p and m.
        energy: E(u, m) at the levels; the scheme's viscosity is not in it.
        modified_energy: what the scheme conserves instead (backward error analysis). With
            X_n = (u^n - u^{n+1}).Mass (m^{n+1} - m^n) and (U, M) what step n sees, which are
            1 - c and c times its levels, E(U, M) - (1 - 2 c) X_n / (2 dt) for each step 0..N-1 if
            c < 1/2, and for c = 1/2 at the levels 1..N-1, with changes a and b of the steps before
            and after, E(u, m) - (a_u.Mass b_m - b_u.Mass a_m) / (24 dt).
        correction: what `modified_energy` adds to the energy.
        fisher: I(m) as 4 int |grad sqrt(m)|^2, with sqrt(m) at the nodes (0 where m < 0).
        entropy: Ent(m) of the positive part of m; it depends on the unit of length.
        kinetic, osmotic: alpha / 2 int m |grad ut|^2 and D^2 / (2 alpha) I(m).
        moving_cost: int m L with the Lagrangian L of H at the drift.
        total_momentum: -int m grad u, shape (N + 1, d): conserved where the domain is periodic
            and data are the same everywhere.
        flow: int m |grad u|, the size of what adds up to the total momentum.
    """

    def __init__(self, solution: Solution):
        self.solution, self.times = solution, solution.times
        kind = Kind.of(solution.problem)
        self._missing, limits = lacks(solution, kind)
        self.reasons = {name: f"none: {why}" for name, why in self._missing.items()}
        self.reasons |= {name: f"not conserved: {why}" for name, why in limits.items()}
        self.mobility, self.diffusion = kind.mobility, kind.diffusion
        self._D = kind.diffusion or 0.0
        self._weight = self._D / (kind.mobility or 1.0)  # of log m in the Madelung potential
        V = solution.discrete.V
        self._mesh, self._comm = V.mesh, V.mesh.comm
        self._u, self._m, self._root, self._log = (fem.Function(V) for _ in range(4))
        self._state = solution.discrete.state
        self._empty = fem.Constant(V.mesh, EMPTY * max(solution.max_density, 0.0))
        self._positive = solution.min_density > 0
        self._measure()

    def has(self, name: str) -> bool:
        """Whether the quantity of this name exists."""
        return name not in self._missing

    # Along time

    def _measure(self):
        """All arrays along time."""
        problem, levels, steps = self.solution.problem, self.solution.levels, self.solution.steps
        densities = integrands(problem, self._state.t, self._u, self._m, self._root)
        if self.has("kinetic"):
            slope = ufl.grad(self._u + fem.Constant(self._mesh, self._weight) * self._log)
            half = fem.Constant(self._mesh, (self.mobility or 0.0) / 2)
            densities["kinetic"] = half * self._m * ufl.dot(slope, slope)
        if self.has("energy"):
            densities["energy"] = energy(problem, self._state.t, self._u, self._m)
        measure = self.solution.scheme.measures(self._mesh)[1]
        totals = Totals(self._mesh, measure, [*densities.values()])

        def along(times: np.ndarray, fields: Iterable) -> dict[str, np.ndarray]:
            rows = []
            for t, pair in zip(times, fields, strict=True):
                self._fill(t, *pair)
                rows.append(totals())
            return dict(zip(densities, np.transpose(rows), strict=True))

        found = along(self.times, zip(levels.u, levels.m, strict=True))
        self.entropy, self.fisher = found["entropy"], found["fisher"]
        self.moving_cost, self.flow = found["moving_cost"], found["flow"]
        momenta = [found[f"momentum {axis}"] for axis in range(problem.domain.dim)]
        self.total_momentum = np.stack(momenta, axis=1)
        self.energy, self.kinetic = found.get("energy"), found.get("kinetic")
        self.osmotic = self.correction = self.modified_energy = None
        if self.has("osmotic"):
            self.osmotic = self._D * self._weight / 2 * self.fisher
        if self.has("modified_energy"):
            self.correction = correction(self.solution)
            if levels.rule.c[0] < 0.5:
                middles = (self.times[:-1] + self.times[1:]) / 2
                found = along(middles, map(levels.of_step, range(steps)))
            inside = slice(1, -1) if levels.rule.c[0] == 0.5 else slice(None)
            self.modified_energy = found["energy"][inside] + self.correction

    def spreads(self) -> tuple[float, float, float] | None:
        """Of the energy that is corrected, of the correction, and of the modified energy.

        Relative to the largest of |energy| and moving cost; None without a modified energy. The
        second is what backward error analysis predicts of the first.
        """
        if self.modified_energy is None or self.correction is None:
            return None
        energy = self.modified_energy - self.correction
        scale = max(np.abs(energy).max(), self.moving_cost.max()) or 1.0
        drift, predicted, modified = (
            float(np.ptp(y) / scale) for y in (energy, self.correction, self.modified_energy)
        )
        return drift, predicted, modified

    def _fill(self, t: float, u: np.ndarray, m: np.ndarray):
        """Set the fields and the time that forms see."""
        root = np.sqrt(np.maximum(m, 0.0))
        log = np.log(m) if self._positive else np.zeros_like(m)
        fields = (self._u, self._m, self._root, self._log)
        for function, values in zip(fields, (u, m, root, log), strict=True):
            function.x.array[: len(values)] = values
            function.x.scatter_forward()
        self._state.at(t)

    # At a level or on a step

    def current(self, n: int) -> fem.Function:
        """Current velocity omega at level n (0..N), constant (P1) or linear (P2) on each cell.

        If the density is positive, log m is taken at the nodes: omega is then minus the gradient of
        a continuous potential (with the drift b of H), and its circulation is that of b. Else grad
        log m is grad m / m, and 0 where nobody is.
        """
        self._level("current", n)
        found = fem.Function(self._cells, name="current")
        found.interpolate(self._current)
        return found

    def potential(self, n: int) -> fem.Function | None:
        """Madelung potential ut = u + (D / alpha) log m at level n (0..N), or None."""
        return self._nodal(
            "potential", n, lambda: self._u.x.array + self._weight * self._log.x.array
        )

    def quantum_potential(self, n: int) -> fem.Function | None:
        """Q = -(2 D^2 / alpha) lap sqrt(m) / sqrt(m) at level n (0..N), or None."""
        return self._nodal("quantum_potential", n, self._quantum)

    def pair(self, n: int) -> tuple[fem.Function, fem.Function] | None:
        """(phi, psi) at level n (0..N) with m = phi psi, or None (Hopf 1950; Cole 1951).

        -phi_t - D lap phi = -V phi alpha / (2 D) and psi_t - D lap psi = -V psi alpha / (2 D), if
        b = 0: Schroedinger's pair (1931), and the wave function sqrt(m) exp(-+ alpha ut / (2 D)) of
        an imaginary time.
        """
        phi = self._nodal("pair", n, lambda: np.exp(-self._u.x.array / (2 * self._weight)))
        if phi is None:
            return None
        psi = fem.Function(phi.function_space, name="psi")
        phi.name, psi.x.array[:] = "phi", self._m.x.array / phi.x.array
        return phi, psi

    def flux(self, n: int) -> fem.Function:
        """Flux -m H_p - D grad m of step n (0..N-1), constant (P1) or linear (P2) on each cell.

        It is the one in the Fokker-Planck rows, with the viscosity of the scheme, so that its
        continuity equation holds to their residual on straight cells: tested with functions v that
        vanish at exits, int (m^{n+1} - m^n) / dt v = int flux.grad v + s v.
        """
        self._step("flux", n)
        return self._flux("flux")

    def momentum(self, n: int) -> np.ndarray:
        """The integral of the flux of step n (0..N-1), shape (d,)."""
        self._step("momentum", n)
        return self._comm.allreduce(self._flux.moments().sum(axis=(0, 1)), MPI.SUM)

    def write(self, path: str | Path, every: int = 1) -> None:
        """Write density, current velocity and potentials for ParaView: see `io.paraview.write`.

        Those that this fluid has not are left out; the current velocity is averaged to the nodes.
        """
        write(self, path, every)

    @property
    def report(self) -> str:
        """A page of numbers, and why some are missing. `print(fluid)` prints it."""
        return page(self)

    def __str__(self) -> str:
        """The report."""
        return self.report

    def _index(self, name: str, n: int, size: int, of: str):
        with together(self._comm):
            index(name, n, size, of)

    def _level(self, name: str, n: int):
        """Set the fields to level n."""
        self._index(name, n, len(self.times), "levels")
        self._fill(self.times[n], self.solution.levels.u[n], self.solution.levels.m[n])

    def _step(self, name: str, n: int):
        """Set the fields to what step n sees."""
        self._index(name, n, self.solution.steps, "steps")
        self._fill(self.times[n : n + 2].mean(), *self.solution.levels.of_step(n))

    def _nodal(self, name: str, n: int, values) -> fem.Function | None:
        """A Function of these values of all nodes of this rank at level n, if it exists."""
        self._level(name, n)
        if not self.has(name):
            return None
        found = fem.Function(self._u.function_space, name=name)
        found.x.array[:] = values()
        return found

    def _quantum(self) -> np.ndarray:
        found = fem.Function(self._u.function_space)
        owned = self._curvature()
        found.x.array[: len(owned)] = 2 * self._D * self._weight * owned
        found.x.scatter_forward()
        return found.x.array

    @cached_property
    def _curvature(self) -> Curvature:
        return Curvature(self._root)

    @cached_property
    def _cells(self) -> fem.FunctionSpace:
        shape = (self.solution.problem.domain.dim,)
        return fem.functionspace(self._mesh, ("DG", self.solution.scheme.degree - 1, shape))

    @cached_property
    def _current(self) -> fem.Expression:
        problem, m = self.solution.problem, self._m
        slope = ufl.grad(self._log)
        if not self._positive:
            there = ufl.max_value(m, self._empty)
            slope = ufl.conditional(ufl.gt(m, self._empty), 1.0, 0.0) * ufl.grad(m) / there
        t = self._state.t
        omega = drift(problem, t, self._u, m) - problem.D(problem.x, t) * slope
        return pointwise(omega, interpolation_points(self._cells))

    @cached_property
    def _flux(self) -> OnCells:
        problem, discrete, m = self.solution.problem, self.solution.discrete, self._m
        gradients, values = discrete.scheme.measures(self._mesh)
        corners = at_vertices(m, self._mesh)
        frozen = problem, self._state, self._u, list(corners), corners
        moved = m * drift(problem, self._state.t, self._u, m)

        def diffused(w):
            return -discrete.scheme.diffusion(*frozen, w, ufl.grad(m)) * gradients

        return OnCells(self._cells, [lambda w: ufl.dot(moved, w) * values, diffused])
