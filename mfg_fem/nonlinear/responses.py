"""Nonlinear sweeps: best responses to densities, and the density that a drift transports."""

from contextlib import nullcontext

from mpi4py import MPI

import numpy as np

from mfg_fem.discrete.spacetime import SpaceTime
from mfg_fem.linear.level.sweeps import Sweeps

MAX_POLICY_ITERATIONS = 12  # few suffice, except near the first, roughest level
MAX_CORRECTIONS = 8  # solves until the residual of a sweep is round-off
MAX_SWEEPS = 10  # of Newton's, for limited steps
FLAT = 100.0  # times round-off: the residual at which these end
CLOSER = 0.1  # one that reduces the residual to less needs no new linearisation after it
EPS = np.finfo(float).eps


def best_response(
    system: SpaceTime,
    sweeps: Sweeps,
    X: np.ndarray,
    rtol: float = 1e-2,
    *,
    atol: float = 0.0,
    most: int = MAX_POLICY_ITERATIONS,
    sturdy: bool = True,
) -> tuple[np.ndarray, bool]:
    """X with u the best response to m, per population; and whether all levels converged.

    Backward in time, Newton on each time level starts from the next level. For convex H and a
    positive scheme this is policy iteration, which converges from any start; limited steps are
    Euler steps here if it is to be `sturdy`. A level ends at an HJB residual of rtol times its
    first one or at atol, or after `most` iterations.
    """
    with system.sturdy() if sturdy else nullcontext():
        found = _responses(system, sweeps, X.copy(), rtol, atol, most)
    sweeps.forget_response()
    return found


def _responses(
    system, sweeps: Sweeps, X: np.ndarray, rtol: float, atol: float, most: int
) -> tuple[np.ndarray, bool]:
    solved, J = True, system.jacobian
    u_T, _ = system.discrete.ends.values(system.discrete, X[1, :, -1])
    for i, exits in enumerate(system.discrete.exits):
        u_next = u_T[i]
        for n in reversed(range(system.steps)):
            X[0, i, n], first = u_next, None
            X[0, i, n, exits.held] = exits.cost(system.times[n])
            for _ in range(most):
                residual = system.hjb_row(X, i, n, u_next)
                norm = np.sqrt(system.comm.allreduce(residual @ residual, MPI.SUM))
                first = first or norm
                if norm <= max(rtol * first, atol):
                    break
                if not np.isfinite(norm):
                    return X, False
                system.fill_hjb(J.A[i][n], i, n)
                X[0, i, n] -= sweeps.respond(i, n, residual)
            else:
                solved = False
            u_next = X[0, i, n]
    return X, solved


def transport(system: SpaceTime, sweeps: Sweeps, X: np.ndarray) -> np.ndarray:
    """X with m replaced by the density that the drift of X carries: a linear forward sweep.

    Its Fokker-Planck residual is round-off (with congestion: of second order in the change, or of
    first order where H of one population sees the density of another), so that mass and positivity
    hold as the scheme promises, whatever Newton's tolerance. Limited steps are not linear in m:
    they take up to MAX_SWEEPS of Newton's sweeps, which leave some people at each node as
    `SpaceTime.admissible` says, until the residual is round-off.
    """
    last = np.stack([system.jacobian.mult_mass(m) for m in X[1, :, -1]])
    largest = np.abs(last).max(initial=0.0) / system.dt[-1]
    round_off = 0.1 * EPS * system.comm.allreduce(largest, MPI.MAX)
    d = system.discrete
    if not (system.jacobian.rule.limited or (d.problem.stationary and d.forms.nonlinear)):
        system.linearise_fp(X)
        change = _swept(system, sweeps, system.fp_residual(X), round_off)
        return np.stack([X[0], X[1] - change])
    least = np.inf
    for _ in range(MAX_SWEEPS):
        residual = system.fp_residual(X)
        norm = system.comm.allreduce(np.abs(residual).max(initial=0.0), MPI.MAX)
        if norm <= FLAT * round_off or norm >= least:
            break
        if norm > CLOSER * least or least == np.inf:
            system.linearise_fp(X)
        least, change = norm, _swept(system, sweeps, residual, round_off)
        X = X - system.admissible(X, np.stack([np.zeros_like(change), change]))[0]
    return X


def _swept(system: SpaceTime, sweeps: Sweeps, residual: np.ndarray, round_off: float) -> np.ndarray:
    """The change of m that a linear forward sweep subtracts, solved to round-off."""
    total = np.zeros_like(residual)
    # One sweep to round-off costs less than several to the tolerance of sweeps.
    with sweeps.tolerances(EPS, round_off):
        for _ in range(MAX_CORRECTIONS):
            change = sweeps.forward(residual)
            total += change
            if sweeps.plan.exact:
                break
            residual = residual - system.jacobian.mult_B(change)
            largest = np.abs(residual).max(initial=0.0)
            if system.comm.allreduce(largest, MPI.MAX) <= round_off:
                break
    return total
