"""The laws that a discrete solution keeps, measured: symplectic form, mass, momentum, energy."""

from collections.abc import Callable
from dataclasses import dataclass

from mpi4py import MPI
from petsc4py import PETSc

import numpy as np

import ufl
from dolfinx import fem, la
from dolfinx.mesh import compute_midpoints

from mfg_fem.compilation import compiled
from mfg_fem.errors import ProblemError, require, together
from mfg_fem.fluid.assembly import mass_products
from mfg_fem.fluid.hydrodynamics import hydrodynamics
from mfg_fem.fluid.linearised import linearised
from mfg_fem.fluid.page import explained
from mfg_fem.linear.coupled.formulations import TwoFieldForm
from mfg_fem.mesh.nodes import Nodes
from mfg_fem.solution.solution import Solution
from mfg_fem.validate import generator

ROUNDS = 6  # solves of the linearised equations, each for what the last has left
RADIUS = 0.3  # of the patch, relative to the size of the domain
STEPS = 3  # in the middle of the horizon, of the patch


@dataclass(frozen=True)
class Structure:
    """Defects of the laws of a solution, relative to the size of their terms.

    For tangents V = (v, mu) and W = (w, eta), solutions of the linearised discrete equations, and
    a set P of cells, let omega_P = v.Mass_P eta - w.Mass_P mu with the mass matrix of P. What step
    n sees of them is (v, mu)_n. Then

        omega_P^{n+1} - omega_P^n = dt sum_x (v, mu)_n.R_P(W)_n - (w, eta)_n.R_P(V)_n,

    where R_P are the linearised rows of both equations, assembled on P alone and exchanged: they
    vanish at the nodes inside P, so that the sum is a flux through the boundary of P. This is the
    multisymplectic form formula (Marsden, Patrick, Shkoller 1998). With P the domain, omega is
    the same at all levels.

    Both hold to round-off for `Galerkin` of any degree, mesh and time rule, for controls and for
    games whose H does not depend on m: the equations of a step are the first variation of one
    functional. They do not for a game with congestion, which has no such functional, nor for
    `Monotone` and `Sharp`, which freeze their viscosity in the first variation so that the matrix
    of the Fokker-Planck equation is of M-type (m >= 0): the price of positivity. `Sharp` also sees
    a limited average of densities.

    Attributes:
        symplectic: largest change of omega, over all levels.
        patch: defect of the formula on a patch of cells, over `STEPS` steps.
        residual: of the linearised equations that V and W solve; no defect is known better.
        mass: largest change of the number of people that no exit and no source explains.
        momentum: largest change of total momentum on a periodic domain, None elsewhere.
        drift, predicted: spread of the energy that `Fluid.modified_energy` corrects, and of the
            correction; relative to the largest of |energy| and moving cost. None without it.
        modified_drift: spread of the modified energy.
        reasons: of the modified energy and the momentum, as in `Fluid.reasons`.
    """

    symplectic: float
    patch: float
    residual: float
    mass: float
    momentum: float | None
    drift: float | None
    predicted: float | None
    modified_drift: float | None
    reasons: dict[str, str]

    @property
    def report(self) -> str:
        """A line for each law. `print(structure)` prints it."""
        lines = {
            "symplectic form": self.symplectic,
            "on a patch of cells": self.patch,
            "residual of the tangents": self.residual,
            "mass": self.mass,
            "momentum": self.momentum,
            "energy": self.drift,
            "energy, predicted": self.predicted,
            "modified energy": self.modified_drift,
        }
        shown = [f"  {k:<28} {y:.2e}" for k, y in lines.items() if y is not None]
        title = "Defects, relative to the size of their terms"
        return "\n".join([title, *shown, *explained(self.reasons)])

    def __str__(self) -> str:
        """The report."""
        return self.report


def structure(
    solution: Solution,
    patch: Callable[[np.ndarray], np.ndarray] | None = None,
    seed: int | np.random.Generator = 0,
) -> Structure:
    """Measure which laws a solution keeps. Collective.

    That takes the time of some Newton steps, and the memory of a solve.

    Args:
        solution: of a MeanFieldGame or MeanFieldControl, in any scheme.
        patch: x -> which cells are in it, from their midpoints x of shape (cells, 3); by default
            those in a ball around the centre of the domain.
        seed: of the random data of the two tangents, at both ends of the time interval.

    Raises:
        ProblemError: what is no such solution, one with a discount, or a patch without cells or
            with all of them.
    """
    fluid = hydrodynamics(solution)
    if solution.problem.discount:
        raise ProblemError("structure: later costs are discounted, and the form is not conserved.")
    cells = Patch(solution, patch)
    tangents = Tangents(solution, generator("seed", seed))
    momentum = drift = predicted = modified = None
    names = ("modified_energy", "total_momentum")
    reasons = {name: fluid.reasons[name] for name in names if name in fluid.reasons}
    seams = [*solution.problem.domain.seams]
    if "total_momentum" not in reasons:
        change = np.ptp(fluid.total_momentum[:, seams], axis=0).max()
        momentum = float(change / np.abs(fluid.flow).max())
    if (spreads := fluid.spreads()) is not None:
        drift, predicted, modified = spreads
    return Structure(
        symplectic=_change_of_form(solution.discrete, tangents),
        patch=cells.defect(tangents),
        residual=tangents.residual,
        mass=float(np.abs(solution.balance).max() / solution.problem.population),
        momentum=momentum,
        drift=drift,
        predicted=predicted,
        modified_drift=modified,
        reasons=reasons,
    )


