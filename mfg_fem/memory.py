"""What a solve needs of memory, and whether it is there: asked before the solve starts."""

import logging
from pathlib import Path

from mpi4py import MPI
from petsc4py import PETSc

import numpy as np

from mfg_fem import factors, petsc
from mfg_fem.continuation import SPREAD
from mfg_fem.coupling import Coupling, coarse_size, default_solvers, needs_factors_only
from mfg_fem.discretisation import Discretisation
from mfg_fem.errors import OutOfMemory
from mfg_fem.krylov import STRONG
from mfg_fem.newton import Newton, options
from mfg_fem.schwarz import is_schwarz
from mfg_fem.spacetime import SpaceTime

log = logging.getLogger(__name__)

ENTRY = 12  # bytes of a matrix entry with its column
VALUE = 8
FIELDS = 26  # arrays of one number for each unknown: iterates, residuals, changes of both
VECTORS = 20  # of a Krylov solver
FEW = 0.25  # of the levels, with factors that neighbours share, where players diffuse far


def estimate(discrete: Discretisation, steps: int, method: Newton) -> float:
    """Bytes that a solve takes on this rank. Collective.

    The blocks of the Jacobian of all steps, their factors as one that is made for trial has them,
    the vectors of the Krylov solver; and what the H-form adds, where it may be taken.

    Args:
        discrete: the problem on its mesh.
        steps: time steps.
        method: Newton's settings.
    """
    entries = discrete.mass.getInfo(PETSc.Mat.InfoType.LOCAL)["nz_used"]
    block = VALUE * entries
    one_step = (3 if discrete.steady_um else 4) * block
    with options(discrete, method)():
        one_step += _factors(discrete, "sweep_")
        if method.krylov in ("auto", "h-form"):
            one_step += _h_form(discrete, block, method.krylov == "auto")
    return steps * (one_step + 2 * VALUE * (FIELDS + VECTORS) * discrete.owned)


def _h_form(discrete: Discretisation, block: float, if_strong: bool) -> float:
    """Bytes a step that the H-form adds: factors, and perhaps their block; the coarse operator.

    Strength is that of the even crowd, as if all places had the largest density of the start.
    """
    system = SpaceTime(discrete, 1)
    coupling = Coupling(system)
    try:
        X = system.even_crowd()
        system.linearise(X)
        coupling.refresh()
        peak = discrete.comm.allreduce(discrete.m0.max(initial=0.0), MPI.MAX)
        if if_strong and coupling.strength * peak / discrete.state.crowd.value <= STRONG:
            return 0.0
        with petsc.options(default_solvers(coupling), {}):
            matched = _factors(discrete, "matched_")
            if not needs_factors_only(system):
                matched += block * (1 if factors.serve_both(discrete, "matched_") else 2)
        functions = coarse_size(coupling) ** discrete.problem.domain.dim
        coarse = 2 * VALUE * functions**2  # its inverse, single, and samples while they are made
        return matched + coarse
    finally:
        coupling.destroy()
        system.destroy()


def _factors(discrete: Discretisation, prefix: str) -> float:
    """Mean bytes of the factors of a step, found by factoring a matrix of a block's pattern."""
    matrix = discrete.mass.copy()
    matrix.shift(1.0)
    pc = _preconditioner(matrix, prefix)
    if pc.getType() == "bjacobi":
        pc = _preconditioner(matrix.getDiagonalBlock(), prefix + "sub_")
    elif is_schwarz(pc):
        pc.setUp()
        pc = pc.getPythonContext().local
    entries = 0.0
    if pc.getType() in ("lu", "cholesky", "ilu", "icc"):
        pc.setUp()
        entries = pc.getFactorMatrix().getInfo(PETSc.Mat.InfoType.LOCAL)["nz_used"]
    if not entries:  # whole on every rank, or a library that does not tell: as nested dissection
        nodes = discrete.V.dofmap.index_map.size_global
        entries = 8 * nodes * np.log2(max(nodes, 2))
    matrix.destroy()
    levels = FEW if discrete.spread >= SPREAD and not factors.are_exact(discrete, prefix) else 1.0
    return levels * (1 if factors.serve_both(discrete, prefix) else 2) * ENTRY * entries


def _preconditioner(matrix: PETSc.Mat, prefix: str) -> PETSc.PC:
    pc = PETSc.PC().create(matrix.getComm())
    pc.setOptionsPrefix(petsc.PREFIX + prefix)
    pc.setOperators(matrix)
    if prefix.endswith("sub_"):
        pc.setType("ilu")
    pc.setFromOptions()
    return pc


def check(discrete: Discretisation, steps: int, method: Newton):
    """Raise OutOfMemory unless every machine has room for its ranks' part. Collective."""
    comm = discrete.comm
    mine = estimate(discrete, steps, method)
    machine = comm.Split_type(MPI.COMM_TYPE_SHARED)
    needed, free = machine.allreduce(mine), machine.allreduce(available(), MPI.MIN)
    machine.Free()
    needed, free = max(comm.allgather((needed, free)), key=lambda pair: pair[0] / pair[1])
    log.info("memory: about %.2g GB needed, %.3g GB free", needed / 1e9, free / 1e9)
    if needed > free:
        nodes = discrete.V.dofmap.index_map.size_global
        raise OutOfMemory(
            f"{steps} steps on {nodes} nodes need about {needed / 1e9:.3g} GB on a machine with "
            f"{free / 1e9:.3g} GB free. Take fewer steps, a coarser mesh or ranks on more machines;"
            " Newton(check_memory=False) starts all the same."
        )


def available() -> float:
    """Bytes this process may still take: what the kernel and its control group leave; or inf."""
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
