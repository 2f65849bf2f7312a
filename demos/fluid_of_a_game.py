# # The fluid of a game, and the energy that it keeps
#
# A crowd on a ring has a cost $g$ at the end and dislikes itself, $f = m$:
#
# $$ -u_t - D \Delta u + \tfrac12 |\nabla u|^2 = m, \qquad u(T) = g, $$
# $$ m_t - D \Delta m - \nabla \cdot (m \nabla u) = 0, \qquad m(0) = m_0. $$
#
# Its density is also carried without noise, by the current velocity
# $\omega = -\nabla u - D \nabla \log m = -\nabla \tilde u$ of Nelson, a fluid with the potential
# $\tilde u = u + D \log m$. Both equations are those of one Hamiltonian, which is therefore the
# same at all times,
#
# $$ E = \int -D \nabla m \cdot \nabla u - \tfrac12 m |\nabla u|^2 + \tfrac12 m^2
#      = -\int \tfrac12 m |\omega|^2 + \tfrac12 D^2 I(m) + \int \tfrac12 m^2, $$
#
# where $I = \int |\nabla m|^2 / m$ is the Fisher information. Note its sign: the people pay for
# moving *and* for information, while a quantum particle with $\hbar = 2 D$ has it on the other
# side. That would be another problem, of waves.
#
# The implicit Euler scheme is symplectic. It does not keep $E$, but a modified energy
# $E - (u^n - u^{n+1}) \cdot \mathrm{Mass}\, (m^{n+1} - m^n) / (2\, \Delta t)$, which backward error
# analysis gives from the computed levels alone. So one solve says how far its energy drifts.

import argparse
import sys
from pathlib import Path

from mpi4py import MPI

import numpy as np

import ufl

import mfg_fem as mfg

parser = argparse.ArgumentParser(description="Energy and information of a game along time.")
parser.add_argument("--cells", type=int, default=64)
parser.add_argument("--steps", type=int, nargs="+", default=[16, 32, 64])
parser.add_argument("--out", default="results/fluid_of_a_game", type=Path)
options = parser.parse_args([] if "ipykernel" in sys.argv[0] else None)

D, comm, wave = 0.05, MPI.COMM_WORLD, 2 * np.pi

game = mfg.MeanFieldGame(
    mfg.box(1.0, options.cells, periodic=True),
    horizon=0.5,
    diffusion=D,
    hamiltonian=mfg.hamiltonians.quadratic(),
    running_cost=lambda x, t, m: m,
    terminal_cost=lambda x, m: 0.1 * ufl.sin(wave * x[0]),
    initial_density=lambda x: 1 + 0.5 * ufl.cos(wave * x[0]) + 0.2 * ufl.sin(2 * wave * x[0]),
)


def spread(y):
    """Largest difference along time."""
    return float(np.ptp(y))


def over_time(y):
    """Integral over time by the trapezoidal rule."""
    return float((y[1:] + y[:-1]).sum() / 2 * game.horizon / (len(y) - 1))


# The drift falls like the step and is what the correction predicts; that of the modified energy is
# of second order, and hundreds of times smaller. On a ring momentum changes by the fourth power of
# the cells only. And what people pay for moving is the kinetic and the osmotic energy of the fluid,
# and what their entropy has gained: an identity, here up to the first order of Euler steps.

if comm.rank == 0:
    print("steps  drift of E  predicted  of the modified E  of momentum  costs and parts differ by")
for steps in options.steps:
    solution = mfg.solve(game, steps, mfg.Galerkin())
    fluid = mfg.hydrodynamics(solution)
    seen = fluid.modified_energy - fluid.correction  # E of what each step sees
    paid = over_time(fluid.moving_cost)
    parts = over_time(fluid.kinetic + fluid.osmotic) + D * (fluid.entropy[-1] - fluid.entropy[0])
    if comm.rank == 0:
        print(
            f"{steps:5d}    {spread(seen):.2e}   {spread(fluid.correction):.2e}"
            f"           {spread(fluid.modified_energy):.2e}     "
            f"{spread(fluid.total_momentum):.2e}           {abs(parts / paid - 1):.1e}"
        )

# The laws themselves, on the finest grid: two solutions of the linearised equations span an area
# in phase space that no step changes, up to round-off. And the picture of the last solve.

laws = mfg.structure(solution)
options.out.mkdir(parents=True, exist_ok=True)
mfg.plots.plot_fluid(fluid, options.out / "fluid.png", time="")
fluid.write(options.out / "fluid.bp")
if comm.rank == 0:
    print(f"\n{fluid.report}\n\n{laws.report}")
