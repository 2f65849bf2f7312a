"""How a planning problem is solved: from much diffusion and a high floor to what was asked.

1. *Start.* A few of Sinkhorn's sweeps (`sinkhorn.py`) at a large diffusion, with a high floor of
   both densities. Costs that depend on the density see a uniform one first.
2. *Floor.* Newton with the floor falling to its value. Later, with little diffusion, that fails.
3. *Diffusion.* Newton with the diffusion falling to its value. Each solution is near the next, and
   the lower the diffusion, the nearer. So far the scheme is of first order (`Monotone`, or `Sharp`
   at sharpness 0): of the others, densities that vanish, or nodes that are emptied in a step,
   would be in the way.
4. *Sharpness.* When the diffusion of a cell is about that of the scheme, or at the end, the scheme
   becomes the one that was asked, `Sharp` in steps of its sharpness. Then the diffusion falls on.

A stage that fails is halved, three times at most; a limited scheme is then left at the sharpness
that was reached. Achdou, Camilli, Capuzzo-Dolcetta 2012 walk down in a penalty instead.
"""

import logging
from collections.abc import Callable
from dataclasses import replace

from mpi4py import MPI

import numpy as np

from dolfinx import fem

from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.discrete.monotone import Monotone
from mfg_fem.discrete.planning import Planning
from mfg_fem.discrete.spacetime import SpaceTime
from mfg_fem.errors import ProblemError
from mfg_fem.linear.coupled.closing import ClosingForm
from mfg_fem.linear.level.sweeps import Sweeps
from mfg_fem.linear.plan import Plan
from mfg_fem.nonlinear.method import Newton
from mfg_fem.nonlinear.newton import NewtonSolver, Outcome, Patience
from mfg_fem.nonlinear.responses import transport
from mfg_fem.nonlinear.sinkhorn import raise_end, start, sweep
from mfg_fem.nonlinear.stages import PlanningStage, State, at_times

log = logging.getLogger(__name__)

SWEEPS = 4  # of Sinkhorn's iteration before Newton
HIGHEST = 0.03  # the first floor
LOWER = 10.0  # ratio of a floor to the next
LESS = 3.3  # ratio of a diffusion to the next
SHARPER = 0.5  # step of the sharpness
# Tolerance of all stages but the last; of the last, relative to rtol.
EASED, FINAL = 1e-3, 0.01
HALVINGS = 3  # of a stage that fails
PATIENCE = Patience(steps=20, cuts=4, length=0.051)
ADVICE = (
    "Is there time enough to get there? Try Sharp() or Monotone(), a higher floor=, more time "
    "steps, a finer mesh, or another diffusion: much of it, too, makes a crowd hard to gather."
)


def solve_planning(
    discrete: Discretisation,
    times: np.ndarray,
    method: Newton,
    guess: tuple[np.ndarray, ...] | None,
    record: Callable[[dict, State | None], None],
    resume: tuple[State, list[dict]] | None = None,
) -> tuple[SpaceTime, Plan, Outcome]:
    """As `grids.solve_stages`, of a problem with a terminal density. Collective.

    A Galerkin scheme starts from a solution of `Monotone`; on nodes of P2, those steps are recorded
    without a state, which a checkpoint could not keep.
    """
    if method.krylov != "auto":
        raise ProblemError(
            f"Newton(krylov={method.krylov!r}): a problem with a terminal density has one "
            'formulation of its linear equations alone. Leave it at "auto".'
        )
    state, rows = resume or (None, [])
    fresh = state is None and guess is None and method.continuation == "auto"
    if not discrete.scheme.positive and (fresh or (state and not state.stage.sharpness)):
        easy = Discretisation(discrete.problem, Monotone())
        alike = discrete.scheme.degree == 1
        walk = _Walk(easy, times, method, record if alike else lambda row, _: record(row, None))
        walk.asked = 1.0
        try:
            state, outcome = walk.go(state, rows, None)
        finally:
            walk.destroy()
        Y = _on(discrete, easy, state.start)
        state, rows = replace(state, start=Y, X=Y), []
        if not outcome.converged:
            system = SpaceTime(discrete, times)
            outcome = replace(outcome, X=Planning(system).inside(state.X))
            system.destroy()
            return system, walk.plan, outcome
    walk = _Walk(discrete, times, method, record)
    try:
        state, outcome = walk.go(state, rows, guess)
        outcome = walk.close(outcome)
    finally:
        walk.destroy()
    if state.stage.settled:
        sharpness = discrete.scheme.sharpness * state.stage.sharpness
        discrete.scheme = replace(discrete.scheme, sharpness=sharpness)
    return walk.system, walk.plan, outcome


