"""Nonlinear sweeps: best responses to densities, and the density that a drift transports."""

from mpi4py import MPI

import numpy as np

from mfg_fem.discrete.spacetime import SpaceTime
from mfg_fem.linear.level.sweeps import Sweeps

MAX_POLICY_ITERATIONS = 12  # few suffice, except near the first, roughest level
MAX_CORRECTIONS = 8  # sweeps until the residual is round-off
EPS = np.finfo(float).eps


def best_response(system: SpaceTime, sweeps: Sweeps, X: np.ndarray) -> tuple[np.ndarray, bool]:
    """X with u the best response to m, per population; and whether all levels converged.

    Backward in time, Newton on each time level starts from the next level. For convex H and the
    monotone scheme this is policy iteration, which converges from any start.
    """
    X, solved, J = X.copy(), True, system.jacobian
    u_T, _ = system.discrete.ends.values(system.discrete, X[1, :, -1])
    for i, exits in enumerate(system.discrete.exits):
        u_next = u_T[i]
        for n in reversed(range(system.steps)):
            X[0, i, n], first = u_next, None
            X[0, i, n, exits.held] = exits.cost[exits.held]
            for _ in range(MAX_POLICY_ITERATIONS):
                residual = system.hjb_row(X, i, n, u_next)
                norm = np.sqrt(system.comm.allreduce(residual @ residual, MPI.SUM))
                first = first or norm
                if norm <= 1e-2 * first:
                    break
                if not np.isfinite(norm):
                    return X, False
                system.fill_hjb(J.A[i][n], i, n)
                X[0, i, n] -= sweeps.respond(i, n, residual)
            else:
                solved = False
            u_next = X[0, i, n]
    sweeps.forget_response()
    return X, solved


def transport(system: SpaceTime, sweeps: Sweeps, X: np.ndarray) -> np.ndarray:
    """X with m replaced by the density that the drift of X carries: a linear forward sweep.

    Its Fokker-Planck residual is round-off (with congestion: of second order in the change, or of
    first order where H of one population sees the density of another), so that mass and positivity
    hold as the scheme promises, whatever Newton's tolerance.
    """
    X, comm, J = X.copy(), system.comm, system.jacobian
    system.linearise_fp(X)
    residual = system.fp_residual(X)
    last = np.stack([J.mult_mass(m) for m in X[1, :, -1]])
    largest = np.abs(last).max(initial=0.0) / system.dt[-1]
    round_off = 0.1 * EPS * comm.allreduce(largest, MPI.MAX)
    # One sweep to round-off costs less than several to the tolerance of sweeps.
    with sweeps.tolerances(EPS, round_off):
        for _ in range(MAX_CORRECTIONS):
            change = sweeps.forward(residual)
            X[1] -= change
            if sweeps.plan.exact:
                break
            residual = residual - J.mult_B(change)
            if comm.allreduce(np.abs(residual).max(initial=0.0), MPI.MAX) <= round_off:
                break
    return X
