"""What a report says in numbers, and its tables; units are in the names."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from mfg_fem import crowd
from mfg_fem.problem.boundary import given
from mfg_fem.problem.populations import Populations
from mfg_fem.solution.solution import Solution
from mfg_fem.validate import is_number


@dataclass(frozen=True)
class Measured:
    """A solution and what was measured of it. Collective.

    Attributes:
        solution: of one crowd or of several, who are counted together.
        doors, lines, rooms: by name, see `mfg_fem.crowd`.
        length, time: names of the units.
    """

    solution: Any
    doors: dict[str, crowd.Passage]
    lines: dict[str, crowd.Passage]
    rooms: dict[str, np.ndarray]
    length: str
    time: str

    @classmethod
    def of(
        cls, solution: Any, lines: Mapping, rooms: Mapping, length: str, time: str
    ) -> "Measured":
        """Measure."""
        return cls(
            solution,
            crowd.doors(solution),
            crowd.lines(solution, lines) if lines else {},
            crowd.rooms(solution, rooms),
            length,
            time,
        )

    @property
    def units(self) -> dict[str, Any]:
        """The names of units, as pictures take them."""
        return {"length": self.length, "time": self.time}

    @property
    def dim(self) -> int:
        """Dimension of space."""
        return self.solution.problem.domain.dim

    @property
    def per_volume(self) -> str:
        """The unit of densities."""
        return f"persons/{self.length}" + ("" if self.dim == 1 else f"^{self.dim}")

    @property
    def extent(self) -> str:
        """The unit of the width of a door; nothing in 1D, where it is a point."""
        return ("", self.length, f"{self.length}^2")[self.dim - 1]

    @cached_property
    def numbers(self) -> dict:
        """What is quoted, nested, as numbers.json has it."""
        s, time = self.solution, self.time
        out = sum(people[-1] for people in crowd.gone(s).values())
        exits = crowd.exit_times(s).items()
        return {
            "problem": self._problem(),
            "people": {
                "at the start": float(crowd.inside(s)[0]),
                "entered": float(crowd.entered(s)[-1]),
                "out at the end": float(out),
                "inside at the end": float(crowd.inside(s)[-1]),
            },
            "exit times": {
                **{f"{percent:g} % out [{time}]": t for percent, t in exits},
                f"mean of those who are out [{time}]": crowd.mean_exit_time(s),
            },
            f"largest density [{self.per_volume}]": crowd.largest_density(s),
            "doors": {name: self._passage(y) for name, y in self.doors.items()},
            "lines": {name: self._passage(y) for name, y in self.lines.items()},
            "rooms": {
                name: {
                    "people at the start": float(y[0]),
                    "most people": float(y.max()),
                    f"at [{time}]": float(s.times[y.argmax()]),
                }
                for name, y in self.rooms.items()
            },
            "solver": self._solver(),
        }

    def _passage(self, passage: crowd.Passage) -> dict[str, float]:
        flow, per = float(np.abs(passage.flow).max()), f"persons/{self.time}"
        found = {"people": float(passage.count[-1]), f"largest flow [{per}]": flow}
        if self.extent:
            found[f"width [{self.extent}]"] = passage.width
            unit = f"persons/({self.extent} {self.time})"
            found[f"largest specific flow [{unit}]"] = flow / passage.width
        found[f"largest density [{self.per_volume}]"] = float(passage.density.max())
        return found

    def _problem(self) -> dict:
        """The data that can be said in words."""
        s, problem = self.solution, self.solution.problem
        found = {
            "kind": problem.title,
            f"size of the domain [{self.length}^{self.dim}]": problem.domain.volume(),
            f"horizon [{self.time}]": problem.horizon,
        }
        crowds = problem.populations if isinstance(problem, Populations) else [problem]
        for own in crowds:
            of = f" of {own.name!r}" if own is not problem else ""
            if is_number(own.diffusion):
                found[f"diffusion{of} [{self.length}^2/{self.time}]"] = own.diffusion
            for name, condition in own.boundary.items():
                data = [f"{k}={_shown(y)}" for k, y in given(condition).items()]
                found[f"boundary {name!r}{of}"] = f"{type(condition).__name__}({', '.join(data)})"
        nodes = s.discrete.V.dofmap.index_map.size_global
        return found | {"nodes": nodes, "time steps": s.steps, "scheme": str(s.scheme)}

    def _solver(self) -> dict:
        s = self.solution
        parts = [s] if isinstance(s, Solution) else s.whole
        return {
            "converged": bool(s.converged),
            "reason": s.reason,
            "Newton steps": s.iterations,
            "wall time [seconds]": s.seconds,
            "largest defect of the mass balance [persons]": float(np.abs(s.balance).max()),
            f"smallest density [{self.per_volume}]": min(part.min_density for part in parts),
            "warnings": list(s.warnings),
        }

    @property
    def tables(self) -> dict[str, dict[str, np.ndarray]]:
        """File name -> column -> a number for each time level.

        Flows are those since the level before, and there is none at the first.
        """
        s = self.solution
        times = {f"time [{self.time}]": s.times}
        people = {"inside": crowd.inside(s), "entered": crowd.entered(s)}
        if not isinstance(s, Solution):
            people |= {f"inside, {name}": part.masses for name, part in s.items()}
        people |= {f"in {name}": y for name, y in self.rooms.items()}
        found = {"people": times | {f"{name} [persons]": y for name, y in people.items()}}
        for file, passages in (("doors", self.doors), ("lines", self.lines)):
            if passages:
                found[file] = dict(times)
            for name, y in passages.items():
                flow = np.append(np.nan, y.flow)
                found[file] |= {
                    f"{name}: count [persons]": y.count,
                    f"{name}: flow [persons/{self.time}]": flow,
                    f"{name}: density [{self.per_volume}]": y.density,
                }
                if self.extent:
                    unit = f"persons/({self.extent} {self.time})"
                    found[file][f"{name}: specific flow [{unit}]"] = flow / y.width
        return found


def _shown(value: Any) -> str:
    return f"{value:g}" if is_number(value) else "a function"
