"""The levels of a wave as they come, or as a file has them, with their measures."""

import time
from pathlib import Path

import numpy as np

from mfg_fem.schroedinger import saved
from mfg_fem.schroedinger.problem import NonlinearSchroedinger
from mfg_fem.schroedinger.schemes import WaveScheme
from mfg_fem.schroedinger.step import Stepper, Taken


class Run:
    """The levels so far, and what is known of them. Collective."""

    def __init__(self, problem: NonlinearSchroedinger, scheme: WaveScheme, times: np.ndarray):
        self.problem, self.scheme, self.times = problem, scheme, times
        self.stepper = Stepper(problem, scheme, times)
        self.V = self.stepper.V
        self.waves: list[np.ndarray] = []
        self.measures: list[np.ndarray] = []
        self.history: list[dict] = []
        self.earlier, self.began = 0.0, time.perf_counter()

    @property
    def seconds(self) -> float:
        """Wall time, of earlier runs too."""
        return self.earlier + time.perf_counter() - self.began

    def begin(self):
        """Take the initial wave as level 0."""
        self.add(self.stepper.initial(), Taken(0, 0))

    def add(self, wave: np.ndarray, taken: Taken) -> dict:
        """Take this wave as the next level; returns its row of the history."""
        n = len(self.waves)
        self.stepper.adopt(n, wave)
        self.waves.append(wave)
        self.measures.append(self.stepper.measure())
        mass, _, _, energy = self.measures[-1][:4]
        numbers = {"t": float(self.times[n]), "mass": float(mass), "energy": float(energy)}
        row = {"step": n, **numbers, "newton": taken.newton, "krylov": taken.krylov}
        self.history.append(row)
        return row

    def read(self, path: Path, about: dict):
        """The levels of a file, measured in this problem."""
        rows = about["history"]
        waves = saved.levels(path, self.problem.domain, self.V, about["levels"])
        for wave, row in zip(waves, rows, strict=True):
            self.add(wave, Taken(row["newton"], row["krylov"]))
        _, kinetic, energy, modified = np.transpose(self.measures)[:4]
        size = (kinetic + np.abs(energy - kinetic)).max()
        saved.check_energies(path, rows, modified, size)
        self.earlier = about["seconds"]
