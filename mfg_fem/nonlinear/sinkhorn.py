"""Sinkhorn's iteration for planning problems: by itself a method, and the start of Newton's.

A sweep is the best response u to a terminal cost u(T), the density m that the drift of u carries
from m0, and u(T) += c log(m(T) / m_T) with c = 2 D / H_pp. For H = |p|^2 / 2 and a running cost
that does not see m it is Sinkhorn's iteration for (phi, psi), phi = exp(-u / 2D), m = phi psi, of
the Schroedinger bridge: the best response is the heat equation of phi, the transport that of psi.
Sinkhorn 1967; Fortet 1940; Chen, Georgiou, Pavon 2016.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from mpi4py import MPI

import numpy as np

from mfg_fem import petsc
from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.discrete.planning import Planning
from mfg_fem.discrete.spacetime import SpaceTime
from mfg_fem.errors import ProblemError
from mfg_fem.linear.level.sweeps import Sweeps
from mfg_fem.linear.plan import Plan
from mfg_fem.nonlinear.newton import Outcome, sizes
from mfg_fem.nonlinear.responses import best_response, transport
from mfg_fem.validate import count, flag, number

ACCURATE = 0.1  # tolerance of the best response at each level, relative to that of all
ADVICE = "Newton() is faster with little diffusion; or try a higher floor=."
LEAST = 1e-6  # mobility that counts, relative to the largest


@dataclass(frozen=True)
class Sinkhorn:
    """Sinkhorn's iteration, for planning problems whose costs do not depend on the density.

    Its error falls by a factor a sweep that is the nearer to 1 the less the diffusion and the
    smaller the densities in between: `Newton`, which starts with a few sweeps, is faster there.
    Settings that mean nothing raise ProblemError.

    Args:
        tol: stop when the norm of the residual is below tol, see `discrete/planning.py`.
        max_it: largest number of sweeps.
        petsc_options, check_memory: as those of `Newton`.
    """

    tol: float = 1e-8
    max_it: int = 500
    petsc_options: Mapping[str, object] = field(default_factory=dict, hash=False)
    check_memory: bool = True
    krylov: ClassVar[str] = "auto"
    continuation: ClassVar[str] = "none"

    def __post_init__(self):
        """Refuse settings that mean nothing."""
        if not 0 < number("Sinkhorn: tol", self.tol) < 1:
            raise ProblemError(f"Sinkhorn: tol must lie between 0 and 1, not {self.tol!r}.")
        count("Sinkhorn: max_it", self.max_it)
        flag("Sinkhorn: check_memory", self.check_memory)
        petsc.check_names(self.petsc_options)
        object.__setattr__(self, "petsc_options", dict(self.petsc_options))

    @property
    def rtol(self) -> float:
        """The tolerance, by the name that Newton's has."""
        return self.tol


def start(planning: Planning) -> np.ndarray:
    """Unknowns of the SpaceTime at rest, with u(T) = 0: m0 at all times."""
    ends = planning.ends
    ends.potential = np.zeros_like(ends.start)
    X = np.stack([ends.potential, ends.start])
    return np.repeat(X[:, :, None], planning.inner.steps, axis=2)


def sweep(planning: Planning, sweeps: Sweeps, X: np.ndarray, rtol: float = 1e-2) -> np.ndarray:
    """The best response to u(T), to rtol at each level, and what it transports. Collective."""
    X, _ = best_response(planning.inner, sweeps, X, rtol)
    return transport(planning.inner, sweeps, X)


def raise_end(planning: Planning, X: np.ndarray):
    """Sinkhorn's step of u(T), from the density that X has at the end. Collective."""
    d, ends, m = planning.inner.discrete, planning.ends, X[1, :, -1]
    d.set_state(X[0, :, -1], m, planning.inner.times[-1])
    mobility = d.coupling()[1:] / m
    largest = d.comm.allreduce(mobility.max(initial=0.0), MPI.MAX) or 1.0
    c = 2 * planning.inner.jacobian.diffusion / np.maximum(mobility, LEAST * largest)
    ends.potential = ends.potential + c * np.log(m / ends.target)


def solve_by_sinkhorn(
    discrete: Discretisation,
    times: np.ndarray,
    method: Sinkhorn,
    guess: tuple[np.ndarray, ...] | None,
    record: Callable[[dict, None], None],
    resume: None = None,
) -> tuple[SpaceTime, Plan, Outcome]:
    """As `continuation.solve_stages`; each sweep is a row of the history, without a state.

    Collective.
    """
    if discrete.forms.interacting:
        raise ProblemError(
            "Sinkhorn() is for costs that do not depend on the density, and the running cost or "
            "the Hamiltonian does here. Take Newton()."
        )
    if any(discrete.problem.discounts):
        raise ProblemError("Sinkhorn() is for problems without a discount. Take Newton().")
    if discrete.scheme.limited:
        raise ProblemError(f"Sinkhorn() takes Monotone() or Galerkin(...), not {discrete.scheme}.")
    system = SpaceTime(discrete, times)
    planning, plan = Planning(system), Plan.of(system.jacobian, "auto", method.petsc_options)
    with plan.in_force():
        sweeps = Sweeps(system.jacobian, plan.sweep)
        X, reason, converged, norm = start(planning), "too many sweeps", False, np.inf
        if guess is not None:
            planning.ends.potential = guess[1][:, -1].copy()
        for step in range(1, method.max_it + 1):
            before, X = X, sweep(planning, sweeps, X, ACCURATE * method.tol)
            least = system.facts(X)["min_density"]
            if not least > 0:
                reason = f"the density is negative, down to {least:.1e}"
                break
            row = _row(planning, step, X, before)
            norm = float(np.hypot(row["hjb"], row["fp"]))
            record(row, None)
            converged = norm <= method.tol
            if converged:
                reason = "the residual is small enough"
                break
            raise_end(planning, X)
        X = planning.centre(X)
        sweeps.destroy()
    system.destroy()
    outcome = Outcome(X, converged, reason, step, norm, method.tol, advice=ADVICE)
    return system, plan, outcome


def _row(planning: Planning, step: int, X: np.ndarray, before: np.ndarray) -> dict:
    """The row of the history after a sweep. Collective."""
    change = (X - before) / planning.inner.unit
    return {
        "stage": f"{planning.inner.steps} steps, Sinkhorn",
        "step": step,
        "krylov": 0,
        "forcing": 0.0,
        "form": "sweeps",
        **sizes(planning, planning.rows(X), change),
        **planning.inner.facts(X),
        "step_length": 1.0,
    }