class Tangents:
    """Two solutions of the linearised equations of a solution, for random data at both ends.

    Attributes:
        u, m: changes of u and m at the levels, shape (2, N + 1, owned).
        seen: what each step sees of them, shape (2, N, 2, owned): changes of U and of M.
        residual: of the equations, relative to the data.
    """

    def __init__(self, solution, random: np.random.Generator):
        d = solution.discrete
        nodes, size = Nodes(solution.problem.domain, d.V), d.V.dofmap.index_map.size_global
        found = []
        with linearised(solution, "two-field") as form:
            self.J = J = form.J
            for _ in range(2):
                ends = random.standard_normal((2, size))
                here = [nodes.scatter(y if d.comm.rank == 0 else None) for y in ends]
                ends = np.stack(here) * form.equation.unit[:, 0, 0]
                ends[:, d.exits[0].held] = 0.0
                found.append(self._solved(form, *ends))
        self.u, self.m = (np.stack([one[j] for one in found]) for j in (0, 1))
        self.residual = float(max(one[2] for one in found))
        c = J.rule.c[:, None]
        U = (1 - c) * self.u[:, :-1] + c * self.u[:, 1:]
        M = J.before[0] * self.m[:, :-1] + J.after[0] * self.m[:, 1:]
        self.seen = np.stack([U, M], axis=2)

    def _solved(self, form: TwoFieldForm, last: np.ndarray, first: np.ndarray):
        """Changes of u and m at all levels for those of u(T), at fixed m(T), and of m(0)."""
        J, unit = self.J, form.equation.unit
        end, rule = J.steps - 1, J.rule
        rows = np.zeros(form.scale.shape)
        rows[0, :, end] = J.end_rows(last[None])
        rows[1, :, 0] = J.other_level("B", 0, first[None])
        if rule.averages:
            for F in J.F.values():
                rows[0, 0, 0] += J.product(F[0], J.before[0, 0] * first)
            rows[1] -= J.mult_D(np.zeros_like(rows[1]), last[None])
            for row in rows:
                J.discrete.release(row)
        X, left = np.zeros_like(rows), form.scale * rows
        norms = [_norm(J.comm, left)]
        b, x = (PETSc.Vec().createMPI((rows.size, PETSc.DETERMINE), comm=J.comm) for _ in "bx")
        form.krylov.setOperators(form.operator)
        for _ in range(ROUNDS):
            form.krylov.setTolerances(rtol=1e-8, atol=1e-16 * norms[0], max_it=400)
            b.array[:] = left.ravel()
            form.krylov.solve(b, x)
            better = X + unit * x.array_r.reshape(X.shape)
            left = form.scale * (rows - J.mult(better))
            norms.append(_norm(J.comm, left))
            if not norms[-1] < norms[-2]:
                break
            X = better
        b.destroy()
        x.destroy()
        (u,), (m,) = X
        last = last + J.terminal_change(m[None, -1])[0]
        return np.vstack([u, last]), np.vstack([first, m]), min(norms) / norms[0]


def _norm(comm: MPI.Comm, values: np.ndarray) -> float:
    return float(np.sqrt(comm.allreduce(np.vdot(values, values), MPI.SUM)))


