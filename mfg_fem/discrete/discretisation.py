"""The problem on a mesh: the forms of a step, compiled and assembled; mass matrix, exits."""

from functools import cached_property

from mpi4py import MPI

import numpy as np

import ufl
from dolfinx import fem, la
from ufl.algorithms import expand_derivatives, extract_coefficients

from mfg_fem._compat import interpolation_points
from mfg_fem.compilation import compiled, pointwise
from mfg_fem.discrete.ends import TerminalCost
from mfg_fem.discrete.exits import Exits
from mfg_fem.discrete.packing import Packed
from mfg_fem.discrete.pattern import Assembler, Pattern
from mfg_fem.discrete.step import function_space
from mfg_fem.forms.functional import StepForms, StepState


class _Compiled(dict):
    """The forms of a step by name and population, compiled at their first use: few need all."""

    def __init__(self, forms: StepForms, degree: int):
        self.forms, self.degree = forms, degree

    def __missing__(self, key: tuple[str, int]) -> list[fem.Form]:
        self[key] = compiled(self.forms.of(*key), self.degree)
        return self[key]


class Discretisation:
    """What a solve needs to know of its problem, mesh and scheme. Knows no time step.

    Attributes:
        k: number of populations.
        V: the space of one value function or density; its owned dofs are `owned`.
        state: what the forms of a step depend on.
        forms: the forms of a step, with what is known of them.
        exits: of each population.
        pattern: the sparsity pattern of all matrices.
        mass, free_mass: the mass matrix, and of each population its part without exits.
        weights, free_weights: row sums of these, shapes (owned,) and (k, owned).
        norm_weights: the diagonal of the mass matrix.
        stiffness: the matrix of grad u . grad v.
        mean_diffusion: mean of tr D / d of each population.
        ends: of the time interval.
    """

    def __init__(self, problem, scheme):
        self.problem, self.scheme = problem, scheme
        domain, self.k = problem.domain, len(problem.populations)
        self.comm = domain.comm
        self.V = function_space(scheme, domain.mesh)
        self.owned = self.V.dofmap.index_map.size_local
        self.volume = domain.volume()
        self.diameter = self.volume ** (1 / domain.dim)
        integrals = [self._integral_of_diffusion(population) for population in problem.populations]
        self.mean_diffusion = np.array(integrals) / self.volume
        people = [population.population for population in problem.populations]
        self.state = StepState.on(self.V, [number / self.volume for number in people])
        self.forms = StepForms(problem, scheme, self.state)
        self._compiled = _Compiled(self.forms, scheme.degree)
        always = [("residual", 0), ("jacobian", 0), ("coupling", 0)]
        always += [("fp in m", i) for i in range(self.k)]
        # The forms of totals come later, when the solver's memory is free.
        self.packed = Packed(
            (form for key in always for form in self._compiled[key]), self.state.fields
        )
        self._sums: dict[tuple[str, int], la.Vector] = {}
        self._at_vertices = fem.Function(self.forms.coefficients)
        self.has_source = any(map(self.forms.of, ["entering"] * self.k, range(self.k)))
        # Whether B is the transpose of A. With congestion or edge viscosity it is so but for terms.
        self.adjoint = not (self.forms.congested or scheme.positive)
        self.exits = [
            Exits.of(population, self.V, lambda e: self.interpolate(self.nodal(e)))
            for population in problem.populations
        ]
        self._assemble_matrices()
        self.ends = TerminalCost(self)

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
        return round(self.mean_diffusion.min() * self.problem.horizon / self.diameter**2, 6)

    @cached_property
    def bounding_box(self) -> tuple[np.ndarray, np.ndarray]:
        """The lowest and the highest corner of a box around all dofs. Collective."""
        x = self.V.tabulate_dof_coordinates()[: self.owned, : self.problem.domain.dim]
        low = [self.comm.allreduce(y.min(initial=np.inf), MPI.MIN) for y in x.T]
        high = [self.comm.allreduce(y.max(initial=-np.inf), MPI.MAX) for y in x.T]
        return np.array(low), np.array(high)

    @property
    def has_exits(self) -> bool:
        """Whether any population has an exit."""
        return any(exits.dofs for exits in self.exits)

    def compiled(self, name: str, i: int = 0) -> list[fem.Form]:
        """The forms of this name of population i, compiled."""
        return self._compiled[name, i]

    def _integral_of_diffusion(self, population) -> float:
        """The integral of tr D / d. Collective."""
        D = ufl.tr(population.D(population.x)) / self.problem.domain.dim
        form = compiled(D * ufl.dx(domain=self.V.mesh, degree=2))
        return self.comm.allreduce(fem.assemble_scalar(form), MPI.SUM)

    def nodal(self, expression) -> fem.Expression | float | np.ndarray:
        """What `interpolate` takes; if it is the same for all states, already its nodal values."""
        expression = expand_derivatives(expression)
        if isinstance(expression, ufl.constantvalue.ConstantValue):
            return float(expression)  # FFCx refuses an expression without a mesh
        found = pointwise(expression, interpolation_points(self.V))
        changes = self.state.fields in extract_coefficients(expression)
        return found if changes else self.interpolate(found)

    def interpolate(self, expression: fem.Expression | float | np.ndarray) -> np.ndarray:
        """Owned nodal values of what `nodal` made, or a copy of such values."""
        if isinstance(expression, float | np.ndarray):
            return np.full(self.owned, expression)
        function = fem.Function(self.V)
        function.interpolate(expression)
        return function.x.array[: self.owned].copy()

    def _assemble_matrices(self):
        u, v = ufl.TrialFunction(self.V), ufl.TestFunction(self.V)
        gradients, values = self.scheme.measures(self.V.mesh)
        mass = compiled(u * v * values)
        self._assembler = Assembler(mass)
        self._block_assembler = Assembler(self.compiled("jacobian")[0])
        self.pattern = Pattern(self._assembler.csr)
        entries = self._assembler.assemble([mass]).ravel().copy()
        self.mass = self.pattern.create(entries)
        stiffness = compiled(ufl.inner(ufl.grad(u), ufl.grad(v)) * gradients)  # exits or not
        self.stiffness = self.pattern.create(self._assembler.assemble([stiffness]).ravel())
        ones, sums = self.mass.createVecs()
        ones.set(1.0)
        self.mass.mult(ones, sums)
        self.weights = sums.array_r.copy()
        self.free_weights = np.tile(self.weights, (self.k, 1))
        # The norm of a residual divides by the diagonal: row sums may vanish for P2.
        self.norm_weights = self.mass.getDiagonal().array_r.copy()
        vertices = self._at_vertices.function_space
        volumes = fem.assemble_vector(compiled(ufl.TestFunction(vertices)[0] * values))
        self._vertex_weights = _summed(volumes, vertices)[0]
        self._hold(entries)

    def _hold(self, entries: np.ndarray):
        """What keeps exits at their values: rows and columns are zero but for the mass of one.

        `step_entries` has the mass matrix of each population like that.
        """
        rows, columns = self.pattern.rows, self.pattern.columns
        held = [exits.columns(self._assembler.csr.index_map(1)) for exits in self.exits]
        self._held_entries = [
            [np.flatnonzero(row[rows] | column[columns]) for column in held] for row in held
        ]
        self.step_entries, self.free_mass = [], []
        for i, exits in enumerate(self.exits):
            self.free_weights[i, exits.held] = 0.0
            own = entries.copy()
            own[self._held_entries[i][i]] = 0.0
            self.free_mass.append(self.pattern.create(own) if exits.dofs else self.mass)
            diagonal = np.flatnonzero(held[i][rows] & (rows == columns))
            own[diagonal] = entries[diagonal]
            self.step_entries.append(own)

    def release(self, rows: np.ndarray) -> np.ndarray:
        """Rows of each population, shape (k, ..., owned), with zeros at exits, in place."""
        for own, exits in zip(rows, self.exits, strict=True):
            own[..., exits.held] = 0.0
        return rows

    def integral(self, values: np.ndarray) -> np.ndarray:
        """Integral over the domain of each row of owned nodal values. Collective."""
        return self.comm.allreduce(values @ self.weights, MPI.SUM)

    def set_state(self, u: np.ndarray, m: np.ndarray, t: float):
        """Give the forms the fields that a step sees, both of the shape (k, owned)."""
        vector = self.state.fields.x
        fields = vector.array.reshape(-1, self.k, 2)
        for i in range(self.k):
            fields[: self.owned, i, 0], fields[: self.owned, i, 1] = u[i], m[i]
        vector.scatter_forward()
        self.state.t.value = t
        self.packed.stale()

    def assemble_rows(self, name: str, i: int = 0) -> np.ndarray:
        """Owned entries of these rows: shape (owned,), or a row for each component. Collective.

        A view, valid until these rows are assembled again.
        """
        forms = self.compiled(name, i)
        space = forms[0].function_spaces[0]
        if (name, i) not in self._sums:  # kept, as making one takes ranks as long as adding up
            vector = la.vector(space.dofmap.index_map, space.dofmap.index_map_bs)
            self._sums[name, i] = vector
        total = self._sums[name, i]
        total.array[:] = 0.0
        for form in forms:
            fem.assemble_vector(total.array, form, coeffs=self.packed.of(form))
        return _summed(total, space)

    def total(self, name: str, i: int) -> float:
        """This rank's part of a rate of population i: "running", "entering" or "expected"."""
        forms = self.compiled(name, i)
        return sum(fem.assemble_scalar(form, coeffs=self.packed.of(form)) for form in forms)

    def assemble_block(self, name: str, i: int) -> np.ndarray:
        """Entries of a block on the diagonal of the Jacobian, exits held. Collective."""
        entries = self._assembler.assemble(self.compiled(name, i), self.packed).ravel()
        entries[self._held_entries[i][i]] = 0.0
        return entries

    def assemble_jacobian(self) -> np.ndarray:
        """Entries of all blocks, shape (2 k, 2 k, entries), by components. Collective.

        Of population i, row and column 2 i are those of the HJB equation and of u, 2 i + 1 those of
        the Fokker-Planck equation and of m.
        """
        entries = self._block_assembler.assemble(self.compiled("jacobian"), self.packed)
        for i, row in enumerate(self._held_entries):
            for j, held in enumerate(row):
                entries[held, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = 0.0
        return entries.transpose(1, 2, 0)

    def coupling(self) -> np.ndarray:
        """f_ij and a_i at the dofs, means around each vertex: see `StepForms`. Collective."""
        means = self.assemble_rows("coupling") / self._vertex_weights
        if self.scheme.degree == 1:
            return means
        at_vertices, at_dofs = self._at_vertices, self._at_dofs
        at_vertices.x.array[: means.size] = means.T.ravel()
        at_vertices.x.scatter_forward()
        at_dofs.interpolate(at_vertices)
        return at_dofs.x.array.reshape(-1, len(means))[: self.owned].T

    @cached_property
    def _at_dofs(self) -> fem.Function:
        """The coefficients of the coupling, of the degree of the scheme."""
        size = self.k * (self.k + 1)
        return fem.Function(
            fem.functionspace(self.V.mesh, ("Lagrange", self.scheme.degree, (size,)))
        )


def _summed(total: la.Vector, space) -> np.ndarray:
    """Owned entries of what ranks have assembled, a row for each component. Collective."""
    total.scatter_reverse(la.InsertMode.add)
    size = space.dofmap.index_map_bs
    owned = total.array[: space.dofmap.index_map.size_local * size]
    return owned if size == 1 else owned.reshape(-1, size).T
