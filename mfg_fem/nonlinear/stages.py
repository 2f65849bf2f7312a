"""The stages of a solve: each is one Newton solve, of an easier problem or of the one asked."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

SHARPER = "sharper"  # the name of such a stage
LEAST_SHARPER = 0.1  # least increase of sharpness that is tried
RATIO, LAST_GAP = 0.5, 2e-3  # the first ratio of a gap to the one before; gap below which it is 0


@dataclass(frozen=True)
class Stage:
    """One Newton solve.

    Attributes:
        steps: time steps of its grid.
        name: "cold", "guess" or "nested", the start of the problem that was asked; "nested, moved",
            the same with the density that the drift of "nested" transports, if that has failed;
            "first order", the cold start of the scheme without sharpness; "path", a point of the
            path, if all these have failed; or SHARPER, which starts from a less sharp solution.
        gap, stretch: homotopy parameter, and viscosity factor at gap 1.
        sharpness: factor of what the scheme has beyond first order, see `Sharp`.
        reached: the sharpness of what this stage starts from, if that is a solution.
        settled: whether no larger sharpness will be tried.
        before: the gap of what this stage starts from.
        ratio: of this gap to the one before, unless it is the last.
        last: smaller gaps are replaced by 0.
        taken: Newton steps on the path before this stage.
        restarts: how often the path has begun again, with more viscosity.
        failed: why the problem that was asked could not be solved at once.
    """

    steps: int
    name: str
    gap: float = 0.0
    stretch: float = 1.0
    before: float = 1.0
    ratio: float = RATIO
    last: float = LAST_GAP
    sharpness: float = 1.0
    reached: float = 0.0
    settled: bool = False
    taken: int = 0
    restarts: int = 0
    failed: str = ""

    def __str__(self) -> str:
        """Its name in the history."""
        where = self.name
        if self.on_path:
            where = f"crowd {1 - self.gap:.6g}, diffusion x{self.stretch**self.gap:.3g}"
        if self.sharpness < 1 or self.name == SHARPER:
            where += f", sharpness {self.sharpness:.3g}"
        return f"{self.steps} steps, {where}"

    @property
    def levels(self) -> int:
        """Levels of its unknowns."""
        return self.steps

    @property
    def on_path(self) -> bool:
        """Whether this is one of the easier problems, or the last problem of their path."""
        return self.name == "path"

    @property
    def needs_start(self) -> bool:
        """Whether what it started from is needed again: by the next stage, or for its tolerance."""
        return self.on_path or self.name in ("nested", SHARPER) or self.eased

    @property
    def eased(self) -> bool:
        """Whether a loose tolerance will do, as another stage starts from what this one finds."""
        return not (self.asked or (self.on_path and not self.gap))

    @property
    def asked(self) -> bool:
        """Whether this is the problem that was asked, or the sharpest that can be had."""
        return not self.gap and (self.sharpness == 1 or self.settled)

    def sharper(self, **changes) -> "Stage":
        """The next stage towards sharpness 1, or the last at the sharpness that was reached."""
        stage = replace(self, name=SHARPER, **changes)
        if self.sharpness == stage.reached:
            return replace(stage, sharpness=min(2 * stage.reached, 1.0) or 1.0)
        middle = (stage.reached + self.sharpness) / 2
        if middle - stage.reached < LEAST_SHARPER:
            return replace(stage, sharpness=stage.reached, settled=True)
        return replace(stage, sharpness=middle)

    def towards(self, ratio: float, **changes) -> "Stage":
        """The next stage on the path, whose gap is `ratio` times the one before, or 0."""
        stage = replace(self, ratio=ratio, **changes)
        gap = ratio * stage.before
        return replace(stage, gap=gap if gap > stage.last else 0.0)


@dataclass(frozen=True)
class PlanningStage:
    """One Newton solve of a planning problem.

    Attributes:
        steps: time steps.
        floor, stretch, sharpness, share: floor of the densities, factor of the diffusion, sharpness
            of the scheme, and share of the density in what costs see, beside the uniform density.
        from_floor, from_stretch, from_sharpness, from_share: those of what it starts from.
        halved: how often steps of its kind were halved.
        settled: whether no larger sharpness will be tried.
        guess: whether it starts from a guess.
    """

    steps: int
    floor: float
    stretch: float
    sharpness: float
    share: float
    from_floor: float
    from_stretch: float
    from_sharpness: float
    from_share: float
    halved: int = 0
    settled: bool = False
    guess: bool = False

    def __str__(self) -> str:
        """Its name in the history."""
        text = f"{self.steps} steps, floor {self.floor:.3g}, diffusion x{self.stretch:.4g}"
        text += f", crowd {self.share:.3g}" if self.share < 1 else ""
        return text + (f", sharpness {self.sharpness:.3g}" if self.sharpness else "")

    @property
    def levels(self) -> int:
        """Levels of its unknowns."""
        return self.steps + 1

    @property
    def needs_start(self) -> bool:
        """Whether what it started from may be needed again."""
        return True

    def solved(self) -> "PlanningStage":
        """A stage that starts from the solution of this one."""
        here = self.floor, self.stretch, self.sharpness, self.share
        return PlanningStage(self.steps, *here, *here, self.halved, self.settled)

    def half(self) -> "PlanningStage":
        """Half of the way."""
        return replace(
            self,
            floor=float(np.sqrt(self.from_floor * self.floor)),
            stretch=float(np.sqrt(self.from_stretch * self.stretch)),
            sharpness=(self.from_sharpness + self.sharpness) / 2,
            share=(self.from_share + self.share) / 2,
            halved=self.halved + 1,
        )


@dataclass(frozen=True)
class State:
    """All that a solve needs to go on.

    Attributes:
        stage: the present stage, or that of a planning problem.
        atol: the tolerance on its grid.
        start, X: what the stage started from, and Newton's present iterate.
    """

    stage: Any
    atol: float
    start: np.ndarray
    X: np.ndarray


def coarsened(times: np.ndarray, steps: int) -> np.ndarray:
    """Time levels of `steps` steps from the first to the last of these, or these if as many."""
    position = np.linspace(0, len(times) - 1, steps + 1)
    return np.interp(position, np.arange(len(times)), times)


def at_times(times: np.ndarray, u: np.ndarray, m: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Unknowns at the wanted times, by linear interpolation of the levels at these times."""
    left = np.clip(np.searchsorted(times, wanted, "right") - 1, 0, len(times) - 2)
    weight = ((wanted - times[left]) / (times[left + 1] - times[left]))[:, None]
    u, m = ((1 - weight) * y[:, left] + weight * y[:, left + 1] for y in (u, m))
    return np.stack([u[:, :-1], m[:, 1:]])
