"""Newton: how the space-time system is solved, and what PETSc is told of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import product

from petsc4py import PETSc

from mfg_fem import petsc
from mfg_fem._compat import LONGEST_STEP
from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.discrete.spacetime import SpaceTime
from mfg_fem.errors import ProblemError
from mfg_fem.linear.coupled.formulations import FORMS, LOOSEST
from mfg_fem.linear.coupled.matched_sweeps import Coupling, coarse_size, default_solvers
from mfg_fem.linear.level.modified_ilu import Relaxation
from mfg_fem.linear.level.sweeps import default_inner
from mfg_fem.validate import count, flag, number, text

# Why: Eisenstat-Walker solves early Newton steps loosely (2 to 2.5 times fewer iterations in
# all); a backtracking line search, because full steps fail on cold starts; GMRES vectors are
# few with EW, a restart would cost more than it saves.
DEFAULTS = {
    "snes_type": "newtonls",
    "snes_linesearch_type": "bt",
    "snes_ksp_ew": None,
    "snes_ksp_ew_version": 2,
    "snes_ksp_ew_rtol0": LOOSEST,
    "snes_ksp_ew_rtolmax": LOOSEST,
    "snes_stol": 0.0,
    LONGEST_STEP: 1e300,
    "ksp_gmres_restart": 200,
    "ksp_max_it": 400,
    "schur_ksp_type": "gmres",
    "schur_ksp_gmres_restart": 200,
    "hform_ksp_gmres_restart": 200,
}

ZERO_PIVOT = 1e-14  # of the least mass over dt

# In 3D, where flexible GMRES's vectors for ten iterations of the two-field form take more memory
# than the Jacobian: GCR, which needs no others than those it minimises over, and few of them. That
# takes one iteration more. A restart of the H-form costs one too where F is lumped; where it is
# consistent, up to half as many again.
LEAN = {"ksp_type": "gcr", "ksp_gcr_restart": 7}
LEAN_LUMPED = LEAN | {"hform_ksp_gmres_restart": 8}


@dataclass(frozen=True)
class Newton:
    """Newton on the whole space-time system.

    Args:
        rtol: stop when the residual norm is below rtol times that of the cold start.
        max_it: largest number of Newton steps in the last stage.
        continuation: "auto" goes through easier problems first where a cold start would fail;
            "none" starts from the guess (or cold) and goes straight.
        krylov: "auto", "schur", "two-field" or "h-form", see `krylov.py`. "auto" takes the H-form,
            whose iterations hardly depend on coupling, diffusion and mesh, where the coupling is
            strong, and elsewhere the Schur form, or the two-field form if sweeps are inexact.
        petsc_options: PETSc options without the prefix `mfg_`, such as
            {"snes_monitor": None}; the command line (`-mfg_snes_monitor`) wins over them.
            Prefixes: `mfg_snes_` Newton; `mfg_schur_ksp_`, `mfg_ksp_` and `mfg_hform_ksp_` the
            Krylov solver of the Schur, two-field and H-form; `mfg_sweep_` the solver of one time
            level (`mfg_sweep_pc_type lu`), `mfg_matched_` that of the matched sweeps and
            `mfg_start_` of the H-form's solves with A, but their tolerance. Incomplete factors take
            `pc_factor_relaxation` too, see `relaxation.py`. Of the H-form, `mfg_coarse_size`
            (coarse functions per direction, 0 for none) and `mfg_wave_number`, chosen
            automatically.
        check_memory: raise OutOfMemory, before anything is started, if the solve would not fit.
    """

    rtol: float = 1e-8
    max_it: int = 30
    continuation: str = "auto"
    krylov: str = "auto"
    petsc_options: Mapping[str, object] = field(default_factory=dict, hash=False)
    check_memory: bool = True

    def __post_init__(self):
        """Refuse settings that mean nothing."""
        if not 0 < number("Newton: rtol", self.rtol) < 1:
            raise ProblemError(f"Newton: rtol must lie between 0 and 1, not {self.rtol!r}.")
        count("Newton: max_it", self.max_it)
        for name, choices in (("continuation", ("auto", "none")), ("krylov", tuple(FORMS))):
            if text(f"Newton: {name}", getattr(self, name)) not in choices:
                raise ProblemError(
                    f"Newton({name}={getattr(self, name)!r}): choose one of {choices}."
                )
        flag("Newton: check_memory", self.check_memory)
        petsc.check_names(self.petsc_options)
        object.__setattr__(self, "petsc_options", dict(self.petsc_options))  # theirs may change


def options(system: SpaceTime, method: Newton) -> partial:
    """The context in which PETSc's options are those of a solve. Collective.

    PETSc compares pivots with a number. The least that a block has on its diagonal, a mass over dt,
    depends on what lengths and times are measured in.
    """
    defaults = DEFAULTS | default_inner(system)
    pivot = ZERO_PIVOT * system.least_rate
    for level, inner in product(("sweep_", "matched_", "start_"), ("", "redundant_", "sub_")):
        defaults[f"{level}{inner}pc_factor_zeropivot"] = pivot
    if system.discrete.problem.domain.dim == 3:
        defaults |= LEAN_LUMPED if system.discrete.scheme.lumped else LEAN
    return partial(petsc.options, defaults, dict(method.petsc_options))


def check_options(discrete: Discretisation, steps: int, method: Newton):
    """Refuse PETSc options that nothing in a solve would read, or that PETSc refuses. Collective.

    Raises:
        ProblemError: it names the option, and names that are near.
    """
    others = [name for name in petsc.from_outside() if not name.startswith("tao_")]
    if not (others or method.petsc_options):
        return
    system = SpaceTime(discrete, 1)
    system.dt /= steps  # one of them
    coupling = Coupling(system)

    def read():
        PETSc.Options(petsc.PREFIX).getReal("wave_number", 0.0)
        coarse_size(coupling)
        snes = PETSc.SNES().create(system.comm)
        snes.setOptionsPrefix(petsc.PREFIX)
        snes.setFromOptions()
        snes.destroy()
        for form in FORMS.values():
            if hasattr(form, "prefix"):
                _solver(system.comm, form.prefix).destroy()
        for prefix in ("sweep_", "matched_", "start_"):
            level = _solver(system.comm, prefix)
            level.setOperators(discrete.mass)
            level.setUp()
            level.destroy()
            for inner in ("", "sub_"):
                Relaxation.of(petsc.PREFIX + prefix + inner)

    try:
        with options(system, method)(), petsc.options(default_solvers(coupling), {}):
            petsc.check_read([*others, *method.petsc_options], read)
    finally:
        system.destroy()


def _solver(comm, prefix: str) -> PETSc.KSP:
    solver = PETSc.KSP().create(comm)
    solver.setOptionsPrefix(petsc.PREFIX + prefix)
    solver.setFromOptions()
    return solver
