"""Newton's settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mfg_fem import petsc
from mfg_fem.errors import ProblemError
from mfg_fem.linear.plan import FORMS
from mfg_fem.validate import count, flag, number, text


@dataclass(frozen=True)
class Newton:
    """Newton's method for all time levels at once; a step is A du - F dm = r_u, D du + B dm = r_m.

    A is the linearised HJB equation, B the Fokker-Planck equation, F and D couple them. The norm of
    a residual is its root mean square over space-time, in the units U / T (HJB) and M / T
    (Fokker-Planck) of the problem (`mfg_fem/problem/units.py`): it depends on no mesh and on no
    choice of units. Linear solves are inexact (Eisenstat, Walker 1996). Settings that mean nothing
    raise ProblemError.

    Args:
        rtol: stop when the norm of the residual is below rtol times that of the cold start.
        max_it: largest number of Newton steps in the last stage.
        continuation: "auto" goes through easier problems first where a cold start would fail;
            "none" starts from the guess (or cold) and goes straight.
        krylov: "auto", "schur", "two-field" or "h-form", see
            `mfg_fem/linear/coupled/formulations.py`. "auto" takes the H-form, whose iterations
            hardly depend on coupling, diffusion and mesh, where the coupling is strong, and
            elsewhere the Schur form, or the two-field form if sweeps are inexact.
        petsc_options: PETSc options without the prefix `mfg_`, such as {"snes_monitor": None}; the
            command line (`-mfg_snes_monitor`) wins over them. Prefixes: `mfg_snes_` Newton;
            `mfg_schur_ksp_`, `mfg_ksp_` and `mfg_hform_ksp_` the Krylov solver of the Schur,
            two-field and H-form; `mfg_sweep_` the solver of one time level (`mfg_sweep_pc_type
            lu`), `mfg_matched_` that of the matched sweeps and `mfg_start_` that of the H-form's
            solves with A, except its tolerance. Incomplete factors also take
            `pc_factor_relaxation`, see `modified_ilu.py`. The H-form has `mfg_coarse_size` (coarse
            functions per direction, 0 for none) and `mfg_wave_number`, both chosen automatically.
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
        for name, choices in (("continuation", ("auto", "none")), ("krylov", FORMS)):
            if text(f"Newton: {name}", getattr(self, name)) not in choices:
                raise ProblemError(
                    f"Newton({name}={getattr(self, name)!r}): choose one of {choices}."
                )
        flag("Newton: check_memory", self.check_memory)
        petsc.check_names(self.petsc_options)
        object.__setattr__(self, "petsc_options", dict(self.petsc_options))  # theirs may change
