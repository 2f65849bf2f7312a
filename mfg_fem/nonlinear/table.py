"""What a solve says on its way."""

import logging
import sys
from collections.abc import Callable, Coroutine, Generator

from mpi4py import MPI

from mfg_fem.errors import ProblemError, together

log = logging.getLogger("mfg_fem.solve")


class Table:
    """Reports on each Newton step: a table, lines of the log, the user's callback."""

    HEAD = " it  Krylov   |du|     |dm|     HJB      FP       mass         min m     step"
    ROW = (
        "{step:3d}  {krylov:6d}   {du:.1e}  {dm:.1e}  {hjb:.1e}  {fp:.1e}  {mass:.5e}  "
        "{min_density:+.1e}  {step_length:.2f}"
    )

    def __init__(self, comm: MPI.Comm, progress: bool | None, on_step: Callable | None):
        shown = sys.stderr.isatty() if progress is None else progress
        self.comm, self.on_step, self.stage = comm, on_step, None
        self.called = comm.allreduce(on_step is not None, MPI.LOR)
        self.shown = shown and comm.rank == 0

    def add(self, row: dict):
        """Report one Newton step. Collective."""
        if self.comm.rank == 0:
            log.info(
                "%s: step %d, HJB %.1e, FP %.1e, mass %.6g, min m %.1e, Krylov %d, length %.2g",
                *(row[key] for key in ("stage", "step", "hjb", "fp", "mass", "min_density")),
                row["krylov"],
                row["step_length"],
            )
        if self.shown:
            if row["stage"] != self.stage:
                self.stage = row["stage"]
                print(f"{self.stage}\n{self.HEAD}", file=sys.stderr)
            print(self.ROW.format(**row), file=sys.stderr, flush=True)
        self.call(row)

    def call(self, row: dict):
        """Call the user's `on_step` with the row. Collective."""
        if not self.called:
            return
        with together(self.comm, ProblemError, "on_step(row) failed"):
            result = None if self.on_step is None else self.on_step(dict(row))
            if isinstance(result, Coroutine | Generator):
                result.close()
                raise TypeError("it is a coroutine or a generator, of which nothing has run")
