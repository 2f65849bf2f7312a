"""Refusing what is done for one population alone."""

from mfg_fem.errors import ProblemError
from mfg_fem.problem.populations import Member, Populations


def refuse_crowds(what: str, of):
    """Refuse several crowds and one of several.

    Args:
        what: is to be done, for the message.
        of: a solution, a problem, or anything else.
    """
    problem = getattr(of, "problem", of)
    if isinstance(problem, Member | Populations):
        raise ProblemError(
            f"{what} is of one population alone, of a MeanFieldGame or a MeanFieldControl, and not "
            f"of {problem.title}: crowds mind each other."
        )


def refuse_quantities(what: str, problem):
    """Refuse costs that see quantities of the whole crowd."""
    if problem.quantities:
        raise ProblemError(
            f"{what}: the data see smooth() or total() of the crowd, and it knows data only that "
            "see the density at the same point."
        )
