"""In which problem a policy is judged, and what cannot be judged."""

from mfg_fem.certainty.finer import refuse_open
from mfg_fem.certainty.velocity import KINDS, SAME
from mfg_fem.errors import ProblemError, together
from mfg_fem.problem.alone import refuse_crowds, refuse_quantities
from mfg_fem.problem.game import MeanField
from mfg_fem.problem.populations import Member, Populations


def is_solution(policy) -> bool:
    """Whether a policy is that of a solution, of one population or of several."""
    return isinstance(getattr(policy, "problem", None), MeanField | Populations)


def judged_in(policy, problem, steps) -> MeanField | Populations:
    """The problem to judge a policy in; refuse what it cannot be a policy of. Collective."""
    if is_solution(policy):
        with together(policy.problem.domain.comm):
            if problem is None:
                problem = policy.problem
            else:
                _refuse_another(policy.problem, problem)
            return _with_solution(policy.problem, problem, steps)
    refuse_crowds("exploitability of a velocity", problem)
    if not isinstance(problem, MeanField):
        raise ProblemError(
            f"problem must be the MeanFieldGame or MeanFieldControl to judge the policy in, not "
            f"{problem!r}. {KINDS}."
        )
    with together(problem.domain.comm):
        refuse_open(problem)
        refuse_quantities("exploitability of a velocity", problem)
        if problem.terminal_density is not None:
            raise ProblemError(
                "A velocity does not say what places at the end are worth, and nobody pays for "
                "them in a problem with a terminal_density: judge a solution, or in a problem with "
                "a terminal_cost."
            )
        if problem.prices:
            raise ProblemError(
                "Markets fix prices here, and a velocity does not say which: judge a solution, "
                "which has prices."
            )
    return problem


def _refuse_another(own, problem):
    """Refuse another problem than that of a solution, `own`, of which it cannot be a policy."""
    if isinstance(own, Member):
        refuse_crowds("exploitability in another problem", own)
    if isinstance(own, Populations):
        if not isinstance(problem, Populations) or [*problem.crowds] != [*own.crowds]:
            crowds = ", ".join(map(repr, own.crowds))
            raise ProblemError(f"problem must be Populations of {crowds}, not {problem!r}.")
    else:
        refuse_crowds("exploitability of one population", problem)
        if not isinstance(problem, MeanField):
            raise ProblemError(f"problem must be a MeanFieldGame or MeanFieldControl: {problem!r}.")
    if problem.domain.mesh is not own.domain.mesh:
        raise ProblemError(
            "problem lives on another mesh than the policy: state it on the same Domain."
        )
    here, there = problem.horizon, own.horizon
    if here != there and (here is None or there is None or abs(here - there) > SAME * here):
        names = ["no horizon" if y is None else f"the horizon {y:g}" for y in (here, there)]
        raise ProblemError(f"problem has {names[0]}, and the policy was found with {names[1]}.")
    if new := [name for name in problem.prices if name not in own.prices]:
        raise ProblemError(
            f"problem has a market {new[0]!r}, and the policy was found without its price."
        )


def _with_solution(own, problem: MeanField | Populations, steps) -> MeanField | Populations:
    """The problem, of all crowds, to judge a solution of the problem `own` in."""
    if steps is not None:
        raise ProblemError("steps= is for velocities: a solution has its own time levels.")
    for population in problem.populations:
        refuse_open(population)
    if problem.plans:
        refuse_quantities("exploitability with a planner", problem)
    unlike = problem.horizon is not None and len({*problem.discounts}) > 1
    if isinstance(problem, Populations) and problem.switching and unlike:
        raise ProblemError(
            "exploitability: players change between crowds with different discounts, so that what "
            "they save does not add up. Judge it with one discount."
        )
    if not isinstance(problem, Member):
        return problem
    if problem.together.planner == "all" or not problem.keeps_its_players:
        raise ProblemError(
            f"exploitability: players of {problem.title} change from or into other crowds, or "
            "follow one planner of all: judge all crowds, solution.exploitability() of the "
            "PopulationsSolution."
        )
    return problem.together
