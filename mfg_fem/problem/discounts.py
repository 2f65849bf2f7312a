"""Discounts of several crowds that make no sense together."""

from mfg_fem.errors import ProblemError


def check_discounts(problem):
    """Refuse crowds with different discounts that nobody can weigh, or whose costs are infinite."""
    rates = ", ".join(f"{own.title} {own.discount:g}" for own in problem.populations)
    if problem.planner == "all" and len({*problem.discounts}) > 1:
        raise ProblemError(
            "One planner of all crowds needs one discount: how much the cost of one crowd counts "
            f"beside that of another would change with time ({rates}). Give all the same "
            'discount=, or take planner="each" or None.'
        )
    for group in problem.groups if problem.stationary else ():
        members = {i: problem.populations[i] for i in group}
        bounded = {i for i, own in members.items() if own.discount or own.ways_out}
        if not any(own.discount for own in members.values()):
            continue  # lambda is what all pay per unit of time, or all leave
        for _ in group:
            bounded |= {i for i, j in problem.switches if j in bounded}
        if forever := [own.title for i, own in members.items() if i not in bounded]:
            raise ProblemError(
                f"Without a horizon all costs count alike in {forever[0]}, which nobody leaves, "
                f"beside crowds with a discount that change into it or from it ({rates}): give it "
                "a discount=, a way out, or a rate to a crowd that has one."
            )
