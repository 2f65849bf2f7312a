"""What one solve says about the number of its layers, its nodes, and whether it is a minimum."""

import warnings
from dataclasses import dataclass, field, replace
from typing import Any

from mpi4py import MPI

import numpy as np

import ufl
from dolfinx import fem

from mfg_fem.errors import ProblemError, SolutionWarning
from mfg_fem.fluid.hydrodynamics import hydrodynamics
from mfg_fem.fluid.stability import stability
from mfg_fem.forms.drift import drift
from mfg_fem.forms.integrals import Totals
from mfg_fem.problem.alone import refuse_crowds
from mfg_fem.resnet.extremal import PontryaginSolution
from mfg_fem.solution.solution import Solution
from mfg_fem.validate import number

FAR = 4  # times the present number of layers: so far an estimate is not extrapolated
ASYMPTOTIC = 0.1  # prediction and measurement differ by less where the steps are fine enough
SMOOTH = 0.7  # factor of the change from layer to layer, for twice as many; 1/2 in the limit


@dataclass(frozen=True)
class Criteria:
    """Criteria for layers and nodes, each None where it does not exist: `reasons` says why.

    * (ii) A symplectic integrator of order q keeps a modified energy, and its energy drifts: by the
      spread of what backward error analysis adds to it, relative to the cost of moving, which the
      levels of one solve tell. A drift of tol takes K* = K (drift / tol)^(1/q) layers.
    * (iv) h |v| / (2 D), the cell number: above 1 a `Galerkin` scheme has wrong velocities where it
      does not oscillate yet. For `Monotone` and, at worst, `Sharp` it is numerical diffusion over
      D.
    * (v) The largest |theta_{k+1} - theta_k| of a network falls like 1/K, from K to 2K layers;
      otherwise the limit of many layers does not exist.
    * (vi) No conjugate point: for a game or a control the smallest eigenvalue of `stability`, for a
      network that of the Hessian, is positive.

    Attributes:
        layers: K, the layers or time steps of the solution.
        tol: of the drift.
        order: q; 1 for blocks and Euler's method, 2 for midpoint rules.
        drift: of (ii): predicted by backward error analysis where that is of first order in the
            scheme's own energy, else measured.
        needed: K*.
        again: whether K* should be estimated again, by a solve with K* layers: it is far from K,
            or prediction and measurement differ by more than a tenth.
        cell_number: of (iv), root mean square over the people, at the worst step.
        diffusive: whether the scheme adds numerical diffusion.
        change: factor of (v).
        smallest: eigenvalue of (vi).
    """

    layers: int
    tol: float
    order: int | None = None
    drift: float | None = None
    needed: int | None = None
    again: bool = False
    cell_number: float | None = None
    diffusive: bool = False
    change: float | None = None
    smallest: float | None = None
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def met(self) -> bool:
        """Whether all that exist are met."""
        return not (
            (self.needed or 0) > self.layers
            or (self.cell_number or 0) > 1
            or (self.change or 0) > SMOOTH
            or (self.smallest or 1) < 0
        )

    def __str__(self) -> str:
        """A line for each."""
        lines = []
        if self.drift is not None:
            again = "; solve so, and ask again" if self.again else ""
            asked = f"{self.needed} for {self.tol:g}{again}"
            lines.append(
                f"  (ii)  energy drift            {self.drift:.2e} in {self.layers}; {asked}"
            )
        if (cell := self.cell_number) is not None:
            name = "numerical diffusion / D" if self.diffusive else "cell number"
            finer = f"  (take cells of 1/{cell:.2g} the size)" if cell > 1 else ""
            lines.append(f"  (iv)  {name:<23} {cell:.2g}{finer}")
        if self.change is not None:
            limit = "" if self.change <= SMOOTH else "  (NO LIMIT of many layers)"
            lines.append(
                f"  (v)   change of theta         x {self.change:.2f} in twice as many{limit}"
            )
        if self.smallest is not None:
            said = "no conjugate point" if self.smallest > 0 else "NEITHER MINIMUM NOR STABLE"
            lines.append(f"  (vi)  smallest eigenvalue     {self.smallest:.3g}, {said}")
        lines += [f"  {name}: {why}" for name, why in self.reasons.items()]
        return "\n".join(lines)


