"""One velocity for several populations: the mean-field control problem a network is trained by.

A network does not see the label, so all classes share one field v. With rho_c the density of class
c, of mass pi_c, and rho their sum,

    (rho_c)_t + div(rho_c v) = D lap rho_c,      no flux,
    J(v) = int int (alpha/2) |v|^2 rho + (beta/2) |(1 - l^2 lap)^2 v|^2  + sum_c int Phi_c rho_c(T).

Not convex: the optimum found is a local one, reached by descent from v = 0 (PETSc TAO) on the
reduced problem, discretised with densities on the mesh (`reduced.py`) or with the samples as
particles (`particles.py`). Bonnet-Cipriani-Fornasier-Huang 2022; E-Han-Li 2018.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from mpi4py import MPI
from petsc4py import PETSc

import numpy as np

from dolfinx import fem

from mfg_fem import petsc
from mfg_fem.domain import Domain
from mfg_fem.errors import ProblemError
from mfg_fem.particles import ParticleProblem
from mfg_fem.points import Replica
from mfg_fem.reduced import ReducedProblem, lumped_mass
from mfg_fem.samples import Samples


@dataclass(frozen=True, kw_only=True)
class SharedControl:
    """Several populations moved by one velocity field.

    Args:
        domain: a Domain, or a DOLFINx simplex mesh, with room around the data.
        densities: one per class: samples, an array (n_c, d), or a callable x -> UFL density >= 0.
            Or `Samples` that belong to the classes in parts.
        terminal_costs: Phi_c(x), one callable x -> UFL per class, taken at the nodes. One that also
            has a method `at(points)`, from (n, d) to its values (n,) and gradients (n, d) in numpy,
            is exact on particles: worth it where it bends within a cell.
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
    terminal_costs: Sequence[Callable]
    masses: Sequence[float] | None = None
    horizon: float = 1.0
    diffusion: float = 0.0
    effort: float = 1e-2
    regularisation: float = 1e-5
    smoothing_length: float = 0.2

    def __post_init__(self):
        """Refuse what makes no sense."""
        object.__setattr__(self, "domain", Domain.of(self.domain))
        if self.domain.seams:
            raise ProblemError(
                "A SharedControl moves points along straight lines and cannot live on a periodic "
                "domain; leave periodic= out."
            )
        for name in ("horizon", "effort", "regularisation", "smoothing_length"):
            value = getattr(self, name)
            if not (isinstance(value, int | float | np.number) and 0 < value < np.inf):
                raise ProblemError(f"{name} must be a positive finite number, not {value!r}.")
        D = self.diffusion
        if not (isinstance(D, int | float | np.number) and 0 <= D < np.inf):
            raise ProblemError(f"diffusion must be a finite number >= 0, not {D!r}.")
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
                    self._check_samples(np.asarray(density), f"densities[{c}]")
        if self.masses is not None and not (
            len(self.masses) == len(self.densities) and np.all(np.asarray(self.masses) > 0)
        ):
            raise ProblemError(f"masses must be one positive number per class, not {self.masses}.")

    def _check_samples(self, samples: np.ndarray, name: str):
        if samples.ndim != 2 or samples.shape[1] != self.domain.dim or not len(samples):
            raise ProblemError(
                f"{name} has the shape {samples.shape}; samples are an array "
                f"(n, {self.domain.dim}), n > 0. A callable x -> UFL will do too."
            )
        if not np.isfinite(samples).all():
            raise ProblemError(f"{name} contains NaN or infinite samples.")

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
    petsc_options: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self):
        """Refuse settings that mean nothing."""
        if not isinstance(self.max_it, int) or self.max_it < 1 or not 0 < self.gtol < 1:
            raise ProblemError(f"{self}: max_it must be an integer >= 1 and 0 < gtol < 1.")


