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
from functools import partial

import basix.ufl
import ufl
from dolfinx import fem
from ufl.algorithms import expand_derivatives
from ufl.corealg.traversal import traverse_unique_terminals

from mfg_fem.forms.tables import Tables
from mfg_fem.problem.game import MeanField


@dataclass(frozen=True)
class StepState:
    """What the forms of a step depend on; changing it compiles nothing.

    `pair` has the values of u and m as its two components: the forms of a step are on it.
    """

    u: fem.Function
    m: fem.Function
    pair: fem.Function
    t: fem.Constant
    stretch: fem.Constant
    share: fem.Constant
    crowd: fem.Constant

    @classmethod
    def on(cls, V: fem.FunctionSpace, crowd: float) -> "StepState":
        """A state on V; `crowd` is the uniform density that players see at share = 0."""
        numbers = [fem.Constant(V.mesh, value) for value in (0.0, 1.0, 1.0, float(crowd))]
        pair = fem.functionspace(V.mesh, basix.ufl.blocked_element(V.ufl_element(), shape=(2,)))
        return cls(fem.Function(V), fem.Function(V), fem.Function(pair), *numbers)

    def seen_of(self, m):
        """The crowd in the costs where the density is m."""
        return (1 - self.share) * self.crowd + self.share * m


@dataclass(frozen=True)
class StepForms:
    """The forms of one step.

    `parts`, by names for `of`, where u and m become what they are in `both`, components of the
    pair, and arguments what the part says: "residual" and "jacobian" are those of both rows, first
    the HJB row and u: one kernel has much in common to compute and takes half the time of six.
    "hjb" and "fp" are the rows one by one, "uu" and "mm" their derivatives in u and in m.
    "coupling" has f, the derivative of the running cost and of -H in m, and a = m tr H_pp / d, each
    against a continuous piecewise linear test function. `totals`, all per unit of time: "running"
    cost of the population, people "entering" and the costs "expected" of them by the value
    function; those that are not zero.

    `steady_um`: with costs that are linear in m, the derivative of hjb in m is the same at all
    states. `congested`: H depends on m, so that the Fokker-Planck equation is nonlinear in m.
    `autonomous`: nothing depends on t but through u and m, and on u but through its gradient.
    """

    parts: dict[str, list[tuple[ufl.Form, dict]]]
    both: dict
    totals: dict[str, ufl.Form]
    steady_um: bool
    congested: bool
    autonomous: bool

    def of(self, name: str) -> list[ufl.Form]:
        """Forms on the pair that add up to what is named, no more than one of each rule."""
        return _merged([ufl.replace(form, self.both | become) for form, become in self.parts[name]])


def functional(
    problem: MeanField, scheme, state: StepState, seen, frozen, tables: Tables
) -> list[ufl.Form]:
    """A(u, m; seen): what depends on point values, and for Monotone separately the diffusion.

    `frozen` = (w, crowd seen there).
    """
    x, u, m = problem.x, state.u, state.m
    gradients, values = scheme.measures(u.function_space.mesh)
    D = scheme.diffusion(problem, state.stretch, *frozen)

    f, s = tables(problem.f(x, state.t, seen)), tables(problem.s(x, state.t))

    diffusion = ufl.inner(D * ufl.grad(u), ufl.grad(m))
    costs = m * (problem.H(x, ufl.grad(u), seen) - f) * values
    entering = s * u * values

    if gradients == values:
        return [diffusion * values + costs - entering]
    # Where D is constant on each cell any rule is exact, and `_merged` can make one kernel of both.
    varying = (x, frozen[1])
    constant = not any(terminal in varying for terminal in traverse_unique_terminals(D))
    return [costs - entering, diffusion * (values if constant else gradients)]


