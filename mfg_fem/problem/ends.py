"""What a problem says of the ends of the time interval, if it has any."""

from collections.abc import Sequence

from mfg_fem.errors import ProblemError
from mfg_fem.problem.boundary import Entry
from mfg_fem.validate import number

ENDS = ("initial_density", "terminal_cost", "terminal_density", "floor")
FLOOR = 1e-6  # of densities, see `MeanFieldGame`


def check_ends(problem):
    """Refuse ends of the time interval where there is none."""
    if not problem.stationary:
        return
    given = [name for name in ENDS if getattr(problem, name) is not None]
    if given:
        raise ProblemError(
            f"A problem without a horizon has no {' and no '.join(given)}: give horizon=, the "
            "final time, or leave them out."
        )


def check_flows(populations: Sequence, switches: Sequence = ()):
    """Refuse people who come or go alone, where nothing changes in time.

    Args:
        populations: who exchange people, in a problem without a horizon.
        switches: pairs of numbers of populations between which they change.
    """
    leaving = {i for i, own in enumerate(populations) if own.ways_out}
    enter = any(own.source is not None or own.named(Entry) for own in populations)
    if any(own.open for own in populations):
        return
    if enter != bool(leaving):
        missing = "a source= or an Entry" if leaving else "an Exit or a Door that they leave by"
        raise ProblemError(
            "Without a horizon as many people come as go: "
            f"{' with '.join(own.title for own in populations)} needs {missing}, or neither."
        )
    for _ in populations:
        leaving |= {i for i, j in switches if j in leaving}
    staying = [own.title for i, own in enumerate(populations) if enter and i not in leaving]
    if staying:
        raise ProblemError(
            f"Without a horizon as many people come as go, and who is once in {staying[0]} can "
            "never leave: give it an Exit or a Door, or a rate back to a crowd that has one."
        )


def floor_of(problem) -> float | None:
    """The floor of a planning problem. Refuse two ends, or none, and what does not go with them."""
    if problem.stationary:
        return None
    if (problem.terminal_cost is None) == (problem.terminal_density is None):
        raise ProblemError(
            "Give either terminal_cost=, what players pay at the end, or terminal_density=, where "
            "they are to be then."
        )
    if problem.terminal_density is None:
        if problem.floor is not None:
            raise ProblemError("floor= is for problems with a terminal_density: leave it out.")
        return None
    if problem.boundary or problem.source is not None:
        raise ProblemError(
            "With a terminal_density nobody may enter or leave, as those who are there at the end "
            "must be as many as at the start: leave out boundary= and source=."
        )
    floor = FLOOR if problem.floor is None else number("floor", problem.floor, above=True)
    if not floor < 1:
        raise ProblemError(f"floor is a part of the largest density, less than 1, not {floor:g}.")
    return floor
