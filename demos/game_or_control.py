# # The price of anarchy in a hall
#
# The hall of `crowd_evacuation.py` twice: as a *game*, in which everybody walks as is best for
# themselves, and as a *control*, in which a planner walks everybody so that the cost of all
# together is least. In a game nobody pays for standing in the others' way; the planner does. With
# the costs of one player $f(m)$ and $H(p, m)$, the game has
#
# $$ -u_t - D \Delta u + H = f $$
#
# and the control the same with $f + m f_m$ and $H + m H_m$ in place of $f$ and $H$, and with
# $\kappa + m \kappa_m$ in place of the speed $\kappa(m)$ of leaving through a door. Both costs are
# measured alike, as what the population pays in all; the planner's is the least there is, so
#
# $$ \text{price of anarchy} = \frac{\text{cost of the game}}{\text{cost of the control}} \ge 1. $$

import argparse
import sys
from pathlib import Path

from mpi4py import MPI

import numpy as np
from crowd_evacuation import MESH, evacuation, numbers

import mfg_fem as mfg

# Sizes and data.

parser = argparse.ArgumentParser(description="One hall as a game and as a control.")
parser.add_argument("--mesh", default=MESH)
parser.add_argument("--steps", type=int, default=40)
parser.add_argument("--people", type=float, default=80.0)
parser.add_argument("--diffusion", type=float, default=0.08, help="m²/s")
parser.add_argument("--horizon", type=float, default=60.0, help="s")
parser.add_argument("--out", default="results/game_or_control", type=Path)
options = parser.parse_args([] if "ipykernel" in sys.argv[0] else None)
hall = mfg.read_mesh(options.mesh, MPI.COMM_WORLD)
data = (hall, options.people, options.diffusion, options.horizon)

# The same model twice; the class is the only difference.

game = mfg.solve(evacuation(mfg.MeanFieldGame, *data), options.steps)
control = mfg.solve(evacuation(mfg.MeanFieldControl, *data), options.steps)

# The numbers: costs are in seconds of free walking, over the whole population.

price = game.cost / control.cost
for name, solution in (("game", game), ("control", control)):
    found = numbers(solution)
    if hall.comm.rank == 0:
        print(f"{name}: cost {solution.cost:.6g} s, {solution.iterations} Newton steps, ", end="")
        print(f"{solution.seconds:.1f} s")
        for key, value in found.items():
            print(f"    {key}: {value}")
if hall.comm.rank == 0:
    print(f"price of anarchy: {price:.6f}")

# The picture: red where the game has more people than the planner would put there.

mfg.plots.plot_difference(
    game,
    control,
    options.out / "difference.png",
    t=np.linspace(0.1, 0.4, 4) * options.horizon,
    label="density of the game minus the planner's",
)