def criteria(solution: Any, tol: float = 0.05) -> Criteria:
    """Look at a solution. Collective, except for a PontryaginSolution, which is solved once more.

    Args:
        solution: a Solution or a PontryaginSolution.
        tol: drift of the energy that is allowed.
    """
    number("tol", tol, above=True)
    if isinstance(solution, PontryaginSolution):
        return _of_network(solution, tol)
    refuse_crowds("criteria", solution)
    if isinstance(solution, Solution):
        return _of_solution(solution, tol)
    raise ProblemError(
        f"criteria takes a Solution or a PontryaginSolution, not {type(solution).__name__}."
    )


def _of_network(solution: PontryaginSolution, tol: float) -> Criteria:
    layers, order = solution.problem.layers, 1 if solution.problem.form == "block" else 2
    twice = replace(solution.problem, layers=2 * layers, comm=MPI.COMM_SELF)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SolutionWarning)  # of smoothness=0, which (v) tells
        finer = twice.solve(solution, throw=False, progress=False)
    needed = solution.layers_for(tol)
    before = solution.largest_change
    return Criteria(
        layers,
        tol,
        order,
        solution.drift,
        needed,
        needed > FAR * layers or solution.asymptotic is False,
        change=finer.largest_change / before if before else 0.0,
        smallest=solution.curvature,
    )


def _of_solution(solution: Solution, tol: float) -> Criteria:
    fluid, reasons = hydrodynamics(solution), {}
    found: dict[str, Any] = {}
    if (spreads := fluid.spreads()) is None:
        reasons["energy drift"] = fluid.reasons["modified_energy"]
    else:
        measured, predicted, _ = spreads
        order = 2 if solution.levels.rule.c[0] == 0.5 else 1
        needed = max(int(np.ceil(solution.steps * (predicted / tol) ** (1 / order))), 1)
        unsure = abs(predicted - measured) > ASYMPTOTIC * measured
        again = needed > FAR * solution.steps or (unsure and not solution.scheme.positive)
        found = {"order": order, "drift": predicted, "needed": needed, "again": again}
    if solution.discrete.ends.planned:
        reasons["eigenvalue"] = "none: u(T) is an unknown too, with a terminal density"
    else:
        found["smallest"] = stability(solution).smallest
    cell, diffusive = cell_number(solution), solution.scheme.positive
    return Criteria(
        solution.steps, tol, cell_number=cell, diffusive=diffusive, reasons=reasons, **found
    )


def cell_number(solution: Solution) -> float:
    """The largest over the steps of the root mean square of h |v| / (2 D) over the people.

    Collective. h is |det J|^(1/d) of a cell, and D the mean of its diagonal.
    """
    problem, d = solution.problem, solution.discrete
    mesh, dim = problem.domain.mesh, problem.domain.dim
    u, m = fem.Function(d.V), fem.Function(d.V)
    h = abs(ufl.JacobianDeterminant(mesh)) ** (1 / dim)
    v, D = drift(problem, d.state.t, u, m), problem.D(problem.x, d.state.t)
    square = h**2 * ufl.dot(v, v) / (2 * ufl.tr(D) / dim) ** 2
    there = ufl.max_value(m, 0.0)
    totals = Totals(mesh, solution.scheme.measures(mesh)[1], [there * square, there])
    largest = 0.0
    for n in range(solution.steps):
        d.state.at(solution.times[n : n + 2].mean())
        for function, values in zip((u, m), solution.levels.of_step(n), strict=True):
            function.x.array[: len(values)] = values
            function.x.scatter_forward()
        squares, people = totals()
        largest = max(largest, squares / people)
    return float(np.sqrt(largest))
