"""What everybody does on a finer mesh, by a value function or by a velocity, and what it makes.

A policy is on two systems of the problem there: `system`, in which the best response is sought, and
`carrier`, whose Fokker-Planck rows carry the density. For a value function u both are one, as the
policy -H_p(x, grad u, mu) sees the density that it makes. For a velocity a the Hamiltonian of the
carrier is -a.p, so that it is the package's own scheme, positive and conservative, that carries it:
a wall stops who would be carried through it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields

import numpy as np

import ufl
from dolfinx import fem

from mfg_fem.certainty.finer import halved
from mfg_fem.certainty.legendre import Legendre
from mfg_fem.certainty.velocity import Velocity
from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.discrete.sharp import Sharp
from mfg_fem.discrete.spacetime import SpaceTime
from mfg_fem.discrete.stationary import system_of
from mfg_fem.linear.level.sweeps import Sweeps
from mfg_fem.linear.plan import Plan
from mfg_fem.mesh.refine import Refinement
from mfg_fem.nonlinear import memory
from mfg_fem.nonlinear.method import Newton
from mfg_fem.nonlinear.responses import transport
from mfg_fem.nonlinear.stages import at_times
from mfg_fem.problem.game import MeanField, MeanFieldGame
from mfg_fem.problem.populations import Populations

SMALL = 1e-6  # residuals on the finer grid, in the units of the problem, that are small enough
REPEATS = 5  # of the transport, as congestion makes it nonlinear
STATIONARY = 25  # of its Newton steps on a density that lasts, from another one


class _Told:
    """The ends of the time interval with another value function at T: that of the policy."""

    planned = False

    def __init__(self, ends, u_T: np.ndarray):
        self.start, self.costs, self.u_T = ends.start, ends.costs, u_T

    def values(self, discrete, m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """u(T), and its derivatives in the densities, which are zero."""
        return self.u_T, np.zeros((len(self.u_T), *self.u_T.shape))

    def feedback(self, discrete, m: np.ndarray) -> None:
        """How u(T) changes with m through quantities of the crowd: it does not."""


@contextmanager
def told(system: SpaceTime, u_T: np.ndarray | None) -> Iterator[None]:
    """Let u(T) be this during a with block, unless it is None."""
    d, ends = system.discrete, system.discrete.ends
    if u_T is not None:
        d.ends = _Told(ends, u_T)
    try:
        yield
    finally:
        d.ends = ends


def _followed(system: SpaceTime, sweeps: Sweeps, X: np.ndarray) -> np.ndarray | None:
    """X with the density that its drift makes, or None if that is not found. Collective."""
    lasts = system.discrete.problem.stationary
    for _ in range(STATIONARY if lasts else REPEATS):
        moved = transport(system, sweeps, X)
        if lasts:
            moved = X - system.admissible(X, X - moved)[0]
        X = system.settled(moved)
        norm = system.norms(X)[1]
        if norm <= SMALL:
            return X
        if not np.isfinite(norm):
            break
    return None


class ValuePolicy:
    """The policy -H_p(x, grad u, mu) of a solution, in a problem on a refined mesh. Collective.

    Of several crowds all follow theirs, and the policies that are judged are those at `places`.
    Prices are those of the solution.

    Attributes:
        system, carrier: see above.
        places: numbers of the populations that are judged.
        X: u and m of the solution, as unknowns.
        u_T: u(T) of the solution.
        t, m: the time and the densities of all populations, as UFL.
        seen: the same densities as variables, which those in costs are that a planner moves.
    """

    def __init__(
        self, solutions: Sequence, problem: MeanField | Populations, refinement: Refinement
    ):
        whole, self.places = solutions[0], [own.place for own in solutions]
        times = whole.times if problem.stationary else halved(whole.times)
        d = Discretisation(problem, Sharp())
        prices = [whole.prices[name] for name in problem.prices]
        d.state.paid.set(whole.times, np.array(prices))
        memory.check(d, times, Newton())
        coarse = fem.Function(whole.discrete.V)

        def carried(levels: np.ndarray) -> np.ndarray:
            found = []
            for values in levels.reshape(-1, levels.shape[-1]):
                coarse.x.array[: len(values)] = values
                coarse.x.scatter_forward()
                found.append(refinement.nodal(coarse, d.V))
            return np.reshape(found, (*levels.shape[:-1], d.owned))

        u, m = carried(whole.everybody.u), carried(whole.everybody.m)
        for own, exits in zip(u, d.exits, strict=True):
            own[:, exits.held] = exits.costs(whole.times)
        if d.ends.planned:  # players are told what their place at the end is worth
            d.ends.potential = u[:, -1]
        self.u_T: np.ndarray | None = u[:, -1]
        self.system = self.carrier = system_of(d, times)
        X = self.system.hold(at_times(whole.times, u, m, times))
        self.X = self.system.settled(X)
        self.t, self.m = d.state.t, d.state.densities
        self.seen = tuple(map(ufl.variable, self.m))

    def sharpen(self, sharpness: float):
        """Take this share of what the scheme has beyond first order."""
        self.system.sharpen(sharpness)

    def follow(self, sweeps: Sweeps) -> np.ndarray | None:
        """The unknowns of the carrier with the density that the policy makes. Collective."""
        with told(self.carrier, self.u_T):
            return _followed(self.carrier, sweeps, self.X)

    def motion(self, i: int, crowd) -> tuple:
        """The velocity of population i, whose callables get this crowd, and its cost, as UFL."""
        d = self.system.discrete
        problem = d.problem.populations[i]
        p = ufl.variable(ufl.grad(d.state.fields[2 * i]))
        H = problem.H(problem.x, self.t, p, crowd)
        H_p = ufl.diff(H, p)
        return -H_p, ufl.dot(p, H_p) - H

    def see(self, t: float, u: np.ndarray, m: np.ndarray):
        """Let the policy be that of a step in the middle of which is t. Collective."""
        self.system.discrete.set_state(u, m, t)

    def destroy(self):
        """Free the matrices."""
        self.system.destroy()


@dataclass(frozen=True, kw_only=True, eq=False)
class _Carried(MeanFieldGame):
    """Players who are carried by a velocity a, at no cost: H = -a.p, whatever is stated for it."""

    velocity: fem.Function

    @classmethod
    def by(cls, velocity: fem.Function, problem: MeanField) -> "_Carried":
        """Those of this problem."""
        given = {y.name: getattr(problem, y.name) for y in fields(problem) if y.init}
        costs = ["hamiltonian", "running_cost", *["terminal_cost"] * (not problem.stationary)]
        return cls(**(given | dict.fromkeys(costs, ufl.zero())), velocity=velocity)

    def H(self, x, t, p, m) -> ufl.core.expr.Expr:
        """-a.p."""
        return -ufl.dot(self.velocity, p)


class _Carrying(Discretisation):
    """The discretisation of people who are carried by another velocity in each step."""

    def __init__(self, problem: _Carried, velocity: Velocity, times: np.ndarray):
        self.velocity, self.middles = velocity, {*((times[1:] + times[:-1]) / 2)}
        self._packed_at = -np.inf
        super().__init__(problem, Sharp())
        self.forms.autonomous = False

    def set_state(self, u: np.ndarray, m: np.ndarray, t: float):
        """Set the fields that a step sees, the velocity too, and the time."""
        if t in self.middles and t != self._packed_at:
            self.velocity.see(t)
            self.packed.forget()
            self._packed_at = t
        super().set_state(u, m, t)


class FieldPolicy:
    """The policy to move with a given velocity. Collective; attributes as of a `ValuePolicy`."""

    X = u_T = None
    places: Sequence[int] = (0,)

    def __init__(self, velocity: Velocity, problem: MeanField, times: np.ndarray):
        self.velocity = velocity
        d = Discretisation(problem, Sharp())
        memory.check(d, times, Newton())
        self.system = system_of(d, times)
        carried = _Carrying(_Carried.by(velocity.a, problem), velocity, self.system.times)
        self.carrier = system_of(carried, times)
        self._density, self.t = fem.Function(d.V), fem.Constant(d.V.mesh, 0.0)
        self.m, self.seen = (self._density,), (ufl.variable(self._density),)
        self._legendre = Legendre(problem, self._density, velocity.a)

    def sharpen(self, sharpness: float):
        """Take this share of what the scheme has beyond first order."""
        self._sharpness = sharpness
        self.system.sharpen(sharpness)

    def follow(self, sweeps: Sweeps) -> np.ndarray | None:
        """The unknowns of the carrier with the density that the policy makes. Collective.

        From uniform densities the scheme of first order gets there at once.
        """
        carrier = self.carrier
        plan = Plan.of(carrier.jacobian, "auto", {})
        with plan.in_force():
            own = Sweeps(carrier.jacobian, plan.sweep)
            try:
                X = self.X
                for sharpness in dict.fromkeys((0.0, self._sharpness)):
                    carrier.sharpen(sharpness)
                    X = _followed(carrier, own, carrier.even_crowd() if X is None else X)
                    if X is None:
                        return None
                    self.X = X
            finally:
                own.destroy()
        return self.X

    def motion(self, i: int, crowd) -> tuple:
        """The velocity and its cost, as UFL."""
        return self.velocity.a, self._legendre.L

    def see(self, t: float, u: np.ndarray, m: np.ndarray):
        """Let the policy be that of a step in the middle of which is t. Collective."""
        self.t.value = t
        self._density.x.array[: m.shape[1]] = m[0]
        self._density.x.scatter_forward()
        self.velocity.see(t)
        self._legendre.transform(t)

    def destroy(self):
        """Free the matrices."""
        self.system.destroy()
        self.carrier.destroy()
