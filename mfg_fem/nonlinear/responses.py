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

# Implicit steps towards a best response that lasts: see `lasting_response`.
MOST_SOLVES = 300
MOST_NEWTON = 20  # of Newton's in a step
NEAR, WORSE = 1e-2, 1e8  # the residual of a step, relative to its first, at which it ends
LONGEST, SHORTEST = 1e6, 1e-9  # steps in the unit of time; longer ones are infinite
QUICK, LONGER, SHORTER = 4, 4.0, 8.0  # after QUICK solves steps are LONGER, else half as much


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
    """X with u the best response to m of all populations; and whether all levels converged.

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
    solved = True
    u_next, _ = system.discrete.ends.values(system.discrete, X[1, :, -1])
    for n in reversed(range(system.steps)):
        X[0, :, n], first = u_next, None
        for i, exits in enumerate(system.discrete.exits):
            X[0, i, n, exits.held] = exits.cost(system.times[n])
        for _ in range(most):
            residual = system.hjb_rows(X, n, u_next)
            norm = _norm(system, residual)
            first = first or norm
            if norm <= max(rtol * first, atol):
                break
            if not np.isfinite(norm):
                return X, False
            system.linearise_hjb(n)
            X[0, :, n] -= sweeps.respond(n, residual)
        else:
            solved = False
        u_next = X[0, :, n]
    return X, solved


def lasting_response(system: SpaceTime, sweeps: Sweeps, X: np.ndarray, atol: float) -> np.ndarray:
    """X with u the best response to m in a `Stationary` system, as far as it is found. Collective.

    By Newton's method from u of X; where that fails, by implicit steps in time, whose length grows
    as Newton solves them: the value function of a longer and longer horizon. A residual of at most
    atol is the end.
    """
    J, X = system.jacobian, X.copy()
    unit, long, tau, left = system.discrete.problem.units.time, J.border.dt, np.inf, MOST_SOLVES
    u = X[0, :, 0].copy()
    while _norm(system, system.hjb_rows(X, 0, u)) > atol and left > 0 and tau > SHORTEST * unit:
        J.border.dt = 1 / (1 / tau + 1 / long)
        solves, found = _implicit_step(system, sweeps, X, tau, atol)
        left -= solves
        if found:
            u = X[0, :, 0].copy()
            tau *= LONGER if solves <= QUICK else LONGER / 2
            tau = tau if tau < LONGEST * unit else np.inf
        else:
            X[0, :, 0] = u
            tau = min(tau / SHORTER, unit)
    J.border.dt = long
    sweeps.forget_response()
    return X


def _implicit_step(
    system: SpaceTime, sweeps: Sweeps, X: np.ndarray, tau: float, atol: float
) -> tuple[int, bool]:
    """Put the solution v of (v - u) / tau + HJB rows (v) = 0 in the place of u in X. Collective.

    Returns how many linear solves it took, and whether v is found.
    """
    J, pattern = system.jacobian, system.discrete.pattern
    u, first = X[0, :, 0].copy(), 0.0
    rates = [pattern.split(entries / tau) for entries in system.discrete.step_entries]
    for solves in range(MOST_NEWTON + 1):
        change = np.stack([J.mult_mass(own) for own in X[0, :, 0] - u])
        residual = system.hjb_rows(X, 0, u) + change / tau
        norm = _norm(system, residual)
        first = first or norm
        if norm <= atol or (tau < np.inf and norm <= NEAR * first):
            return solves, True
        if not norm <= WORSE * first or solves == MOST_NEWTON:
            break
        system.linearise_hjb(0)
        for (A,), rate in zip(J.A, rates, strict=True):
            pattern.add(A, rate)
        X[0, :, 0] -= sweeps.respond(0, residual)
    return solves, False


def _norm(system: SpaceTime, rows: np.ndarray) -> float:
    """The Euclidean norm of rows of one level. Collective."""
    return float(np.sqrt(system.comm.allreduce(np.vdot(rows, rows), MPI.SUM)))


def transport(system: SpaceTime, sweeps: Sweeps, X: np.ndarray) -> np.ndarray:
    """X with m replaced by the density that the drift of X carries: a linear forward sweep.

    Its Fokker-Planck residual is round-off (with congestion: of second order in the change, or of
    first where a Hamiltonian sees smooth() or total()), so that mass and positivity hold as the
    scheme promises, whatever Newton's tolerance. Limited steps are not linear in m: they take up to
    MAX_SWEEPS of Newton's sweeps, which leave some people at each node as `SpaceTime.admissible`
    says, until the residual is round-off.
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
