"""The memory that a solve needs, compared with what is free before the solve starts."""

import logging
from pathlib import Path

from mpi4py import MPI
from petsc4py import PETSc

import numpy as np

from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.discrete.jacobian import longest_step
from mfg_fem.discrete.spacetime import SpaceTime
from mfg_fem.discrete.stationary import system_of
from mfg_fem.errors import OutOfMemory
from mfg_fem.linear.coupled.coarse_space import SAMPLES
from mfg_fem.linear.coupled.matched_sweeps import STRONG, Coupling
from mfg_fem.linear.level.schwarz import share
from mfg_fem.linear.plan import LevelPlan, Plan
from mfg_fem.nonlinear.method import Newton

log = logging.getLogger(__name__)

ENTRY = 12  # bytes of a matrix entry with its column
VALUE = 8
FIELDS = 10  # arrays of unknowns: iterates, residuals, changes of both
# Vectors of Krylov solvers for up to 15 iterations, in the portions that PETSc allocates; of GCR
# two per iteration until it restarts (`plan.LEAN`), and three.
VECTORS = {"gmres": 17, "fgmres": 34, "gcr": 17}
CLOSING = 120  # vectors with a terminal density
COARSE = 11  # matrices with as many entries as Z: itself, products, their places
FAR, FEW = 0.05, 0.25  # from `spread` FAR on, a share FEW of the levels is factored


def estimate(discrete: Discretisation, times: np.ndarray, method: Newton) -> float:
    """Bytes that a solve takes on this rank. Collective.

    The blocks of the Jacobian at all steps; their factors, sized by one trial factorisation;
    fields; and the work space of the most expensive formulation that may be chosen.
    """
    steps, k = len(times) - 1, discrete.k
    block = VALUE * discrete.mass.getInfo(PETSc.Mat.InfoType.LOCAL)["nz_used"]
    blocks = 3 * k + len(discrete.forms.crossing)
    blocks += 0 if discrete.forms.steady else len(discrete.forms.costs_see)
    blocks += len(discrete.feedback.keys()) if discrete.feedback else 0
    fields = FIELDS + 2 * len(discrete.problem.prices)  # of which each has a border
    one_step = blocks * block + 2 * k * VALUE * fields * discrete.owned
    system = system_of(discrete, longest_step(times))
    plan, forms = Plan.of(system.jacobian, method.krylov, method.petsc_options), []
    with plan.in_force():
        joint = k if plan.sweep.exact and discrete.forms.crossing else 1  # times as wide
        one_step += joint * k * _factors(discrete, plan.sweep)
        planned = discrete.ends.planned
        markets = len(discrete.problem.prices)
        surely, perhaps = (False, False) if planned else _strong(system, plan)
        if perhaps:
            forms.append(_h_form(discrete, steps, plan, block))
        if markets or not surely:
            weak = plan.weak if plan.krylov == "auto" else plan.krylov
            weak = "two-field" if markets else weak
            vectors = _vectors(discrete, plan, weak)
            forms.append(steps * k * (VALUE * CLOSING * discrete.owned if planned else vectors))
    system.destroy()
    return steps * one_step + (sum(forms) if markets else max(forms))


def _strong(system: SpaceTime, plan: Plan) -> tuple[bool, bool]:
    """Whether the H-form is chosen at uniform density, and whether at the largest of m0."""
    if plan.krylov != "auto":
        return (plan.krylov == "h-form",) * 2
    coupling, discrete = Coupling(system.jacobian), system.discrete
    coupling.refresh(system.linearise(system.even_crowd()))
    uniform = np.array([own.units.density for own in discrete.problem.populations])
    crowding = (discrete.ends.start.max(axis=1, initial=0.0) / uniform).max()
    crowding = max(1.0, discrete.comm.allreduce(crowding, MPI.MAX))
    return coupling.strength > STRONG, coupling.strength * crowding > STRONG


def _vectors(discrete: Discretisation, plan: Plan, form: str) -> float:
    """Bytes per step of the vectors of a formulation's Krylov solver, of one or both fields."""
    fields = 2 if form == "two-field" else 1
    vectors = VECTORS.get(plan.solvers[form], max(VECTORS.values()))
    return VALUE * fields * vectors * discrete.owned


