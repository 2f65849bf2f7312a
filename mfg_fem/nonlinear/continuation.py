"""Continuation from an easy problem to the one that was asked, chosen automatically.

1. *Cold start.* Uniform densities at all times, and for u what they cost on average, constant in
   space. If the HJB residual is large there (exits, steep terminal costs), or costs that do not
   depend on m outweigh those that do, u is the best response of one player to it instead (a
   nonlinear HJB sweep).
2. *Nested in time.* With congestion a coarser time grid comes first. If Newton fails from there, it
   tries once more with the density that the drift of this start transports.
3. *First order.* If that fails with a limited scheme (`Sharp`; vacuum with little diffusion, exits
   with few steps), its sharpness is 0 in all stages until the problem that was asked is solved to
   first order. It is then 1, or what can be reached in steps that are halved.
4. *Path.* If the start still fails (congestion with little diffusion), a homotopy: the seen density
   is gap crowd + (1 - gap) m with the uniform density crowd, and the diffusion D stretch^gap, while
   the homotopy parameter gap falls from 1 to 0. At 1 each plays alone: an HJB and then a linear
   Fokker-Planck equation. If moving is easy where nobody is, as for H = |p|^2 / (c0 + c1 m)^a, the
   gap bounds the seen density from below, so it falls by a ratio: the last of it matters as much as
   the first. The ratio adapts, and so does the smallest gap before 0. A stationary problem has the
   diffusion alone on its path: the best response to a uniform crowd would lead far away.

All parameters are Constants of the compiled forms, so that no stage compiles anything. The path is
a chain of stages, each one Newton solve. The next stage depends only on this one and on how it
ended, so that a solve can go on from any `State`: see `resume.py`.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from mpi4py import MPI

import numpy as np

from mfg_fem._compat import interpolation_points
from mfg_fem.discrete.clearing import Clearing
from mfg_fem.discrete.spacetime import SpaceTime
from mfg_fem.linear.coupled.bordered import BorderedForm
from mfg_fem.linear.coupled.formulations import Equation, form_of
from mfg_fem.linear.level.sweeps import Sweeps
from mfg_fem.linear.plan import Plan
from mfg_fem.nonlinear.advice import advice
from mfg_fem.nonlinear.method import Newton
from mfg_fem.nonlinear.newton import STALE, NewtonSolver, Outcome, Patience
from mfg_fem.nonlinear.responses import best_response, transport
from mfg_fem.nonlinear.stages import LAST_GAP, RATIO, SHARPER, Stage, State, at_times
from mfg_fem.problem.checks import refuse_not_finite

log = logging.getLogger(__name__)

PATH_MAX_IT = 10  # most Newton steps of the whole path, in multiples of max_it
PRECISE = 1e-5  # tolerance where markets do not clear yet, relative to the usual
EASED = 0.1  # tolerance of stages on the way, relative to their first residual
LEAST_RATIO, MOST_RATIO = 0.02, 0.97  # bounds of the ratio of a gap to the one before
PATIENCE = Patience()
ASTRAY = Patience(cuts=2, length=0.3)  # on the path short steps mean that the stage is too far
QUICK, GOOD = 2, 3  # after so few Newton steps the next ratio is squared, or to the power 1.25
STRETCHES = (1.0, 8.0, 64.0)  # viscosity factors at gap 1, tried in this order
# HJB residual at uniform densities, relative to the Fokker-Planck residual, up to which Newton
# starts without best response.
EVEN = 0.25
# Residual relative to that of the start, below which Newton stops because of round-off.
ROUND_OFF = 1e-9


class Path:
    """The stages on one time grid; a coarse grid has no path. The plan must be in force.

    Newton's unknowns Y are those of the system, X, with prices if there are any.
    """

    def __init__(
        self,
        system: SpaceTime,
        plan: Plan,
        method: Newton,
        record: Callable[[dict, State], None],
        coarse: bool = False,
    ):
        self.system, self.method, self.record = system, method, record
        self.sweeps = Sweeps(system.jacobian, plan.sweep)
        self.clearing = Clearing(system) if system.discrete.problem.prices else None
        whole = self.clearing or system
        scale = np.broadcast_to(whole.row_scale(), whole.shape)
        equation = Equation(system.jacobian, plan, self.sweeps, scale, whole.unit)
        form = BorderedForm(equation, self.clearing) if self.clearing else form_of(equation)
        self.newton = NewtonSolver(whole, form, self._record)
        self.auto, self.coarse = method.continuation == "auto", coarse
        self.limited = system.discrete.scheme.limited
        self.stationary = system.discrete.problem.stationary

    def destroy(self):
        """Free PETSc's objects, except the system's."""
        self.newton.destroy()
        self.sweeps.destroy()
        self.system.discrete.pattern.free_parts()

    def _record(self, row: dict, Y: np.ndarray):
        self.record(row, replace(self.state, X=Y))

    def _unknowns(self, X: np.ndarray) -> np.ndarray:
        return self.clearing.unknowns_of(X) if self.clearing else X

    def _inside(self, Y: np.ndarray) -> np.ndarray:
        """X of Y, with prices set."""
        return self.clearing.inside(Y) if self.clearing else Y

    def _norms(self, X: np.ndarray) -> np.ndarray:
        """Norms of the residual at X, whether markets clear there or not."""
        return self.system.norms(X) if self.clearing else self.newton.norms(X)

    def set(self, gap: float, stretch: float, sharpness: float):
        """Set the gap, the viscosity factor and the sharpness of forms and steps."""
        state = self.system.discrete.state
        share = 1.0 if self.stationary else 1 - gap
        state.share.value, state.stretch.value = share, stretch**gap
        self.system.sharpen(sharpness)

    @property
    def _easy(self) -> float:
        """The sharpness of easier problems."""
        return 0.0 if self.limited else 1.0

    def respond(self, X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """X with the best response to its densities for u, and the norms of the residual there.

        If that sweep fails, it may return X itself: only the monotone scheme promises that it
        succeeds.
        """
        response, solved = best_response(self.system, self.sweeps, X)
        norms = self._norms(response)
        if solved and np.isfinite(norms).all():
            return response, norms
        before = self._norms(X)
        return (response, norms) if norms[0] <= before[0] else (X, before)

    def _cold(self) -> tuple[np.ndarray, np.ndarray]:
        """The cold start, with or without best response, and the norms of the residual there.

        A stationary one with exits or markets also has the density that its drift makes.
        """
        d, X = self.system.discrete, self.system.even_crowd()
        if self.stationary:
            if d.has_exits or self.clearing:
                X = transport(self.system, self.sweeps, self.respond(X)[0])
            return X, self._norms(X)
        with self.system.sturdy():  # averages with the initial density are no sign of unrest
            norms, units = self._norms(X), d.problem.units
        d.set_state(X[0, :, 0], X[1, :, 0], 0.0)
        slope = d.integral(d.coupling()[: d.k**2]).sum() / (d.k * d.volume)
        # How much the costs depend on the density, as a norm of HJB rows.
        felt = slope * units.density * units.time / units.cost
        if norms[0] <= min(EVEN * norms[1], felt):
            return X, self._norms(X) if self.limited else norms
        return self.respond(X)

    def _natural_norm(self, X: np.ndarray) -> float:
        """The norm of the residual if u_t is about u / T and m_t about m / T. Collective."""
        return float(np.hypot(self.system.size(X[0]), 1.0))

    def first(
        self,
        guess: tuple[np.ndarray, ...] | None,
        nested: tuple[np.ndarray, ...] | None,
        failed: str = "",
    ) -> State:
        """First stage: from a guess, a coarser grid, or cold; of the path if that grid failed."""
        steps = self.system.steps
        # With congestion a cold start of a limited scheme would hardly do: first order comes first.
        cold = self.auto and guess is None
        sharpness = self._easy if cold and self.system.discrete.forms.congested else 1.0
        self.set(0.0, 1.0, sharpness)
        self._start_prices()
        (X, norms), name = self._cold(), "cold"
        if not np.isfinite(norms).all():
            self._refuse()
        # The residual is relative to this start's, which no guess makes small; but that may be huge
        # because of a step at an exit, or zero where the uniform density is the solution.
        natural = self._natural_norm(X)
        atol = self.method.rtol * np.clip(np.linalg.norm(norms), natural / 100, 10 * natural)
        if self.coarse:
            atol *= 1e3  # the error of the coarse grid is larger than this
        if guess is not None:
            X, name = self._interpolated(*guess), "guess"
        elif nested is not None:
            (X, _), name = self.respond(self._interpolated(*nested)), "nested"
        Y = self._unknowns(X)
        state = State(Stage(steps, name, sharpness=sharpness), float(atol), Y, Y)
        return self._alone(state, replace(state.stage, failed=failed), 0) if failed else state

    def _start_prices(self):
        """Let prices be those that the problem starts with."""
        paid, steps = self.system.discrete.state.paid, self.system.steps
        starts = [paid.prices.starts.get(name, 0.0) for name in paid.prices]
        paid.set(self.system.times, np.repeat(starts, steps))

    def _interpolated(
        self, times: np.ndarray, u: np.ndarray, m: np.ndarray, prices: np.ndarray
    ) -> np.ndarray:
        """Unknowns by linear interpolation in time, stretched from another horizon; sets prices."""
        here, paid = self.system.times, self.system.discrete.state.paid
        paid.set(times * (here[-1] / times[-1]), prices)
        paid.set(here, paid.at((here[:-1] + here[1:]) / 2))
        return self.system.hold(at_times(times * (here[-1] / times[-1]), u, m, here))

    def _refuse(self):
        """Say which data are not finite at uniform densities, and when. Collective."""
        system, discrete = self.system, self.system.discrete
        X = np.zeros(system.shape)
        for m, crowd in zip(X[1], discrete.state.crowd, strict=True):
            m[:] = crowd.value
        bad = ~np.isfinite(system.residual(X)).all(axis=(0, 1, 3))
        n = int(np.argmax(system.comm.allreduce(bad.astype(int), MPI.SUM) > 0))
        space = discrete.scheme.points(discrete.V.mesh, 1)
        t = (system.times[n] + system.times[n + 1]) / 2
        refuse_not_finite(discrete.problem, interpolation_points(space), t)

    def walk(self, state: State, rows: list[dict]) -> Outcome:
        """Solve stage by stage, up to the last; `rows` is the known history of the first."""
        following: State | None = state
        while following:
            self.state, stage = following, following.stage
            self.set(stage.gap, stage.stretch, stage.sharpness)
            atol, patience = self.state.atol, None
            if self.auto and stage.name != "guess":
                patience = ASTRAY if stage.on_path else PATIENCE
            if stage.eased and not self.coarse:
                atol = max(atol, EASED * float(np.linalg.norm(self.newton.norms(self.state.start))))
            closing = self.clearing if stage.asked and not self.coarse else None
            outcome = self.newton.solve(
                self.state.X,
                PRECISE * atol if closing else atol,
                self.method.max_it,
                str(stage),
                rows,
                patience,
                partial(closing.enough, atol=atol) if closing else None,
            )
            if closing and outcome.norm <= atol:  # more was tried for
                reason = outcome.reason if outcome.converged else "converged to round-off"
                outcome = replace(outcome, converged=True, tolerance=atol, reason=reason)
            following, rows = self.after(self.state, outcome), []
        self.set(0.0, 1.0, stage.sharpness)
        if stage.settled:
            discrete = self.system.discrete
            sharpness = discrete.scheme.sharpness * stage.sharpness
            discrete.scheme = replace(discrete.scheme, sharpness=sharpness)
        if stage.failed and not outcome.converged:
            failed = f"{stage.failed}; then, in the easier problem {str(stage)!r}"
            outcome = replace(outcome, failed=failed)
        if not (outcome.converged or self.coarse):
            outcome = replace(outcome, advice=advice(self.system.discrete.problem))
        if self._at_round_off(self.state, outcome):
            rtol = f"rtol={self.method.rtol:.3g}"
            failed = f"round-off begins here; {rtol} is less"
            outcome = replace(outcome, failed=failed, advice="Try a larger rtol.")
        return outcome

    def close(self, outcome: Outcome) -> Outcome:
        """With the unknowns of the system; of a solution, the density fulfils its equation.

        That is to round-off, unless the HJB residual would grow too much, as with strongly negative
        densities.
        """
        found = self._inside(outcome.X)
        if not outcome.converged:
            return replace(outcome, X=found)
        X = transport(self.system, self.sweeps, found)
        norm = np.linalg.norm(self.newton.norms(self._unknowns(X)))
        if norm > STALE * max(outcome.norm, outcome.tolerance):
            X = found
        return replace(outcome, X=self.system.settled(X))

    def _at_round_off(self, state: State, outcome: Outcome) -> bool:
        """Whether round-off, and not max_it, has kept Newton from a smaller residual."""
        start, stopped = state.atol / self.method.rtol, outcome.iterations >= self.method.max_it
        asked = state.stage.asked and not self.coarse
        return asked and not (outcome.converged or stopped) and outcome.norm <= ROUND_OFF * start

    def after(self, state: State, outcome: Outcome) -> State | None:
        """The stage after that of `state`; None if it was the last."""
        stage, X = state.stage, state.start
        done = outcome.converged or self._at_round_off(state, outcome)  # the path cannot help
        if not self.auto or self.coarse or (done and stage.asked):
            return None
        if stage.name == SHARPER or (outcome.converged and not stage.gap):
            if stage.settled:
                return None
            if outcome.converged:
                X, stage = outcome.X, replace(stage, reached=stage.sharpness)
            log.info("Newton goes on to more sharpness than %.3g", stage.reached)
            return replace(state, stage=stage.sharper(), start=X, X=X)
        if stage.name == "nested":
            moved = self._unknowns(transport(self.system, self.sweeps, self._inside(X)))
            if np.isfinite(self.newton.norms(moved)).all():
                log.info("Newton stopped (%s); moving the crowd along its drift", outcome.reason)
                stage = replace(stage, name="nested, moved")
                return replace(state, stage=stage, start=moved, X=moved)
        if not stage.on_path:
            stage = replace(stage, failed=outcome.reason)
            if self.limited and stage.sharpness:
                log.info("Newton stopped (%s); solving to first order", outcome.reason)
                stage = replace(stage, name="first order", sharpness=0.0)
                self.set(0.0, 1.0, 0.0)
                self._start_prices()
                X = self._unknowns(self._cold()[0])
                return replace(state, stage=stage, start=X, X=X)
            log.info("Newton stopped (%s); going through easier problems", outcome.reason)
            return self._alone(state, stage, 0)
        steps, ratio = outcome.iterations, stage.ratio
        stage = replace(stage, taken=stage.taken + steps)
        if stage.taken > PATH_MAX_IT * self.method.max_it:
            return None
        if outcome.converged:
            X = outcome.X
            ratio **= 2 if steps <= QUICK else 1.25 if steps <= GOOD else 1
            stage = stage.towards(max(ratio, LEAST_RATIO), before=stage.gap)
        elif not stage.gap and stage.last > stage.ratio * stage.before:
            stage = stage.towards(ratio, last=stage.last / 4)  # gap 0 was too far
        elif ratio**0.5 > MOST_RATIO:
            which = stage.restarts + 1
            return self._alone(state, stage, which) if which < len(STRETCHES) else None
        else:
            stage = stage.towards(ratio**0.5)
        return replace(state, stage=stage, start=X, X=X)

    def _alone(self, state: State, stage: Stage, which: int) -> State:
        """The first stage of the path: the best response to uniform densities, and its density."""
        stretch = STRETCHES[which] * (STRETCHES[1] if self.stationary else 1.0)
        self.set(1.0, stretch, self._easy)
        self._start_prices()
        if self.stationary:
            X, _ = self._cold()
        else:
            X = transport(self.system, self.sweeps, self.respond(self.system.even_crowd())[0])
        stage = replace(stage, name="path", stretch=stretch, before=1.0, last=LAST_GAP)
        stage = replace(stage, sharpness=self._easy, restarts=which)
        Y = self._unknowns(X)
        return replace(state, stage=stage.towards(RATIO), start=Y, X=Y)
