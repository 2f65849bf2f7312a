# # One Gaussian under two equations
#
# Two problems look alike. In Schroedinger's bridge (1931) particles with the noise
# $\sqrt{2 D}\, dW$ are spread like $m_0$ at $t = 0$ and like $m_1$ at $t = 1$, and one asks what
# they have most likely done between; it is a `MeanFieldControl` with a `terminal_density`. In
# quantum mechanics a wave obeys
#
# $$ i \hbar \psi_t = -\tfrac12 \hbar^2 \Delta \psi, \qquad \rho = |\psi|^2. $$
#
# Both are fluids, $\rho_t + \nabla \cdot (\rho \omega) = 0$ with $\omega$ a gradient, and for
# $\hbar = 2 D$ their actions
#
# $$ \int_0^1 \int \tfrac12 \rho |\omega|^2 \pm \tfrac12 D^2 \frac{|\nabla \rho|^2}{\rho} $$
#
# differ in one sign: a bridge pays for the Fisher information (+), in a wave it is potential energy
# (-), and pushes outwards (Nelson 1966). So Gaussians stay Gaussian in both, with widths that obey
#
# $$ s'' = -\frac{D^2}{s^3} \text{ (bridge)}, \qquad s'' = +\frac{D^2}{s^3} \text{ (wave)}. $$
#
# Between equal widths $s_0$ at both ends the bridge is widest half way, and the wave, if it starts
# inwards at the right speed, narrowest:
# $s^2 = (1 - 2 t (1 - t)) s_0^2 + 2 t (1 - t) \sqrt{s_0^4 \pm D^2}$. The second needs
# $D \le s_0^2$: that is Heisenberg's principle, and bridges have none.

import argparse
import sys
from pathlib import Path

from mpi4py import MPI

import numpy as np

import ufl
from dolfinx import fem

import mfg_fem as mfg

parser = argparse.ArgumentParser(description="A Gaussian as a bridge and as a wave.")
parser.add_argument("--cells", type=int, default=192)
parser.add_argument("--steps", type=int, default=48)
parser.add_argument("--out", default="results/two_equations", type=Path)
options = parser.parse_args([] if "ipykernel" in sys.argv[0] else None)

LENGTH, WIDTH, D = 8.0, 0.5, 0.24
comm, line = MPI.COMM_WORLD, mfg.box((LENGTH,), options.cells)


def gaussian(x):
    return ufl.exp(-((x[0] - LENGTH / 2) ** 2) / (2 * WIDTH**2))


def exact(t, sign):
    """The width of the bridge (+1) and of the wave (-1)."""
    mixed = np.sqrt(WIDTH**4 + sign * D**2)
    return np.sqrt((1 - 2 * t * (1 - t)) * WIDTH**2 + 2 * t * (1 - t) * mixed)


# The bridge, and its width at all times: the root of its second moment, of mass 1.

bridge = mfg.solve(
    mfg.MeanFieldControl(
        line,
        horizon=1.0,
        diffusion=D,
        hamiltonian=mfg.hamiltonians.quadratic(),
        running_cost=lambda x, t, m: 0.0,
        initial_density=gaussian,
        terminal_density=gaussian,
    ),
    options.steps,
    mfg.Galerkin(1, "midpoint"),
)
x = ufl.SpatialCoordinate(line.mesh)


def second_moment(density):
    form = fem.form(density * (x[0] - LENGTH / 2) ** 2 * ufl.dx)
    return comm.allreduce(fem.assemble_scalar(form))


times = bridge.times
of_bridge = np.sqrt([second_moment(bridge.density(n)) for n in range(len(times))])

# The wave: the phase $\frac{s'}{2 s} (x - x_0)^2 / \hbar$ lets it start inwards with
# $s s' = \sqrt{s_0^4 - D^2} - s_0^2$.

hbar = 2 * D
inwards = (np.sqrt(WIDTH**4 - D**2) - WIDTH**2) / WIDTH**2


def start(x):
    phase = inwards * (x[0] - LENGTH / 2) ** 2 / (2 * hbar)
    size = ufl.sqrt(gaussian(x) / np.sqrt(2 * np.pi) / WIDTH)
    return size * ufl.cos(phase), size * ufl.sin(phase)


wave = mfg.solve(
    mfg.NonlinearSchroedinger(line, horizon=1.0, hbar=hbar, potential=0.0, initial=start),
    options.steps,
)
of_wave = np.array([wave.rms_radius(n) for n in range(len(times))])

# The table: widths, and $s^3 s''$ from three levels, as $s^2$ is a polynomial of degree two.


def law(s):
    n, far = options.steps // 2, options.steps // 4
    second = (s[n + far] ** 2 - 2 * s[n] ** 2 + s[n - far] ** 2) / times[far] ** 2 / 2
    first = (s[n + far] ** 2 - s[n - far] ** 2) / (2 * times[far]) / 2
    return second * s[n] ** 2 - first**2


if comm.rank == 0:
    print("t       bridge     exact      wave       exact")
    for n in range(0, options.steps + 1, options.steps // 8):
        rows = of_bridge[n], exact(times[n], 1), of_wave[n], exact(times[n], -1)
        print(f"{times[n]:5.3f}  " + "".join(f"{s:9.6f}  " for s in rows))
    print(f"s^3 s'': bridge {law(of_bridge):+.5f}, wave {law(of_wave):+.5f}, D^2 = {D**2:.5f}")
    print(f"\n{wave.report}")


# The picture: `plot_density` gathers what it draws from all ranks and puts it into axes of ours.

figure, (widths, *panels) = None, [None] * 3
if comm.rank == 0:
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update(mfg.plots.STYLE)
    figure = Figure((mfg.plots.WIDTH, 2.4), layout="constrained")
    widths, *panels = figure.subplots(1, 3, width_ratios=(1.1, 1, 1))
for solution, ax in zip((bridge, wave), panels, strict=True):
    mfg.plots.plot_density(solution, ax=ax, t=(0, 0.25, 0.5), time="")
if comm.rank == 0:
    widths.plot(times, of_bridge, color="#c05020", lw=1.2, label="bridge")
    widths.plot(times, of_wave, color="#00708a", lw=1.2, label="wave")
    for sign, label in ((1, "exact"), (-1, None)):
        widths.plot(times[::4], exact(times[::4], sign), "k.", ms=3, label=label)
    widths.set(xlabel="t", ylabel="width", title="two widths", xlim=(0, 1))
    widths.legend(frameon=False, loc="center")
    widths.spines[["top", "right"]].set_visible(False)
    for ax, name in zip(panels, ("bridge", "wave"), strict=True):
        ax.set(xlabel="x", ylabel="", title=f"density of the {name}", xlim=(2, 8), ylim=(0, 1.05))
    options.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out / "widths.png", dpi=200)
