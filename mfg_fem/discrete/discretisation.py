"""The problem on a mesh: forms of a step, compiled and assembled; mass matrix, Dirichlet dofs."""

from collections.abc import Callable
from functools import cached_property, partial

from mpi4py import MPI
from petsc4py import PETSc

import numpy as np

import ufl
from dolfinx import fem, la
from ufl.algorithms import expand_derivatives, extract_coefficients

from mfg_fem._compat import interpolation_points
from mfg_fem.compilation import compiled, pointwise
from mfg_fem.discrete.ends import ends_of
from mfg_fem.discrete.exits import Exits
from mfg_fem.discrete.feedback import Feedback
from mfg_fem.discrete.layers import layers
from mfg_fem.discrete.packing import Packed
from mfg_fem.discrete.pattern import Assembler, Pattern
from mfg_fem.discrete.standing import add_standing
from mfg_fem.discrete.step import function_space
from mfg_fem.forms.state import StepState
from mfg_fem.forms.step_forms import StepForms
from mfg_fem.problem.moments import moments


class _Compiled(dict):
    """The forms of a step by name and population, compiled at first use: few solves need all."""

    def __init__(self, forms: StepForms, degree: int):
        self.forms, self.degree = forms, degree

    def __missing__(self, key: tuple[str | tuple, int]) -> list[fem.Form]:
        self[key] = compiled(self.forms.of(*key), self.degree)
        return self[key]


