"""Quantities that the crowd makes, at the fields that a step sees: see `forms/feedback.py`."""

from functools import cached_property

from mpi4py import MPI
from petsc4py import PETSc

import numpy as np

from mfg_fem.forms.feedback import SHADOW
from mfg_fem.problem.interactions import Quantity

REDUNDANT = 10_000  # nodes up to which every rank factors the operator of smoothing
EXACT = 1e-14  # relative tolerance of smoothing beyond


class Feedback:
    """The quantities of a Discretisation, and their shadow prices. Collective.

    Attributes:
        made, shadows: the Functions z, and lambda of a planner.
    """

    def __init__(self, discrete):
        state = discrete.state
        self.comm, self.owned = discrete.comm, discrete.owned
        self.made, self.shadows = list(state.quantities.values()), list(state.shadows.values())
        self.forms = discrete.forms.feedback.forms
        self.smoothers = [_smoother(discrete, quantity) for quantity in state.quantities]

    def update(self, discrete, kind: str = SHADOW):
        """Let z and lambda, of a step or of the END, be what the present fields make them."""
        for key, functions in (("load", self.made), (kind, self.shadows)):
            for q, function in enumerate(functions):
                function.x.array[:] = 0.0
                if (key, q) in self.forms:
                    load = discrete.assemble_rows((key, q))
                    function.x.array[: self.owned] = self.smoothers[q].apply(load)
                function.x.scatter_forward()
            discrete.packed.stale()

    def keys(self, kind: str = SHADOW) -> list[tuple]:
        """Of the matrices of a linearisation, of a step or of the END."""
        kinds = ("load", kind, *(["row"] if kind == SHADOW else []))
        return [key for key in self.forms if len(key) > 2 and key[0] in kinds]

    def linearised(self, discrete, kind: str = SHADOW) -> "FeedbackBlocks":
        """The derivatives at the present fields."""
        made = {
            key: discrete.pattern.create(discrete.assemble_single(key)) for key in self.keys(kind)
        }
        return FeedbackBlocks(self, kind, made)


class FeedbackBlocks:
    """The matrices of one linearisation. Collective."""

    def __init__(self, feedback: Feedback, kind: str, matrices: dict[tuple, PETSc.Mat]):
        self.feedback, self.kind, self.matrices = feedback, kind, matrices

    @cached_property
    def _vectors(self) -> tuple[PETSc.Vec, PETSc.Vec]:
        return next(iter(self.matrices.values())).createVecs()

    def _product(self, key: tuple, x: np.ndarray) -> np.ndarray | float:
        if key not in self.matrices:
            return 0.0
        right, left = self._vectors
        right.array[:] = x
        self.matrices[key].mult(right, left)
        return left.array_r.copy()

    def changes(self, du: np.ndarray | None, dm: np.ndarray | None) -> list[np.ndarray]:
        """The changes of all z, then of all lambda, for changes of u and of m, (k, owned)."""
        smoothers, kind = self.feedback.smoothers, self.kind
        given = [
            (2 * i + part, own)
            for part, change in enumerate((du, dm))
            if change is not None
            for i, own in enumerate(change)
        ]
        made, shadows = [], []
        for q, smoother in enumerate(smoothers):
            made.append(smoother.apply(sum(self._product(("load", q, c), y) for c, y in given)))
        for q in range(len(self.feedback.shadows)):
            pull = sum(self._product((kind, q, c), y) for c, y in given)
            pull += sum(self._product((kind, q, "z", other), dz) for other, dz in enumerate(made))
            shadows.append(smoothers[q].apply(pull))
        return made + shadows

    def rows(self, field: int, du: np.ndarray | None, dm: np.ndarray | None) -> np.ndarray:
        """The change of the rows of a field, 0 for HJB and 1 for Fokker-Planck, shape (k, owned).

        Of changes of u and of m, (k, owned), either of which may be None.
        """
        found, count = np.zeros_like(dm if du is None else du), len(self.feedback.made)
        for q, change in enumerate(self.changes(du, dm)):
            key = (q,) if q < count else ("shadow", q - count)
            for i, row in enumerate(found):
                row += self._product(("row", 2 * i + field, *key), change)
        return found

    def destroy(self):
        """Free the matrices."""
        for matrix in self.matrices.values():
            matrix.destroy()


class _Sum:
    """S of a total: the sum of a load, at all nodes."""

    def __init__(self, comm: MPI.Comm, owned: int):
        self.comm, self.owned = comm, owned

    def apply(self, load: np.ndarray | float) -> np.ndarray:
        return np.full(self.owned, self.comm.allreduce(float(np.sum(load)), MPI.SUM))


class _Smoother:
    """S of a smoothed density: (Mass + r^2 K)^-1 (Mass (Mass + r^2 K)^-1) ... of a load."""

    def __init__(self, discrete, radius: float, times: int):
        self.mass, self.times = discrete.mass, times
        matrix = discrete.stiffness.copy()
        matrix.scale(radius**2)
        matrix.axpy(1.0, discrete.mass)
        self.x, self.y = matrix.createVecs()
        self.solver = PETSc.KSP().create(discrete.comm)
        self.solver.setOperators(matrix)
        pc, nodes = self.solver.getPC(), matrix.getSize()[0]
        if discrete.comm.size == 1 and (discrete.problem.domain.dim < 3 or nodes <= REDUNDANT):
            self.solver.setType("preonly")
            pc.setType("lu")
        elif nodes <= REDUNDANT:
            self.solver.setType("preonly")
            pc.setType("redundant")
        else:
            self.solver.setType("cg")
            self.solver.setTolerances(rtol=EXACT, atol=0.0)
            pc.setType("bjacobi")

    def apply(self, load: np.ndarray | float) -> np.ndarray:
        self.y.array[:] = load
        for _ in range(self.times - 1):
            self.solver.solve(self.y, self.x)
            self.mass.mult(self.x, self.y)
        self.solver.solve(self.y, self.x)
        return self.x.array_r.copy()


def _smoother(discrete, quantity: Quantity) -> _Sum | _Smoother:
    if quantity.radius is None:
        return _Sum(discrete.comm, discrete.owned)
    return _Smoother(discrete, quantity.radius, quantity.times)
