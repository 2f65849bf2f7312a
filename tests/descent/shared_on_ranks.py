"""Numbers of a shared control that must not depend on the number of ranks, and its refusals."""

from mpi4py import MPI

import numpy as np
from ranks import leave_numbers
from test_shared_control import BAD, SCHEMES, classification, said, smooth_unknown

import mfg_fem as mfg

problem = classification()
found = []
for scheme in SCHEMES:
    reduced = scheme.reduced(problem, 4)
    value, gradient = reduced.objective_and_gradient(smooth_unknown(reduced, 0.3))
    squares = reduced.comm.allreduce(float(np.sum(gradient**2)))
    solution = mfg.solve(problem, 4, scheme, mfg.Descent(max_it=8))
    spread = reduced.comm.allreduce(np.sum(solution.masses**2, axis=(1, 2)))
    found += [value, squares, solution.objective, *spread]
refusals = {}
if MPI.COMM_WORLD.size > 1:
    refusals = {wrong: MPI.COMM_WORLD.gather(said(wrong)) for wrong in BAD}
leave_numbers({"numbers": found, "said": refusals})
