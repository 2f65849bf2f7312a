"""The fluid of classes that one velocity moves."""

from functools import cached_property

from mpi4py import MPI

import numpy as np

import ufl
from dolfinx import fem

from mfg_fem._compat import interpolation_points
from mfg_fem.compilation import pointwise
from mfg_fem.errors import together
from mfg_fem.fluid.assembly import Curvature
from mfg_fem.fluid.page import page
from mfg_fem.forms.integrals import Totals
from mfg_fem.solution.shared import SharedSolution
from mfg_fem.validate import index

EMPTY = 1e-4  # densities below this share of their largest have no current velocity of their own
NO_GRADIENT = "none: one velocity for all classes is the gradient of no value function"
SPREAD = (
    "of densities that the scheme spreads by about h / 2 in each step: where that is more than the "
    "noise, they say more of the mesh"
)


class SharedFluid:
    """The fluid of a SharedControl: see `hydrodynamics`. All that is computed is collective.

    With the velocity v of all classes, the noise of the diffusion D and the density rho_c of class
    c, or rho of all, the flow without noise is

        omega_c = v - D grad log rho_c,        (rho_c)_t + div(rho_c omega_c) = 0.

    It differs from class to class, so that no noiseless network does what the noisy one does, and
    the share P_c = rho_c / rho, the odds of the class at a place, diffuses along omega:
    (P_c)_t + omega.grad P_c = (D / rho) div(rho grad P_c). With the effort alpha of the problem
    what moving costs is again

        moving_cost = kinetic + osmotic + alpha D d Ent / dt,
        kinetic = alpha / 2 int rho |omega|^2,    osmotic = alpha D^2 / 2 I(rho).

    Attributes:
        solution, times: what it is made of, and its time levels.
        reasons: name -> why a quantity is None, or what to know of it.
        kinetic, osmotic, moving_cost, fisher, entropy: of all classes, at the levels 0..N, where v
            is that of the step that begins there, and at N that of the last.
        total_momentum: int rho v, shape (N + 1, d).
        energy, modified_energy, correction: None.
    """

    energy = modified_energy = correction = None

    def __init__(self, solution: SharedSolution):
        self.solution, self.times = solution, solution.times
        absent = ("energy", "modified_energy", "correction", "potential", "pair")
        self.reasons = dict.fromkeys(absent, NO_GRADIENT)
        self.reasons |= dict.fromkeys(("kinetic", "osmotic", "fisher", "entropy"), SPREAD)
        mesh, problem = solution.V.mesh, solution.problem
        self._comm, self._d = mesh.comm, problem.domain.dim
        self._rho, self._v = solution.density(0), solution.velocity(0)
        self._largest = fem.Constant(mesh, 1.0)
        self._D = fem.Constant(mesh, problem.diffusion)
        effort = fem.Constant(mesh, problem.effort)
        rho, v = self._rho, self._v
        log = ufl.ln(ufl.max_value(rho, np.finfo(float).tiny))
        root = self._root = fem.Function(solution.V)
        omega = self._omega
        parts = {
            "kinetic": effort / 2 * rho * ufl.dot(omega, omega),
            "moving_cost": effort / 2 * rho * ufl.dot(v, v),
            "fisher": 4 * ufl.dot(ufl.grad(root), ufl.grad(root)),
            "entropy": ufl.conditional(ufl.gt(rho, 0.0), rho * log, 0.0),
        }
        momenta = [rho * v[k] for k in range(self._d)]
        totals = Totals(mesh, ufl.dx(degree=2), [*parts.values(), *momenta])
        rows = []
        for n in range(len(self.times)):
            self._level(n)
            rows.append(totals())
        found = np.array(rows)
        self.kinetic, self.moving_cost, self.fisher, self.entropy = found[:, : len(parts)].T
        self.total_momentum = found[:, len(parts) :]
        self.osmotic = problem.effort * problem.diffusion**2 / 2 * self.fisher

    def has(self, name: str) -> bool:
        """Whether the quantity of this name exists."""
        return self.reasons.get(name) != NO_GRADIENT

    def current(self, n: int, c: int | None = None) -> fem.Function:
        """Current velocity of class c, or of all, at level n (0..N), constant on each cell.

        Where the density is below 1e-4 of its largest it is v.
        """
        self._level(n, c)
        found = fem.Function(self._cells, name="current")
        found.interpolate(self._current)
        return found

    def potential(self, n: int) -> None:
        """None: the current velocity has no potential."""

    def pair(self, n: int) -> None:
        """None: Schroedinger's pair needs a value function."""

    def quantum_potential(self, n: int) -> fem.Function:
        """Q = -2 alpha D^2 lap sqrt(rho) / sqrt(rho) at level n (0..N), P1; 0 where nobody is."""
        self._level(n)
        problem, found = self.solution.problem, fem.Function(self.solution.V)
        here = self._root.x.array > np.sqrt(EMPTY * self._largest.value)
        self._root.x.array[~here] = np.sqrt(EMPTY * self._largest.value)
        owned = self._curvature()
        values = 2 * problem.effort * problem.diffusion**2 * owned
        found.x.array[: len(owned)] = np.where(here[: len(owned)], values, 0.0)
        found.x.scatter_forward()
        found.name = "quantum_potential"
        return found

    @property
    def report(self) -> str:
        """A page of numbers, and why some are missing. `print(fluid)` prints it."""
        return page(self)

    def __str__(self) -> str:
        """The report."""
        return self.report

    def _level(self, n: int, c: int | None = None):
        """Set the fields to level n, of class c or of all."""
        with together(self._comm):
            index("level", n, len(self.times), "levels")
        rho = self.solution.density(n, c)
        self._rho.x.array[:] = rho.x.array
        self._root.x.array[:] = np.sqrt(np.maximum(rho.x.array, 0.0))
        self._largest.value = self._comm.allreduce(rho.x.array.max(initial=0.0), MPI.MAX)
        step = min(n, len(self.times) - 2)
        self._v.x.array[:] = self.solution.velocity(step).x.array

    @cached_property
    def _omega(self):
        rho, least = self._rho, EMPTY * self._largest
        there = ufl.conditional(ufl.gt(rho, least), 1.0, 0.0)
        return self._v - self._D * there * ufl.grad(rho) / ufl.max_value(rho, least)

    @cached_property
    def _current(self) -> fem.Expression:
        return pointwise(self._omega, interpolation_points(self._cells))

    @cached_property
    def _cells(self) -> fem.FunctionSpace:
        return fem.functionspace(self.solution.V.mesh, ("DG", 0, (self._d,)))

    @cached_property
    def _curvature(self) -> Curvature:
        return Curvature(self._root)
