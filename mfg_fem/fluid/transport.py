"""Optimal transport, the limit of bridges with ever less noise."""

import logging
from dataclasses import dataclass

import numpy as np

from dolfinx import fem

from mfg_fem import hamiltonians
from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.discrete.schemes import Scheme
from mfg_fem.discrete.sharp import Sharp
from mfg_fem.errors import NotConverged, together
from mfg_fem.fluid.hydrodynamics import Fluid, hydrodynamics
from mfg_fem.mesh.domain import Domain
from mfg_fem.nonlinear.method import Newton
from mfg_fem.problem.game import Given, MeanFieldControl
from mfg_fem.solution.solution import Solution
from mfg_fem.solve import solve
from mfg_fem.validate import number

log = logging.getLogger(__name__)

LESS = 4.0  # ratio of a diffusion to the next
MOST = 8  # diffusions


@dataclass(frozen=True, eq=False)
class Transport:
    """Optimal transport between two densities, for the cost |x - y|^2 / 2 and mass 1.

    Attributes:
        cost: W2^2 / 2, from the kinetic energy of the current velocity, whose difference from it is
            of second order in the diffusion.
        history: for each bridge, its diffusion, its cost and its kinetic energy.
        fluid: of the last bridge.
    """

    cost: float
    history: list[tuple[float, float, float]]
    fluid: Fluid

    @property
    def distance(self) -> float:
        """The Wasserstein distance W2."""
        return float(np.sqrt(2 * self.cost))

    @property
    def solution(self) -> Solution:
        """The last bridge, from t = 0 to 1; its density at t is near to McCann's interpolation."""
        return self.fluid.solution

    @property
    def potential(self) -> fem.Function:
        """Kantorovich potential at the nodes: the map is x -> x - grad potential. Collective.

        That is so where the initial density is. It is the Madelung potential of the bridge at 0.
        """
        found = self.fluid.potential(0)
        assert found is not None  # all densities of a bridge are positive
        return found

    @property
    def displacement(self) -> fem.Function:
        """How far the map moves people, - grad potential, constant (P1) on each cell. Collective.

        It is the current velocity of the bridge at t = 0.
        """
        found = self.fluid.current(0)
        found.name = "displacement"
        return found

    @property
    def report(self) -> str:
        """The bridges on the way, and the distance."""
        rows = [f"  {D:9.3g}  {cost:11.6g}  {kinetic:11.6g}" for D, cost, kinetic in self.history]
        last = f"W2^2 / 2 = {self.cost:.6g}, W2 = {self.distance:.6g}"
        return "\n".join(["  diffusion         cost      kinetic", *rows, last])

    def __str__(self) -> str:
        """The report."""
        return self.report


def optimal_transport(
    domain: Domain,
    initial_density: Given,
    terminal_density: Given,
    steps: int = 32,
    scheme: Scheme | None = None,
    method: Newton | None = None,
    *,
    accuracy: float = 0.01,
    floor: float | None = None,
) -> Transport:
    """Optimal transport inside a domain, as the limit of bridges without noise. Collective.

    The bridge with the diffusion D minimises int int m |v|^2 / 2 over all drifts v that carry the
    initial to the terminal density in the time 1. As D falls to 0, its cost falls to W2^2 / 2,
    where distances are those of paths within the domain, around obstacles (Benamou, Brenier 2000;
    Mikami 2004; Leonard 2012).

    Args:
        domain: a Domain, or a DOLFINx simplex mesh.
        initial_density: x -> UFL, not negative, scaled to mass 1.
        terminal_density: likewise.
        steps: as those of `solve`.
        scheme: likewise.
        method: likewise.
        accuracy: the diffusion falls until two bridges' kinetic energies, and the cost and the
            kinetic energy of the last, differ by less than this part.
        floor: as that of MeanFieldGame.

    Raises:
        NotConverged: a bridge is not found, or the accuracy is not reached: the mesh or the time
            steps are too coarse for it.
        ProblemError: the densities make no sense, or the scheme has negative ones.
    """
    domain = Domain.of(domain)
    with together(domain.comm):
        number("accuracy", accuracy, above=True)
    D = fem.Constant(domain.mesh, 1.0)
    problem = MeanFieldControl(
        domain,
        horizon=1.0,
        diffusion=lambda x: D,
        hamiltonian=hamiltonians.quadratic(),
        running_cost=lambda x, t, m: 0.0,
        initial_density=initial_density,
        terminal_density=terminal_density,
        floor=floor,
    )
    scheme, solution = scheme or Sharp(), None
    found: list[tuple[float, float, float]] = []
    discrete = Discretisation(problem, scheme)
    D.value = discrete.ends.easy_diffusion(discrete)
    for _ in range(MOST):
        solution = solve(problem, steps, scheme, method, guess=solution)
        fluid = hydrodynamics(solution)
        energies = np.asarray(fluid.kinetic)
        kinetic = float(np.diff(fluid.times) @ (energies[1:] + energies[:-1]) / 2)
        found.append((float(D.value), solution.cost, kinetic))
        log.info("optimal transport: diffusion %.3g, cost %.6g, kinetic energy %.6g", *found[-1])
        near = abs(solution.cost - kinetic) <= accuracy * kinetic
        if len(found) > 1 and near and abs(found[-2][2] - kinetic) <= accuracy * kinetic:
            return Transport(kinetic, found, fluid)
        D.value /= LESS
    raise NotConverged(
        "the accuracy is not reached",
        [] if solution is None else solution.history,
        f"optimal_transport: after {MOST} diffusions the kinetic energy is {found[-1][2]:.6g}, and "
        f"was {found[-2][2]:.6g} before; the cost is {found[-1][1]:.6g}. Take a finer mesh and "
        "more steps, or a larger accuracy.",
    )
