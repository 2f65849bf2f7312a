"""Where players stand still: the gradients of the value function for that, and walls that hold."""

from mpi4py import MPI

import numpy as np

import ufl
from dolfinx import fem
from ufl.algorithms import expand_derivatives, extract_coefficients, strip_variables
from ufl.algorithms.analysis import extract_constants

from mfg_fem._compat import interpolation_points
from mfg_fem.compilation import pointwise
from mfg_fem.discrete.layers import normals
from mfg_fem.errors import ProblemError
from mfg_fem.forms.boundary import Standing
from mfg_fem.forms.state import StepState
from mfg_fem.problem.crowding import Crowding

MOST = 200  # Newton steps, also those that are halved
EXACT = 1e-8  # of the speed at p = 0: standing still


def add_standing(problem, scheme, state: StepState):
    """Tell the state of players who do not stand still at p = 0, or whom walls hold. Collective."""
    V = fem.functionspace(problem.domain.mesh, ("Lagrange", 1, (problem.domain.dim,)))
    for population in problem.populations:
        if population.limits and not scheme.lumped:
            raise ProblemError(
                "A Wall(pushes=False) needs a scheme with the vertex rule, Sharp() or Monotone(), "
                f"not {scheme}."
            )
        monotone, p = scheme.positive and not scheme.limited, fem.Function(V)
        if not (population.limits or (monotone and _carried(problem, population, state, p))):
            continue
        crowding = Crowding(problem.populations)
        crowding.uniform()
        H_p, H_pp = _slopes(population, state.t, p, crowding.seen_by(population, state.t))
        gradients = _Gradients(population, p, H_p, H_pp)
        state.standing[id(population)] = gradients.standing
        # One step of Newton's method, as forms have it, finds that of a quadratic H at any time.
        changing = {state.t, *problem.prices.values()} & {*extract_constants(H_p)}
        if changing and p in extract_coefficients(H_pp):
            state.changing.append((gradients.standing.still, gradients.find))


def _slopes(population, t, p, crowd) -> tuple:
    """H_p and H_pp."""
    gradient = ufl.variable(p)
    H_p = ufl.diff(population.H(population.x, t, gradient, crowd), gradient)
    return expand_derivatives(H_p), expand_derivatives(ufl.diff(H_p, gradient))


def _carried(problem, population, state: StepState, p) -> bool:
    """Whether players have a drift at p = 0, and one that p changes."""
    crowd = problem.crowd(state.densities, state.quantities)
    H_p, H_pp = _slopes(population, state.t, p, crowd)
    at_zero = ufl.replace(strip_variables(H_p), {p: ufl.zero(*p.ufl_shape)})
    return H_pp != 0 and not isinstance(at_zero, ufl.classes.Zero)


class _Gradients:
    """The p with H_p = 0 of a population at the nodes, in uniform densities. Collective.

    Attributes:
        standing: what forms see.
    """

    def __init__(self, population, p: fem.Function, H_p, H_pp):
        mesh, d = population.domain.mesh, population.domain.dim
        normal, others = normals(population.domain, population.limits)
        still = fem.Function(fem.functionspace(mesh, ("Lagrange", 1, (d + 1,))))
        self.standing = Standing(population, normal if population.limits else None, still)
        self.held = normal.x.array.reshape(-1, d).any(axis=1)
        self.free = others & ~self.held
        self.p, self.start = p, np.zeros_like(normal.x.array).reshape(-1, d)
        self.values = fem.Function(fem.functionspace(mesh, ("Lagrange", 1, (d + d * d + 1,))))
        # The coordinate gives FFCx a mesh where the others are plain numbers.
        terms = [*H_p, *(H_pp[i, j] for i in range(d) for j in range(d)), population.x[0]]
        points = interpolation_points(self.values.function_space)
        self.expression = pointwise(ufl.as_vector(terms), points)
        self.find()

    def _evaluate(self, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        d = p.shape[1]
        self.p.x.array[:] = p.ravel()
        self.values.interpolate(self.expression)
        found = self.values.x.array.reshape(len(p), -1)
        return found[:, :d].copy(), found[:, d:-1].reshape(-1, d, d).copy()

    def find(self):
        """Find them, from those that were found before.

        Newton's method takes half of a step that makes |H_p| larger. Where there is no such p, as
        in a wind that is too strong, and where a boundary pushes, it is 0.
        """
        exact = EXACT * np.linalg.norm(self._evaluate(0 * self.start)[0], axis=1)
        best = self.start
        speed, curvature = self._evaluate(best)
        share = np.ones(len(best))  # of Newton's step
        for _ in range(MOST):
            size = np.linalg.norm(speed, axis=1)
            if np.all(size <= exact):
                break
            step = np.einsum("nij,nj->ni", np.linalg.pinv(curvature, hermitian=True), speed)
            tried = best - share[:, None] * step
            found = self._evaluate(tried)
            less = np.linalg.norm(found[0], axis=1) < size
            best = np.where(less[:, None], tried, best)
            speed, curvature = (
                np.where(less.reshape(-1, *[1] * (y.ndim - 1)), y, z)
                for y, z in zip(found, (speed, curvature), strict=True)
            )
            share = np.where(less, 1.0, share / 2)
        known = np.linalg.norm(speed, axis=1) <= exact
        population = self.standing.population
        if population.domain.comm.allreduce(bool(np.any(self.held & ~known)), MPI.LOR):
            names = ", ".join(map(repr, population.limits))
            raise ProblemError(
                f"No gradient of the value function makes players stand still at {names}, a "
                "Wall(pushes=False), so that they may have to cross it: hamiltonian(x, p, m) has "
                "no minimum in p there. Let its drifts -H_p be 0 for some p."
            )
        self.start = np.where(known[:, None], best, 0.0)
        known &= ~self.free
        values = self.standing.still.x.array.reshape(len(best), -1)
        values[:, :-1], values[:, -1] = np.where(known[:, None], best, 0.0), known
