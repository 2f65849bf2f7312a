"""The forms of a time step: first and second derivatives of its functional, and its totals."""

from functools import partial
from itertools import chain

import ufl
from dolfinx import fem
from ufl.algorithms import expand_derivatives

from mfg_fem.forms.boundary import entering, leaving, paid
from mfg_fem.forms.cell import at_nodes, at_vertices
from mfg_fem.forms.derivatives import derivatives, merged
from mfg_fem.forms.feedback import END, SHADOW, Feedback
from mfg_fem.forms.functional import cost_terms, functional, symbols
from mfg_fem.forms.market import market_forms
from mfg_fem.forms.state import StepState
from mfg_fem.forms.tables import Tables
from mfg_fem.forms.terminal import terminal_costs

LOCAL = 0.3  # what a smoothed density counts as of itself in the coupling: .03 to 1 do as well


class StepForms:
    """The UFL forms of one step, by name.

    "residual" and "jacobian" have all rows, on the blocked space: component 2 i tests the HJB row
    of population i, component 2 i + 1 its Fokker-Planck row. One kernel for all blocks computes
    what they have in common once. "hjb" and "fp" are the rows of one population, "hjb in u" and
    "fp in m" their diagonal blocks of the Jacobian, on the space of one component.

    "coupling" has f_ij, the derivative of the running cost and of -H_i in m_j, row by row, and then
    a_i = m_i tr(H_i,pp) / d, each against a continuous piecewise linear test function.

    "running", "entering" and "expected" are, per unit of time, the cost of a population, the people
    who enter, and the costs that the value function expects of these; "leaving NAME" are the people
    who leave through the door of this name, and "paid" is what all pay at doors.

    Attributes:
        k: number of populations.
        discounts: gamma_i of a term gamma_i u_i in the HJB rows; with a horizon time steps have it.
        costs_see: pairs (i, j) for which the HJB equation of i depends on the density of j.
        crossing: pairs (row, column) of components of two populations with a block in A or B: one
            sees the density of the other while it moves, one planner moves both, or people switch.
        steady: whether the derivative of the HJB rows in the densities is the same at all states,
            as for costs that are linear in m.
        interacting: whether the costs of anybody depend on a density.
        congested: whether H_p depends on a density.
        nonlinear: whether the Fokker-Planck rows are nonlinear in the densities: with congestion,
            or if the viscosity depends on them.
        autonomous: whether the forms depend on t through the fields only, and on u through grad u
            only, as without discount, switching and doors.
    """

    def __init__(self, problem, scheme, state: StepState):
        self.problem, self.scheme, self.state = problem, scheme, state
        self.space, k = state.fields.function_space, len(problem.populations)
        self.discounts = problem.discounts if problem.stationary else [0.0] * k
        mesh, self.k = self.space.mesh, k
        self.single = fem.functionspace(mesh, self.space.ufl_element().sub_elements[0])
        self.coefficients = fem.functionspace(mesh, ("Lagrange", 1, (k * (k + 1),)))
        self.v, self.dv = ufl.TestFunction(self.single), ufl.TrialFunction(self.single)
        self.u, self.m, w, crowd = (symbols(self.single, k) for _ in range(4))
        dim = problem.domain.dim
        self.corners = symbols(fem.functionspace(mesh, ("DG", 0, (dim + 1,))), k)
        self.components = tuple(chain(*zip(self.u, self.m, strict=True)))
        made = {y: ufl.Coefficient(self.single) for y in state.quantities}
        self.thaw = dict(zip((*w, *crowd), (*self.u, *state.seen(self.m)), strict=True))
        self.thaw |= {made[y]: z for y, z in state.quantities.items()}
        self.tables = Tables(partial(scheme.points, mesh))
        costs, boundary, diffusion = functional(
            problem, scheme, state, self.u, self.m, (w, crowd, self.corners, made), self.tables
        )
        self.A = costs + boundary + diffusion
        self.local = len(costs + boundary)  # parts without what a scheme adds
        self.gradients, self.rule = scheme.measures(mesh)
        self.nodes = at_nodes(mesh, scheme.degree)
        self.rows = [self._first(j ^ 1, self.v) for j in range(2 * k)]
        self.feedback: Feedback | None = None
        self.of_market = market_forms(self)
        if state.quantities:
            self._set_feedback()
        pairs = [(i, j) for i in range(k) for j in range(k)]
        self.slopes = {(i, j): self._block(2 * i, 2 * j + 1) for i, j in pairs}
        self.costs_see = [pair for pair in pairs if any(self.slopes[pair])]
        self.interacting = any(any(self.slopes[pair][: self.local]) for pair in pairs)
        self.interacting |= bool(state.quantities)
        self.crossing = [
            (2 * i + field, 2 * j + field)
            for i, j in pairs
            for field in (0, 1)
            if i != j and any(self._block(2 * i + field, 2 * j + field))
        ]
        self.steady = not any(
            y in (*form.coefficients(), *form.constants())
            for form in chain(*self.slopes.values())
            if form is not None
            for y in (*self.components, *self.corners, *state.others, *state.numbers)
        )
        self.congested, self.nonlinear = (
            any(
                y in form.coefficients()
                for j in range(1, 2 * k, 2)
                for form in self._block(j, j)[part]
                if form is not None
                for y in (*self.m, *self.corners)
            )
            for part in (slice(1), slice(None))  # the costs alone, then all
        )
        forms = list(self.A)
        if self.feedback:
            self.congested |= self.feedback.moving
            self.nonlinear |= self.feedback.moving
            forms += chain(*self.feedback.forms.values())
        found = {y for form in forms if form for y in form.constants()}
        timed = state.changing or found & {*state.numbers}
        self.autonomous = not (timed or any(self.discounts) or problem.switches or boundary)

    def of(self, name: str | tuple, i: int = 0) -> list[ufl.Form]:
        """The forms whose sum is the named one of population i, at most one per quadrature rule.

        A tuple is the name of one of the `Feedback`.
        """
        j = 2 * i + ("fp" in name)
        if isinstance(name, tuple):
            forms = (self.of_market | (self.feedback.forms if self.feedback else {}))[name]
        elif name in ("residual", "jacobian"):
            forms = self._whole(name)
        elif name == "coupling":
            forms = self._coupling
        elif name in ("running", "entering", "expected", "paid") or name.startswith("leaving"):
            rules = self.rule, self.nodes, self.gradients
            rates = zip(self._rates(name, i), rules, strict=False)
            forms = [rate * rule for rate, rule in rates if rate != 0]
        else:
            forms = self._block(j, j) if " in " in name else self.rows[j]
        fields = dict(zip(self.components, ufl.split(self.state.fields), strict=True))
        fields |= {y: self.state.corners[i, :] for i, y in enumerate(self.corners)}
        return merged(ufl.replace(form, fields) for form in forms if form is not None)

    def _set_feedback(self):
        """State how the crowd makes what its costs see, in a step and at the end."""
        problem, state = self.problem, self.state
        seen = problem.crowd(state.seen(self.m))
        loads = [
            data.operand(y, x=problem.x, t=state.t, m=seen) * self.v * self.rule
            for _, data, y in problem.quantities
        ]
        pulls = []
        for y in state.shadows:  # the viscosity, which sees symbols of z, is no cost
            pull = derivatives(self.A, state.quantities[y], self.v)
            pulls.append([form and ufl.replace(form, self.thaw) for form in pull])
        m, made, shadows = self.m, state.quantities, state.shadows
        costs, _ = terminal_costs(problem, state, m, state.seen(m), made, shadows)
        ends = [derivatives([costs * self.rule], made[y], self.v) for y in shadows]
        self.feedback = Feedback(
            [*made.values()],
            [*shadows.values()],
            loads,
            {SHADOW: pulls, END: ends},
            self.rows,
            self.components,
            partial(derivatives, direction=self.dv),
        )

    def _first(self, component: int, direction) -> list[ufl.Form | None]:
        """The derivative of each part of A in a component, with the frozen symbols replaced."""
        found = derivatives(self.A, self.components[component], direction)
        if component % 2 and (rate := self.discounts[component // 2]):
            gamma = fem.Constant(self.space.mesh, rate)
            found[0] += gamma * self.u[component // 2] * direction * self.rule
        return [form and ufl.replace(form, self.thaw) for form in found]

    def _block(self, row: int, column: int) -> list[ufl.Form | None]:
        """A block of the Jacobian, one form per part of A."""
        changes = {self.components[column]: self.dv}
        if column % 2:  # of a density
            changes[self.corners[column // 2]] = at_vertices(self.dv, self.space.mesh)
        return derivatives(self.rows[row], tuple(changes), tuple(changes.values()))

    def _whole(self, name: str) -> list[ufl.Form | None]:
        """All residual rows, or the whole Jacobian."""
        z, dz = ufl.split(ufl.TestFunction(self.space)), ufl.split(ufl.TrialFunction(self.space))
        rows = [
            form and ufl.replace(form, {self.v: z[j]})
            for j, row in enumerate(self.rows)
            for form in row
        ]
        if name == "residual":
            return rows
        corners = (at_vertices(dm, self.space.mesh) for dm in dz[1::2])
        return derivatives(rows, (*self.components, *self.corners), (*dz, *corners))

    @property
    def _coupling(self) -> list[ufl.Form]:
        k, mesh = self.k, self.space.mesh
        tests = ufl.split(ufl.TestFunction(self.coefficients))
        forms = [
            -ufl.replace(slope, {self.v: tests[k * i + j], self.dv: ufl.as_ufl(1.0)})
            for (i, j), slopes in self.slopes.items()
            for slope in slopes[: self.local]
            if slope is not None
        ]
        forms += self._felt(tests)
        crowd = self.problem.crowd(self.state.seen(self.m), self.state.quantities)
        for i, population in enumerate(self.problem.populations):
            p = ufl.variable(ufl.grad(self.u[i]))
            H = population.H(self.problem.x, self.state.t, p, crowd)
            H_pp = ufl.diff(ufl.diff(H, p), p)
            a = expand_derivatives(self.m[i] * ufl.tr(H_pp) / self.problem.domain.dim)
            if a == 0:  # H is linear in p; a form must exist all the same
                a = fem.Constant(mesh, 0.0)
            forms.append(a * tests[k * k + i] * self.rule)
        return forms

    def _felt(self, tests) -> list[ufl.Form]:
        """What f_ij has besides of smoothed densities: as if a share of them were local."""
        problem, state, found = self.problem, self.state, []
        share = LOCAL * (2 if problem.plans else 1)
        m = [ufl.variable(density) for density in self.m]
        seen = problem.crowd(state.seen(m))
        for q, (_, data, y) in enumerate(problem.quantities):
            operand = data.operand(y, x=problem.x, t=state.t, m=seen)
            for i, j in self.slopes if y.radius else ():
                change = share * ufl.diff(operand, m[j])
                new = {self.v: tests[self.k * i + j], self.dv: change}
                rows = self.feedback.forms.get(("row", 2 * i, q), []) if self.feedback else []
                found += [-ufl.replace(row, new) for row in rows if row is not None]
        return found

    def _rates(self, name: str, i: int) -> tuple:
        """The named rate of population i: inside, at the boundary, at walls that do not push."""
        population, x, t = self.problem.populations[i], self.problem.x, self.state.t
        layers, u, m = self.state.layers[i], self.u[i], self.m[i]
        crowd = self.problem.crowd(self.m, self.state.quantities)
        if name == "paid":
            return 0, paid(population, layers, t, m, crowd)
        if name.startswith("leaving"):
            door = name.partition(" ")[2]
            return 0, leaving(population, {door: layers[door]}, t, m, crowd)
        if name in ("entering", "expected"):
            value = u if name == "expected" else 1
            return population.s(x, t) * value, entering(population, layers, t) * value
        # With the cost of moving L = p . H_p - H (Legendre), m (L + f) = p . a_p - a.
        p = ufl.variable(ufl.grad(u))
        standing = self.state.standing.get(id(population))
        a = cost_terms(population, standing, t, p, m, crowd, self.tables)
        return ufl.dot(p, ufl.diff(a, p)) - a, 0, self._staying(i, standing)

    def _staying(self, i: int, standing):
        """What players pay for standing still while noise pushes them, by their `Standing`."""
        if standing is None:
            return 0
        around = self.state.around(self.problem, self.corners, self.state.quantities)
        p, frozen = 0 * ufl.grad(self.u[i]), (self.state, self.u[i], around, self.corners[i])
        return -self.scheme.standing(standing, *frozen, p, self.m[i])