class Discretisation:
    """The problem on its mesh in a scheme, without any time step.

    Attributes:
        k: number of populations.
        V: the space of one value function or density, with `owned` owned dofs.
        state: what the forms of a step depend on.
        forms: the UFL forms of a step.
        exits: the Dirichlet dofs of each population.
        pattern: the sparsity pattern of all matrices.
        mass, free_mass: the mass matrix; per population, with zero rows and columns at Dirichlet
            dofs.
        weights, free_weights: their row sums, shapes (owned,) and (k, owned).
        norm_weights: the diagonal of the mass matrix.
        stiffness: the matrix of grad u . grad v, without Dirichlet conditions.
        mean_diffusion: mean of tr(D) / d over the domain, per population.
        feedback: the quantities that the crowd makes, if costs see any.
        ends: the data at both ends of the time interval.
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
        self.state = StepState.on(
            self.V,
            [number / self.volume for number in people],
            [layers(population, self.V, scheme.degree) for population in problem.populations],
            [quantity for *_, quantity in problem.quantities],
            problem.plans,
            problem.prices,
        )
        scheme.prepare(problem, self.state)
        add_standing(problem, scheme, self.state)
        if scheme.limited:
            self.state.limit.value = scheme.sharpness
        self.forms = StepForms(problem, scheme, self.state)
        self._compiled = _Compiled(self.forms, scheme.degree)
        always = [("residual", 0), ("jacobian", 0), ("coupling", 0)]
        always += [("fp in m", i) for i in range(self.k)]
        # The forms of totals are packed later, when the solver's memory is free.
        self.packed = Packed(
            (form for key in always for form in self._compiled[key]),
            self.state.fields,
            self.state.corners,
            self.state.others,
        )
        self._sums: dict[tuple[str | tuple, int], la.Vector] = {}
        self._at_vertices = fem.Function(self.forms.coefficients)
        self.has_source = any(map(self.forms.of, ["entering"] * self.k, range(self.k)))
        # Whether B is the transpose of A; congestion and edge viscosity add terms.
        self.adjoint = not (self.forms.nonlinear or scheme.positive or any(self.forms.discounts))
        self.exits = [
            Exits.of(population, self.V, self._values) for population in problem.populations
        ]
        self._assemble_matrices()
        self.feedback = Feedback(self) if self.state.quantities else None
        self.ends = ends_of(self)

    @property
    def mesh_size(self) -> float:
        """Mean distance of neighbouring nodes."""
        nodes = self.V.dofmap.index_map.size_global
        return self.diameter / nodes ** (1 / self.problem.domain.dim)

    @property
    def spread(self) -> float:
        """Least D * horizon / diameter^2, to digits that are the same on any number of ranks."""
        return round(self.mean_diffusion.min() * self.problem.duration / self.diameter**2, 6)

    @property
    def decay(self) -> float:
        """The rate at which diffusion flattens the longest wave in the domain."""
        return float(self.mean_diffusion.max() * (np.pi / self.diameter) ** 2)

    @cached_property
    def bounding_box(self) -> tuple[np.ndarray, np.ndarray]:
        """The lowest and the highest corner of the bounding box of all dofs. Collective."""
        x = self.V.tabulate_dof_coordinates()[: self.owned, : self.problem.domain.dim]
        low = [self.comm.allreduce(y.min(initial=np.inf), MPI.MIN) for y in x.T]
        high = [self.comm.allreduce(y.max(initial=-np.inf), MPI.MAX) for y in x.T]
        return np.array(low), np.array(high)

    @cached_property
    def closed(self) -> np.ndarray:
        """Whether nobody can leave from a population or those that it exchanges people with."""
        problem, found = self.problem, np.zeros(self.k, bool)
        for group in problem.groups:
            found[group] = not any(problem.populations[i].ways_out for i in group)
        return found

    @property
    def has_exits(self) -> bool:
        """Whether anybody can leave."""
        return not self.closed.all()

    def compiled(self, name: str | tuple, i: int = 0) -> list[fem.Form]:
        """The compiled forms of this name and population."""
        return self._compiled[name, i]

    def _integral_of_diffusion(self, population) -> float:
        """Integral of tr(D) / d over the domain, the largest of all times. Collective."""
        t = fem.Constant(self.V.mesh, 0.0)
        D = ufl.tr(population.D(population.x, t)) / self.problem.domain.dim
        form, found = compiled(D * ufl.dx(domain=self.V.mesh, degree=2)), []
        for t.value in moments(self.problem.duration, population.data.depends("diffusion", "t")):
            found.append(fem.assemble_scalar(form))
        return float(self.comm.allreduce(np.array(found), MPI.SUM).max())

    def nodal(self, expression) -> fem.Expression | float | np.ndarray:
        """What `interpolate` takes: compiled, or already nodal values if no field is in it."""
        expression = expand_derivatives(expression)
        found = self._at_nodes(expression)
        moving = self.state.fields, *self.state.others
        changes = any(y in moving for y in extract_coefficients(expression))
        return found if changes or isinstance(found, float) else self.interpolate(found)

    def _values(self, expression) -> Callable[[], np.ndarray]:
        """What returns the owned nodal values of an expression of x and Constants, as they are."""
        return partial(self.interpolate, self._at_nodes(expand_derivatives(expression)))

    def _at_nodes(self, expression) -> fem.Expression | float:
        if isinstance(expression, ufl.constantvalue.ConstantValue):
            return float(expression)  # FFCx refuses an expression without a mesh
        return pointwise(expression, interpolation_points(self.V))

    def interpolate(self, expression: fem.Expression | float | np.ndarray) -> np.ndarray:
        """Owned nodal values of what `nodal` has returned, in a new array."""
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
        stiffness = compiled(ufl.inner(ufl.grad(u), ufl.grad(v)) * gradients)
        self.stiffness = self.pattern.create(self._assembler.assemble([stiffness]).ravel())
        ones, sums = self.mass.createVecs()
        ones.set(1.0)
        self.mass.mult(ones, sums)
        self.weights = sums.array_r.copy()
        self.free_weights = np.tile(self.weights, (self.k, 1))
        # Residual norms divide by the diagonal: row sums may vanish for P2.
        self.norm_weights = self.mass.getDiagonal().array_r.copy()
        vertices = self._at_vertices.function_space
        volumes = fem.assemble_vector(compiled(ufl.TestFunction(vertices)[0] * values))
        self._vertex_weights = _summed(volumes, vertices)[0]
        self._hold(entries)

    def weighted_stiffness(self, a: np.ndarray) -> PETSc.Mat:
        """The matrix of a grad u . grad v for owned nodal values of a, a new one. Collective."""
        form, weight = self._weighted_stiffness
        weight.x.array[: self.owned] = a
        weight.x.scatter_forward()
        return self.pattern.create(self._assembler.assemble([form]).ravel())

    @cached_property
    def _weighted_stiffness(self) -> tuple[fem.Form, fem.Function]:
        u, v, weight = ufl.TrialFunction(self.V), ufl.TestFunction(self.V), fem.Function(self.V)
        gradients, _ = self.scheme.measures(self.V.mesh)
        form = compiled(weight * ufl.inner(ufl.grad(u), ufl.grad(v)) * gradients)
        return form, weight

    def _hold(self, entries: np.ndarray):
        """Make `free_mass` without Dirichlet dofs, and `step_entries`, with their diagonal."""
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
        """Set residual rows at Dirichlet dofs to zero, in place; shape (k, ..., owned)."""
        for own, exits in zip(rows, self.exits, strict=True):
            own[..., exits.held] = 0.0
        return rows

    def integral(self, values: np.ndarray) -> np.ndarray:
        """Integral over the domain of each row of owned nodal values. Collective."""
        return self.comm.allreduce(values @ self.weights, MPI.SUM)

    def set_state(self, u: np.ndarray, m: np.ndarray, t: float):
        """Set the fields that a step sees, both of shape (k, owned), and the time."""
        vector = self.state.fields.x
        fields = vector.array.reshape(-1, self.k, 2)
        for i in range(self.k):
            fields[: self.owned, i, 0], fields[: self.owned, i, 1] = u[i], m[i]
        vector.scatter_forward()
        self.state.at(t)
        self.packed.stale()
        if self.feedback:
            self.feedback.update(self)

    def assemble_rows(self, name: str | tuple, i: int = 0) -> np.ndarray:
        """Owned entries of these rows, shape (owned,) or (components, owned). Collective.

        The array is a view, valid until these rows are assembled again.
        """
        forms = self.compiled(name, i)
        space = forms[0].function_spaces[0]
        if (name, i) not in self._sums:  # kept: a new one costs ranks as much as the sum
            vector = la.vector(space.dofmap.index_map, space.dofmap.index_map_bs)
            self._sums[name, i] = vector
        total = self._sums[name, i]
        total.array[:] = 0.0
        for form in forms:
            fem.assemble_vector(total.array, form, coeffs=self.packed.of(form))
        return _summed(total, space)

    def total(self, name: str | tuple, i: int = 0) -> float:
        """This rank's part of a rate of population i: "running", "entering" or "expected"."""
        forms = self.compiled(name, i)
        return sum(fem.assemble_scalar(form, coeffs=self.packed.of(form)) for form in forms)

    def assemble_single(self, key: tuple) -> np.ndarray:
        """Entries of a matrix on the space of one component, all of them. Collective."""
        return self._assembler.assemble(self.compiled(key), self.packed).ravel()

    def assemble_block(self, name: str, i: int) -> np.ndarray:
        """Entries of a diagonal block of the Jacobian, zero at Dirichlet dofs. Collective."""
        entries = self._assembler.assemble(self.compiled(name, i), self.packed).ravel()
        entries[self._held_entries[i][i]] = 0.0
        return entries

    def assemble_jacobian(self) -> np.ndarray:
        """Entries of all blocks, shape (2 k, 2 k, entries), zero at Dirichlet dofs. Collective.

        Rows and columns 2 i are HJB equation and u of population i, 2 i + 1 Fokker-Planck and m.
        """
        entries = self._block_assembler.assemble(self.compiled("jacobian"), self.packed)
        for i, row in enumerate(self._held_entries):
            for j, held in enumerate(row):
                entries[held, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = 0.0
        return entries.transpose(1, 2, 0)

    def coupling(self) -> np.ndarray:
        """f_ij and a_i of `StepForms` at the dofs, as means around each vertex. Collective."""
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
    """Owned entries of an assembled vector, summed over ranks, by component. Collective."""
    total.scatter_reverse(la.InsertMode.add)
    size = space.dofmap.index_map_bs
    owned = total.array[: space.dofmap.index_map.size_local * size]
    return owned if size == 1 else owned.reshape(-1, size).T
