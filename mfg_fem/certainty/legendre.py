"""The cost of moving of which a Hamiltonian is the Legendre transform, point by point."""

from mpi4py import MPI

import numpy as np

import ufl
from dolfinx import fem

from mfg_fem._compat import evaluate
from mfg_fem.compilation import pointwise
from mfg_fem.errors import require
from mfg_fem.forms.cell import reference_vertices

MOST = 100  # evaluations
CLOSE = 1e-10  # relative to speeds: the error of L is of the order of its square
ENOUGH = 1e-4  # of the predicted decrease
FAR = 1e3  # times its size a gradient changes at most in a step


class Legendre:
    """L(x, a, m) = max_p (-a.p - H(x, p, m)) at the corners of all cells. Collective.

    By Newton's method for H_p = -a at all corners at once. Its matrix is H_pp + |H_p + a| / s,
    which bounds steps by s where H is flat, and they are cut until -a.p - H grows or |H_p + a| is
    halved.

    Args:
        problem: whose H it is of.
        m: the density.
        a: the velocity, a Function with its dofs at the corners of cells.

    Attributes:
        L: a Function with its dofs there; see `transform`.
    """

    def __init__(self, problem, m: fem.Function, a: fem.Function):
        W, mesh = a.function_space, m.function_space.mesh
        self.comm, self.mesh, self.dim = mesh.comm, mesh, problem.domain.dim
        self.units = problem.units
        self.L = fem.Function(fem.functionspace(mesh, ("DG", 1)))
        self._m, self._a, self._p = m, a, fem.Function(W)
        self._cells = np.arange(mesh.topology.index_map(self.dim).size_local, dtype=np.int32)
        self._dofs = W.dofmap.list[: len(self._cells)].ravel()  # those of L are the same
        p = ufl.variable(self._p)
        self._t = fem.Constant(mesh, 0.0)
        H = problem.H(problem.x, self._t, p, m)
        H_p = ufl.diff(H, p)
        H_pp, axes = ufl.diff(H_p, p), range(self.dim)
        terms = [H, *(H_p[i] for i in axes), *(H_pp[i, j] for i in axes for j in axes)]
        # The coordinate and the density give FFCx a mesh, and tell where anybody is.
        terms += [m, problem.x[0]]
        self._terms = pointwise(ufl.as_vector(terms), reference_vertices(mesh))

    def transform(self, t: float):
        """Compute L at the present velocity and density, at the time t. Collective.

        Where nobody is it is 0.

        Raises:
            ProblemError: a velocity that H does not allow, as L is infinite.
        """
        self._t.value = t
        a = self._a.x.array.reshape(-1, self.dim)[self._dofs]
        p = self._p.x.array.reshape(-1, self.dim)[self._dofs]  # of the last step: a good start
        speed = self.units.length / self.units.time
        enough = CLOSE * (np.linalg.norm(a, axis=1) + speed)
        with np.errstate(all="ignore"):  # far from the maximum, or where nobody is
            phi, r, H_pp, m = self._evaluate(p, a)
            step, share, nobody = self._step(p, r, H_pp), np.ones(len(a)), m <= 0
            left = ~nobody
            for _ in range(MOST):
                left &= ~(np.linalg.norm(r, axis=1) <= enough)
                if not left.any():
                    break
                trial = p + (left * share)[:, None] * step
                new = self._evaluate(trial, a)
                wanted = phi + ENOUGH * share * np.sum(r * step, axis=1)
                closer = np.linalg.norm(new[1], axis=1) <= np.linalg.norm(r, axis=1) / 2
                good = left & (closer | (new[0] <= wanted))  # at last phi changes by round-off
                for old, value in zip((p, phi, r, H_pp), (trial, *new), strict=False):
                    old[good] = value[good]
                step[good] = self._step(p[good], r[good], H_pp[good])
                share = np.where(good, 1.0, share / 4)
        fastest = np.linalg.norm(a[left], axis=1).max(initial=0.0)
        fastest = self.comm.allreduce(fastest, MPI.MAX)
        require(
            self.comm,
            not left.any(),
            f"The policy has the speed {fastest:.3g} at t = {t:g}, at which moving costs more than "
            "any number: -H_p(x, p, m) is no such velocity for any p. Slow the policy down, or "
            "judge it with a Hamiltonian that allows the speed.",
        )
        self.L.x.array[self._dofs] = np.where(nobody, 0.0, -phi)

    def _evaluate(self, p: np.ndarray, a: np.ndarray) -> tuple[np.ndarray, ...]:
        """H + a.p, its derivatives in p, of first and of second order, and the density."""
        d = self.dim
        self._p.x.array.reshape(-1, d)[self._dofs] = p
        found = evaluate(self._terms, self.mesh, self._cells).reshape(len(p), -1)
        H_p, H_pp = found[:, 1 : 1 + d], found[:, 1 + d : 1 + d + d * d]
        phi = found[:, 0] + np.sum(a * p, axis=1)
        return phi, H_p + a, H_pp.reshape(-1, d, d).copy(), found[:, -2]

    def _step(self, p: np.ndarray, r: np.ndarray, H_pp: np.ndarray) -> np.ndarray:
        """Newton's step, of a bounded length."""
        size = np.linalg.norm(p, axis=1) + self.units.cost / self.units.length
        more = np.linalg.norm(r, axis=1) / (FAR * size)
        matrices = H_pp + more[:, None, None] * np.eye(self.dim)
        usable = np.isfinite(matrices).all(axis=(1, 2)) & (more > 0)
        matrices = np.where(usable[:, None, None], matrices, np.eye(self.dim))
        return -np.linalg.solve(matrices, r[..., None])[..., 0]