class Patch:
    """A set of cells: the linearised equations of a step assembled on these alone. Collective.

    Args:
        solution: what was solved.
        chosen: x -> which cells, as in `structure`.
    """

    def __init__(self, solution, chosen: Callable | None):
        self.solution, self.d = solution, solution.discrete
        domain, d = solution.problem.domain, self.d
        mesh, tdim, comm = domain.mesh, domain.dim, domain.comm
        cells = mesh.topology.index_map(tdim)
        numbers = np.arange(cells.size_local + cells.num_ghosts, dtype=np.int32)
        x = compute_midpoints(mesh, tdim, numbers)
        own = x[: cells.size_local]
        centre = comm.allreduce(own.sum(axis=0), MPI.SUM) / cells.size_global
        if chosen is None:
            inside = np.linalg.norm(x - centre, axis=1) < RADIUS * d.diameter
        else:
            with together(comm, ProblemError, "patch(x) failed"):
                inside = np.broadcast_to(np.asarray(chosen(x), bool), len(x))
        number = comm.allreduce(int(inside[: cells.size_local].sum()), MPI.SUM)
        message = f"The patch has {number} of {cells.size_global} cells: take some, not all."
        require(comm, 0 < number < cells.size_global, message)
        chi = fem.Function(fem.functionspace(mesh, ("DG", 0)))
        chi.x.array[chi.function_space.dofmap.list[:, 0]] = inside
        space = d.forms.space
        self.seen, self.change = fem.Function(space), fem.Function(space)
        mass = ufl.inner(self.change, ufl.TestFunction(space)) * d.forms.rule
        parts = [ufl.action(form, self.seen) for form in d.forms.of("jacobian")]
        degree = solution.scheme.degree
        self.rows, self.mass = (
            [compiled(_times(chi, form), degree) for form in forms] for forms in (parts, [mass])
        )
        outside = la.vector(d.V.dofmap.index_map)
        dofs = d.V.dofmap.list[: cells.size_local]
        outside.array[dofs[~inside[: cells.size_local]]] = 1.0
        outside.scatter_reverse(la.InsertMode.add)
        self.border = outside.array[: d.owned] > 0

    def defect(self, tangents: Tangents) -> float:
        """Of the multisymplectic form formula, over `STEPS` steps in the middle."""
        steps, times = self.solution.steps, self.solution.times
        first = max((steps - STEPS) // 2, 0)
        window = range(first, min(first + STEPS, steps))
        terms = []
        for n, sign in ((window[-1] + 1, 1.0), (first, -1.0)):
            z = np.stack([tangents.u[:, n], tangents.m[:, n]], axis=1)
            masses = [self._assembled(self.mass, change=y) for y in z]
            terms += [sign * z[0, 0] * masses[1][1], -sign * z[1, 0] * masses[0][1]]
        for n in window:
            dt = times[n + 1] - times[n]
            self._see(n)
            rows = []
            for k in range(2):
                u, m = tangents.u[k, n : n + 2], tangents.m[k, n : n + 2]
                change = np.stack([u[0] - u[1], m[1] - m[0]]) / dt
                both = [*self.rows, *self.mass]
                rows.append(self._assembled(both, tangents.seen[k, n], change)[::-1])
            V, W = tangents.seen[:, n]
            terms += [*(-dt * self.border * V * rows[1]), *(dt * self.border * W * rows[0])]
        sums = np.array([[y.sum(), np.abs(y).sum()] for y in terms]).sum(axis=0)
        total, size = self.d.comm.allreduce(sums, MPI.SUM)
        return float(abs(total) / size)

    def _see(self, n: int):
        """Set the fields that the forms see to those of step n."""
        d, times = self.d, self.solution.times
        u, m = self.solution.levels.of_step(n)
        d.set_state(u[None], m[None], times[n : n + 2].mean())
        corners = d.state.corners
        vertices = d.V.dofmap.list[:, : corners.function_space.dofmap.index_map_bs]
        values = corners.x.array.reshape(-1, vertices.shape[1])
        values[corners.function_space.dofmap.list[:, 0]] = d.state.fields.x.array[1::2][vertices]

    def _assembled(self, forms: list, seen=None, change=None) -> np.ndarray:
        """Owned rows of the forms for these fields, both of shape (2, owned)."""
        for function, values in ((self.seen, seen), (self.change, change)):
            if values is not None:
                function.x.array[: values.size] = values.T.ravel()
                function.x.scatter_forward()
        total = fem.Function(self.d.forms.space).x
        for form in forms:
            fem.assemble_vector(total.array, form)
        total.scatter_reverse(la.InsertMode.add)
        return total.array.reshape(-1, 2)[: self.d.owned].T


def _times(factor, form: ufl.Form) -> ufl.Form:
    """A form with its integrands multiplied by a factor."""
    return ufl.Form([y.reconstruct(integrand=factor * y.integrand()) for y in form.integrals()])


def _change_of_form(d, tangents: Tangents) -> float:
    """The largest change of the symplectic form between level 0 and any other, relative."""
    (v, w), (mu, eta) = tangents.u, tangents.m
    form = mass_products(d, v, eta) - mass_products(d, w, mu)
    local = (np.abs(v * eta) + np.abs(w * mu)) @ d.norm_weights
    return float(np.abs(form - form[0]).max() / d.comm.allreduce(local, MPI.SUM).max())
