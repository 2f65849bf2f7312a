# # What a case of the validation is, and how its crowds are solved and checked

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

import ufl

import mfg_fem as mfg

RIMEA = "RiMEA guideline 4.1.1, annex 1, test"
IMO = "IMO MSC.1/Circ.1533"


@dataclass(frozen=True)
class Found:
    """What came out: a sentence, whether the expectation held, if not why; the solutions."""

    text: str
    held: bool
    solutions: list
    why: str = ""


@dataclass(frozen=True)
class Case:
    """A question that is put to the model.

    Attributes:
        name: a word for the command line.
        source: who asks it.
        asked, expected: the geometry and the crowd, and what should come out.
        run: (axes to draw into, how much coarser) -> Found; None if the question is not asked.
        why: it is not.
    """

    name: str
    source: str
    asked: str
    expected: str
    run: Callable | None = None
    why: str = ""


def box(low, high):
    """A density that is the same in a rectangle and zero elsewhere."""

    def density(x):
        inside = [ufl.And(ufl.ge(x[k], low[k]), ufl.le(x[k], high[k])) for k in range(2)]
        return ufl.conditional(ufl.And(*inside), 1.0, 0.0)

    return density


def solved(problem, steps, first=1.0):
    """Its solution. Steps grow where first > 1, so that the first ones are short."""
    times = problem.horizon * np.linspace(0, 1, max(4, round(steps)) + 1) ** first
    return mfg.solve(problem, times)


def balance(solution):
    """The largest error of the mass balance, as part of all people, or of all who come per time."""
    if isinstance(solution, mfg.StationarySolution):
        return abs(solution.balance) / solution.entering
    people = mfg.crowd.inside(solution)[0] + mfg.crowd.entered(solution)[-1]
    return float(abs(solution.balance).max()) / people


def faults(solutions):
    """What is wrong with solutions, in words."""
    found = []
    for solution in solutions:
        crowds = getattr(solution.problem, "crowds", None)
        parts = [solution[name] for name in crowds] if crowds else [solution]
        lowest = min(getattr(part, "whole", part).min_density for part in parts)
        wrong = {
            "Newton did not converge": not solution.converged,
            "people are not conserved": balance(solution) > 1e-10,
            "a density is negative": lowest < 0,
        }
        found += [words for words, is_so in wrong.items() if is_so]
    return [*dict.fromkeys(found)]


def out(solution, percent):
    """The time at which so many percent are out, in seconds; infinite if they are not."""
    time = mfg.crowd.exit_times(solution, [percent])[percent]
    return np.inf if time is None else time


def draw_gone(ax, solution, label):
    """The number of people who have left against time."""
    ax.plot(solution.times, sum(mfg.crowd.gone(solution).values()), label=label)
    ax.set(xlabel="t [s]", ylabel="people gone", xlim=(0, None), ylim=(0, None))


def draw_density(ax, solution, t):
    """Where people are at t."""
    mfg.plots.plot_density(solution, ax=ax, t=t, streamlines=False)