def _h_form(discrete: Discretisation, steps: int, plan: Plan, block: float) -> float:
    """Bytes that the H-form adds: vectors, factors, perhaps their blocks; the coarse space."""
    dim = discrete.problem.domain.dim
    one_step = _factors(discrete, plan.matched)
    if not plan.in_turn:
        one_step += block * (1 if plan.matched.transposed else 2)
    one_step += _vectors(discrete, plan, "h-form")
    functions = plan.coarse_size**dim
    sample = 4 * VALUE / 2  # four blocks in single precision, full at most
    inverses = steps if discrete.comm.size == 1 else steps // 2 + 1  # two ranks share them
    coarse = (VALUE * inverses + sample * SAMPLES[dim]) * functions**2
    if functions:
        coarse += COARSE * ENTRY * 3**dim * discrete.owned
    return discrete.k * (steps * one_step + coarse)


def _factors(discrete: Discretisation, plan: LevelPlan) -> float:
    """Mean bytes of the factors of a step, from factoring a matrix with the pattern of a block."""
    matrix = discrete.mass.copy()
    matrix.shift(1.0)
    pc = _preconditioner(matrix, plan.prefix)
    if pc.getType() == "bjacobi":
        pc = _preconditioner(matrix.getDiagonalBlock(), plan.prefix + "sub_")
    elif plan.schwarz:
        share(pc, matrix, discrete.pattern.overlapping, plan.relaxation)
        pc.setUp()
        pc = pc.getPythonContext().local
    entries = 0.0
    if pc.getType() in ("lu", "cholesky", "ilu", "icc"):
        pc.setUp()
        entries = pc.getFactorMatrix().getInfo(PETSc.Mat.InfoType.LOCAL)["nz_used"]
    if not entries:  # whole on every rank, or not known: as by nested dissection
        nodes = discrete.V.dofmap.index_map.size_global
        entries = 8 * nodes * np.log2(max(nodes, 2))
    matrix.destroy()
    levels = FEW if discrete.spread >= FAR and not plan.exact else 1.0
    return levels * (1 if plan.transposed else 2) * ENTRY * entries


def _preconditioner(matrix: PETSc.Mat, prefix: str) -> PETSc.PC:
    pc = PETSc.PC().create(matrix.getComm())
    pc.setOptionsPrefix(prefix)
    pc.setOperators(matrix)
    if prefix.endswith("sub_"):
        pc.setType("ilu")
    pc.setFromOptions()
    return pc


def check(discrete: Discretisation, times: np.ndarray, method: Newton):
    """Raise OutOfMemory unless every machine has room for its ranks. Collective."""
    comm = discrete.comm
    mine = estimate(discrete, times, method)
    machine = comm.Split_type(MPI.COMM_TYPE_SHARED)
    needed, free = machine.allreduce(mine), machine.allreduce(available(), MPI.MIN)
    machine.Free()
    needed, free = max(comm.allgather((needed, free)), key=lambda pair: pair[0] / pair[1])
    log.info("memory: about %.2g GB needed, %.3g GB free", needed / 1e9, free / 1e9)
    if needed > free:
        nodes = discrete.V.dofmap.index_map.size_global
        raise OutOfMemory(
            f"{len(times) - 1} steps on {nodes} nodes need about {needed / 1e9:.3g} GB on a "
            f"machine with {free / 1e9:.3g} GB free. Take fewer steps, a coarser mesh or ranks on "
            "more machines; Newton(check_memory=False) starts all the same."
        )


def available() -> float:
    """Bytes this process may still take, by the kernel and by its control group; or inf."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(1024.0 * int(y.split()[1]) for y in lines if y.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return np.inf  # not Linux
    try:
        group = Path("/proc/self/cgroup").read_text().splitlines()[-1].split("::")[1]
    except (OSError, IndexError):
        return free
    folder = Path("/sys/fs/cgroup") / group.strip("/")
    return min(free, *(left_in_group(path) for path in (folder, *folder.parents)))


def left_in_group(folder: Path) -> float:
    """Bytes that a control group (version 2: a container, a batch job) leaves; or inf."""
    try:
        limit = (folder / "memory.max").read_text().strip()
        stat = dict(y.split() for y in (folder / "memory.stat").read_text().splitlines())
    except OSError:
        return np.inf
    return np.inf if limit == "max" else float(limit) - float(stat["anon"])