@dataclass(frozen=True)
class SharedSolution:
    """The optimal field and what it does to the classes.

    Attributes:
        problem: what was solved.
        times: 0..horizon, steps + 1 of them.
        replica: the mesh, whole on every rank.
        nodal: the field at all nodes for each step, shape (steps, nodes, d).
        masses: nodal masses of the classes on the owned nodes, (steps + 1, classes, owned), as
            LagrangeGalerkin moves them by the field, whatever scheme it was found with.
        curves: "mass", "entropy" and "information" (mutual information of class and place, in
            nats) at each time: information lost is what the noise, and a little what
            LagrangeGalerkin's spreading, destroys.
        objective, converged, reason: J, and how the descent ended.
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
        W = fem.functionspace(self.V.mesh, ("Lagrange", 1, (self.problem.domain.dim,)))
        v = fem.Function(W, name="velocity")
        owned = self.nodal[n][self.replica.owned]
        v.x.array[: owned.size] = owned.ravel()
        v.x.scatter_forward()
        return v

    def density(self, n: int, c: int | None = None) -> fem.Function:
        """Density of class c, or of all classes, at level n (0..steps)."""
        rho = fem.Function(self.V, name="density")
        masses = self.masses[n].sum(axis=0) if c is None else self.masses[n, c]
        rho.x.array[: len(masses)] = masses / lumped_mass(self.V)
        rho.x.scatter_forward()
        return rho

    def drift(self, x: np.ndarray, t: float) -> np.ndarray:
        """The field at points x, shape (n, d), at time t."""
        n = int(np.clip(t / self.times[-1] * len(self.nodal), 0, len(self.nodal) - 1))
        return self.replica.interpolate(x, self.nodal[n])

    @property
    def report(self) -> str:
        """A page of numbers."""
        information, entropy = self.curves["information"], self.curves["entropy"]
        steps, nodes, d = self.nodal.shape
        return "\n".join(
            [
                f"SharedControl: {len(self.problem.densities)} classes, {nodes} nodes x {steps} "
                f"steps, {steps * nodes * d} unknowns",
                f"  {'converged' if self.converged else 'stopped'} ({self.reason}) after "
                f"{len(self.history) - 1} iterations",
                f"  objective                     {self.history[0]['objective']:.6g} -> "
                f"{self.objective:.6g}",
                f"  gradient norm                 {self.history[0]['gradient']:.1e} -> "
                f"{self.history[-1]['gradient']:.1e}",
                f"  mass, largest drift           {np.abs(self.curves['mass'] - 1).max():.1e}",
                f"  mutual information (nats)     {information[0]:.4f} -> {information[-1]:.4f}",
                f"  entropy                       {entropy[0]:.4f} -> {entropy[-1]:.4f}",
            ]
        )


def solve_shared(
    problem: SharedControl,
    steps: int,
    scheme: LagrangeGalerkin | Particles,
    method: Descent,
) -> SharedSolution:
    """Descend from v = 0. Collective. Called by `solve`."""
    reduced = scheme.reduced(problem, steps)
    comm, history = reduced.comm, []
    x = PETSc.Vec().createMPI((int(np.prod(reduced.shape)), PETSc.DETERMINE), comm=comm)
    x.set(0.0)

    def objective_and_gradient(tao, w, g):
        value, gradient = reduced.objective_and_gradient(w.array_r.reshape(reduced.shape))
        g.array[:] = gradient.ravel()
        return value

    def monitor(tao):
        it, value, norm, *_ = tao.getSolutionStatus()
        history.append({"step": it, "objective": value, "gradient": norm})

    tao = PETSc.TAO().create(comm)
    try:
        tao.setType("bqnls")  # its line search stands the kinks of J better than lmvm's
        tao.setOptionsPrefix(petsc.PREFIX)
        tao.setObjectiveGradient(objective_and_gradient, x.duplicate())
        tao.setTolerances(gatol=0.0, grtol=0.0, gttol=method.gtol)
        tao.setMaximumIterations(method.max_it)
        tao.setMonitor(monitor)
        with petsc.options({"tao_lmm_vectors": 20}, dict(method.petsc_options)):
            tao.setFromOptions()
            tao.solve(x)
        converged, reason = tao.getConvergedReason() > 0, petsc.reason(tao)
        v = reduced.velocity(x.array_r.reshape(reduced.shape).copy())
        masses = reduced.trajectory(v)
        curves = _curves(reduced, masses)
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
        curves=curves,
        objective=history[-1]["objective"],
        converged=converged,
        reason=reason,
        history=history,
        V=reduced.V,
    )


def _curves(reduced: ReducedProblem, masses: np.ndarray) -> dict[str, np.ndarray]:
    """Mass, entropy -int rho log rho and mutual information I(class; place) at each time."""
    total = masses.sum(axis=1)
    shares = reduced.masses[None, :, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = -np.where(total > 0, total * np.log(total / reduced.weights), 0.0)
        ratio = masses / (total[:, None] * shares)
        information = np.where(masses > 0, masses * np.log(ratio), 0.0)
    sums = np.stack([total.sum(axis=1), entropy.sum(axis=1), information.sum(axis=(1, 2))])
    sums = reduced.comm.allreduce(sums, MPI.SUM)
    return dict(zip(("mass", "entropy", "information"), sums, strict=True))