def step_forms(problem: MeanField, scheme, state: StepState) -> StepForms:
    """Differentiate the functional."""
    u, m = state.u, state.m
    V = u.function_space
    v, du = ufl.TestFunction(V), ufl.TrialFunction(V)
    w, crowd = fem.Function(V), fem.Function(V)
    seen = state.seen_of(m)
    thaw = {w: u, crowd: seen}
    tables = Tables(partial(scheme.points, V.mesh))
    A = functional(problem, scheme, state, problem.seen(seen, crowd), (w, crowd), tables)

    def derivative(parts, y, direction):
        forms = [expand_derivatives(ufl.derivative(part, y, direction)) for part in parts]
        return [form for form in forms if not form.empty()]

    def thawed(parts):
        return [ufl.replace(part, thaw) for part in parts]

    rows = [thawed(derivative(A, y, v)) for y in (m, u)]
    blocks = [[derivative(row, y, du) for y in (u, m)] for row in rows]
    (uu, um), (_, mm) = blocks

    pair = state.pair.function_space
    z, dz = ufl.TestFunction(pair), ufl.TrialFunction(pair)
    both = dict(zip((u, m), ufl.split(state.pair), strict=True))
    _, values = scheme.measures(V.mesh)
    own = {"hjb": rows[0], "fp": rows[1], "uu": uu, "mm": mm}
    own["coupling"] = _coupling(problem, state, um, v, du, values)
    parts = {name: [(form, {}) for form in forms] for name, forms in own.items()}
    parts["residual"] = [(form, {v: z[i]}) for i, row in enumerate(rows) for form in row]
    parts["jacobian"] = [
        (form, {v: z[i], du: dz[j]})
        for i, row in enumerate(blocks)
        for j, block in enumerate(row)
        for form in block
    ]
    changing = (u, m, state.t)
    rates = {
        "running": _cost_rate(problem, state, tables),
        "entering": problem.s(problem.x, state.t),
        "expected": problem.s(problem.x, state.t) * u,
    }
    return StepForms(
        parts,
        both,
        totals={k: ufl.replace(y * values, both) for k, y in rates.items() if y != 0},
        steady_um=not any(
            y in (*form.coefficients(), *form.constants()) for form in um for y in changing
        ),
        congested=any(m in form.coefficients() for form in mm),
        autonomous=not any(state.t in form.constants() for form in A),
    )


def _merged(forms: list[ufl.Form]) -> list[ufl.Form]:
    """The sums of the forms that have one quadrature rule.

    A kernel that mixes rules may be compiled wrong (DOLFINx 0.9).
    """
    by_rule = {}
    for form in forms:
        rule = str(form.integrals()[0].metadata())
        by_rule[rule] = by_rule[rule] + form if rule in by_rule else form
    return list(by_rule.values())


def _coupling(problem: MeanField, state: StepState, um, v, du, values) -> list[ufl.Form]:
    """What `StepForms.coupling` says, of u and m; the first of um is that of the point values."""
    u, m, seen = state.u, state.m, state.seen_of(state.m)
    space = fem.functionspace(u.function_space.mesh, ("Lagrange", 1, (2,)))
    f_test, a_test = ufl.split(ufl.TestFunction(space))
    f = [-ufl.replace(form, {v: f_test, du: ufl.as_ufl(1.0)}) for form in um[:1]]
    p = ufl.variable(ufl.grad(u))
    H_pp = ufl.diff(ufl.diff(problem.H(problem.x, p, seen), p), p)
    a = expand_derivatives(m * ufl.tr(H_pp) / problem.domain.dim)
    if a == 0:  # nobody steers: a form there has to be
        a = fem.Constant(u.function_space.mesh, 0.0)
    return [*f, a * a_test * values]


def _cost_rate(problem: MeanField, state: StepState, tables: Tables):
    """Cost rate m (L + f), with L = p.H_p - H (Legendre) the running cost of moving."""
    x, m = problem.x, state.m
    p = ufl.variable(ufl.grad(state.u))
    H = problem.H(x, p, m)
    return m * (ufl.dot(p, ufl.diff(H, p)) - H + tables(problem.f(x, state.t, m)))


def drift(problem: MeanField, u, m):
    """The optimal drift -H_p(x, grad u, m)."""
    p = ufl.variable(ufl.grad(u))
    return -ufl.diff(problem.H(problem.x, p, m), p)


def terminal_value(problem: MeanField, state: StepState):
    """u(T), its derivative in m, and g: m g(x, seen) differentiated as the running cost is."""
    m = ufl.variable(state.m)
    y = ufl.variable(m)
    seen = problem.seen(state.seen_of(y), state.seen_of(m))
    u_T = ufl.diff(y * problem.g(problem.x, seen), y)
    return u_T, ufl.diff(u_T, m), problem.g(problem.x, state.m)
