"""The problem on a mesh: the forms of a step, compiled; mass, exits, initial density."""

from itertools import chain

from mpi4py import MPI

import numpy as np

import ufl
from dolfinx import fem, la
from ufl.algorithms import expand_derivatives, extract_coefficients

from mfg_fem._compat import interpolation_points
from mfg_fem.compilation import compiled, pointwise
from mfg_fem.discrete.packing import Packed
from mfg_fem.discrete.pattern import Assembler, Pattern
from mfg_fem.discrete.step import function_space
from mfg_fem.errors import ProblemError
from mfg_fem.forms.functional import StepForms, StepState, step_forms, terminal_value
from mfg_fem.mesh.domain import boundary_dofs
from mfg_fem.problem.game import MeanField


class _Compiled(dict):
    """The forms of a step by their names, compiled at their first use, as few need all of them."""

    def __init__(self, forms: StepForms, degree: int):
        self.forms, self.degree = forms, degree

    def __missing__(self, name: str) -> list[fem.Form]:
        self[name] = compiled(self.forms.of(name), self.degree)
        return self[name]


class Discretisation:
    """What a solve needs to know of its problem, mesh and scheme. Knows no time step."""

    def __init__(self, problem: MeanField, scheme):
        self.problem, self.scheme = problem, scheme
        domain = problem.domain
        self.comm = domain.comm
        self.V = function_space(scheme, domain.mesh)
        self.owned = self.V.dofmap.index_map.size_local
        self.volume = domain.volume()
        self.diameter = self.volume ** (1 / domain.dim)
        self.mean_diffusion = self._integral_of_diffusion() / self.volume
        self.state = StepState.on(self.V, crowd=problem.population / self.volume)
        forms = step_forms(problem, scheme, self.state)
        self.forms = _Compiled(forms, scheme.degree)
        self.totals = {k: compiled(form, scheme.degree) for k, form in forms.totals.items()}
        always = chain(*(self.forms[name] for name in ("residual", "jacobian", "coupling", "mm")))
        # Those of totals come later, when the solver's memory is free.
        self.packed = Packed(always, self.state.pair)
        self.sums: dict[str, la.Vector] = {}
        (test,) = forms.parts["coupling"][0][0].arguments()
        self._at_vertices = fem.Function(test.ufl_function_space())
        self.steady_um, self.congested = forms.steady_um, forms.congested
        self.autonomous = forms.autonomous
        self.adjoint = not (forms.congested or scheme.positive)  # B is A^T, without viscosity
        self.terminal = [self._terminal(e) for e in terminal_value(problem, self.state)]
        self._find_exits()
        self._assemble_matrices()
        self._scale_initial_density()

    @property
    def mesh_size(self) -> float:
        """Mean distance of two nodes."""
        nodes = self.V.dofmap.index_map.size_global
        return self.diameter / nodes ** (1 / self.problem.domain.dim)

    @property
    def spread(self) -> float:
        """Diffusion times horizon, over the square of the domain's size: how far players diffuse.

        Rounded, as sums on ranks differ in the last digit.
        """
        return round(self.mean_diffusion * self.problem.horizon / self.diameter**2, 6)

    def _integral_of_diffusion(self) -> float:
        """Of tr D / d."""
        D = ufl.tr(self.problem.D(self.problem.x)) / self.problem.domain.dim
        form = compiled(D * ufl.dx(domain=self.V.mesh, degree=2))
        return self.comm.allreduce(fem.assemble_scalar(form), MPI.SUM)

    def _nodal(self, expression) -> fem.Expression | float:
        expression = expand_derivatives(expression)
        if isinstance(expression, ufl.constantvalue.ConstantValue):
            return float(expression)  # FFCx refuses an expression without a mesh
        return pointwise(expression, interpolation_points(self.V))

    def _terminal(self, expression) -> fem.Expression | float | np.ndarray:
        """Its values at the dofs, if they are the same for all densities."""
        expression = expand_derivatives(expression)
        nodal = self._nodal(expression)
        changes = self.state.m in extract_coefficients(expression)
        return nodal if changes else self.interpolate(nodal)

    def interpolate(self, expression: fem.Expression | float | np.ndarray) -> np.ndarray:
        """Owned dof values of what _nodal made, or a copy of such values."""
        if isinstance(expression, float | np.ndarray):
            return np.full(self.owned, expression)
        function = fem.Function(self.V)
        function.interpolate(expression)
        return function.x.array[: self.owned].copy()

    def _assemble_matrices(self):
        u, v = ufl.TrialFunction(self.V), ufl.TestFunction(self.V)
        gradients, values = self.scheme.measures(self.V.mesh)
        mass = compiled(u * v * values)
        self.assembler, self.pair_assembler = Assembler(mass), Assembler(self.forms["jacobian"][0])
        self.pattern = Pattern(self.assembler.csr)
        self.step_entries = self.assembler.assemble([mass]).ravel().copy()
        self.mass = self.free_mass = self.pattern.create(self.step_entries)
        stiffness = compiled(ufl.inner(ufl.grad(u), ufl.grad(v)) * gradients)  # exits or not
        self.stiffness = self.pattern.create(self.assembler.assemble([stiffness]).ravel())
        ones, sums = self.mass.createVecs()
        ones.set(1.0)
        self.mass.mult(ones, sums)
        self.weights, self.free_weights = sums.array_r.copy(), sums.array_r.copy()
        self.free_weights[self.held] = 0.0
        # The norm of a residual divides by the diagonal: row sums may vanish for P2.
        self.norm_weights = self.mass.getDiagonal().array_r.copy()
        vertices = self._at_vertices.function_space
        volumes = fem.assemble_vector(compiled(ufl.TestFunction(vertices)[0] * values))
        self.vertex_weights = _summed(volumes, vertices)[0]
        self._hold()

    def _hold(self):
        """What keeps exits at their values: rows and columns are zero but for the mass of one."""
        rows, columns = self.pattern.rows, self.pattern.columns
        held = la.vector(self.assembler.csr.index_map(1))  # it may have more ghosts than V
        held.array[self.held] = 1.0
        held.scatter_forward()
        held = held.array > 0
        self.held_entries = np.flatnonzero(held[rows] | held[columns])
        diagonal = np.flatnonzero(held[rows] & (rows == columns))
        masses = self.step_entries[diagonal]
        self.step_entries[self.held_entries] = 0.0
        if self.exits:
            self.free_mass = self.pattern.create(self.step_entries)
        self.step_entries[diagonal] = masses

    def _find_exits(self):
        """Dofs of each exit (owned), their cost, and the conditions that hold them."""
        self.exits: dict[str, np.ndarray] = {}
        self.exit_cost = np.zeros(self.owned)
        held = np.zeros(len(self.state.u.x.array), dtype=bool)
        for name in self.problem.boundary:
            dofs = boundary_dofs(self.problem.domain, self.V, name)
            dofs = dofs[~held[dofs]]  # a corner shared by two exits belongs to the first
            held[dofs] = True
            self.exits[name] = dofs[dofs < self.owned]
            cost = self.interpolate(self._nodal(self.problem.exit_cost(name, self.problem.x)))
            self.exit_cost[self.exits[name]] = cost[self.exits[name]]
        self.held = np.flatnonzero(held[: self.owned])

    def _scale_initial_density(self):
        m0 = self.interpolate(self._nodal(self.problem.m0(self.problem.x)))
        m0[self.held] = 0.0
        mass = self.integral(m0)
        if not mass > 0:
            raise ProblemError(
                "initial_density(x) vanishes at every node that is not on an exit, so it cannot be "
                "scaled to the population. Is the mesh fine enough for it?"
            )
        self.m0 = m0 * (self.problem.population / mass)

    def integral(self, values: np.ndarray) -> np.ndarray:
        """Integral over the domain of each row of owned dof values. Collective."""
        return self.comm.allreduce(values @ self.weights, MPI.SUM)

    def set_state(self, u: np.ndarray, m: np.ndarray, t: float):
        """Give the forms the pair a step sees."""
        state = self.state
        pairs = state.pair.x.array.reshape(-1, 2)
        pairs[: self.owned, 0], pairs[: self.owned, 1] = u, m
        state.pair.x.scatter_forward()
        state.u.x.array[:], state.m.x.array[:] = pairs.T
        state.t.value = t
        self.packed.stale()

    def terminal_values(self, m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """u_T(x, m) and its derivative in m at the dofs; exits keep their cost."""
        self.set_state(np.zeros(self.owned), m, self.problem.horizon)
        u_T, slope = (self.interpolate(e) for e in self.terminal[:2])
        u_T[self.held], slope[self.held] = self.exit_cost[self.held], 0.0
        return u_T, slope

    def terminal_cost(self, m: np.ndarray) -> np.ndarray:
        """g(x, m) at the dofs; exits keep their cost."""
        self.set_state(np.zeros(self.owned), m, self.problem.horizon)
        g = self.interpolate(self.terminal[2])
        g[self.held] = self.exit_cost[self.held]
        return g

    def assemble_rows(self, name: str) -> np.ndarray:
        """Owned entries of these rows, shape (owned,), or (2, owned) on the pair. Collective.

        A view, valid until these rows are assembled again.
        """
        space = self.forms[name][0].function_spaces[0]
        if name not in self.sums:  # kept, as making one takes ranks as long as adding up
            self.sums[name] = la.vector(space.dofmap.index_map, space.dofmap.index_map_bs)
        total = self.sums[name]
        total.array[:] = 0.0
        for form in self.forms[name]:
            fem.assemble_vector(total.array, form, coeffs=self.packed.of(form))
        return _summed(total, space)

    def total(self, name: str) -> float:
        """This rank's part of one of the `totals` of `StepForms`."""
        if name not in self.totals:
            return 0.0
        form = self.totals[name]
        return fem.assemble_scalar(form, coeffs=self.packed.of(form))

    def assemble_block(self, name: str) -> np.ndarray:
        """Entries of a block of the Jacobian on the `pattern`, exits held. Collective."""
        entries = self.assembler.assemble(self.forms[name], self.packed).ravel()
        entries[self.held_entries] = 0.0
        return entries

    def assemble_jacobian(self) -> np.ndarray:
        """Entries of all four, shape (entries, 2, 2), first the HJB row and u. Collective."""
        entries = self.pair_assembler.assemble(self.forms["jacobian"], self.packed)
        entries[self.held_entries] = 0.0
        return entries

    def coupling(self) -> np.ndarray:
        """The f and a of `coupling.py` at the dofs, means around each vertex. Collective."""
        means = self.assemble_rows("coupling") / self.vertex_weights
        if self.scheme.degree == 1:
            return means
        at_vertices, at_dofs = self._at_vertices, fem.Function(self.state.pair.function_space)
        at_vertices.x.array[: means.size] = means.T.ravel()
        at_vertices.x.scatter_forward()
        at_dofs.interpolate(at_vertices)
        return at_dofs.x.array.reshape(-1, 2)[: self.owned].T


def _summed(total: la.Vector, space) -> np.ndarray:
    """Owned entries of what ranks have assembled, a row for each component. Collective."""
    total.scatter_reverse(la.InsertMode.add)
    size = space.dofmap.index_map_bs
    owned = total.array[: space.dofmap.index_map.size_local * size]
    return owned if size == 1 else owned.reshape(-1, size).T
