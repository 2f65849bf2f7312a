# # A gas in a trap
#
# Atoms of a Bose gas that is cold enough share one wave, which obeys the equation of Gross and
# Pitaevskii, here in the units of the trap:
#
# $$ i \psi_t = -\tfrac12 \Delta \psi + \tfrac12 \omega^2 |x|^2 \psi + \beta |\psi|^2 \psi,
#    \qquad \int |\psi|^2 = 1. $$
#
# Its ground state $\psi = \phi\, e^{-i \mu t}$ has the least energy $E$; $\mu$ is the chemical
# potential. Bao and Du (2004) and others have computed both on a line, with four digits in print.
# The same $\phi$ is also the stationary crowd of a mean-field game with $D = 1/2$ and the running
# cost $\frac12 \omega^2 |x|^2 + \beta m$: the density is $\phi^2$, the value $-\log \phi$, and a
# player pays $\mu$ per time.
#
# In the plane the gas has a clock that no $\beta$ can disturb (Pitaevskii, Rosch 1997). If the trap
# is changed at once from $\omega = 1$ to another $\omega$, then
#
# $$ \frac{d^2}{dt^2} \langle r^2 \rangle = 4 E - 4 \omega^2 \langle r^2 \rangle, $$
#
# so that the gas breathes with the frequency $2 \omega$ for ever. And it can turn around a point
# only where it is not: a vortex, around which the phase grows by $2 \pi$. One beside the middle of
# the trap is carried around it.

import argparse
import sys
from pathlib import Path

from mpi4py import MPI

import numpy as np

import ufl

import mfg_fem as mfg

parser = argparse.ArgumentParser(description="Ground states, breathing and a vortex in a trap.")
parser.add_argument("--line", type=int, default=256, help="cells of the line")
parser.add_argument("--plane", type=int, default=32, help="cells of the plane along each side")
parser.add_argument("--steps", type=int, default=120)
parser.add_argument("--out", default="results/trap", type=Path)
options = parser.parse_args([] if "ipykernel" in sys.argv[0] else None)

comm = MPI.COMM_WORLD

# On the line.

PUBLISHED = {3.1371: (1.0441, 1.5266), 31.371: (3.9810, 6.5527), 400: (21.3601, 35.5775)}
LENGTH = 24.0
line = mfg.box((LENGTH,), options.line)
if comm.rank == 0:
    print("beta       energy      published  chem. pot.   published  steps")
for beta, published in PUBLISHED.items():
    state = mfg.ground_state(
        line,
        hbar=1.0,
        potential=lambda x, rho, beta=beta: (x[0] - LENGTH / 2) ** 2 / 2 + beta * rho,
    )
    if comm.rank == 0:
        print(
            f"{beta:<8g}  {state.energy:10.6f}  {published[0]:9.4f}  "
            f"{state.chemical_potential:10.6f}  {published[1]:9.4f}      {state.iterations}"
        )

# In the plane, the ground state again, and a trap that is half as strong from $t = 0$ on.

SIDE, BETA = 12.0, 50.0
plane = mfg.box((SIDE, SIDE), options.plane)


def trap(x, rho, omega=1.0):
    square = (x[0] - SIDE / 2) ** 2 + (x[1] - SIDE / 2) ** 2
    return omega**2 / 2 * square + BETA * rho


def follow(initial, horizon, omega=1.0):
    """The wave from this pair on, real and imaginary part, in a trap of this strength."""
    wave = mfg.NonlinearSchroedinger(
        plane,
        horizon=horizon,
        hbar=1.0,
        potential=lambda x, t, rho: trap(x, rho, omega),
        initial=initial,
    )
    return mfg.solve(wave, options.steps)


state = mfg.ground_state(plane, hbar=1.0, potential=trap)
omega = 0.5**0.5
breathing = follow((state.wave, 0), 2 * np.pi / (2 * omega), omega)
times, radii = breathing.times, [breathing.rms_radius(n) for n in range(options.steps + 1)]
mean = breathing.energy[0] / omega**2
exact = np.sqrt(mean + (radii[0] ** 2 - mean) * np.cos(2 * omega * times))
if comm.rank == 0:
    print(f"\n{state.report}\n\n{breathing.report}\n\ntime    rms radius  exact")
    for n in range(0, options.steps + 1, options.steps // 6):
        print(f"{times[n]:5.3f}  {radii[n]:9.6f}  {exact[n]:9.6f}")

# A vortex beside the middle: the ground state times $(z - z_0) / \sqrt{|z - z_0|^2 + a^2}$.


def vortex(x):
    a, b = x[0] - SIDE / 2 - 1, x[1] - SIDE / 2
    r = ufl.sqrt(a**2 + b**2 + 0.3)
    return state.wave * a / r, state.wave * b / r


whirl = follow(vortex, 6.0)
if comm.rank == 0:
    print(f"\n{whirl.report}")
options.out.mkdir(parents=True, exist_ok=True)
mfg.plots.plot_wave(whirl, options.out / "vortex.png", t=(0, 2, 4, 6))
if comm.rank == 0:
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update(mfg.plots.STYLE)
    figure = Figure((0.6 * mfg.plots.WIDTH, 2.4), layout="constrained")
    ax = figure.subplots()
    ax.plot(times, radii, color="#00708a", lw=1.2, label="computed")
    ax.plot(times[::6], exact[::6], "k.", ms=4, label="exact")
    ax.set(xlabel="t", ylabel="rms radius", title=f"a gas breathes, $\\beta$ = {BETA:g}")
    ax.legend(frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(options.out / "breathing.png", dpi=200)
