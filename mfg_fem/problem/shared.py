"""One velocity for several populations: the mean-field control problem a network is trained by.

A network does not see the label, so all classes share one field v. With rho_c the density of class
c, of mass pi_c, and rho their sum,

    (rho_c)_t + div(rho_c v) = D lap rho_c,      no flux,
    J(v) = int int (alpha/2) |v|^2 rho + (beta/2) |(1 - l^2 lap)^2 v|^2  + sum_c int Phi_c rho_c(T).

J is not convex: a descent from v = 0 (PETSc TAO) on the reduced problem ends at a local optimum, or
at the iteration limit. The reduced problem has densities on the mesh (`descent/objective.py`) or
the samples as particles (`descent/particles.py`). Bonnet-Cipriani-Fornasier-Huang 2022; E-Han-Li
2018.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mfg_fem.errors import ProblemError, alike, together
from mfg_fem.mesh.domain import Domain
from mfg_fem.problem.samples import Samples
from mfg_fem.validate import array, number


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

    def __post_init__(self) -> None:
        """Refuse what makes no sense. Collective."""
        object.__setattr__(self, "domain", Domain.of(self.domain))
        with together(self.domain.comm):
            self._check()
        numbers = ("masses", "horizon", "diffusion", "effort", "regularisation", "smoothing_length")
        given = {name: getattr(self, name) for name in numbers}
        alike(self.domain.comm, **given, samples=self._digest())

    def _check(self) -> None:
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
            if not (array("masses", self.masses, (len(self.densities),)) > 0).all():
                raise ProblemError(f"masses must be positive, one per class, not {self.masses}.")

    def _check_samples(self, samples: object, name: str) -> None:
        if not len(array(name, samples, ("n", self.domain.dim))):
            raise ProblemError(f"{name} is empty: a class needs samples or a callable x -> UFL.")

    def _digest(self) -> str:
        """Of the samples, the same on ranks that were given the same ones."""
        given, digest = self.densities, hashlib.sha256()
        if isinstance(given, Samples):
            given = given.points, given.shares
        for samples in given:
            if not callable(samples):
                samples = np.asarray(samples, dtype=float)
                digest.update(repr(samples.shape).encode() + samples.tobytes())
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
