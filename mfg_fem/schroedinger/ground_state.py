"""Ground states: a normalised gradient flow, then Newton with the mass as a constraint.

The flow follows minus the gradient of the energy on the sphere of waves of the given mass, in a
metric B that makes its steps independent of the mesh and of units (Henning, Peterseim 2020, with V
for the potential in B). Of the second derivative J of the energy with the multiplier mu,

    J = -(hbar^2 / 2) lap + V(x, rho) - mu + 2 rho V_rho,    rho = phi^2,

B takes the positive parts of V - mu and of the last term, and a little more, so that B > J and a
step of length one goes down near a minimum. With w = Mass phi and P = B^-1 - q q^T / (q.w),
q = B^-1 w, the direction is -P r, r = E' / 2 - mu w, which keeps the mass to first order. Newton's
equation J d = -r with w.d = 0, bordered by the multiplier, is solved by CG with P for its
preconditioner: all its iterates keep w.d = 0, and near a minimum J is definite there.
"""

import logging
import warnings
from dataclasses import dataclass, field
from typing import Any

from mpi4py import MPI
from petsc4py import PETSc

import numpy as np

import ufl
from dolfinx import fem, la
from dolfinx.fem import petsc as fem_petsc

from mfg_fem._compat import interpolation_points
from mfg_fem.compilation import compiled, pointwise
from mfg_fem.errors import NotConverged, ProblemError, SolutionWarning, alike, together
from mfg_fem.forms.integrals import Totals, mean_between
from mfg_fem.mesh.domain import Domain
from mfg_fem.mesh.values import VertexValues
from mfg_fem.problem.checks import check_finite
from mfg_fem.problem.data import Data
from mfg_fem.problem.game import Given
from mfg_fem.problem.seams import check_alike
from mfg_fem.schroedinger.linear import definite_solver
from mfg_fem.schroedinger.problem import check_zero, held_dofs
from mfg_fem.schroedinger.schemes import Relaxation
from mfg_fem.schroedinger.step import rule
from mfg_fem.validate import number

log = logging.getLogger(__name__)

POTENTIAL, GUESS = "potential(x, rho)", "guess(x)"
FLOWING = 1e-3  # relative change of phi at which Newton begins
DONE = 1e-8  # and that of Newton's last step: the error after it is the square
FEWER = 10.0  # Newton failed: the flow goes on until changes are so much smaller
MOST, MOST_NEWTON = 2000, 12  # steps of the flow, of Newton
CG_RTOL, CG_MOST = 1e-7, 500
NARROW = 1.5  # an rms radius in distances of nodes that the mesh hardly resolves
LENGTHS = (1.0, 0.25, 0.0625, 1 / 64)  # of steps of the flow, if a parabola is of no use


@dataclass(frozen=True, eq=False)
class GroundState:
    """The ground state phi >= 0 of a potential: see `ground_state`.

    Attributes:
        wave: phi, a Function.
        density: phi^2 at the nodes, a Function.
        chemical_potential: mu.
        energy: E, the kinetic energy included.
        kinetic: int hbar^2 / 2 |grad phi|^2.
        mass: int phi^2.
        mean_position: int x phi^2 / mass, shape (d,).
        rms_radius: root mean square distance from there.
        flow, newton: steps of the gradient flow and of Newton.
        change: relative size of Newton's last step.
    """

    wave: fem.Function = field(repr=False)
    density: fem.Function = field(repr=False)
    chemical_potential: float
    energy: float
    kinetic: float
    mass: float
    mean_position: np.ndarray
    rms_radius: float
    flow: int
    newton: int
    change: float

    @property
    def iterations(self) -> int:
        """Steps of the flow and of Newton."""
        return self.flow + self.newton

    @property
    def report(self) -> str:
        """A page of numbers; `print(state)` prints it."""
        V = self.wave.function_space
        degree = V.ufl_element().embedded_superdegree
        mean = ", ".join(f"{x:.6g}" for x in self.mean_position)
        return "\n".join(
            [
                f"Ground state, degree {degree}: {V.dofmap.index_map.size_global} nodes",
                f"  steps                         flow {self.flow}, Newton {self.newton}, the last "
                f"one of {self.change:.1e}",
                f"  chemical potential            {self.chemical_potential:.10g}",
                f"  energy                        {self.energy:.10g}, kinetic {self.kinetic:.10g}",
                f"  mass                          {self.mass:.8g}",
                f"  mean position                 {mean}",
                f"  rms radius                    {self.rms_radius:.8g}",
            ]
        )

    def __str__(self) -> str:
        """The report."""
        return self.report


