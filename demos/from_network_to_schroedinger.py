# # From a network to Schroedinger's equation
#
# A residual network is a flow, to train it is to control the flow, with noise the control is one of
# densities, a change of variable makes that a fluid with a quantum potential, and the fluid has a
# wave function (Ganaba 2021). Here every arrow of that chain is computed, on two spirals, with the
# number that shows how well it holds; and where the chain is often told wrongly, what is right.

import argparse
import sys
from pathlib import Path

from mpi4py import MPI

import numpy as np

import ufl
from dolfinx import fem, la

import mfg_fem as mfg
from mfg_fem.resnet import Pontryagin, VelocityField, fit

parser = argparse.ArgumentParser(description="Every arrow from a network to a wave function.")
parser.add_argument("--points", type=int, default=400)
parser.add_argument("--layers", type=int, default=32)
parser.add_argument("--cells", type=int, default=64)
parser.add_argument("--iterations", type=int, default=40)
parser.add_argument("--out", default="results/from_network_to_schroedinger", type=Path)
options = parser.parse_args([] if "ipykernel" in sys.argv[0] else None)
comm = MPI.COMM_WORLD
NOISE, EFFORT, SIZE, STEEP = 0.4, 0.5, 3.2, 6.0
D, MIDDLE = NOISE**2 / 2, SIZE / 2


def show(*lines):
    """Print lines once."""
    if comm.rank == 0:
        print(*lines, sep="\n", flush=True)


def spirals(n, seed):
    """Two spiral arms around the middle of the box: points (n, 2) and labels."""
    random = np.random.default_rng(seed)
    labels, radius = random.integers(0, 2, n), np.sqrt(random.uniform(0.02, 1.0, n))
    angle = 2 * np.pi * radius + np.pi * labels
    arms = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return MIDDLE + arms + 0.02 * random.standard_normal((n, 2)), labels


X, labels = spirals(options.points, 0)

# **1. A network is a mechanical system.** Layers $x_{k+1} = x_k + \Delta t\, f(\cdot, \theta_k)$
# are steps of an integrator, and the best $\theta(t)$ is an extremal of Pontryagin's equations,
# which keeps an energy. Backpropagation makes the integrator symplectic: the energy of midpoint
# layers drifts like $1 / K^2$, and certifies that there are enough of them.

