"""Walls that do not push: where they are, and the gradients for which players stand still."""

from mpi4py import MPI

import numpy as np

import ufl
from dolfinx import fem

from mfg_fem._compat import interpolation_points
from mfg_fem.compilation import pointwise
from mfg_fem.discrete.layers import normal
from mfg_fem.errors import ProblemError
from mfg_fem.forms.boundary import Constraint
from mfg_fem.problem.crowding import Crowding

MOST = 200  # Newton steps, also those that are halved
EXACT = 1e-8  # of the speed at p = 0: standing still


def constraints(problem, scheme) -> list[Constraint]:
    """Those of all populations with walls that do not push. Collective."""
    limited = [population for population in problem.populations if population.limits]
    if limited and not scheme.lumped:
        raise ProblemError(
            f"A Wall(pushes=False) needs a scheme with the vertex rule, Sharp() or Monotone(), not "
            f"{scheme}."
        )
    found = []
    for population in limited:
        n = normal(population.domain, population.limits)
        found.append(Constraint(population, n, _still(problem, population, n)))
    return found


def _still(problem, population, normal: fem.Function) -> fem.Function:
    """The p with H_p = 0 at each node, at t = 0 in uniform densities. Collective.

    Newton's method takes half of a step that makes |H_p| larger. Where there is no such p, as in a
    wind that is too strong, the result is where it stops, unless that is at a wall.
    """
    mesh, d = population.domain.mesh, population.domain.dim
    still = fem.Function(normal.function_space)
    values = fem.Function(fem.functionspace(mesh, ("Lagrange", 1, (d + d * d + 1,))))
    t = fem.Constant(mesh, 0.0)
    crowding = Crowding(problem.populations)
    crowding.uniform()
    crowd = crowding.seen_by(population, t)
    p = ufl.variable(still)
    H_p = ufl.diff(population.H(population.x, t, p, crowd), p)
    H_pp = ufl.diff(H_p, p)
    # The coordinate gives FFCx a mesh where the others are plain numbers.
    terms = [*H_p, *(H_pp[i, j] for i in range(d) for j in range(d)), population.x[0]]
    points = interpolation_points(values.function_space)
    expression = pointwise(ufl.as_vector(terms), points)

    def evaluate(p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        still.x.array[:] = p.ravel()
        values.interpolate(expression)
        found = values.x.array.reshape(len(p), -1)
        return found[:, :d].copy(), found[:, d:-1].reshape(-1, d, d).copy()

    best = np.zeros((len(still.x.array) // d, d))
    speed, curvature = evaluate(best)
    exact = EXACT * np.linalg.norm(speed, axis=1)
    share = np.ones(len(best))  # of Newton's step
    for _ in range(MOST):
        size = np.linalg.norm(speed, axis=1)
        if np.all(size <= exact):
            break
        step = np.einsum("nij,nj->ni", np.linalg.pinv(curvature, hermitian=True), speed)
        tried = best - share[:, None] * step
        found = evaluate(tried)
        less = np.linalg.norm(found[0], axis=1) < size
        for old, new in zip((best, speed, curvature), (tried, *found), strict=True):
            old[less] = new[less]
        share = np.where(less, 1.0, share / 2)
    still.x.array[:] = best.ravel()
    walls = normal.x.array.reshape(-1, d).any(axis=1)
    moving = np.any(np.linalg.norm(speed[walls], axis=1) > exact[walls])
    if problem.domain.comm.allreduce(bool(moving), MPI.LOR):
        names = ", ".join(map(repr, population.limits))
        raise ProblemError(
            f"No gradient of the value function makes players stand still at {names}, a "
            "Wall(pushes=False), so that they may have to cross it: hamiltonian(x, p, m) has no "
            "minimum in p there. Let its drifts -H_p be 0 for some p."
        )
    return still
