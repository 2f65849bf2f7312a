"""Optimal transport, the limit of bridges with ever less noise."""

import logging
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

import ufl
from dolfinx import fem

from mfg_fem import hamiltonians
from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.discrete.schemes import Scheme
from mfg_fem.discrete.sharp import Sharp
from mfg_fem.errors import NotConverged, together
from mfg_fem.flows.field import VelocityField
from mfg_fem.fluid.hydrodynamics import Fluid, hydrodynamics
from mfg_fem.forms.integrals import Totals
from mfg_fem.mesh.domain import Domain
from mfg_fem.mesh.locate import as_points
from mfg_fem.nonlinear.method import Newton
from mfg_fem.problem.game import Given, MeanFieldControl
from mfg_fem.solution.solution import Solution
from mfg_fem.solve import solve
from mfg_fem.validate import number

log = logging.getLogger(__name__)

LESS = 4.0  # ratio of a diffusion to the next
MOST = 8  # diffusions
SUBSTEPS = 2  # of the paths in each step


@dataclass(frozen=True, eq=False)
class Transport:
    """Optimal transport between two densities, for the cost |x - y|^2 / 2 and mass 1.

    The flow without noise carries one density to the other. Noise, and the viscosity of a scheme,
    spread a density at first and gather it again in the second half of the time, so that the
    current velocity at t = 0 is wrong at steep fronts by a part of their width; the way from 0
    to 1, and the potential at t = 1/2, are not.

    Attributes:
        cost: W2^2 / 2, as the action of the fluxes J of the last bridge, int int |J|^2 / (2 m)
            (Benamou, Brenier 2000): they carry the densities exactly, and the action is least for
            those of the transport.
        history: for each bridge, its diffusion, its cost and the action.
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

    def map(self, points: np.ndarray) -> np.ndarray:
        """Where the people at these points go, both of shape (n, d), on each rank for itself.

        That makes sense where the initial density is.

        Raises:
            ProblemError: the domain is periodic.
        """
        return self._follow(points, self.solution.steps)[0]

    @cached_property
    def displacement(self) -> fem.Function:
        """How far the map moves the people at each node. Collective; raises what `map` does.

        Where paths are straight, that is - grad potential.
        """
        nodes = self._velocity.replica.x
        return self._velocity.replica.function(self.map(nodes) - nodes, "displacement")

    @cached_property
    def potential(self) -> fem.Function:
        """Kantorovich potential, P1: paths start with - grad potential. Collective.

        It makes sense where the initial density is; in a convex domain the map is x - grad
        potential. At x it is the Madelung potential where the path from x is at t = 1/2, and the
        action of the path up to there: by the formula of Hopf and Lax that is least for the path of
        the transport, so that errors of the path count twice as little. Raises what `map` does.
        """
        replica, middle = self._velocity.replica, int(np.argmin(abs(self.solution.times - 0.5)))
        half_way = self.fluid.potential(middle)
        assert half_way is not None  # all densities of a bridge are positive
        at_vertices = fem.Function(replica.V)
        at_vertices.interpolate(half_way)
        nodal = replica.gather(at_vertices.x.array[: replica.V.dofmap.index_map.size_local])
        ends, action = self._follow(replica.x, middle)
        return replica.function(replica.interpolate(ends, nodal) + action, "potential")

    @cached_property
    def _velocity(self) -> VelocityField:
        return VelocityField.of(self.solution, current=True)

    def _follow(self, points: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the paths from these points, and int |v|^2 / 2 along them, after these steps."""
        v, x = self._velocity, as_points(points, self._velocity.dim)
        action = np.zeros(len(x))
        for t, end in pairwise(self.solution.times[: steps + 1]):
            for begin, stop in pairwise(np.linspace(t, end, SUBSTEPS + 1)):
                before, x = x, v.unchecked_advance(x, begin, stop, 1)
                action += np.sum((x - before) ** 2, axis=1) / (2 * (stop - begin))
        return x, action

    @property
    def report(self) -> str:
        """The bridges on the way, and the distance."""
        rows = [f"  {D:9.3g}  {cost:11.6g}  {action:11.6g}" for D, cost, action in self.history]
        last = f"W2^2 / 2 = {self.cost:.6g}, W2 = {self.distance:.6g}"
        return "\n".join(["  diffusion         cost       action", *rows, last])

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
        accuracy: the diffusion falls until the actions of two bridges differ by less than this
            part; and the cost and the action of the last by less than its root, as the cost differs
            from its limit by first order in diffusion and viscosity, the action by second.
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
        found.append((float(D.value), solution.cost, _action(fluid)))
        log.info("optimal transport: diffusion %.3g, cost %.6g, action %.6g", *found[-1])
        cost, last = found[-1][1:]
        near = abs(cost - last) <= np.sqrt(accuracy) * last
        if len(found) > 1 and near and abs(found[-2][2] - last) <= accuracy * last:
            return Transport(last, found, fluid)
        D.value /= LESS
    raise NotConverged(
        "the accuracy is not reached",
        [] if solution is None else solution.history,
        f"optimal_transport: after {MOST} diffusions the action is {found[-1][2]:.6g}, and was "
        f"{found[-2][2]:.6g} before; the cost is {found[-1][1]:.6g}. Take a finer mesh and more "
        "steps, or a larger accuracy.",
    )


def _action(fluid: Fluid) -> float:
    """The action int int |J|^2 / (2 m) of the fluxes J of all steps. Collective."""
    solution = fluid.solution
    J, m = fluid.flux(0), solution.density(0).copy()
    measure = solution.scheme.measures(m.function_space.mesh)[0]
    total = Totals(m.function_space.mesh, measure, [ufl.dot(J, J) / (2 * m)])
    action = 0.0
    for n, dt in enumerate(np.diff(solution.times)):
        J.x.array[:] = fluid.flux(n).x.array
        m.x.array[:] = (solution.density(n).x.array + solution.density(n + 1).x.array) / 2
        action += dt * float(total()[0])
    return action
