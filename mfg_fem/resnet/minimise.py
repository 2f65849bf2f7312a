"""The least cost of a network: PETSc TAO, first limited-memory quasi-Newton, then Newton-CG.

The unknowns are z = R^(1/2) theta, where theta.R theta / 2 is what effort and smoothness cost, so
that

    J = loss(R^(-1/2) z) + |z|^2 / 2:

whatever the number of layers, the Hessian is the identity and something compact. Both methods use
the products of exact second derivatives, not matrices.

On several ranks, rank 0 decides and all share the samples, in parts whose size does not depend on
the number of ranks and whose sums are added in one order: results do not depend on it either.
"""

import logging
import sys
from dataclasses import dataclass

from mpi4py import MPI
from petsc4py import PETSc

import numpy as np

from mfg_fem import petsc
from mfg_fem.errors import ProblemError, together
from mfg_fem.resnet.mechanics import NoMiddle, Pass, Shape

log = logging.getLogger(__name__)

PART = 512  # samples that are moved at once
WALL = 1e3  # times the cost at rest: the cost where an implicit layer has no solution
ROUGH = 1e-2  # gradient, in the unit of tolerances, at which Newton takes over
INNER = 300  # steps of conjugate gradients in a Newton step, at most
OPTIONS = "pontryagin_"
SAME = 1e-14  # change of the cost, as a part of that at rest, which Newton takes for none
STUCK = 12  # steps of Newton that gain nothing, after which it ends
CONVERGED = "converged (the gradient is small enough)"
REASONS = {
    PETSc.TAO.ConvergedReason.CONVERGED_GATOL: CONVERGED,
    PETSc.TAO.ConvergedReason.DIVERGED_MAXITS: "stopped at the iteration limit",
    PETSc.TAO.ConvergedReason.DIVERGED_TR_REDUCTION: "stopped as nothing lower was found nearby",
}