def ground_state(
    domain: Domain,
    *,
    hbar: float,
    potential: Given | float,
    mass: float = 1.0,
    zero: tuple[str, ...] = (),
    degree: int = 2,
    guess: Given | None = None,
) -> GroundState:
    """The ground state of a potential: the wave of least energy with a given mass. Collective.

    phi minimises E(phi) = int hbar^2 / 2 |grad phi|^2 + W(x, phi^2) under int phi^2 = mass, with
    W = int_0^rho V(x, s) ds, so that with the multiplier mu, the chemical potential,

        -(hbar^2 / 2) lap phi + V(x, phi^2) phi = mu phi.

    The wave phi exp(-i mu t / hbar) solves `NonlinearSchroedinger`. With hbar = 2 D and V = f it is
    also the stationary state of a mean-field game with the running cost f and H = |p|^2 / 2: the
    density is m = phi^2, u = -hbar log phi, and the cost per time of a player lambda = mu. Bao, Du
    2004; Swiecicki, Gobron, Ullmo 2016.

    A normalised gradient flow runs until phi changes by less than 1e-3, then Newton to round-off.
    The steps depend neither on units nor, by much, on the mesh.

    Args:
        domain: a Domain, or a DOLFINx simplex mesh, also a periodic one.
        hbar: > 0, in units of length^2 / time.
        potential: V(x, rho) as UFL, smooth in rho, in units of length^2 / time^2.
        mass: int phi^2 > 0.
        zero: names of boundaries on which phi = 0; elsewhere its normal derivative is zero.
        degree: 1 or 2, the polynomial degree in space.
        guess: where to start, x -> UFL or a Function; by default the solution of the equation with
            V(x, 0) for a constant right-hand side, which is positive and large where V is low.

    Raises:
        ProblemError: data that make no sense, on every rank alike.
        MeshError: a boundary name the mesh does not have.
        NotConverged: neither the flow nor Newton have come to an end; a potential that attracts too
            much has no ground state.
    """
    domain = Domain.of(domain)
    with together(domain.comm):
        hbar, mass = number("hbar", hbar, above=True), number("mass", mass, above=True)
        Relaxation(degree)
    alike(domain.comm, hbar=hbar, mass=mass, degree=degree)
    data = Data(domain)
    data.state(POTENTIAL, potential, "xm")
    if guess is not None:
        data.state(GUESS, guess, "x")
    energy = _Energy(domain, data, hbar, mass, check_zero(domain, zero), degree)
    try:
        energy.start(guess is not None)
        return _minimised(energy)
    finally:
        energy.destroy()


def _minimised(energy: "_Energy") -> GroundState:
    """Flow and Newton, and the flow again if Newton fails. Collective."""
    wanted, flowed, newton, change = FLOWING, 0, 0, np.inf
    while flowed < MOST:
        change = energy.flow()
        flowed += 1
        log.info("ground state: step %d of the flow, change %.1e", flowed, change)
        if change > wanted:
            continue
        wanted /= FEWER
        kept, last = energy.values.copy(), np.inf
        for step in range(1, MOST_NEWTON + 1):
            change = energy.newton()
            log.info("ground state: Newton step %d, change %.1e", step, change)
            if not change < min(last, 1.0) or energy.lost(kept):
                break
            last = change
            if change <= DONE:
                return energy.result(flowed, newton + step, change)
        newton += step
        energy.take(kept)
    raise NotConverged(
        "the flow has not converged",
        [],
        f"ground_state: after {flowed} steps phi still changes by {change:.1e} in a step of the "
        "flow. A potential that attracts the wave to itself may have no ground state in 2D and 3D, "
        "or one that the mesh cannot resolve; a good guess= may help.",
    )


