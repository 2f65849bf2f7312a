"""One velocity for several populations: the mean-field control problem a network is trained by.

A network does not see the label, so all classes share one field v. With rho_c the density of class
c, of mass pi_c, and rho their sum,

    (rho_c)_t + div(rho_c v) = D lap rho_c,      no flux,
    J(v) = int int (alpha/2) |v|^2 rho + (beta/2) |(1 - l^2 lap)^2 v|^2  + sum_c int Phi_c rho_c(T).

Not convex: what is found is a local optimum, or where the iteration limit stopped the descent from
v = 0 (PETSc TAO) on the reduced problem, discretised with densities on the mesh (`reduced.py`) or
with the samples as particles (`particles.py`). Bonnet-Cipriani-Fornasier-Huang 2022; E-Han-Li 2018.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mpi4py import MPI
from petsc4py import PETSc

import numpy as np

from dolfinx import fem

from mfg_fem import petsc
from mfg_fem.domain import Domain
from mfg_fem.errors import ProblemError, alike, together
from mfg_fem.particles import ParticleProblem
from mfg_fem.points import Replica, as_points
from mfg_fem.reduced import ReducedProblem, lumped_mass
from mfg_fem.samples import Samples
from mfg_fem.validate import as_array, count, index, number

LIMIT = "stopped at the iteration limit"
REASONS = {
    PETSc.TAO.ConvergedReason.CONVERGED_GTTOL: "converged (the gradient is small enough)",
    PETSc.TAO.ConvergedReason.DIVERGED_MAXITS: LIMIT,
    PETSc.TAO.ConvergedReason.DIVERGED_LS_FAILURE: "stopped as the line search found nothing lower",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class SharedControl:
    """Several populations moved by one velocity field.

    Args:
        domain: a Domain, or a DOLFINx simplex mesh, with room around the data.
        densities: one per class: samples, an array (n_c, d), or a density >= 0, a callable
            x -> UFL, a UFL expression or a DOLFINx Function. Or `Samples` that belong to the
            classes in parts.
        terminal_costs: Phi_c(x), one per class, taken at the nodes: a callable x -> UFL, a UFL
            expression, a DOLFINx Function or a number. One that also has a method `at(points)`,
            from (n, d) to its values (n,) and gradients (n, d) in numpy, is exact on particles:
            worth it where it bends within a cell.
        masses: mass of each class; by default in proportion to the samples, or equal.
        horizon: final time T.
        diffusion: D >= 0, half the squared layer noise.
        effort: alpha > 0, the cost of moving.
        regularisation: beta > 0, the cost of a rough field.
        smoothing_length: l > 0, the length below which the field is smoothed.

    Raises:
        ProblemError: data that make no sense, on every rank alike.
    """

    domain: Domain = field(kw_only=False)
    densities: Sequence | Samples
    terminal_costs: Sequence
    masses: Sequence[float] | None = None
    horizon: float = 1.0
    diffusion: float = 0.0
    effort: float = 1e-2
    regularisation: float = 1e-5
    smoothing_length: float = 0.2

    def __post_init__(self):
        """Refuse what makes no sense. Collective."""
        object.__setattr__(self, "domain", Domain.of(self.domain))
        with together(self.domain.comm):
            self._check()
        numbers = ("masses", "horizon", "diffusion", "effort", "regularisation", "smoothing_length")
        given = {name: getattr(self, name) for name in numbers}
        alike(self.domain.comm, **given, samples=self._digest())

    def _check(self):
        if self.domain.seams:
            raise ProblemError(
                "A SharedControl moves points along straight lines and cannot live on a periodic "
                "domain; leave periodic= out."
            )
        for name in ("horizon", "effort", "regularisation", "smoothing_length"):
            number(name, getattr(self, name), above=True)
        number("diffusion", self.diffusion)
        given = {name: getattr(self, name) for name in ("densities", "terminal_costs")}
        for name, value in given.items():
            if not isinstance(value, Sequence | np.ndarray | Samples) or isinstance(value, str):
                raise ProblemError(f"{name} must be a list with one entry per class.")
        if len(self.densities) < 1 or len(self.densities) != len(self.terminal_costs):
            raise ProblemError(
                f"{len(self.densities)} densities and {len(self.terminal_costs)} terminal_costs: "
                "give one of each per class."
            )
        if isinstance(self.densities, Samples):
            self._check_samples(self.densities.points, "points of Samples")
        else:
            for c, density in enumerate(self.densities):
                if not callable(density):
                    self._check_samples(density, f"densities[{c}]")
        for c, cost in enumerate(self.terminal_costs):
            if not callable(cost):  # as UFL expressions are
                number(f"terminal_costs[{c}], unless callable,", cost, -np.inf)
        if self.masses is not None:
            masses = as_array(self.masses, "masses")
            good = masses.shape == (len(self.densities),) and np.isfinite(masses).all()
            if not good or not (masses > 0).all():
                raise ProblemError(
                    f"masses must be one positive finite number per class, not {self.masses}."
                )

    def _check_samples(self, samples, name: str):
        samples = as_array(samples, name)
        if samples.ndim != 2 or samples.shape[1] != self.domain.dim or not len(samples):
            raise ProblemError(
                f"{name} has the shape {samples.shape}; samples are an array "
                f"(n, {self.domain.dim}), n > 0. A callable x -> UFL will do too."
            )
        if not np.isfinite(samples).all():
            raise ProblemError(f"{name} contains NaN or infinite samples.")

    def _digest(self) -> str:
        """Of all samples."""
        arrays = self.densities
        if isinstance(arrays, Samples):
            arrays = arrays.points, arrays.shares
        arrays = [None if callable(array) else np.asarray(array, dtype=float) for array in arrays]
        digest = hashlib.sha256()
        for array in arrays:
            digest.update(b"" if array is None else repr(array.shape).encode() + array.tobytes())
        return f"those with the digest {digest.hexdigest()[:8]}"

    @property
    def of_samples(self) -> bool:
        """Whether the classes are all made of samples."""
        return isinstance(self.densities, Samples) or not any(map(callable, self.densities))

    @property
    def class_masses(self) -> np.ndarray:
        """Mass of each class, summing to one."""
        if self.masses is not None:
            masses = np.asarray(self.masses, dtype=float)
        elif self.of_samples:
            masses = Samples.of(self.densities).shares.sum(axis=0)
        else:
            masses = np.ones(len(self.densities))
        return masses / masses.sum()


@dataclass(frozen=True)
class LagrangeGalerkin:
    """Densities in P1 on the mesh: any density, any noise; spreads it by h/2 or so in each step."""

    def reduced(self, problem: SharedControl, steps: int) -> ReducedProblem:
        """J as a function of the field."""
        return ReducedProblem(problem, steps)


@dataclass(frozen=True)
class Particles:
    """The samples are moved themselves: nothing is spread, and few samples stay few.

    Args:
        seed: of the noise, which is drawn once (diffusion > 0).
    """

    seed: int = 0

    def __post_init__(self):
        """Refuse what is no seed."""
        count("seed", self.seed, 0)

    def reduced(self, problem: SharedControl, steps: int) -> ReducedProblem:
        """J as a function of the field."""
        return ParticleProblem(problem, steps, self.seed)


@dataclass(frozen=True)
class Descent:
    """Limited-memory quasi-Newton descent on the reduced problem (PETSc TAO, type bqnls).

    Args:
        max_it: largest number of iterations.
        gtol: stop when the gradient norm is below gtol times the first.
        petsc_options: options without the prefix `mfg_`, e.g. {"tao_type": "cg"}; the command
            line (`-mfg_tao_monitor`) wins over them.
    """

    max_it: int = 200
    gtol: float = 1e-4
    petsc_options: Mapping[str, object] = field(default_factory=dict, hash=False)

    def __post_init__(self):
        """Refuse settings that mean nothing."""
        count("max_it", self.max_it)
        if not number("gtol", self.gtol, above=True) < 1:
            raise ProblemError(f"gtol must lie between 0 and 1, not {self.gtol!r}.")
        petsc.check_names(self.petsc_options)
        object.__setattr__(self, "petsc_options", dict(self.petsc_options))


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
        T = self.times[-1]
        if not 0 <= number("t", t, -np.inf) <= T:
            raise ProblemError(f"t must be a time from 0 to {T:g}, not {t!r}.")
        n = min(np.searchsorted(self.times, t + 1e-10 * T, "right"), len(self.nodal)) - 1
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


def solve_shared(
    problem: SharedControl,
    steps: int,
    scheme: LagrangeGalerkin | Particles,
    method: Descent,
    on_step: Callable[[dict], None],
) -> SharedSolution:
    """Descend from v = 0. Collective. Called by `solve`."""
    nodes = problem.domain.mesh.topology.index_map(0).size_global
    if steps * nodes * problem.domain.dim > np.iinfo(PETSc.IntType).max:
        raise ProblemError(f"{steps} steps on {nodes} nodes are too many unknowns for PETSc.")
    reduced = scheme.reduced(problem, steps)
    comm, history, failed = reduced.comm, [], []
    x = PETSc.Vec().createMPI((int(np.prod(reduced.shape)), PETSc.DETERMINE), comm=comm)
    x.set(0.0)

    def guarded(tao, action):
        """No exception may pass through TAO, which does not survive them: stop it instead."""
        try:
            if not failed:
                return action()
        except BaseException as exc:
            failed.append(exc)
        tao.setConvergedReason(PETSc.TAO.ConvergedReason.DIVERGED_USER)

    def objective_and_gradient(tao, w, g):
        found = guarded(
            tao, lambda: reduced.objective_and_gradient(w.array_r.reshape(reduced.shape))
        )
        value, gradient = found or (0.0, np.zeros(reduced.shape))
        g.array[:] = gradient.ravel()
        return value

    def monitor(tao):
        it, value, norm, *_ = tao.getSolutionStatus()
        history.append({"step": it, "objective": value, "gradient": norm})
        guarded(tao, lambda: on_step(history[-1]))

    tao = PETSc.TAO().create(comm)
    try:
        tao.setType("bqnls")  # its line search stands the kinks of J better than lmvm's
        tao.setOptionsPrefix(petsc.PREFIX)
        tao.setObjectiveGradient(objective_and_gradient, x.duplicate())
        tao.setTolerances(gatol=0.0, grtol=0.0, gttol=method.gtol)
        tao.setMaximumIterations(min(method.max_it, np.iinfo(np.int32).max))
        tao.setMonitor(monitor)
        names = [name for name in petsc.from_outside() if name.startswith("tao_")]
        with petsc.options({"tao_lmm_vectors": 20}, dict(method.petsc_options)):
            petsc.check_read([*names, *method.petsc_options], tao.setFromOptions)
            try:
                tao.solve(x)
            finally:
                if failed:
                    raise failed[0]
        code = tao.getConvergedReason()
        reason = REASONS.get(code, petsc.reason(tao))
        v = reduced.velocity(x.array_r.reshape(reduced.shape).copy())
        masses = reduced.trajectory(v)
    finally:
        reduced.destroy()
        tao.destroy()
        x.destroy()
    return SharedSolution(
        problem=problem,
        times=np.linspace(0.0, problem.horizon, steps + 1),
        replica=reduced.replica,
        nodal=np.stack([reduced.replica.gather(np.ascontiguousarray(v_k)) for v_k in v]),
        masses=masses,
        curves={"mass": reduced.comm.allreduce(masses.sum(axis=(1, 2)), MPI.SUM)},
        objective=history[-1]["objective"],
        converged=code > 0,
        reason=reason,
        history=history,
        V=reduced.V,
    )