def _on(discrete: Discretisation, other: Discretisation, Y: np.ndarray) -> np.ndarray:
    """Unknowns of one discretisation interpolated to the nodes of another. Collective."""
    found = np.zeros((*Y.shape[:-1], discrete.owned))
    there, here = fem.Function(other.V), fem.Function(discrete.V)
    for place in np.ndindex(Y.shape[:-1]):
        there.x.array[: other.owned] = Y[place]
        there.x.scatter_forward()
        here.interpolate(there)
        found[place] = here.x.array[: discrete.owned]
    return found


class _Walk:
    """The stages with one discretisation.

    Attributes:
        asked: the sharpness to which stages go; those beyond what the scheme has are left to
            another discretisation.
        highest, switch: factors of the diffusion at which stages start, and at which the scheme
            becomes sharper.
    """

    def __init__(
        self,
        discrete: Discretisation,
        times: np.ndarray,
        method: Newton,
        record: Callable[[dict, State | None], None],
    ):
        self.discrete, self.method, self.record = discrete, method, record
        self.system = SpaceTime(discrete, times)
        self.planning = Planning(self.system)
        self.plan = Plan.of(self.system.jacobian, "auto", method.petsc_options)
        with self.plan.in_force():
            self.sweeps = Sweeps(self.system.jacobian, self.plan.sweep)
            form = ClosingForm(self.planning, self.plan, self.sweeps)
            self.newton = NewtonSolver(self.planning, form, self._record)
        scheme, ends, D = discrete.scheme, discrete.ends, self.system.jacobian.diffusion
        self.asked = float(scheme.limited or not scheme.positive)
        self.highest = max(ends.easy_diffusion(discrete) / D, 1.0)
        cell = discrete.mesh_size * ends.distance(discrete) / discrete.problem.horizon
        self.switch = min(max(cell / D, 1.0), self.highest)

    def destroy(self):
        """Free PETSc's objects."""
        self.newton.destroy()
        self.sweeps.destroy()
        self.system.destroy()
        self.discrete.pattern.free_parts()

    def _record(self, row: dict, Y: np.ndarray):
        self.record(row, replace(self.state, X=Y))

    def go(self, state: State | None, rows: list[dict], guess) -> tuple[State, Outcome]:
        """Solve stage by stage, up to the last of this discretisation. Collective."""
        with self.plan.in_force():
            following = state or self._first(guess)
            while True:
                self.state, stage = following, following.stage
                self._set(stage)
                last = self._is_last(stage)
                atol = self.state.atol if last else EASED
                outcome = self.newton.solve(
                    self.state.X, atol, self.method.max_it, str(stage), rows, PATIENCE
                )
                if last and outcome.norm <= self.method.rtol:  # more was tried for
                    outcome = replace(outcome, converged=True, tolerance=self.method.rtol)
                rows = []
                after = self._after(self.state, outcome)
                if after is None:
                    break
                following = after
                if following.stage.sharpness and self.discrete.scheme == Monotone():
                    return following, outcome  # another discretisation goes on
        if not outcome.converged:
            outcome = replace(outcome, failed=f"at the {stage}", advice=ADVICE)
        return self.state, outcome

    def _set(self, stage: PlanningStage):
        state = self.discrete.state
        state.stretch.value, state.share.value = stage.stretch, stage.share
        self.discrete.ends.lift(self.discrete, stage.floor)
        self.system.sharpen(stage.sharpness)

    def _first(self, guess) -> State:
        """The first stage: from a guess, or after some of Sinkhorn's sweeps."""
        P, floor = self.planning, self.discrete.problem.floor
        there = floor, 1.0, self.asked, 1.0
        straight = guess is not None or self.method.continuation == "none"
        alone = 0.0 if self.discrete.forms.interacting else 1.0
        here = there if straight else (max(HIGHEST, floor), self.highest, 0.0, alone)
        stage = PlanningStage(self.system.steps, *here, *here)
        stage = replace(stage, guess=guess is not None)
        self._set(stage)
        if guess is None:
            X = start(P)
            for left in reversed(range(SWEEPS)):
                X = sweep(P, self.sweeps, X)
                if left:
                    raise_end(P, X)
            Y = P.unknowns_of(X)
        else:
            times, u, m, _ = guess
            X = at_times(times * (self.system.times[-1] / times[-1]), u, m, self.system.times)
            least = floor * self.discrete.comm.allreduce(m.max(initial=0.0), MPI.MAX)
            P.ends.potential = u[:, -1].copy()
            Y = P.unknowns_of(np.stack([X[0], np.maximum(X[1], least)]))
        return State(stage, FINAL * self.method.rtol, Y, Y)

    def _is_last(self, stage: PlanningStage) -> bool:
        """Whether it is the problem that was asked, or the sharpest that can be had."""
        there = stage.floor == self.discrete.problem.floor and stage.stretch == 1.0
        crowd = stage.share == 1.0
        return there and crowd and (stage.settled or stage.sharpness == self.asked)

    def _after(self, state: State, outcome: Outcome) -> State | None:
        """The stage after that of `state`; None if it was the last, or nothing else helps."""
        stage, start = state.stage, state.start
        if outcome.converged and self._is_last(stage):
            return None
        if outcome.converged:
            stage, start = self._towards(stage.solved()), self._centred(outcome.X)
        elif self.method.continuation == "none":
            return None
        else:
            log.info("Newton stopped: %s", outcome.reason)
            if stage.guess:
                return self._first(None)
            stage = self._instead(stage)
        return None if stage is None else replace(state, stage=stage, start=start, X=start)

    def _towards(self, stage: PlanningStage) -> PlanningStage:
        """The next stage after one that succeeded, or that was settled."""
        asked, final, part = self.asked, self.discrete.problem.floor, 0.5**stage.halved
        sharper = stage.from_sharpness < asked and not stage.settled
        if stage.from_share < 1:
            return replace(stage, share=min(stage.from_share + part, 1.0))
        if stage.from_floor > final:
            floor = max(stage.from_floor / LOWER**part, final)
            return replace(stage, floor=floor, halved=stage.halved * (floor > final))
        if sharper and stage.from_stretch <= self.switch:
            step = part * (SHARPER if self.discrete.scheme.limited else asked)
            sharpness = min(stage.from_sharpness + step, asked)
            return replace(stage, sharpness=sharpness, halved=stage.halved * (sharpness < asked))
        stretch = max(stage.from_stretch / LESS**part, self.switch if sharper else 1.0)
        return replace(stage, stretch=stretch)

    def _instead(self, stage: PlanningStage) -> PlanningStage | None:
        """What to try in the place of a stage that has failed."""
        limited, sharpness = self.discrete.scheme.limited, stage.from_sharpness
        if stage.halved < HALVINGS and (limited or stage.sharpness == sharpness):
            return stage.half()
        if not (limited and stage.sharpness):
            return None
        if stage.sharpness == sharpness:
            sharpness = max(sharpness - SHARPER / 2, 0.0)
        stage = replace(stage, settled=True, halved=0, sharpness=sharpness)
        return self._towards(stage)

    def _centred(self, Y: np.ndarray) -> np.ndarray:
        return self.planning.unknowns_of(self.planning.centre(self.planning.inside(Y)))

    def close(self, outcome: Outcome) -> Outcome:
        """The unknowns of the SpaceTime, the density fulfilling its equation to round-off.

        The density stays as it was if the residual would grow too much.
        """
        P = self.planning
        with self.plan.in_force():
            X = P.centre(P.inside(outcome.X))
            if outcome.converged:
                moved = transport(self.system, self.sweeps, X)
                if P.norm(moved) <= max(outcome.norm, outcome.tolerance):
                    X = moved
        return replace(outcome, X=X)