class Objective:
    """J, its gradient and products with its Hessian. Rank 0 asks and the others `follow`.

    Args:
        comm: the ranks, all of which make it with the same data.
        shape, loss: of the network.
        x, y: all samples: points (n, d), and labels (n,) or targets (n, C).
        effort, smoothness: weights of |theta|^2 / 2 and |theta'|^2 / 2.
    """

    def __init__(self, comm: MPI.Comm, shape: Shape, loss: str, x, y, effort, smoothness):
        self.comm, self.shape, self.loss = comm, shape, loss
        cuts = np.arange(PART, len(x), PART)
        parts = list(zip(np.split(x, cuts), np.split(y, cuts), strict=True))
        self.parts, self.share = parts[comm.rank :: comm.size], 1 / len(x)
        self.effort, self.root = effort, root_of_cost(shape, effort, smoothness)
        self.passes: list[Pass] = []
        self.at = np.empty(0)  # where the passes are

    @property
    def size(self) -> int:
        """Number of unknowns."""
        return self.shape.layers * self.shape.of_layer + self.shape.of_head

    def parameters(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The layers' theta (K, of_layer) and the head's of unknowns z, or of a change of them."""
        layers = z[: -self.shape.of_head].reshape(self.shape.layers, -1)
        return self.root @ layers, z[-self.shape.of_head :] / np.sqrt(self.effort)

    def unknowns(self, theta: np.ndarray, head: np.ndarray) -> np.ndarray:
        """The z of parameters."""
        layers = np.linalg.solve(self.root, theta)
        return np.concatenate([layers.ravel(), head * np.sqrt(self.effort)])

    def _pulled_back(self, theta: np.ndarray, head: np.ndarray) -> np.ndarray:
        """A gradient in z for one in the parameters."""
        return np.concatenate([(self.root @ theta).ravel(), head / np.sqrt(self.effort)])

    def value_and_gradient(self, z: np.ndarray) -> tuple[float, np.ndarray]:
        """J and dJ/dz; J is infinite where an implicit layer has no solution. On rank 0."""
        values, self.at = self._all("gradient", z), z.copy()
        if any(value is None for value in values):
            return np.inf, np.zeros_like(z)
        loss, gradient = (sum(of_parts) for of_parts in zip(*values, strict=True))
        return float(loss + z @ z / 2), gradient + z

    def product(self, z: np.ndarray, v: np.ndarray) -> np.ndarray:
        """The Hessian at z times v. On rank 0."""
        if not np.array_equal(z, self.at):
            self.value_and_gradient(z)
        return sum(self._all("product", v)) + v

    def follow(self):
        """Do what rank 0 asks for until it `dismiss`es. On the other ranks."""
        while (task := self.comm.bcast(None)) is not None:
            self.comm.gather(self._work(*task))

    def dismiss(self):
        """Let the other ranks go on. On rank 0."""
        self.comm.bcast(None)

    def _all(self, what: str, vector: np.ndarray) -> list:
        """What all parts give, in the order of the samples."""
        self.comm.bcast((what, vector))
        of_ranks = self.comm.gather(self._work(what, vector)) or []
        longest = max(map(len, of_ranks))
        return [row[k] for k in range(longest) for row in of_ranks if k < len(row)]

    def _work(self, what: str, vector: np.ndarray) -> list:
        """What the parts of this rank give."""
        theta, head = self.parameters(vector)
        if what == "product":
            return [self._pulled_back(*one.product(theta, head)) for one in self.passes]
        found: list = []
        self.passes = []
        for x, y in self.parts:
            try:
                one = Pass(self.shape, self.loss, theta, head, x, y, self.share)
            except NoMiddle:
                found.append(None)
                continue
            self.passes.append(one)
            _, *gradients = one.back()
            found.append((one.value, self._pulled_back(*gradients)))
        return found


def root_of_cost(shape: Shape, effort: float, smoothness: float) -> np.ndarray:
    """R^(-1/2), (K, K): theta.R theta = sum dt (effort |theta|^2 + smoothness |theta'|^2)."""
    K, dt = shape.layers, shape.dt
    difference = np.diff(np.eye(K), axis=0) / dt
    R = dt * (effort * np.eye(K) + smoothness * difference.T @ difference)
    values, vectors = np.linalg.eigh(R)
    return (vectors / np.sqrt(values)) @ vectors.T


@dataclass(frozen=True)
class Minimum:
    """Where a minimisation ended.

    Attributes:
        z: the unknowns.
        converged, reason: how it ended, in words.
        history: one dict per iteration: method, step, cost, gradient.
    """

    z: np.ndarray
    converged: bool
    reason: str
    history: list[dict]


def minimise(
    objective: Objective, starts: list, gtol: float, max_it: int, progress: bool | None
) -> Minimum:
    """Go down until |dJ/dz| <= gtol sqrt(J at rest). Collective; all ranks have the result.

    It begins at the first of the starts at which all implicit layers have solutions.

    At a minimum where the loss is not concave, Newton's step would gain less than half the square
    of |dJ/dz|: the cost is known to the share gtol^2 of what it is at rest.
    """
    comm, found = objective.comm, None
    if comm.rank > 0:
        objective.follow()
    with together(comm):
        if comm.rank == 0:
            try:
                found = _Descent(objective, starts, max_it, progress).run(gtol)
            finally:
                objective.dismiss()
    return comm.bcast(found)


class _Descent:
    """TAO on rank 0."""

    def __init__(self, objective: Objective, starts: list, max_it: int, progress: bool | None):
        self.objective, self.max_it = objective, max_it
        self.history: list[dict] = []
        possible = (z for z in starts if np.isfinite(objective.value_and_gradient(z)[0]))
        if (z := next(possible, None)) is None:
            raise ProblemError(
                "An implicit layer has no solution where the descent would start: its step dt is "
                "too long. Take more layers, or form='block'."
            )
        self.shown = sys.stderr.isatty() if progress is None else progress
        self.failed: list[BaseException] = []
        self.x = PETSc.Vec().createWithArray(z.copy(), comm=PETSc.COMM_SELF)
        self.hessian = PETSc.Mat().createPython((z.size, z.size), self, comm=PETSc.COMM_SELF)
        self.hessian.setUp()
        rest = objective.value_and_gradient(np.zeros_like(z))[0]
        self.unit, self.wall = np.sqrt(rest), WALL * rest

    def run(self, gtol: float) -> Minimum:
        """Quasi-Newton to a rough gradient, or for half of the iterations, then Newton."""
        try:
            first = (self.max_it + 1) // 2
            self._stage("quasi-Newton", "lmvm", max(ROUGH, gtol) * self.unit, first)
            if self.history[-1]["gradient"] <= gtol * self.unit:
                return Minimum(self.x.array_r.copy(), True, CONVERGED, self.history)
            left = max(self.max_it - self.history[-1]["step"], 1)
            code, reason = self._stage("Newton", "ntr", gtol * self.unit, left)
            return Minimum(self.x.array_r.copy(), code > 0, reason, self.history)
        finally:
            self.hessian.destroy()
            self.x.destroy()

    def _stage(self, name: str, kind: str, tolerance: float, max_it: int) -> tuple[int, str]:
        """TAO's reason to stop, as a number and in words."""
        tao = PETSc.TAO().create(PETSc.COMM_SELF)
        try:
            tao.setType(kind)
            tao.setObjectiveGradient(self._objective_and_gradient, self.x.duplicate())
            if kind == "ntr":
                tao.setHessian(self._linearise, self.hessian)
                tao.getKSP().setTolerances(max_it=INNER)
                tao.getKSP().getPC().setType("none")
                # By default PETSc takes any step for good that changes the cost by less than 1e-6.
                tao.setOptionsPrefix(petsc.PREFIX + OPTIONS)
                with petsc.options({f"{OPTIONS}tao_ntr_epsilon": SAME * self.unit**2}):
                    tao.setFromOptions()
            tao.setTolerances(gatol=tolerance, grtol=0.0, gttol=0.0)
            tao.setMaximumIterations(max_it)
            tao.setMonitor(lambda tao: self._monitor(name, tao))
            try:
                tao.solve(self.x)
            finally:
                if self.failed:
                    raise self.failed[0]
            code = tao.getConvergedReason()
            return code, REASONS.get(code, petsc.reason(tao))
        finally:
            tao.destroy()

    def _objective_and_gradient(self, tao, x, g) -> float:
        """As TAO wants it: an interrupt must not pass through it, and stops it instead."""
        value, gradient = self.wall, np.zeros(x.size)
        try:
            if not self.failed:
                value, gradient = self.objective.value_and_gradient(x.array_r.copy())
        except BaseException as error:
            self.failed.append(error)
        if self.failed:
            tao.setConvergedReason(PETSc.TAO.ConvergedReason.DIVERGED_USER)
        g.array[:] = gradient
        return value if np.isfinite(value) else self.wall

    def _linearise(self, tao, x, H, P):
        self.z = x.array_r.copy()

    def mult(self, mat, x, y):
        """The Hessian, called by PETSc."""
        y.array[:] = self.objective.product(self.z, x.array_r)

    def _monitor(self, name: str, tao):
        it, value, norm, *_ = tao.getSolutionStatus()
        if self.history and (name, it) == tuple(self.history[-1].values())[:2]:
            return  # a step was refused
        self.history.append({"method": name, "step": it, "cost": value, "gradient": norm})
        costs = [row["cost"] for row in self.history if row["method"] == "Newton"][-STUCK:]
        if len(costs) == STUCK and costs[0] - costs[-1] <= 1e-12 * costs[-1]:
            tao.setConvergedReason(PETSc.TAO.ConvergedReason.DIVERGED_TR_REDUCTION)
        log.info("%s: step %d, cost %.8g, gradient %.1e", name, it, value, norm)
        if self.shown:
            print(f"{name:<12}  {it:4d}  {value:.8f}  {norm:.1e}", file=sys.stderr, flush=True)
