"""Numbers of a shared control that must not depend on the number of ranks."""

import numpy as np
from ranks import leave_numbers
from test_shared_control import SCHEMES, classification, smooth_unknown

import mfg_fem as mfg

problem = classification()
found = []
for scheme in SCHEMES:
    reduced = scheme.reduced(problem, 4)
    value, gradient = reduced.objective_and_gradient(smooth_unknown(reduced, 0.3))
    squares = reduced.comm.allreduce(float(np.sum(gradient**2)))
    solution = mfg.solve(problem, 4, scheme, mfg.Descent(max_it=8))
    found += [value, squares, solution.objective, *solution.curves["information"]]
leave_numbers(found)
