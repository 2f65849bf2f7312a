"""Every solver decision of a solve, taken once: see `Plan`.

Defaults follow from facts (dimension, ranks, nodes, diffusion number, exits); the user's options
win over them, and the command line and PETSC_OPTIONS over both. During a solve the options also
stand in PETSc's database, for what PETSc reads there by itself.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product

from petsc4py import PETSc

import numpy as np

from mfg_fem import petsc
from mfg_fem._compat import LONGEST_STEP
from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.discrete.jacobian import Jacobian, longest_step
from mfg_fem.errors import ProblemError
from mfg_fem.linear.level.modified_ilu import Relaxation
from mfg_fem.linear.level.schwarz import OptimisedSchwarz
from mfg_fem.validate import count

PREFIXES = {"schur": "schur_", "two-field": "", "h-form": "hform_"}  # options, by formulation
FORMS = ("auto", *PREFIXES)
CLOSING = "closing_"  # options of the formulation with a terminal density
LOOSEST = 0.1  # of Eisenstat-Walker's relative tolerances

# Eisenstat-Walker forcing saves iterations in early Newton steps. The line search backtracks,
# because full steps fail on cold starts. GMRES then has few vectors, so that a restart would cost
# more than it saves.
DEFAULTS: dict[str, object] = {
    "snes_type": "newtonls",
    "snes_linesearch_type": "bt",
    "snes_ksp_ew": None,
    "snes_ksp_ew_version": 2,
    "snes_ksp_ew_rtol0": LOOSEST,
    "snes_ksp_ew_rtolmax": LOOSEST,
    "snes_stol": 0.0,
    LONGEST_STEP: 1e300,
    "ksp_type": "fgmres",
    "ksp_gmres_restart": 200,
    "ksp_max_it": 400,
    "schur_ksp_type": "gmres",
    "schur_ksp_gmres_restart": 200,
    "closing_ksp_type": "gmres",
    "closing_ksp_gmres_restart": 400,
    "hform_ksp_gmres_restart": 200,
}
# In 3D flexible GMRES's vectors would take more memory than the Jacobian; GCR stores only its
# search directions. The H-form tolerates a restart where F is lumped.
LEAN = {"ksp_type": "gcr", "ksp_gcr_restart": 7}
LEAN_LUMPED = LEAN | {"hform_ksp_gmres_restart": 8}
ZERO_PIVOT = 1e-14  # relative to the least mass over dt

SMALL = 2000  # nodes up to which a time level is factored
STATIONARY = {1: 0, 2: 300_000, 3: 3000}  # the same of the only level of a stationary problem
PLANNED = {1: 0, 2: 30_000, 3: 5000}  # the same with a terminal density, by dimension
WITH_EXITS = 10_000  # the same for matched sweeps with exits
REDUNDANT = 10_000  # nodes up to which every rank factors the whole time level
INNER_RTOL = {2: 1e-3, 3: 3e-3}  # tolerance of one time level, by dimension
DIFFUSIVE = 40.0  # diffusion number in 3D from which incomplete factors alone are too weak
COARSE_SIZES = {1: (8, 256), 2: (5, 20), 3: (4, 8)}  # least and most per direction

LEVELS = ("sweep_", "matched_", "start_")  # of sweeps, matched sweeps, A in the H-form
DIRECT = ("lu", "cholesky", "redundant")
TRANSPOSABLE = (*DIRECT, "ilu", "icc", "jacobi", "bjacobi")
SCHWARZ = f"{OptimisedSchwarz.__module__}.{OptimisedSchwarz.__name__}"


def direct(nodes: int, ranks: int) -> dict[str, object]:
    """Options of a factorisation of one time level.

    It is PETSc's own LU in serial and MUMPS on ranks. Up to REDUNDANT nodes every rank factors the
    whole matrix, in less time than MUMPS spends on messages.
    """
    if ranks == 1:
        pc: dict[str, object] = {"pc_type": "lu"}
    elif nodes <= REDUNDANT:
        pc = {"pc_type": "redundant", "redundant_pc_type": "lu"}
    else:  # with 50 % more work space than MUMPS estimates
        pc = {"pc_type": "lu", "pc_factor_mat_solver_type": "mumps", "mat_mumps_icntl_14": 50}
    return {"ksp_type": "preonly"} | pc


def iterative(dim: int, ranks: int, rtol: float, number: float = 0.0) -> dict[str, object]:
    """Options of flexible GMRES with incomplete factors, for this diffusion number.

    With its preconditioner on the right it stops by the true residual; on the left, on ranks, it
    stops too early for the outer iterations. For the few iterations a time level needs, the
    flexible variant applies the preconditioner less often than BiCGStab.
    """
    gmres = {"ksp_type": "fgmres", "ksp_rtol": rtol, "ksp_max_it": 100, "ksp_gmres_restart": 100}
    return gmres | incomplete(dim, ranks, number)


def incomplete(dim: int, ranks: int, number: float = 0.0) -> dict[str, object]:
    """Options of incomplete factors, for this diffusion number.

    In 2D they are ILU(2), and up to ILU(6) for large diffusion numbers, where time levels share
    factors. In 3D they are modified ILU(0), as higher fill takes too much. On ranks the overlap has
    so many layers that more save hardly any iterations. The rows of a subdomain are numbered rank
    by rank; reordering them improves its factors.
    """
    levels = min(max(2, round(0.6 * number**0.5)), 6)
    levels, relaxation, overlap = (0, 0.1, 2) if dim == 3 else (levels, 0.0, levels + 4)
    factors = {"pc_factor_levels": levels, "pc_factor_relaxation": relaxation}
    if ranks == 1:
        return {"pc_type": "ilu"} | factors
    factors["pc_factor_mat_ordering_type"] = "rcm"
    schwarz = {"pc_type": "python", "pc_python_type": SCHWARZ, "pc_asm_overlap": overlap}
    return schwarz | {f"sub_{key}": value for key, value in factors.items()}


def defaults(J: Jacobian) -> dict[str, object]:
    """Default options, by their names without `mfg_`. Collective.

    Time levels of the sweeps are factored in 1D and up to SMALL nodes. Beyond, GMRES with
    incomplete factors, to INNER_RTOL, takes less time and memory.

    Those of the matched sweeps are factored in 1D, up to SMALL nodes, and with exits up to
    WITH_EXITS, as ILU is weak on graded meshes. Beyond, one application of incomplete factors is
    much cheaper and costs no outer iterations: in 2D always, as their fill grows with the diffusion
    number, in 3D up to DIFFUSIVE. Then GMRES with these factors does as well as a factorisation.

    PETSc compares pivots with a fixed number, so it is given one relative to the least diagonal
    entry of a block, mass over dt: that depends on the units of lengths and times.
    """
    d, ranks, number = J.discrete, J.comm.size, J.diffusion_number
    dim = d.problem.domain.dim
    sweep = matched = direct(J.nodes, ranks)
    sizes = PLANNED[dim] if d.ends.planned else SMALL, WITH_EXITS if d.has_exits else SMALL
    if d.problem.stationary:
        sizes = STATIONARY[dim], STATIONARY[dim]
    if dim > 1 and J.nodes > sizes[0]:
        sweep = iterative(dim, ranks, INNER_RTOL[dim], number)
    if dim > 1 and J.nodes > sizes[1]:
        matched = {"ksp_type": "preonly"} | incomplete(dim, ranks, number)
        if dim == 3 and number > DIFFUSIVE:
            matched = iterative(dim, ranks, 1e-2)
    found, pivot = dict(DEFAULTS), ZERO_PIVOT * J.least_rate
    if dim == 3:
        found |= LEAN_LUMPED if d.scheme.lumped else LEAN
    for prefix, inner in product(LEVELS, ("", "redundant_", "sub_")):
        found[f"{prefix}{inner}pc_factor_zeropivot"] = pivot
    # Solves with A in the H-form get a tolerance each time.
    levels = zip(LEVELS, (sweep, matched, iterative(dim, ranks, 1e-2)), strict=True)
    return found | {f"{prefix}{key}": y for prefix, own in levels for key, y in own.items()}


def coarse_size(J: Jacobian) -> int:
    """Coarse functions in the longest direction: the user's number, or a default.

    The default grows almost as the mesh, so that r of `matched_sweeps.py` grows as its power .07
    only, up to a limit, as dense factors of n functions per time level cost n^3; those of a group
    of populations that exchange people are n together. It is rounded, as sums on ranks differ in
    the last digit.
    """
    low, high = J.discrete.bounding_box
    across = round((high - low).max() / J.discrete.mesh_size, 6)
    dim, group = len(low), max(map(len, J.discrete.problem.groups))
    least, most = COARSE_SIZES[dim]
    size = min(max(least, round(0.29 * across**0.87)), round(most / group ** (1 / dim)))
    size = count("-mfg_coarse_size", PETSc.Options(petsc.PREFIX).getInt("coarse_size", size), 0)
    return min(size, round(across / 2))  # at least two nodes per function


@dataclass(frozen=True)
class LevelPlan:
    """How the linear systems of one time level are solved.

    Attributes:
        prefix: of their PETSc options.
        ksp, pc: PETSc's types of solver and preconditioner.
        schwarz: whether the preconditioner is `OptimisedSchwarz`.
        relaxation: of incomplete factors, of the whole level or of a rank's subdomain.
        transposable: whether its transpose solves for A with the factors of B, as A is about B^T.
    """

    prefix: str
    ksp: str
    pc: str
    schwarz: bool
    relaxation: Relaxation
    transposable: bool

    @classmethod
    def of(cls, prefix: str, linear: bool) -> "LevelPlan":
        """Read PETSc's database; `linear` says whether Fokker-Planck rows are so in m."""
        prefix = petsc.PREFIX + prefix
        options = PETSc.Options(prefix)
        ksp, pc = options.getString("ksp_type", "gmres"), options.getString("pc_type", "none")
        schwarz = pc == "python" and options.getString("pc_python_type", "") == SCHWARZ
        part = Relaxation.of(prefix + "sub_" if schwarz else prefix)
        transposable = (pc in TRANSPOSABLE or schwarz) and linear
        return cls(prefix, ksp, pc, schwarz, part, transposable)

    @property
    def iterates(self) -> bool:
        """Whether a level is solved by iterations, which need its matrix."""
        return self.ksp != "preonly"

    @property
    def exact(self) -> bool:
        """Whether a level is solved to round-off, by a factorisation."""
        return not self.iterates and self.pc in DIRECT

    @property
    def transposed(self) -> bool:
        """Whether factors of B serve A too, transposed.

        If Fokker-Planck rows are linear in the densities, A differs from B^T only by the
        derivative of Monotone's viscosity. Incomplete factors then serve both, to the loose
        tolerances of sweeps, in half the memory. Exact factors are not shared, nor any of other
        equations: that would cost more iterations than it saves.
        """
        return self.transposable and not self.exact

    def __str__(self) -> str:
        """Solver and preconditioner."""
        return f"{self.ksp}/{self.pc}"