class _Energy:
    """E and its derivatives at phi, the nodal values of a Function. All methods are collective."""

    def __init__(self, domain: Domain, data: Data, hbar: float, mass: float, zero, degree: int):
        self.domain, self.data, self.mass, self.hbar = domain, data, mass, hbar
        mesh, x, self.comm = domain.mesh, data.x, domain.comm
        self.V = fem.functionspace(mesh, ("Lagrange", degree))
        self.owned = self.V.dofmap.index_map.size_local
        self.phi, self.mu = fem.Function(self.V, name="wave"), fem.Constant(mesh, 0.0)
        self.half = fem.Constant(mesh, hbar**2 / 2)
        self.held = held_dofs(domain, self.V, zero)
        self.conditions = [fem.dirichletbc(0.0, self.held, self.V)] if zero else []
        dx, (u, v) = rule(mesh, degree), (ufl.TrialFunction(self.V), ufl.TestFunction(self.V))
        rho = self.phi**2
        mean = fem.Constant(mesh, mass / domain.volume())
        (found,) = VertexValues(mesh, data(POTENTIAL, x, mean)).extremes()
        check_finite(found, POTENTIAL, " for the mean density")

        def V(s):
            return data(POTENTIAL, x, s)

        kinetic = self.half * ufl.inner(ufl.grad(self.phi), ufl.grad(self.phi))
        total = kinetic + rho * mean_between(V, ufl.zero(), rho)
        moments = [x[k] * rho for k in range(domain.dim)]
        self.totals = Totals(mesh, dx, [rho, total, kinetic, *moments, ufl.dot(x, x) * rho])
        r = self.half * ufl.inner(ufl.grad(self.phi), ufl.grad(v)) * dx
        r += (V(rho) - self.mu) * self.phi * v * dx
        s = ufl.variable(rho)
        rise = ufl.max_value(2 * rho * ufl.diff(V(s), s), 0.0)
        rise += ufl.max_value(V(rho) - self.mu, 0.0) + self.half / domain.volume() ** (
            2 / domain.dim
        )
        B = self.half * ufl.inner(ufl.grad(u), ufl.grad(v)) + rise * u * v
        self.gradient, self.jacobian = compiled(r), compiled(ufl.derivative(r, self.phi))
        self.metric = compiled(B * dx)
        self.sums = la.vector(self.V.dofmap.index_map)
        self.M = self._matrix(compiled(u * v * dx))
        self.w, self.r = self.M.createVecs()
        self.d, self.q = self.M.createVecs()
        self.B: Any = None

    # phi

    @property
    def values(self) -> np.ndarray:
        """The owned values of phi."""
        return self.phi.x.array[: self.owned]

    def take(self, values: np.ndarray):
        """Let phi have these owned values, scaled to the mass; w = Mass phi."""
        self.r.array[:] = values
        self.M.mult(self.r, self.w)
        scale = np.sqrt(self.mass / self.r.dot(self.w))
        self.w.scale(scale)
        self.values[:] = scale * values
        self.phi.x.scatter_forward()

    def start(self, guessed: bool):
        """Take the first phi."""
        if guessed:
            self._interpolate()
        else:
            lowest = VertexValues(self.domain.mesh, self.data(POTENTIAL, self.data.x, self.phi**2))
            self.mu.value = lowest.extremes()[0][0]
            self._renew()
            self.r.array[:] = 1.0
            self.M.mult(self.r, self.w)
            self.w.array[self.held[self.held < self.owned]] = 0.0
            self.B.solve(self.w, self.d)
            self.take(self.d.array_r)

    def _interpolate(self):
        guess = self.data(GUESS, self.data.x)
        found = VertexValues(self.domain.mesh, guess)
        check_finite(found.extremes()[0], GUESS)
        check_alike(self.domain, self.data.x, {GUESS: lambda y: self.data(GUESS, y)})
        self.phi.interpolate(pointwise(guess, interpolation_points(self.V)))
        self.phi.x.array[self.held] = 0.0
        largest = np.abs(self.values).max(initial=0.0)
        if not self.comm.allreduce(float(largest), MPI.MAX) > 0:
            raise ProblemError(f"{GUESS} vanishes at all nodes.")
        self.take(self.values.copy())

    # Its derivatives

    def _matrix(self, form: fem.Form) -> PETSc.Mat:
        A = fem_petsc.assemble_matrix(form, bcs=self.conditions)
        A.assemble()
        return A

    def _renew(self):
        """B at phi and mu."""
        self._free()
        self.A = self._matrix(self.metric)
        self.B = definite_solver(self.A, self.domain.dim, cycle=True)

    def _residual(self):
        """The residual r, for the mu with r.phi = 0."""
        self.mu.value = 0.0
        self._assemble()
        self.mu.value = self._product(self.r.array_r, self.values) / self.mass
        self.r.axpy(-float(self.mu.value), self.w)

    def _assemble(self):
        self.sums.array[:] = 0.0
        fem.assemble_vector(self.sums.array, self.gradient)
        self.sums.scatter_reverse(la.InsertMode.add)
        self.sums.array[self.held] = 0.0
        self.r.array[:] = self.sums.array[: self.owned]

    def _product(self, one: np.ndarray, other: np.ndarray) -> float:
        return self.comm.allreduce(float(one @ other), MPI.SUM)

    def project(self, x: PETSc.Vec, y: PETSc.Vec):
        """The vector y = P x."""
        self.B.solve(x, y)
        y.axpy(-y.dot(self.w) / self.q.dot(self.w), self.q)

    def _size(self, values: np.ndarray) -> float:
        """The norm in L2 relative to that of phi."""
        a, b = self.M.createVecs()
        a.array[:] = values
        self.M.mult(a, b)
        found = np.sqrt(max(a.dot(b), 0.0) / self.mass)
        a.destroy(), b.destroy()
        return float(found)

    # Steps

    def flow(self) -> float:
        """A step of the flow to the least energy of a parabola; returns the relative direction."""
        self._residual()
        self._renew()
        self.B.solve(self.w, self.q)
        self.project(self.r, self.d)
        self.d.scale(-1.0)
        slope = 2 * self._product(self.r.array_r, self.d.array_r)
        here, direction, change = (
            self.values.copy(),
            self.d.array_r.copy(),
            self._size(self.d.array_r),
        )
        before = self.totals()[1]
        for length in LENGTHS:
            self.take(here + length * direction)
            rise = self.totals()[1] - before
            curvature = rise - slope * length
            if curvature > 0:
                best = min(max(-slope * length**2 / (2 * curvature), 0.05), 4 * length)
                self.take(here + best * direction)
                if self.totals()[1] - before <= min(rise, 0.0):
                    return change
            if rise <= 0:
                self.take(here + length * direction)
                return change
        return change

    def newton(self) -> float:
        """A step of Newton; returns its relative size, inf if the equation could not be solved."""
        self._residual()
        self.B.solve(self.w, self.q)
        J = self._matrix(self.jacobian)
        ksp = PETSc.KSP().create(self.comm)
        ksp.setType("cg")
        ksp.setOperators(J)
        ksp.getPC().setType("python")
        ksp.getPC().setPythonContext(_Projected(self))
        ksp.setTolerances(rtol=CG_RTOL, atol=0.0, max_it=CG_MOST)
        ksp.solve(self.r, self.d)
        good = ksp.getConvergedReason() > 0
        ksp.destroy()
        J.destroy()
        change = self._size(self.d.array_r)
        self.take(self.values - self.d.array_r)
        return change if good else np.inf

    def lost(self, start: np.ndarray) -> bool:
        """Whether phi is no longer near to where Newton began."""
        return self._size(self.values - start) > 0.5

    def result(self, flow: int, newton: int, change: float) -> GroundState:
        """What came out, with a positive mean."""
        if self.comm.allreduce(float(self.w.array_r.sum()), MPI.SUM) < 0:
            self.take(-self.values)
        self._residual()
        mass, energy, kinetic, *moments, squares = self.totals()
        density, mean = fem.Function(self.V, name="density"), np.array(moments) / mass
        density.x.array[:] = self.phi.x.array**2
        radius = float(np.sqrt(max(squares / mass - mean @ mean, 0.0)))
        self._warn_of(radius)
        return GroundState(
            wave=self.phi,
            density=density,
            chemical_potential=float(self.mu.value),
            energy=float(energy),
            kinetic=float(kinetic),
            mass=float(mass),
            mean_position=mean,
            rms_radius=radius,
            flow=flow,
            newton=newton,
            change=change,
        )

    def _warn_of(self, radius: float):
        nodes, d = self.V.dofmap.index_map.size_global, self.domain.dim
        spacing = (self.domain.volume() / nodes) ** (1 / d)
        if radius < NARROW * spacing and self.comm.rank == 0:
            warnings.warn(
                f"The ground state, of the rms radius {radius:.3g}, is as narrow as the mesh, whose "
                f"nodes are {spacing:.3g} apart. Take a finer one; if its radius falls with it, the "
                "potential attracts the wave to itself too much for a ground state to exist.",
                SolutionWarning,
                stacklevel=4,
            )

    def _free(self):
        if self.B is not None:
            self.B.destroy()
            self.A.destroy()

    def destroy(self):
        """Free PETSc's objects."""
        self._free()
        self.M.destroy()


class _Projected:
    """A PETSc PC of type python: P."""

    def __init__(self, energy: _Energy):
        self.project = energy.project

    def apply(self, pc: PETSc.PC, x: PETSc.Vec, y: PETSc.Vec):
        self.project(x, y)
