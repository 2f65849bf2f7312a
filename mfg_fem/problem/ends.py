"""What a problem says of the ends of the time interval, if it has any."""

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


def check_flows(problem):
    """Refuse people who come or go alone, or come and can never leave, where nothing changes."""
    for group in problem.groups if problem.stationary else ():
        members = {i: problem.populations[i] for i in group}
        leaving = {i for i, own in members.items() if own.ways_out}
        enter = any(own.source is not None or own.named(Entry) for own in members.values())
        if any(own.open for own in members.values()):
            continue
        if enter != bool(leaving):
            missing = "a source= or an Entry" if leaving else "an Exit or a Door that they leave by"
            raise ProblemError(
                "Without a horizon as many people come as go: "
                f"{' with '.join(own.title for own in members.values())} needs {missing}, or "
                "neither."
            )
        for _ in group:
            leaving |= {i for i, j in problem.switches if j in leaving}
        staying = [own.title for i, own in members.items() if enter and i not in leaving]
        if staying:
            raise ProblemError(
                f"Without a horizon as many people come as go, and who is once in {staying[0]} can "
                "never leave: give it an Exit or a Door, or a rate back to a crowd that has one."
            )


def floor_of(problem) -> float | None:
    """The floor of a planning problem. Refuse two ends, or none, and what does not go with them."""
    if problem.stationary:
        return None
    if problem.label and problem.terminal_cost is None:
        raise ProblemError("Give terminal_cost=, what its players pay at the end.")
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
