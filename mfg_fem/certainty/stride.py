"""One step of players on a mesh: exits let them out, and doors push them back or let them out."""

import numpy as np

from mfg_fem.certainty.touch import Facets, Points
from mfg_fem.certainty.walk import Floor


class Stride:
    """Players of one population in one step of the walk.

    Attributes:
        cell, weights: where they are.
        out: the exit or door that they have left through, or -1.
    """

    def __init__(
        self, doors: Facets, exits: int, rates: np.ndarray, before: Points, D: np.ndarray, dt: float
    ):
        self.floor, self.doors = doors.floor, doors
        self.rates, self.D, self.dt = rates, D, dt
        self.cell, self.weights = (y.copy() for y in before)
        self.out, self._first = np.full(len(D), -1), exits
        self._hazard, self._facet = np.zeros(len(D)), np.full(len(D), -1)

    def go(self, who: np.ndarray, step: np.ndarray, exponential: np.ndarray):
        """Let some go by these steps; exits let them out, and doors push them back."""
        before, D = (self.cell[who], self.weights[who]), self.D[who]
        cell, weights, met = self.floor.walk(*before, step, D)
        after = self.cell[who], self.weights[who] = cell, weights
        self.out[who] = np.where(self.floor.is_exit(met), met, -1)
        if not self.rates.shape[2]:
            return
        variance, mirrored = self.dt * D, met >= self._first
        found, facet, local, way = self.doors.pushed(before, after, mirrored, variance, exponential)
        chosen = self.out[who[found]] < 0
        found, facet, local, way = (y[chosen] for y in (found, facet, local, way))
        pushed = who[found]
        cell, weights, _ = self.floor.walk(cell[found], weights[found], way, D[found])
        self.cell[pushed], self.weights[pushed], self._facet[pushed] = cell, weights, facet
        foot = self.doors.foot(facet, self.floor.places(cell, weights))
        door = self.doors.name[facet] - self._first
        rates = Floor.at(self.rates, *foot)[np.arange(len(facet)), door]
        self._hazard[pushed] += self.dt * rates * local

    def back(self, who: np.ndarray, before: Points):
        """Let some be where they were before the step."""
        self.cell[who], self.weights[who] = (y[who] for y in before)
        self._hazard[who] = 0.0

    def leave(self, exponential: np.ndarray):
        """Let those leave through doors whose time there is up."""
        who = np.flatnonzero((self.out < 0) & (self._hazard > exponential))
        facet = self._facet[who]
        places = self.floor.places(self.cell[who], self.weights[who])
        self.out[who] = self.doors.name[facet]
        self.cell[who], self.weights[who] = self.doors.foot(facet, places)
