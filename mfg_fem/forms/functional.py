"""One functional; the whole coupled system is its first variation.

At each time step, with populations i = 1..k, D = diffusion, H = Hamiltonian, f = running cost and
s = source of each,

    A(u, m; seen) = sum_i int D_i grad u_i . grad m_i
                        + m_i (H_i(x, grad u_i, seen) - f_i(x, t, seen)) - s_i u_i  dx.

    Hamilton-Jacobi-Bellman = dA/dm_i      Fokker-Planck = dA/du_i      Jacobian = once more.

The state is one blocked Function z = (u_1, m_1, ..., u_k, m_k), so that the rows of both equations
are one derivative of A, in the direction of a test function with u_i and m_i exchanged, and the
Jacobian is one more derivative of these rows.

`seen` are the densities in the costs. A game freezes them while differentiating (a player does not
move the crowd), a control does not (the planner does): `problem.seen`. A scheme may put a larger
tensor in the place of D, which depends on a second Function that stands for the state. That one is
frozen in the first derivatives, so that the Fokker-Planck matrix is the transpose of the frozen HJB
linearisation (exact mass, positivity), and differentiated in the Newton Jacobian.
Achdou-Capuzzo-Dolcetta 2010, Lasry-Lions 2007.

Continuation enters through Constants and knows nothing of the user's callables: `stretch`
multiplies the diffusion, and the density seen is (1 - share) crowd + share m.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain

import basix.ufl
import ufl
from dolfinx import fem
from ufl.algorithms import expand_derivatives
from ufl.algorithms.analysis import extract_constants

from mfg_fem.forms.tables import Tables


@dataclass(frozen=True)
class StepState:
    """What the forms of a step depend on; changing it compiles nothing.

    Attributes:
        fields: the blocked Function (u_1, m_1, ..., u_k, m_k).
        t: the time.
        stretch, share, crowd: see above; `crowd` has the uniform density of each population.
    """

    fields: fem.Function
    t: fem.Constant
    stretch: fem.Constant
    share: fem.Constant
    crowd: tuple[fem.Constant, ...]

    @classmethod
    def on(cls, V: fem.FunctionSpace, crowd: Sequence[float]) -> "StepState":
        """A state on V; `crowd` has the uniform density of each population."""
        t, stretch, share = (fem.Constant(V.mesh, value) for value in (0.0, 1.0, 1.0))
        element = basix.ufl.blocked_element(V.ufl_element(), shape=(2 * len(crowd),))
        fields = fem.Function(fem.functionspace(V.mesh, element))
        uniform = tuple(fem.Constant(V.mesh, float(density)) for density in crowd)
        return cls(fields, t, stretch, share, uniform)

    @property
    def values(self) -> tuple:
        """The value function of each population."""
        return values_of(self.fields)

    @property
    def densities(self) -> tuple:
        """The density of each population."""
        return densities_of(self.fields)

    def seen(self, densities: Sequence) -> tuple:
        """The densities in the costs where those of the populations are these."""
        pairs = zip(self.crowd, densities, strict=True)
        return tuple((1 - self.share) * uniform + self.share * m for uniform, m in pairs)


def values_of(fields) -> tuple:
    """The components u_1, ..., u_k of a blocked function."""
    return tuple(fields[j] for j in range(0, fields.ufl_shape[0], 2))


def densities_of(fields) -> tuple:
    """The components m_1, ..., m_k of a blocked function."""
    return tuple(fields[j] for j in range(1, fields.ufl_shape[0], 2))


def functional(problem, scheme, state: StepState, frozen, tables: Tables) -> list[ufl.Form]:
    """A(u, m; seen): what depends on point values, and for Monotone separately the diffusion.

    `frozen` is a blocked function that stands for the state where it is not to be differentiated.
    """
    x, t = problem.x, state.t
    gradients, values = scheme.measures(problem.domain.mesh)
    stand_in, own = state.seen(densities_of(frozen)), state.seen(state.densities)
    costs, diffusion, constant = 0, 0, True
    for i, population in enumerate(problem.populations):
        u, m, w = state.values[i], state.densities[i], values_of(frozen)[i]
        seen = problem.crowd(problem.seen(i, own, stand_in))
        D = scheme.diffusion(population, state.stretch, w, problem.crowd(stand_in))
        f, s = tables(population.f(x, t, seen)), tables(population.s(x, t))
        costs += m * (population.H(x, ufl.grad(u), seen) - f) - s * u
        diffusion += ufl.inner(D * ufl.grad(u), ufl.grad(m))
        constant &= not _varies(D, (x, frozen))
    if gradients == values:
        return [(diffusion + costs) * values]
    # Where D is constant on each cell any rule is exact, and `merged` can make one kernel of both.
    return [costs * values, diffusion * (values if constant else gradients)]


def _varies(expression, varying: tuple) -> bool:
    """Whether one of these terminals is in it, but for gradients, which are constant on a cell."""
    waiting, known = [expression], set()
    while waiting:
        e = waiting.pop()
        if e in varying:
            return True
        if e not in known and not isinstance(e, ufl.classes.Grad):
            waiting.extend(e.ufl_operands)
        known.add(e)
    return False


class StepForms:
    """The forms of one step.

    "residual" and "jacobian" are those of all rows, on the blocked space: for population i the HJB
    row, tested by component 2 i, and the Fokker-Planck row, tested by component 2 i + 1. One kernel
    has much in common to compute and takes half the time of one for each block. "hjb" and "fp" are
    the rows of one population, "hjb in u" and "fp in m" their blocks on the diagonal of the
    Jacobian, on the space of one component.

    "coupling" has f_ij, the derivative of the running cost and of -H_i in m_j, row by row, and then
    a_i = m_i tr H_i,pp / d, each against a continuous piecewise linear test function.

    "running", "entering" and "expected", all per unit of time, are the cost of a population, the
    people who enter, and the costs that the value function expects of them.

    Attributes:
        k: number of populations.
        costs_see: pairs (i, j) such that the HJB equation of i depends on the density of j.
        crossing: pairs (row, column) of components of two populations, other than the HJB row and
            the density, with a block in the Jacobian: where one sees the crowd of another while
            it moves, or where one planner moves both.
        steady: whether, with costs that are linear in m, the derivative of the HJB rows in the
            densities is the same at all states.
        congested: whether H_p depends on a density, so that the Fokker-Planck equation is nonlinear
            in it.
        autonomous: whether nothing depends on t but through the state, and on u but through its
            gradient.
    """

    def __init__(self, problem, scheme, state: StepState):
        self.problem, self.scheme, self.state = problem, scheme, state
        self.space, self.k = state.fields.function_space, len(problem.populations)
        self.single = fem.functionspace(self.space.mesh, self.space.ufl_element().sub_elements[0])
        size = self.k * (self.k + 1)
        self.coefficients = fem.functionspace(self.space.mesh, ("Lagrange", 1, (size,)))
        self.v, self.dv = ufl.TestFunction(self.single), ufl.TrialFunction(self.single)
        self.tables = Tables(partial(scheme.points, self.space.mesh))
        self.frozen = fem.Function(self.space)
        self.A = functional(problem, scheme, state, self.frozen, self.tables)
        _, self.rule = scheme.measures(self.space.mesh)
        pairs = [(i, j) for i in range(self.k) for j in range(self.k)]
        # Of each pair: of what depends on point values, and of the rest.
        parts = self.A[:1], self.A[1:]
        slopes = {(i, j): [self._block(2 * i, 2 * j + 1, part) for part in parts] for i, j in pairs}
        self.slopes = {pair: point_values for pair, (point_values, _) in slopes.items()}
        self.costs_see = [pair for pair in pairs if any(slopes[pair])]
        self.crossing = [
            (row, column)
            for i, j in pairs
            for row, column in ((2 * i, 2 * j), (2 * i + 1, 2 * j), (2 * i + 1, 2 * j + 1))
            if i != j and self._block(row, column, self.A)
        ]
        changing = (state.fields, state.t)
        self.steady = not any(
            y in (*form.coefficients(), *form.constants())
            for forms in slopes.values()
            for form in chain(*forms)
            for y in changing
        )
        self.congested = any(map(self._moves_by_density, problem.populations))
        self.autonomous = not any(state.t in form.constants() for form in self.A)

    def of(self, name: str, i: int = 0) -> list[ufl.Form]:
        """The forms that add up to what is named, of population i, one of each rule at most."""
        if name in ("residual", "jacobian"):
            forms = self._rows if name == "residual" else self._jacobian
        elif name == "coupling":
            forms = self._coupling
        elif name in ("running", "entering", "expected"):
            rate = self._rate(name, i)
            forms = [] if rate == 0 else [rate * self.rule]
        else:
            row = 2 * i + ("fp" in name)
            forms = self._block(row, row, self.A) if " in " in name else self._row(row, self.A)
        return merged(forms)

    def _derivatives(self, forms: Iterable[ufl.Form], direction) -> list[ufl.Form]:
        """Those in the direction that are not zero."""
        found = (ufl.derivative(form, self.state.fields, direction) for form in forms)
        return [form for form in map(expand_derivatives, found) if not form.empty()]

    def _first(self, A: Iterable[ufl.Form], test) -> list[ufl.Form]:
        """The first derivatives of A; what was frozen in them is the state again."""
        rows = self._derivatives(A, test)
        return [ufl.replace(row, {self.frozen: self.state.fields}) for row in rows]

    @cached_property
    def _rows(self) -> list[ufl.Form]:
        z = ufl.TestFunction(self.space)
        return self._first(self.A, ufl.as_vector([z[j ^ 1] for j in range(2 * self.k)]))

    @property
    def _jacobian(self) -> list[ufl.Form]:
        return self._derivatives(self._rows, ufl.TrialFunction(self.space))

    def _row(self, row: int, A: list[ufl.Form]) -> list[ufl.Form]:
        return self._first(A, self._unit(row ^ 1, self.v))

    def _block(self, row: int, column: int, A: list[ufl.Form]) -> list[ufl.Form]:
        return self._derivatives(self._row(row, A), self._unit(column, self.dv))

    def _unit(self, component: int, y) -> ufl.core.expr.Expr:
        return ufl.as_vector([y if j == component else 0 for j in range(2 * self.k)])

    @property
    def _coupling(self) -> list[ufl.Form]:
        k, mesh = self.k, self.space.mesh
        tests = ufl.split(ufl.TestFunction(self.coefficients))
        forms = [
            -ufl.replace(form, {self.v: tests[k * i + j], self.dv: ufl.as_ufl(1.0)})
            for (i, j), slopes in self.slopes.items()
            for form in slopes
        ]
        crowd = self.problem.crowd(self.state.seen(self.state.densities))
        for i, population in enumerate(self.problem.populations):
            p = ufl.variable(ufl.grad(self.state.values[i]))
            H_pp = ufl.diff(ufl.diff(population.H(self.problem.x, p, crowd), p), p)
            a = self.state.densities[i] * ufl.tr(H_pp) / self.problem.domain.dim
            a = expand_derivatives(a)
            if a == 0:  # nobody steers: a form there has to be
                a = fem.Constant(mesh, 0.0)
            forms.append(a * tests[k * k + i] * self.rule)
        return forms

    def _moves_by_density(self, population) -> bool:
        """Whether H_p of this population depends on a density."""
        mesh, dim = self.space.mesh, self.problem.domain.dim
        densities = tuple(fem.Constant(mesh, 1.0) for _ in range(self.k))
        p = ufl.variable(fem.Constant(mesh, (0.0,) * dim))
        H = population.H(self.problem.x, p, self.problem.crowd(densities))
        constants = extract_constants(expand_derivatives(ufl.diff(H, p)))
        return any(density in constants for density in densities)

    def _rate(self, name: str, i: int):
        """What is named of population i, per unit of volume and time."""
        population, x, t = self.problem.populations[i], self.problem.x, self.state.t
        if name == "entering":
            return population.s(x, t)
        if name == "expected":
            return population.s(x, t) * self.state.values[i]
        # The cost of moving is L = p . H_p - H (Legendre).
        p, crowd = ufl.variable(ufl.grad(self.state.values[i])), self.state.densities
        crowd = self.problem.crowd(crowd)
        H = population.H(x, p, crowd)
        moving = ufl.dot(p, ufl.diff(H, p)) - H
        return self.state.densities[i] * (moving + self.tables(population.f(x, t, crowd)))


def merged(forms: Iterable[ufl.Form]) -> list[ufl.Form]:
    """The sums of the forms that have one quadrature rule.

    A kernel that mixes rules may be compiled wrong (DOLFINx 0.9).
    """
    by_rule = {}
    for form in forms:
        rule = str(form.integrals()[0].metadata())
        by_rule[rule] = by_rule[rule] + form if rule in by_rule else form
    return list(by_rule.values())


def drift(population, u, m):
    """The optimal drift -H_p(x, grad u, m)."""
    p = ufl.variable(ufl.grad(u))
    return -ufl.diff(population.H(population.x, p, m), p)


def terminal_value(problem, state: StepState) -> tuple[list, list[list], list]:
    """u_i(T), its derivatives in m_j, and g_i.

    The terminal cost sum_i m_i g_i(x, seen) is differentiated as the running cost is.
    """
    m = [ufl.variable(density) for density in state.densities]
    y = [ufl.variable(density) for density in m]
    frozen, own = state.seen(m), state.seen(y)
    costs = [
        y[i] * population.g(problem.x, problem.crowd(problem.seen(i, own, frozen)))
        for i, population in enumerate(problem.populations)
    ]
    total = sum(costs[1:], costs[0])
    u_T = [ufl.diff(total, density) for density in y]
    slopes = [[ufl.diff(value, density) for density in m] for value in u_T]
    crowd = problem.crowd(state.densities)
    return u_T, slopes, [population.g(problem.x, crowd) for population in problem.populations]
