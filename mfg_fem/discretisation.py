"""The problem on a mesh: the forms of a step, compiled; mass, exits, initial density."""

from mpi4py import MPI
from petsc4py import PETSc

import numpy as np

import ufl
from dolfinx import fem, la
from ufl.algorithms import expand_derivatives

from mfg_fem._compat import interpolation_points
from mfg_fem.assembly import Assembler, compiled, pointwise
from mfg_fem.domain import boundary_dofs
from mfg_fem.errors import ProblemError
from mfg_fem.functional import StepState, step_forms, terminal_value
from mfg_fem.problem import _MeanField
from mfg_fem.schemes import function_space


class Discretisation:
    """What a solve needs to know of its problem, mesh and scheme. Knows no time step."""

    def __init__(self, problem: _MeanField, scheme):
        self.problem, self.scheme = problem, scheme
        domain = problem.domain
        self.comm = domain.comm
        self.V = function_space(scheme, domain.mesh)
        self.owned = self.V.dofmap.index_map.size_local
        self.state = StepState.on(self.V, crowd=problem.population / domain.volume())
        forms = step_forms(problem, scheme, self.state)
        self.hjb, self.fp = compiled(forms.hjb), compiled(forms.fp)
        self.blocks = {name: compiled(getattr(forms, name)) for name in ("uu", "um", "mu", "mm")}
        # With costs that are linear in m, dHJB/dm is the same at all states.
        self.steady_um = not any(
            y in (*form.coefficients(), *form.constants())
            for form in forms.um
            for y in (self.state.u, self.state.m, self.state.t)
        )
        # With congestion, H depends on m: the Fokker-Planck equation is nonlinear in m.
        self.congested = any(self.state.m in form.coefficients() for form in forms.mm)
        self.totals = {k: fem.form(getattr(forms, k)) for k in ("running", "terminal", "entering")}
        self.terminal = [self._nodal(e) for e in terminal_value(problem, self.state)]
        self._find_exits()
        self._assemble_mass()
        self._scale_initial_density()

    def _nodal(self, expression) -> fem.Expression | float:
        expression = expand_derivatives(expression)
        if isinstance(expression, ufl.constantvalue.ConstantValue):
            return float(expression)  # FFCx refuses an expression without a mesh
        return pointwise(expression, interpolation_points(self.V))

    def interpolate(self, expression: fem.Expression | float) -> np.ndarray:
        """Owned dof values of what _nodal made."""
        if isinstance(expression, float):
            return np.full(self.owned, expression)
        function = fem.Function(self.V)
        function.interpolate(expression)
        return function.x.array[: self.owned].copy()

    def _assemble_mass(self):
        u, v = ufl.TrialFunction(self.V), ufl.TestFunction(self.V)
        _, values = self.scheme.measures(self.V.mesh)
        mass = fem.form(u * v * values)
        self.assembler = Assembler(mass)
        self.assembler.assemble([mass])
        self.mass = self.assembler.matrix.copy()
        ones, sums = self.mass.createVecs()
        ones.set(1.0)
        self.mass.mult(ones, sums)
        self.weights, self.free_weights = sums.array_r.copy(), sums.array_r.copy()
        self.free_weights[self.held] = 0.0
        # The norm of a residual divides by the diagonal: row sums may vanish for P2.
        self.norm_weights = self.mass.getDiagonal().array_r.copy()
        self.free_mass = self.mass.copy()
        self.free_mass.setOption(PETSc.Mat.Option.KEEP_NONZERO_PATTERN, True)
        first = self.V.dofmap.index_map.local_range[0]
        self.free_mass.zeroRowsColumns(self.held.astype(PETSc.IntType) + first, diag=0.0)

    def _find_exits(self):
        """Dofs of each exit (owned), their cost, and the conditions that hold them."""
        self.exits: dict[str, np.ndarray] = {}
        self.exit_cost = np.zeros(self.owned)
        held = np.zeros(len(fem.Function(self.V).x.array), dtype=bool)
        for name, condition in self.problem.boundary.items():
            dofs = boundary_dofs(self.problem.domain, self.V, name)
            dofs = dofs[~held[dofs]]  # a corner shared by two exits belongs to the first
            held[dofs] = True
            self.exits[name] = dofs[dofs < self.owned]
            cost = self.interpolate(self._nodal(self.problem.exit_cost(condition, self.problem.x)))
            self.exit_cost[self.exits[name]] = cost[self.exits[name]]
        self.held = np.flatnonzero(held[: self.owned])
        all_held = np.flatnonzero(held).astype(np.int32)
        self.bcs = [fem.dirichletbc(0.0, all_held, self.V)] if self.problem.boundary else []

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
        for function, values in ((state.u, u), (state.m, m)):
            function.x.array[: self.owned] = values
            function.x.scatter_forward()
        state.t.value = t

    def terminal_values(self, m: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """u_T(x, m) and its derivative in m at the dofs; exits keep their cost."""
        self.set_state(np.zeros(self.owned), m, self.problem.horizon)
        u_T, slope = (self.interpolate(e) for e in self.terminal)
        u_T[self.held], slope[self.held] = self.exit_cost[self.held], 0.0
        return u_T, slope

    def assemble_vector(self, forms: list[fem.Form]) -> np.ndarray:
        """Owned entries of the sum of linear forms. Collective."""
        total = fem.Function(self.V).x
        for form in forms:
            fem.assemble_vector(total.array, form)
        total.scatter_reverse(la.InsertMode.add)
        return total.array[: self.owned]

    def assemble_block(self, name: str, A: PETSc.Mat) -> np.ndarray:
        """Assemble a block of the Jacobian into A, exits held; the diagonal of its first form.

        Collective.
        """
        diagonal = self.assembler.assemble(self.blocks[name], self.bcs)
        self.assembler.matrix.copy(A, PETSc.Mat.Structure.SAME_NONZERO_PATTERN)
        return diagonal
