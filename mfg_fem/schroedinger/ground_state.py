"""Ground states: a normalised gradient flow, then Newton with the mass as a constraint."""

import logging
import warnings
from dataclasses import dataclass, field

import numpy as np

from dolfinx import fem

from mfg_fem.errors import NotConverged, SolutionWarning, alike, together
from mfg_fem.mesh.domain import Domain
from mfg_fem.problem.data import Data
from mfg_fem.problem.game import Given
from mfg_fem.schroedinger.energy import GUESS, POTENTIAL, Energy
from mfg_fem.schroedinger.problem import check_zero
from mfg_fem.schroedinger.schemes import Relaxation
from mfg_fem.validate import number

log = logging.getLogger(__name__)

FLOWING = 1e-3  # relative change of phi at which Newton begins
DONE = 1e-8  # and that of Newton's last step: the error after it is the square
FEWER = 10.0  # Newton failed: the flow goes on until changes are so much smaller
MOST, MOST_NEWTON = 1000, 12  # steps of the flow, of Newton
NARROW = 1.5  # an rms radius in distances of nodes that the mesh hardly resolves


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
        guess: where to start, x -> UFL or a Function; by default a positive function that is
            large where V is low.

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
    energy = Energy(domain, data, hbar, mass, check_zero(domain, zero), degree)
    try:
        energy.start(guess is not None)
        return _minimised(energy)
    finally:
        energy.destroy()


def _minimised(energy: Energy) -> GroundState:
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
                return _measured(energy, flowed, newton + step, change)
        newton += step
        energy.take(kept)
    raise NotConverged(
        "the flow has not converged",
        [],
        f"ground_state: after {flowed} steps phi still changes by {change:.1e} in a step of the "
        "flow. A potential that attracts the wave to itself may have no ground state in 2D and 3D, "
        "or one that the mesh cannot resolve; a good guess= may help.",
    )


def _measured(energy: Energy, flow: int, newton: int, change: float) -> GroundState:
    """What came out. Collective."""
    energy.turn()
    mass, total, kinetic, *moments, squares = energy.totals()
    density, mean = fem.Function(energy.V, name="density"), np.array(moments) / mass
    density.x.array[:] = energy.phi.x.array**2
    radius = float(np.sqrt(max(squares / mass - mean @ mean, 0.0)))
    if radius < NARROW * energy.spacing and energy.comm.rank == 0:
        warnings.warn(
            f"The ground state, of the rms radius {radius:.3g}, is as narrow as the mesh: nodes "
            f"are {energy.spacing:.3g} apart. Take a finer one; if the radius falls with it, the "
            "potential attracts the wave to itself too much for a ground state to exist.",
            SolutionWarning,
            stacklevel=4,
        )
    return GroundState(
        wave=energy.phi,
        density=density,
        chemical_potential=float(energy.mu.value),
        energy=float(total),
        kinetic=float(kinetic),
        mass=float(mass),
        mean_position=mean,
        rms_radius=radius,
        flow=flow,
        newton=newton,
        change=change,
    )
