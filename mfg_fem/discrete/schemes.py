"""The schemes of a mean-field problem, by name."""

from mfg_fem.discrete.galerkin import Galerkin
from mfg_fem.discrete.monotone import Monotone
from mfg_fem.discrete.sharp import Sharp

Scheme = Galerkin | Monotone | Sharp
SCHEMES: dict[str, type[Scheme]] = {kind.__name__: kind for kind in (Sharp, Monotone, Galerkin)}
