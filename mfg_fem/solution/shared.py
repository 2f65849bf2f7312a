"""SharedSolution: one velocity for several populations."""

from dataclasses import dataclass, field

from mpi4py import MPI

import numpy as np

from dolfinx import fem

from mfg_fem.descent.objective import lumped_mass
from mfg_fem.descent.solve import Optimum
from mfg_fem.mesh.locate import Replica, as_points
from mfg_fem.problem.shared import SharedControl
from mfg_fem.validate import index, moment


@dataclass(frozen=True, eq=False)
class SharedSolution:
    """The field found and what it does to the classes.

    Attributes:
        problem: what was solved.
        times: 0..horizon, steps + 1 of them.
        replica: the mesh, whole on every rank.
        nodal: the field at all nodes for each step, shape (steps, nodes, d).
        masses: nodal masses of the classes on the owned nodes, (steps + 1, classes, owned), as
            LagrangeGalerkin moves them by the field, whatever scheme it was found with. It spreads
            them by about h/2 in each step: the entropy of them, or the information of place about
            class, would mostly be what the mesh destroys, not what the noise does.
        curves: "mass", the total at each time, one up to round-off.
        objective, converged, reason: J, and how the descent ended, in words.
        history: one dict per iteration: step, objective, gradient.
    """

    problem: SharedControl
    times: np.ndarray
    replica: Replica = field(repr=False)
    nodal: np.ndarray = field(repr=False)
    masses: np.ndarray = field(repr=False)
    curves: dict[str, np.ndarray] = field(repr=False)
    objective: float
    converged: bool
    reason: str
    history: list[dict] = field(repr=False)
    V: fem.FunctionSpace = field(repr=False)

    @classmethod
    def of(cls, problem: SharedControl, found: Optimum) -> "SharedSolution":
        """What a descent has found. Collective."""
        reduced = found.reduced
        mass = reduced.comm.allreduce(found.masses.sum(axis=(1, 2)), MPI.SUM)
        return cls(
            problem=problem,
            times=np.linspace(0.0, problem.horizon, reduced.steps + 1),
            replica=reduced.replica,
            nodal=np.stack([reduced.replica.gather(np.ascontiguousarray(v)) for v in found.v]),
            masses=found.masses,
            curves={"mass": mass},
            objective=found.history[-1]["objective"],
            converged=found.converged,
            reason=found.reason,
            history=found.history,
            V=reduced.V,
        )

    def velocity(self, n: int) -> fem.Function:
        """The field on step n (0..steps-1), a P1 vector Function."""
        index("velocity", n, len(self.nodal), "steps")
        W = fem.functionspace(self.V.mesh, ("Lagrange", 1, (self.problem.domain.dim,)))
        v = fem.Function(W, name="velocity")
        owned = self.nodal[n][self.replica.owned]
        v.x.array[: owned.size] = owned.ravel()
        v.x.scatter_forward()
        return v

    def density(self, n: int, c: int | None = None) -> fem.Function:
        """Density of class c, or of all classes, at level n (0..steps)."""
        index("density", n, len(self.times), "levels")
        if c is not None:
            index("density", c, len(self.problem.densities), "classes")
        rho = fem.Function(self.V, name="density")
        masses = self.masses[n].sum(axis=0) if c is None else self.masses[n, c]
        rho.x.array[: len(masses)] = masses / lumped_mass(self.V)
        rho.x.scatter_forward()
        return rho

    def drift(self, x: np.ndarray, t: float) -> np.ndarray:
        """The field at points x, shape (n, d), at time t."""
        x = as_points(x, self.problem.domain.dim)
        T = float(self.times[-1])
        t = moment("t", t, T) + 1e-10 * T
        n = min(int(np.searchsorted(self.times, t, "right")), len(self.nodal)) - 1
        return self.replica.interpolate(x, self.nodal[n])

    @property
    def report(self) -> str:
        """A page of numbers."""
        steps, nodes, d = self.nodal.shape
        return "\n".join(
            [
                f"SharedControl: {len(self.problem.densities)} classes, {nodes} nodes x {steps} "
                f"steps, {steps * nodes * d} unknowns",
                f"  {self.reason} after {len(self.history) - 1} iterations",
                f"  objective                     {self.history[0]['objective']:.6g} -> "
                f"{self.objective:.6g}",
                f"  gradient norm                 {self.history[0]['gradient']:.1e} -> "
                f"{self.history[-1]['gradient']:.1e}",
                f"  mass, largest drift           {np.abs(self.curves['mass'] - 1).max():.1e}",
            ]
        )
