"""Mean-field games and mean-field control by finite elements, all at once in space-time."""

import logging
import sys

try:
    import petsc4py
    from mpi4py import MPI  # noqa: F401  before PETSc, as wheels of both have one MPI

    import dolfinx  # noqa: F401
except ImportError as error:
    raise ImportError(
        "mfg_fem needs FEniCSx, DOLFINx 0.9 to 0.11 with petsc4py, which is not here or not whole "
        f"({error}). Install it from conda-forge or Debian, or on Linux with Python >= 3.12 by "
        "pip install 'mfg-fem[wheels]': see docs/install.md."
    ) from error


def _petsc_arguments(argv: list[str]) -> list[str]:
    """PETSc's part of a command line: -name_with_underscore [value]; it warns of all others."""
    kept, keep = ["mfg_fem"], False
    for word in argv[1:]:
        is_option = word.startswith("-") and not word[1:2].isdigit()
        keep = ("_" in word and not word.startswith("--")) if is_option else keep
        if keep:
            kept.append(word)
    return kept


# Before any DOLFINx import, so that PETSc sees the command line; else it is told now.
_late, _arguments = "petsc4py.PETSc" in sys.modules, _petsc_arguments(sys.argv)
petsc4py.init(_arguments)
if _late:
    petsc4py.PETSc.Options().insertString(" ".join(_arguments[1:]))

# ruff: noqa: E402
from mfg_fem import crowd, hamiltonians, plots
from mfg_fem.certainty.certificate import Certificate
from mfg_fem.certainty.exploitability import exploitability
from mfg_fem.certainty.players import Players
from mfg_fem.descent.solve import Descent, LagrangeGalerkin, Particles
from mfg_fem.discrete.galerkin import Galerkin
from mfg_fem.discrete.monotone import Monotone
from mfg_fem.discrete.sharp import Sharp
from mfg_fem.errors import (
    CompileError,
    FileError,
    LevelError,
    MeshError,
    MFGError,
    MissingPackage,
    NotConverged,
    OutOfMemory,
    OutOfTime,
    ProblemError,
    SolutionWarning,
)
from mfg_fem.fluid.hydrodynamics import Fluid, hydrodynamics
from mfg_fem.fluid.shared import SharedFluid
from mfg_fem.fluid.stability import Stability, stability
from mfg_fem.fluid.structure import Structure, structure
from mfg_fem.fluid.transport import Transport, optimal_transport
from mfg_fem.handout.write import write_report
from mfg_fem.mesh.domain import Domain, box, glue, read_mesh
from mfg_fem.mesh.plan import read_plan
from mfg_fem.nonlinear.method import Newton
from mfg_fem.nonlinear.resume import Checkpoint
from mfg_fem.nonlinear.sinkhorn import Sinkhorn
from mfg_fem.parallel import abort_on_exceptions
from mfg_fem.problem.boundary import Door, Entry, Exit, Open, Wall
from mfg_fem.problem.data import InTime, WithCrowd
from mfg_fem.problem.game import MeanFieldControl, MeanFieldGame
from mfg_fem.problem.interactions import smooth, total
from mfg_fem.problem.market import price
from mfg_fem.problem.populations import Crowd, Populations
from mfg_fem.problem.samples import Samples
from mfg_fem.problem.shared import SharedControl
from mfg_fem.schroedinger.ground_state import GroundState, ground_state
from mfg_fem.schroedinger.problem import NonlinearSchroedinger
from mfg_fem.schroedinger.schemes import DelfourFortinPayre, Relaxation
from mfg_fem.schroedinger.solution import WaveSolution
from mfg_fem.solution.populations import PopulationsSolution
from mfg_fem.solution.shared import SharedSolution
from mfg_fem.solution.solution import Solution
from mfg_fem.solution.stationary import StationarySolution
from mfg_fem.solve import solve

abort_on_exceptions()

# FFCx hands all warnings of a program to logging: with nobody listening there, they were lost.
if not logging.getLogger().handlers:
    logging.captureWarnings(False)

__version__ = "0.1.0"

__all__ = [
    "Certificate",
    "Checkpoint",
    "CompileError",
    "Crowd",
    "DelfourFortinPayre",
    "Descent",
    "Domain",
    "Door",
    "Entry",
    "Exit",
    "FileError",
    "Fluid",
    "Galerkin",
    "GroundState",
    "InTime",
    "LagrangeGalerkin",
    "LevelError",
    "MFGError",
    "MeanFieldControl",
    "MeanFieldGame",
    "MeshError",
    "MissingPackage",
    "Monotone",
    "Newton",
    "NonlinearSchroedinger",
    "NotConverged",
    "Open",
    "OutOfMemory",
    "OutOfTime",
    "Particles",
    "Players",
    "Populations",
    "PopulationsSolution",
    "ProblemError",
    "Relaxation",
    "Samples",
    "SharedControl",
    "SharedFluid",
    "SharedSolution",
    "Sharp",
    "Sinkhorn",
    "Solution",
    "SolutionWarning",
    "Stability",
    "StationarySolution",
    "Structure",
    "Transport",
    "Wall",
    "WaveSolution",
    "WithCrowd",
    "box",
    "crowd",
    "exploitability",
    "glue",
    "ground_state",
    "hamiltonians",
    "hydrodynamics",
    "optimal_transport",
    "plots",
    "price",
    "read_mesh",
    "read_plan",
    "smooth",
    "solve",
    "stability",
    "structure",
    "total",
    "write_report",
]
