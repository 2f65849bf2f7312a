# # One job of many
#
# The hall of `crowd_evacuation.py` with another crowd in each job: the rows of a table, solved side
# by side on a cluster, or one after the other here. A job may be stopped at any moment, by its time
# limit, by a node that fails, by `kill -9`. Started again, on any number of ranks, it goes on from
# its last checkpoint:
#
#     python3 demos/batch_job.py --index 3
#     sbatch docker/cluster/array.slurm demos/batch_job.py
#
# A script of your own needs the three things marked below to run under `docker/cluster/job.slurm`.

import argparse
import json
import os
import sys
import tempfile
import time
from itertools import product
from pathlib import Path

from mpi4py import MPI

from crowd_evacuation import MESH, evacuation, numbers

import mfg_fem as mfg

# Sizes and data. Row `--index` of the table is what this job solves.

TABLE = list(product((40.0, 80.0, 120.0), (0.05, 0.08, 0.2)))  # people, diffusion in m²/s
TRY_AGAIN = 75  # what programs exit with that may be started again (sysexits.h)
TO_END = 120.0  # seconds before the end of a job in which nothing is begun any more

parser = argparse.ArgumentParser(description="One row of a table of crowds.")
parser.add_argument("--index", type=int, default=int(os.environ.get("SLURM_ARRAY_TASK_ID", 0)))
parser.add_argument("--mesh", default=MESH)
parser.add_argument("--steps", type=int, default=60)
parser.add_argument("--every", type=float, default=60.0, help="seconds between checkpoints")
parser.add_argument("--budget", type=float, help="seconds (default: to the end of the job)")
parser.add_argument("--out", default="results/batch_job", type=Path, help="a folder per row in it")
parser.add_argument("--warm-up", action="store_true", help="only compile what will be needed")
options = parser.parse_args([] if "ipykernel" in sys.argv[0] else None)
if not 0 <= options.index < len(TABLE):
    parser.error(f"--index goes from 0 to {len(TABLE) - 1}, not {options.index}")
people, diffusion = TABLE[options.index]
out = options.out / f"{options.index:03d}"

# 1. The time that is left. Slurm tells every job when it will end.

budget = options.budget
if budget is None and "SLURM_JOB_END_TIME" in os.environ:
    budget = max(float(os.environ["SLURM_JOB_END_TIME"]) - time.time() - TO_END, 0.0)

# 2. A warm-up compiles the forms and keeps nothing. Forms do not know how many steps there are, so
# that two will do; one task runs this before many start, and many jobs do not compile the same.

hall = mfg.read_mesh(options.mesh, MPI.COMM_WORLD)
game = evacuation(mfg.MeanFieldGame, hall, people, diffusion)
if options.warm_up:
    with tempfile.TemporaryDirectory() as folder:
        solution = mfg.solve(game, steps=2, throw=False)
        solution.write(Path(folder) / "crowd.bp")
    sys.exit()

# 3. A checkpoint, and an exit code that says that there is more to do. When the solve has
# finished, its solution is in the same file, so that a job that is stopped later, or started once
# more, does not solve again. The tolerance is tight: another number of ranks cuts the mesh into
# other parts, and then solutions agree to what Newton leaves.

checkpoint = mfg.Checkpoint(out / "crowd.npz", every=options.every, budget=budget)
try:
    tight = mfg.Newton(rtol=1e-10)
    solution = mfg.solve(game, options.steps, method=tight, checkpoint=checkpoint)
except mfg.OutOfTime as stop:
    if hall.comm.rank == 0:
        print(stop)
    sys.exit(TRY_AGAIN)

# The numbers of this row, beside its solution.

found = {"people": people, "diffusion": diffusion, **numbers(solution)}
if hall.comm.rank == 0:
    print(f"row {options.index}: {people:g} people, diffusion {diffusion:g} m²/s")
    print(solution.report)
    (out / "numbers.json").write_text(json.dumps(found, indent=2))
solution.write(out / "crowd.bp")
