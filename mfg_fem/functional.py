"""One functional; the whole coupled system is its first variation.

At each time step, with D = diffusion, H = Hamiltonian, f = running cost, s = source,

    A(u, m; seen) = int D grad u . grad m + m (H(x, grad u, seen) - f(x, t, seen)) - s u  dx.

    Hamilton-Jacobi-Bellman = dA/dm      Fokker-Planck = dA/du      Jacobian = once more.

`seen` is the crowd in the costs. A game freezes it while differentiating (a player does not move
the crowd), a control does not (the planner does): `problem.seen`. A scheme may put a larger tensor
in the place of D, which depends on stand-ins (w, crowd) of (u, seen); they are frozen in the first
derivatives, so that the Fokker-Planck matrix is the transpose of the frozen HJB linearisation
(exact mass, positivity), and differentiated in the Newton Jacobian. Achdou-Capuzzo-Dolcetta 2010,
Lasry-Lions 2007.

Continuation enters through Constants and knows nothing of the user's callables: `stretch`
multiplies the diffusion, and the crowd seen is (1 - share) crowd + share m.
"""

from dataclasses import dataclass

import ufl
from dolfinx import fem
from ufl.algorithms import expand_derivatives
from ufl.corealg.traversal import traverse_unique_terminals

from mfg_fem.problem import _MeanField


@dataclass(frozen=True)
class StepState:
    """What the forms of a step depend on; changing it compiles nothing."""

    u: fem.Function
    m: fem.Function
    t: fem.Constant
    stretch: fem.Constant
    share: fem.Constant
    crowd: fem.Constant

    @classmethod
    def on(cls, V: fem.FunctionSpace, crowd: float) -> "StepState":
        """A state on V; `crowd` is the uniform density that players see at share = 0."""
        numbers = [fem.Constant(V.mesh, value) for value in (0.0, 1.0, 1.0, float(crowd))]
        return cls(fem.Function(V), fem.Function(V), *numbers)

    def seen_of(self, m):
        """The crowd in the costs where the density is m."""
        return (1 - self.share) * self.crowd + self.share * m


@dataclass(frozen=True)
class StepForms:
    """The forms of one step: in each list no more than one rule in a form.

    `hjb` and `fp` are linear forms, `uu um mu mm` their derivatives (first letter: the row,
    u for hjb and m for fp). The first of `um` and of `mu` is that of the point values, without
    the derivative of Monotone's viscosity. `running` is the running cost of the population and
    `entering` the people who enter, both per unit of time; `terminal` is the terminal cost of the
    population.
    """

    hjb: list[ufl.Form]
    fp: list[ufl.Form]
    uu: list[ufl.Form]
    um: list[ufl.Form]
    mu: list[ufl.Form]
    mm: list[ufl.Form]
    running: ufl.Form
    terminal: ufl.Form
    entering: ufl.Form


def functional(problem: _MeanField, scheme, state: StepState, seen, frozen) -> list[ufl.Form]:
    """A(u, m; seen): what depends on point values, and for Monotone separately the diffusion.

    `frozen` = (w, crowd seen there).
    """
    x, u, m = problem.x, state.u, state.m
    gradients, values = scheme.measures(u.function_space.mesh)
    D = scheme.diffusion(problem, state.stretch, *frozen)

    diffusion = ufl.inner(D * ufl.grad(u), ufl.grad(m))
    costs = m * (problem.H(x, ufl.grad(u), seen) - problem.f(x, state.t, seen)) * values
    entering = problem.s(x, state.t) * u * values

    if gradients == values:
        return [diffusion * values + costs - entering]
    # Where D is constant on each cell any rule is exact, and `_merged` can make one kernel of both.
    varying = (x, frozen[1])
    constant = not any(terminal in varying for terminal in traverse_unique_terminals(D))
    return [costs - entering, diffusion * (values if constant else gradients)]


def step_forms(problem: _MeanField, scheme, state: StepState) -> StepForms:
    """Differentiate the functional."""
    u, m = state.u, state.m
    V = u.function_space
    v, du = ufl.TestFunction(V), ufl.TrialFunction(V)
    w, crowd = fem.Function(V), fem.Function(V)
    seen = state.seen_of(m)
    thaw = {w: u, crowd: seen}
    A = functional(problem, scheme, state, problem.seen(seen, crowd), (w, crowd))

    def derivative(parts, y, direction):
        forms = [expand_derivatives(ufl.derivative(part, y, direction)) for part in parts]
        return [form for form in forms if not form.empty()]

    def thawed(parts):
        return [ufl.replace(part, thaw) for part in parts]

    hjb, fp = (thawed(derivative(A, y, v)) for y in (m, u))
    uu, um, mu, mm = (derivative(row, y, du) for row in (hjb, fp) for y in (u, m))
    _, values = scheme.measures(V.mesh)
    # Zero times m: a form must know its mesh even where nothing enters.
    return StepForms(
        _merged(hjb),
        _merged(fp),
        _merged(uu),
        um,
        mu,
        _merged(mm),
        running=_cost_rate(problem, state) * values,
        terminal=m * problem.g(problem.x, m) * values,
        entering=(problem.s(problem.x, state.t) + 0 * m) * values,
    )


def _merged(forms: list[ufl.Form]) -> list[ufl.Form]:
    """The sum of the forms, if they have one quadrature rule.

    A kernel that mixes rules may be compiled wrong (DOLFINx 0.9).
    """
    rules = {str(integral.metadata()) for form in forms for integral in form.integrals()}
    return [sum(forms[1:], forms[0])] if len(rules) == 1 else forms


def _cost_rate(problem: _MeanField, state: StepState):
    """Cost rate m (L + f), with L = p.H_p - H (Legendre) the running cost of moving."""
    x, m = problem.x, state.m
    p = ufl.variable(ufl.grad(state.u))
    H = problem.H(x, p, m)
    return m * (ufl.dot(p, ufl.diff(H, p)) - H + problem.f(x, state.t, m))


def drift(problem: _MeanField, u, m):
    """The optimal drift -H_p(x, grad u, m)."""
    p = ufl.variable(ufl.grad(u))
    return -ufl.diff(problem.H(problem.x, p, m), p)


def terminal_value(problem: _MeanField, state: StepState):
    """u(T) and its derivative in m: m g(x, seen) differentiated as the running cost is."""
    m = ufl.variable(state.m)
    y = ufl.variable(m)
    seen = problem.seen(state.seen_of(y), state.seen_of(m))
    u_T = ufl.diff(y * problem.g(problem.x, seen), y)
    return u_T, ufl.diff(u_T, m)
