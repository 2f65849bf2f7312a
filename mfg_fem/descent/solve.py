"""Descent on the reduced problem of a shared control: PETSc TAO."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from petsc4py import PETSc

import numpy as np

from mfg_fem import petsc
from mfg_fem.descent.objective import ReducedProblem
from mfg_fem.descent.particles import ParticleProblem
from mfg_fem.errors import ProblemError
from mfg_fem.problem.shared import SharedControl
from mfg_fem.validate import count, fraction

LIMIT = "stopped at the iteration limit"
REASONS = {
    PETSc.TAO.ConvergedReason.CONVERGED_GTTOL: "converged (the gradient is small enough)",
    PETSc.TAO.ConvergedReason.DIVERGED_MAXITS: LIMIT,
    PETSc.TAO.ConvergedReason.DIVERGED_LS_FAILURE: "stopped as the line search found nothing lower",
}


@dataclass(frozen=True)
class LagrangeGalerkin:
    """Any density, in P1 on the mesh, with any noise; each step spreads it by about h/2."""

    def reduced(self, problem: SharedControl, steps: int) -> ReducedProblem:
        """J as a function of the field."""
        return ReducedProblem(problem, steps)


@dataclass(frozen=True)
class Particles:
    """The samples themselves are moved: they are not spread, and few samples stay few.

    Args:
        seed: of the noise, which is drawn once if diffusion > 0.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what is no seed."""
        count("seed", self.seed, 0)

    def reduced(self, problem: SharedControl, steps: int) -> ReducedProblem:
        """J as a function of the field."""
        return ParticleProblem(problem, steps, self.seed)


@dataclass(frozen=True)
class Descent:
    """Limited-memory quasi-Newton descent on the reduced problem (PETSc TAO, type bqnls).

    Args:
        max_it: largest number of iterations.
        gtol: stop when the gradient norm is below gtol times the first.
        petsc_options: options without the prefix `mfg_`, e.g. {"tao_type": "cg"}; the command
            line (`-mfg_tao_monitor`) wins over them.
    """

    max_it: int = 200
    gtol: float = 1e-4
    petsc_options: Mapping[str, object] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing."""
        count("max_it", self.max_it)
        fraction("gtol", self.gtol)
        petsc.check_names(self.petsc_options)
        object.__setattr__(self, "petsc_options", dict(self.petsc_options))


@dataclass(frozen=True)
class Optimum:
    """Where a descent ended.

    Attributes:
        reduced: the reduced problem, whose PETSc objects are freed.
        v: the field at the owned nodes, shape (steps, owned, d).
        masses: nodal masses, (steps + 1, classes, owned).
        converged, reason: how the descent ended, in words.
        history: one dict per iteration: step, objective, gradient.
    """

    reduced: ReducedProblem
    v: np.ndarray
    masses: np.ndarray
    converged: bool
    reason: str
    history: list[dict]


def descend(
    problem: SharedControl,
    steps: int,
    scheme: LagrangeGalerkin | Particles,
    method: Descent,
    on_step: Callable[[dict], None],
) -> Optimum:
    """Descend from v = 0. Collective."""
    nodes = problem.domain.mesh.topology.index_map(0).size_global
    if steps * nodes * problem.domain.dim > np.iinfo(PETSc.IntType).max:
        raise ProblemError(f"{steps} steps on {nodes} nodes are too many unknowns for PETSc.")
    reduced = scheme.reduced(problem, steps)
    comm, history = reduced.comm, []
    failed: list[BaseException] = []
    x = PETSc.Vec().createMPI((int(np.prod(reduced.shape)), PETSc.DETERMINE), comm=comm)
    x.set(0.0)

    def guarded(tao: PETSc.TAO, action: Callable[[], Any]) -> Any:
        """Stop TAO where a callback raises: it does not survive an exception."""
        try:
            if not failed:
                return action()
        except BaseException as exc:
            failed.append(exc)
        tao.setConvergedReason(PETSc.TAO.ConvergedReason.DIVERGED_USER)

    def objective_and_gradient(tao: PETSc.TAO, w: PETSc.Vec, g: PETSc.Vec) -> float:
        found = guarded(
            tao, lambda: reduced.objective_and_gradient(w.array_r.reshape(reduced.shape))
        )
        value, gradient = found or (0.0, np.zeros(reduced.shape))
        g.array[:] = gradient.ravel()
        return value

    def monitor(tao: PETSc.TAO) -> None:
        it, value, norm, *_ = tao.getSolutionStatus()
        history.append({"step": it, "objective": value, "gradient": norm})
        guarded(tao, lambda: on_step(history[-1]))

    tao = PETSc.TAO().create(comm)
    try:
        tao.setType("bqnls")  # its line search copes better with the kinks of J than lmvm's
        tao.setOptionsPrefix(petsc.PREFIX)
        tao.setObjectiveGradient(objective_and_gradient, x.duplicate())
        tao.setTolerances(gatol=0.0, grtol=0.0, gttol=method.gtol)
        tao.setMaximumIterations(min(method.max_it, np.iinfo(np.int32).max))
        tao.setMonitor(monitor)
        names = [name for name in petsc.from_outside() if name.startswith("tao_")]
        with petsc.options({"tao_lmm_vectors": 20} | dict(method.petsc_options)):
            petsc.check_read([*names, *method.petsc_options], tao.setFromOptions)
            try:
                tao.solve(x)
            finally:
                if failed:
                    raise failed[0]
        code = tao.getConvergedReason()
        reason = REASONS.get(code, petsc.reason(tao))
        v = reduced.velocity(x.array_r.reshape(reduced.shape).copy())
        masses = reduced.trajectory(v)
    finally:
        reduced.destroy()
        tao.destroy()
        x.destroy()
    return Optimum(reduced, v, masses, code > 0, reason, history)
