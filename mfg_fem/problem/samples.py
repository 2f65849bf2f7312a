"""Samples as densities of classes; a sample belongs to one class or is shared among several."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mfg_fem.errors import ProblemError
from mfg_fem.validate import array


@dataclass(frozen=True, eq=False)
class Samples:
    """Samples that belong to the classes in parts: the densities of all classes in one.

        rho_c = sum_p shares[p, c] delta(x - points[p])  (up to the mass of the class)

    A sample whose class is known by its probabilities only is moved once and pays
    sum_c shares[p, c] Phi_c at its end.

    Args:
        points: shape (n, d).
        shares: what each sample has of each class, shape (n, classes), >= 0.

    Raises:
        ProblemError: shapes that do not match, NaN, a negative share, a class without any.
    """

    points: np.ndarray
    shares: np.ndarray

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        points = array("Samples: points", self.points, ("n", "d"))
        shares = array("Samples: shares", self.shares, (len(points), "classes"))
        object.__setattr__(self, "points", points)
        object.__setattr__(self, "shares", shares)
        if (shares < 0).any() or not (shares.sum(axis=0) > 0).all():
            raise ProblemError("Samples: shares must be >= 0, and every class needs some.")

    def __len__(self) -> int:
        """Number of classes."""
        return self.shares.shape[1]

    def __getitem__(self, c: int) -> "Samples":
        """The samples of class c alone."""
        here = self.shares[:, c] > 0
        return Samples(self.points[here], self.shares[here, c : c + 1])

    @classmethod
    def of(cls, densities: "Sequence | Samples") -> "Samples":
        """Samples of classes, arrays (n_c, d), as one."""
        if isinstance(densities, Samples):
            return densities
        counts = [len(samples) for samples in densities]
        return cls(np.concatenate(densities), np.repeat(np.eye(len(counts)), counts, axis=0))
