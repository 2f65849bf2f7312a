"""What a solve needs of memory, and whether it is there: asked before the solve starts."""

import logging
from pathlib import Path

from mpi4py import MPI
from petsc4py import PETSc

import numpy as np

from mfg_fem import petsc
from mfg_fem.errors import OutOfMemory
from mfg_fem.spacetime import Discretisation

log = logging.getLogger(__name__)

ENTRY = 12  # bytes of a matrix entry with its column
VALUE = 8
FIELDS = 34  # arrays of one number for each unknown: iterates, residuals, changes of both
VECTORS = 20  # of a Krylov solver


def estimate(discrete: Discretisation, steps: int, options) -> float:
    """Bytes that the Schur or two-field form takes on this rank. Collective.

    The blocks of the Jacobian of all steps, their factors as one that is made for trial has them,
    the vectors of the Krylov solver. The H-form takes the factors and two blocks once more.

    Args:
        discrete: the problem on its mesh.
        steps: time steps.
        options: the context in which PETSc's options are those of the solve.
    """
    entries = discrete.mass.getInfo(PETSc.Mat.InfoType.LOCAL)["nz_used"]
    blocks = 3 if discrete.steady_um else 4
    one_step = VALUE * blocks * entries
    if discrete.comm.size > 1:  # each matrix has a pattern of its own
        one_step = ENTRY * blocks * entries
    with options():
        one_step += 2 * _factor(discrete)
    return steps * (one_step + 2 * VALUE * (FIELDS + VECTORS) * discrete.owned)


def _factor(discrete: Discretisation) -> float:
    """Bytes of the factor of one block, found by factoring a matrix of its pattern."""
    matrix = discrete.mass.copy()
    matrix.shift(1.0)
    pc = _preconditioner(matrix, "sweep_")
    if pc.getType() == "bjacobi":
        pc = _preconditioner(matrix.getDiagonalBlock(), "sweep_sub_")
    elif pc.getType() == "python":
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
    return ENTRY * entries


def _preconditioner(matrix: PETSc.Mat, prefix: str) -> PETSc.PC:
    pc = PETSc.PC().create(matrix.getComm())
    pc.setOptionsPrefix(petsc.PREFIX + prefix)
    pc.setOperators(matrix)
    if prefix.endswith("sub_"):
        pc.setType("ilu")
    pc.setFromOptions()
    return pc


def check(discrete: Discretisation, steps: int, options):
    """Raise OutOfMemory unless every machine has room for its ranks' part. Collective."""
    comm = discrete.comm
    mine = estimate(discrete, steps, options)
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