@dataclass(frozen=True)
class Plan:
    """Every solver decision for one space-time grid.

    Attributes:
        krylov: the formulation of the Newton equation that is asked for, one of FORMS.
        weak: "schur", or "two-field" if sweeps are inexact, or miss what A or B see through
            quantities of the crowd.
        solvers: PETSc's type of Krylov solver for each formulation.
        sweep, matched, start: the solvers of one time level, see LEVELS.
        coarse_size: coarse functions in the longest direction, 0 for no coarse space.
        wave_number: of the matched sweeps; 0: found at each linearisation.
        in_turn: whether one matrix holds the blocks of all levels of the matched sweeps in turn,
            because only their factors are needed.
        options: PETSc's options during the solve, without `mfg_`.
    """

    krylov: str
    weak: str
    solvers: Mapping[str, str]
    sweep: LevelPlan
    matched: LevelPlan
    start: LevelPlan
    coarse_size: int
    wave_number: float
    in_turn: bool
    options: Mapping[str, object]

    @classmethod
    def of(cls, J: Jacobian, krylov: str, user: Mapping[str, object]) -> "Plan":
        """Decide from the defaults, the user's options and the command line. Collective."""
        if (J.fed("A") and krylov in ("schur", "h-form")) or (J.fed("B") and krylov == "schur"):
            raise ProblemError(
                f"Newton(krylov={krylov!r}) takes sweeps for exact, and smooth() or total() in a "
                'Hamiltonian are not in them: choose "auto" or "two-field".'
            )
        options = defaults(J) | dict(user)
        with petsc.options(options):
            return cls.read(J, krylov, options)

    @classmethod
    def read(cls, J: Jacobian, krylov: str, options: Mapping[str, object]) -> "Plan":
        """Read PETSc's database, where these options are. Collective."""
        ours = PETSc.Options(petsc.PREFIX)
        sweep, matched, start = (LevelPlan.of(y, not J.discrete.forms.nonlinear) for y in LEVELS)
        plain = "fgmres" if matched.iterates else "gmres"
        kinds = {"schur": "gmres", "two-field": "fgmres", "h-form": plain}
        solvers = {y: ours.getString(PREFIXES[y] + "ksp_type", kind) for y, kind in kinds.items()}
        return cls(
            krylov=krylov,
            weak="schur" if sweep.exact and not (J.fed("A") or J.fed("B")) else "two-field",
            solvers=solvers,
            sweep=sweep,
            matched=matched,
            start=start,
            coarse_size=coarse_size(J),
            wave_number=ours.getReal("wave_number", 0.0),
            in_turn=not matched.iterates,
            options=options,
        )

    @contextmanager
    def in_force(self) -> Iterator[None]:
        """Keep the options in PETSc's database during a with block."""
        with petsc.options(self.options):
            yield

    def __str__(self) -> str:
        """A line for the report."""
        coarse = f"{self.coarse_size} coarse functions a direction, " if self.coarse_size else ""
        return f"{self.krylov}: sweeps {self.sweep}; H-form {coarse}{self.matched}"


def check(discrete: Discretisation, times: np.ndarray, user: Mapping[str, object]):
    """Raise ProblemError for an option that no solver reads, or that PETSc refuses. Collective."""
    others = [name for name in petsc.from_outside() if not name.startswith("tao_")]
    if not (others or user):
        return
    J = Jacobian(discrete, longest_step(times))
    comm, matrix, options = J.comm, discrete.mass, defaults(J) | dict(user)

    def read():
        Plan.read(J, "auto", options)
        snes = PETSc.SNES().create(comm)
        snes.setOptionsPrefix(petsc.PREFIX)
        snes.setFromOptions()
        snes.destroy()
        for prefix in (*PREFIXES.values(), CLOSING, *LEVELS):
            solver = PETSc.KSP().create(comm)
            solver.setOptionsPrefix(petsc.PREFIX + prefix)
            solver.setFromOptions()
            if prefix in LEVELS:
                solver.setOperators(matrix)
                solver.setUp()
                for inner in ("", "sub_"):
                    Relaxation.of(petsc.PREFIX + prefix + inner)
            solver.destroy()

    try:
        with petsc.options(options):
            petsc.check_read([*others, *user], read)
    finally:
        J.destroy()
