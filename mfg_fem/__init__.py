"""Mean-field games and mean-field control by finite elements, all at once in space-time."""

import sys

import petsc4py

petsc4py.init(sys.argv)  # before any DOLFINx import, so that PETSc sees the command line

from mfg_fem import hamiltonians  # noqa: E402
from mfg_fem.boundary import Exit  # noqa: E402
from mfg_fem.domain import Domain, box, read_mesh  # noqa: E402
from mfg_fem.errors import FileError, MeshError, MFGError, NotConverged, ProblemError  # noqa: E402
from mfg_fem.newton import Newton  # noqa: E402
from mfg_fem.problem import MeanFieldControl, MeanFieldGame  # noqa: E402
from mfg_fem.schemes import Galerkin, Monotone  # noqa: E402
from mfg_fem.solution import Solution  # noqa: E402
from mfg_fem.solver import solve  # noqa: E402

__version__ = "0.1.0"