net = Pontryagin(X, labels, layers=options.layers, width=8).solve(progress=False)
half = net.resample(options.layers // 2)
show(
    "1. network -> mechanics (Pontryagin)",
    f"   right on fresh points {100 * net.score(*spirals(4000, 1)):.1f} %; "
    f"energy along {options.layers} layers spreads by {100 * net.drift:.2g} % of the effort; "
    f"{options.layers // 2} layers without training: cost {half.cost:.4f} for {net.cost:.4f}",
)

# **2. With noise it is a control of densities.** $dX = v\,dt + \nu\,dW$ has the density $\rho_c$ of
# each class, $\partial_t \rho_c + \nabla \cdot (\rho_c v) = D \Delta \rho_c$ with $D = \nu^2 / 2$.
# The network does not see the label, so that all classes share $v$.

box = mfg.box((SIZE, SIZE), options.cells)


def loss(sign):
    """The logistic loss of a class on one side, and a little of the distance from the middle."""

    def cost(x):
        away = (x[0] - MIDDLE) ** 2 + (x[1] - MIDDLE) ** 2
        return ufl.ln(1 + ufl.exp(-STEEP * sign * (x[0] - MIDDLE))) + 0.05 * away

    return cost


shared = mfg.solve(
    mfg.SharedControl(
        box,
        densities=[X[labels == c] for c in (0, 1)],
        terminal_costs=[loss(1), loss(-1)],
        diffusion=D,
        effort=EFFORT / 10,
    ),
    10,
    method=mfg.Descent(max_it=options.iterations),
)
flow = VelocityField.of(shared)
still, ended = (flow.flow(X, noise=nu, rng=0)[-1] for nu in (0.0, NOISE))
right = [np.mean((end[:, 0] < MIDDLE) == labels) for end in (still, ended)]
show(
    "2. noise -> one velocity for the densities of both classes (SharedControl)",
    f"   cost {shared.history[0]['objective']:.3f} -> {shared.objective:.3f}; on their side: "
    f"{100 * right[0]:.1f} % without the noise, {100 * right[1]:.1f} % with it",
)

# **3. One class that knows its label is a fluid.** Its velocity is $v = -\nabla u / \alpha$ with
# the value function $u$, and $\rho$ is also carried without noise by
# $\omega = v - D \nabla \log \rho$: a fluid with the Fisher information in its energy, and with
# the quantum potential $Q$. No condition such as $\nabla \cdot \omega = 0$ is needed: the mixed
# term is the change of entropy.

arm = X[labels == 0]
start = fem.Function(fem.functionspace(box.mesh, ("Lagrange", 1)))
start.interpolate(
    lambda x: np.exp(-((x[:2].T[:, None] - arm) ** 2).sum(axis=2) / 0.045).mean(axis=1) + 1e-12
)
alone = mfg.MeanFieldControl(
    box,
    horizon=1.0,
    diffusion=D,
    hamiltonian=lambda x, p, m: ufl.dot(p, p) / (2 * EFFORT),
    running_cost=lambda x, t, m: 0.0,
    terminal_cost=lambda x, m: loss(1)(x),
    initial_density=start,
)
drifts = {}
for steps in (32, 64):
    fluid = mfg.hydrodynamics(mfg.solve(alone, steps, mfg.Galerkin()))
    drifts[steps] = [np.ptp(y) for y in (fluid.energy, fluid.modified_energy)]
fluid = mfg.hydrodynamics(mfg.solve(alone, 32))
whole = np.diff(fluid.times) @ np.stack(
    [(y[1:] + y[:-1]) / 2 for y in (fluid.moving_cost, fluid.kinetic, fluid.osmotic)], axis=1
)
entropy = EFFORT * D * (fluid.entropy[-1] - fluid.entropy[0])
show(
    "3. control -> fluid (hydrodynamics)",
    f"   cost of moving {whole[0]:.4f} = kinetic {whole[1]:.4f} + Fisher {whole[2]:.4f} + entropy "
    f"{entropy:.4f} {whole[1:].sum() + entropy - whole[0]:+.4f}",
    *(
        f"   symplectic Euler, {n} steps: the energy drifts by {y[0]:.1e}, the modified one by "
        f"{y[1]:.1e}"
        for n, y in drifts.items()
    ),
)

# **4. The fluid has a wave function, of imaginary time.** $\varphi = e^{-\alpha u / (2 D)}$ and
# $\psi = \rho / \varphi$ obey heat equations: $\varphi(0)$ is $\varphi(T)$ convolved with a
# Gaussian. So the nonlinear equation can be checked by one sum over the nodes.

first, last = (fluid.pair(n)[0] for n in (0, 32))
here = fluid.solution.coordinates
weights = fem.assemble_vector(fem.form(ufl.TestFunction(last.function_space) * ufl.dx))
weights.scatter_reverse(la.InsertMode.add)
weighted = weights.array[: len(here)] * last.x.array[: len(here)]
kernel = np.zeros(len(arm))
for image in np.ndindex(3, 3):  # walls are mirrors
    y = np.where(np.array(image) == 0, here, np.where(np.array(image) == 1, -here, 2 * SIZE - here))
    square = ((arm[:, None] - y) ** 2).sum(axis=2)
    kernel += np.exp(-square / (4 * D)) @ weighted / (4 * np.pi * D)
kernel = comm.allreduce(kernel)
replica = flow.replica
nodal = replica.gather(first.x.array[: len(here)])
off = 2 * D * EFFORT * np.abs(np.log(replica.interpolate(arm, nodal) / kernel)).max()
show(
    "4. fluid -> Schroedinger's pair (imaginary time)",
    f"   u(0) on the arm by the heat kernel: off by {off:.1e}, of values that differ by "
    f"{2 * D * EFFORT * np.ptp(np.log(kernel)):.2f}",
)

# **5. A soliton is one neuron.** If people like company, $f = -\kappa \rho$ with
# $\kappa = 2 \nu^4 B$, a crowd $\rho = \frac B2 \operatorname{sech}^2 B(x - ct)$ stays together
# and moves by $v = c - \nu^2 B \tanh B(x - ct)$: a residual block with a single neuron.

B, SPEED, LENGTH, NU = 1.0, 1.0, 12.0, 1.0
KAPPA = 2 * NU**4 * B
line = mfg.box((LENGTH,), 3 * options.cells)


def place(x, t):
    """Where x is in the soliton, which starts at 5."""
    return B * (x[0] - 5 - SPEED * t)


def cost_to_go(x, m):
    """The value function of the soliton at t = 1, up to a constant."""
    return -SPEED * (x[0] - 5) + NU**2 * ufl.ln(ufl.cosh(place(x, 1)))


soliton = mfg.solve(
    mfg.MeanFieldControl(
        line,
        horizon=1.0,
        diffusion=NU**2 / 2,
        hamiltonian=mfg.hamiltonians.quadratic(),
        running_cost=lambda x, t, m: -KAPPA / 2 * m,  # of which a planner pays the derivative twice
        terminal_cost=cost_to_go,
        initial_density=lambda x: 1 / ufl.cosh(place(x, 0)) ** 2,
    ),
    32,
)
field = VelocityField.of(soliton)
neuron = fit(field, field.sample(1000, 0), layers=16, width=1, match="field", noise=NU)
W, V, c = (float(neuron.arrays[name][8].ravel()[0]) for name in "WVc")
show(
    "5. a soliton of the control <-> one neuron (fit)",
    f"   layer 8 of 16: V tanh(W x + b) + c with W = {abs(W):.3f}, V = {np.sign(W) * V:.3f}, "
    f"c = {c:.3f}; exact 1, -1, 1",
)

# **6. Real time is another problem.** The Schroedinger equation with $\hbar = \nu^2$ (not $\nu^4$)
# and $V = f$ has the Fisher information on the other side of its action: what a crowd pays for
# pushes a wave apart (`two_equations.py`). What does not change its shape is the same in both, and
# so is the soliton; and so are ground states, and the crowds of ergodic games.

hbar = NU**2


def initial(x):
    """The wave of the soliton."""
    size, phase = ufl.sqrt(B / 2) / ufl.cosh(place(x, 0)), SPEED * (x[0] - 5) / hbar
    return size * ufl.cos(phase), size * ufl.sin(phase)


wave = mfg.solve(
    mfg.NonlinearSchroedinger(
        line,
        horizon=1.0,
        hbar=hbar,
        potential=lambda x, t, rho: -KAPPA * rho,
        initial=initial,
    ),
    128,
)
x = ufl.SpatialCoordinate(line.mesh)
between = abs(wave.density(128) - soliton.density(32))
apart, moved = (
    comm.allreduce(fem.assemble_scalar(fem.form(y * ufl.dx)))
    for y in (between, abs(soliton.density(32) - soliton.density(0)))
)
show(
    "6. the same soliton in real time (NonlinearSchroedinger)",
    f"   the densities of crowd and wave at t = 1 are {apart:.1e} apart in L1, of {moved:.2f} that "
    "each has moved",
)

# The picture: energy along the layers, where the noisy flow brings the points, what the fluid's
# moving costs along time, and the soliton with its neuron.

parts = [comm.gather(y) for y in (soliton.coordinates[:, 0], soliton.nodal_densities.T)]
vertices = fem.Function(soliton.density(0).function_space)
vertices.interpolate(wave.density(128))
parts.append(comm.gather(vertices.x.array[: len(soliton.coordinates)]))
if comm.rank == 0:
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update(mfg.plots.STYLE)
    nodes, crowd, waved = (np.concatenate(part) for part in parts)
    order = np.argsort(nodes)
    nodes, crowd, waved = nodes[order], crowd[order], waved[order]
    figure = Figure((mfg.plots.WIDTH, 4.6), layout="constrained")
    (layers, plane), (costs, mass) = figure.subplots(2, 2)
    layers.plot(net.times, 1e3 * net.energy, "k.-", ms=3, lw=0.8)
    layers.set(xlabel="t", title="1. energy along the layers, x 1000", ylim=(0, 4))
    for c, colour in enumerate(("#0072b2", "#d55e00")):
        plane.plot(*ended[labels == c].T, ".", color=colour, ms=2)
    plane.axvline(MIDDLE, color="0.5", lw=0.8)
    plane.set(aspect="equal", title="2. the spirals after the noisy flow", xticks=(), yticks=())
    for name, style in (("moving_cost", "k-"), ("kinetic", "b--"), ("osmotic", "r-.")):
        costs.plot(fluid.times, getattr(fluid, name), style, lw=1, label=name.replace("_", " "))
    costs.set(xlabel="t", title="3. one class as a fluid")
    costs.legend(frameon=False)
    for n, colour in ((0, "0.6"), (32, "k")):
        mass.plot(nodes, crowd[:, n], "-", color=colour, lw=1, label=f"crowd, t = {n // 32}")
    mass.plot(nodes[::4], waved[::4], ".", color="#d55e00", ms=3, label="wave, t = 1")
    drift = neuron.field(15, nodes[:, None])[:, 0]
    mass.plot(nodes, drift / 4, ":", color="#0072b2", lw=1, label="neuron / 4, t = 1")
    mass.set(xlabel="x", title="5, 6. soliton", xlim=(2, 12))
    mass.legend(frameon=False)
    for ax in (layers, costs, mass):
        ax.spines[["top", "right"]].set_visible(False)
    options.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out / "story.png", dpi=200)
