"""A velocity field at the corners of the cells of a finer mesh, step by step."""

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from math import factorial

import numpy as np

import ufl
from dolfinx import fem

from mfg_fem._compat import evaluate, geometry_dofmap
from mfg_fem.certainty.finer import counterparts, halved
from mfg_fem.compilation import pointwise
from mfg_fem.errors import ProblemError, alike, require, together
from mfg_fem.forms.cell import reference_vertices
from mfg_fem.mesh.refine import Refinement
from mfg_fem.problem.data import Data
from mfg_fem.problem.game import MeanField
from mfg_fem.validate import time_levels

SAME = 1e-12  # relative difference of horizons
KINDS = (
    "policy must be a solution of a game or a control, a callable (x, t) -> UFL vector, or have a "
    "method velocity_field(), as networks and fields to fit them to have"
)


class Velocity:
    """A velocity a(x, t), linear on each cell of the refined mesh. Collective.

    Args:
        policy: a callable (x, t) -> UFL, in which Functions and Constants of the coarse mesh are
            those of the refined one; or what has a method velocity_field(), which returns a
            callable of points (n, d) and a time, with its `dim`, `horizon` and `times`.
        problem: in which it is judged, on the coarse mesh.
        refinement: of that mesh.

    Attributes:
        a: a Function, whose dofs are at the corners of cells.
    """

    def __init__(self, policy, problem: MeanField, refinement: Refinement):
        self.problem = problem
        self.comm, self.dim, mesh = problem.domain.comm, problem.domain.dim, refinement.domain.mesh
        W = fem.functionspace(mesh, ("DG", 1, (self.dim,)))
        self.a, self._at = fem.Function(W, name="velocity"), -np.inf
        self.cells = np.arange(mesh.topology.index_map(self.dim).size_local, dtype=np.int32)
        self._dofs = W.dofmap.list[: len(self.cells)]
        self.levels: np.ndarray | None = None
        with together(self.comm):
            numeric = _numeric(policy, problem)
        self._values: Callable
        if numeric is None:
            self._values = self._formula(policy, problem, refinement)
            return
        self.levels = np.asarray(numeric.times)
        nodes = geometry_dofmap(mesh)[: len(self.cells)]
        points = mesh.geometry.x[:, : self.dim].copy()
        at_points = cache(lambda t: np.asarray(numeric(points, t), dtype=float))
        self._values = lambda t: at_points(t)[nodes]

    def _formula(self, policy, problem: MeanField, refinement: Refinement) -> Callable:
        """The values at the corners of cells by time, of a callable of UFL."""
        data, mesh = Data(problem.domain), refinement.domain.mesh
        shapes = ((self.dim,), ()) if self.dim == 1 else ((self.dim,),)
        data.state("policy(x, t)", policy, "xt", shapes)
        moment = fem.Constant(mesh, 0.0)
        a = ufl.replace(data("policy(x, t)", x=data.x, t=moment), counterparts(data, refinement))
        if problem.stationary and moment in ufl.algorithms.analysis.extract_constants(a):
            raise ProblemError("policy(x, t) depends on t, and the problem has no horizon.")
        parts = [a[i] for i in range(self.dim)] if a.ufl_shape else [a]
        # The coordinate gives FFCx a mesh where the velocity is a number.
        terms = ufl.as_vector([*parts, ufl.SpatialCoordinate(mesh)[0]])
        expression = pointwise(terms, reference_vertices(mesh))

        def values(t: float) -> np.ndarray:
            moment.value = t
            return evaluate(expression, mesh, self.cells)[..., :-1]

        return values

    def see(self, t: float):
        """Let `a` be the velocity at the time t. Collective.

        Raises:
            ProblemError: it is not finite, or cannot be evaluated.
        """
        if t == self._at:
            return
        with together(self.comm, ProblemError, f"the velocity of the policy at t = {t:g}"):
            values = self._values(t)
        finite = bool(np.isfinite(values).all())
        require(self.comm, finite, f"The velocity of the policy is not finite at t = {t:g}.")
        self.a.x.array.reshape(-1, self.dim)[self._dofs] = values
        self._at = t

    def times(self, steps) -> np.ndarray:
        """The levels of steps half as long as so many, or as those between these levels.

        Without any they are the policy's own, cut until there are at least as many as cells across
        the mesh. A problem without a horizon has one step. Collective.
        """
        problem = self.problem
        ends = np.array([0.0, problem.duration])
        if problem.stationary:
            if steps is not None:
                raise ProblemError(f"steps={steps!r}: a problem without a horizon has no steps.")
            return ends
        if steps is not None:
            with together(self.comm):
                times = time_levels("steps", steps, problem.duration)
            alike(self.comm, steps=times.tolist())
            return halved(times)
        ends = ends if self.levels is None else self.levels
        cells = problem.domain.mesh.topology.index_map(self.dim).size_global
        across = max(round((cells / factorial(self.dim)) ** (1 / self.dim)), 1)
        cuts = -(-across // (len(ends) - 1))
        parts = [np.linspace(*pair, cuts, endpoint=False) for pair in pairwise(ends)]
        return halved(np.append(np.concatenate(parts), ends[-1]))


def _numeric(policy, problem: MeanField):
    """The field of a policy that knows it at points, or None for a callable of UFL."""
    if not hasattr(policy, "velocity_field"):
        if not callable(policy) or isinstance(policy, ufl.core.expr.Expr):
            raise ProblemError(f"{KINDS}, not {policy!r}.")
        return None
    field = policy.velocity_field()
    if field.dim != problem.domain.dim:
        raise ProblemError(
            f"policy has the dimension {field.dim}, the problem {problem.domain.dim}."
        )
    if problem.stationary:
        raise ProblemError(
            "policy is a velocity on an interval of time, and the problem has no horizon: give a "
            "callable (x, t) -> UFL."
        )
    horizon = problem.duration
    if abs(field.horizon - horizon) > SAME * horizon:
        raise ProblemError(
            f"problem has the horizon {horizon:g}, and the policy ends at {field.horizon:g}."
        )
    return field
