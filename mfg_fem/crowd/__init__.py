"""What an engineer takes away from a solution: people, flows, densities and times.

Every function takes the solution of a game or a control with a horizon, of one crowd of several, or
of several crowds, who are then counted together. What the numbers mean does not depend on units;
with metres and seconds a flow is in persons per second.
"""

from mfg_fem.crowd.evacuation import CAPACITY, FREE_SPEED, evacuation
from mfg_fem.crowd.grid import Grid, density_at, on_grid
from mfg_fem.crowd.parts import entered, gone, inside, largest_density
from mfg_fem.crowd.passages import Passage, doors, lines
from mfg_fem.crowd.premovement import LogNormalDelay, UniformDelay, with_premovement
from mfg_fem.crowd.rooms import rooms
from mfg_fem.crowd.times import exit_times, mean_exit_time, time_above

__all__ = [
    "CAPACITY",
    "FREE_SPEED",
    "Grid",
    "LogNormalDelay",
    "Passage",
    "UniformDelay",
    "density_at",
    "doors",
    "entered",
    "evacuation",
    "exit_times",
    "gone",
    "inside",
    "largest_density",
    "lines",
    "mean_exit_time",
    "on_grid",
    "rooms",
    "time_above",
    "with_premovement",
]
