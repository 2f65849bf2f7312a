"""Saved solutions, which any number of ranks can read."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from mfg_fem.discrete.discretisation import Discretisation
from mfg_fem.discrete.schemes import SCHEMES, Scheme
from mfg_fem.errors import FileError, ProblemError, together
from mfg_fem.io import archive
from mfg_fem.io.files import file_path
from mfg_fem.mesh.nodes import Nodes
from mfg_fem.problem.populations import Populations
from mfg_fem.validate import array, time_levels

log = logging.getLogger(__name__)

EQUAL = "equal steps"  # stands in a file for such times
# The types of what `about` says in a file.
NUMBERS = ("step", "krylov", "forcing", "hjb", "fp", "du", "dm", "mass", "min_density")
ROW = {"stage": str, "form": str} | dict.fromkeys((*NUMBERS, "step_length"), float)
ABOUT = {"problem": str, "scheme": str, "scheme_fields": dict, "steps": int}
ABOUT |= {"horizon": float, "population": float, "crowds": str}
ABOUT |= {"prices": dict}
# What files of earlier versions do not say.
EARLIER = {"times": EQUAL, "discount": 0.0, "crowds": "", "prices": {}}
OUTCOME = {"converged": bool, "reason": str, "tolerance": float, "seconds": float, "history": [ROW]}


def save(solution, path: str | Path, **more):
    """Save a solution to one file that `load` reads on any number of ranks. Collective.

    The file is a zip of .npy members, which numpy.load reads too: `nodes` (coordinates), `times`,
    `u00000`, `m00000`, ... (nodal values, level by level) and `about` (JSON). It is written under
    another name and renamed: a save that fails leaves an older file as it was.

    The entries of `more` are added to `about`. Of one crowd the solution of all crowds is saved.

    Raises:
        FileError: the file cannot be written; on every rank.
    """
    with together(solution.problem.domain.comm):
        path = file_path(path)
    problem = solution.discrete.problem
    about = description(problem, solution.scheme, solution.times, "population") | {
        "discount": discount(problem),
        "crowds": crowds(problem),
        "converged": bool(solution.converged),
        "reason": solution.reason,
        "tolerance": float(solution.tolerance),
        "seconds": float(solution.seconds),
        "history": solution.history,
        "prices": solution.discrete.state.paid.lists,
    }
    nodes = Nodes(solution.problem.domain, solution.discrete.V)
    with archive.write(path, nodes, about | more, times=solution.times) as put:
        for field, levels in zip("um", (solution.everybody.u, solution.everybody.m), strict=True):
            for name, own in zip(members(field, len(levels)), levels, strict=True):
                put(name, own)


def members(field: str, k: int) -> list[str]:
    """The names of a field of k populations in a file, before the number of the level."""
    return [field] if k == 1 else [f"{field}_{i}_" for i in range(k)]


def crowds(problem) -> str:
    """The names of several crowds, or "" of one population."""
    return ", ".join(map(repr, problem.crowds)) if isinstance(problem, Populations) else ""


def discount(problem) -> float | list[float]:
    """The discount of all crowds, or a list of those of each if they differ."""
    found = problem.discounts
    return found[0] if len({*found}) == 1 else found


def description(problem, scheme, times: np.ndarray, *numbers: str) -> dict:
    """The entries of `about` that name the problem, with these numbers, the scheme, the times."""
    steps = len(times) - 1
    equal = np.allclose(np.diff(times), times[-1] / steps, rtol=1e-9, atol=0.0)
    return {
        "problem": problem.title,
        "scheme": type(scheme).__name__,
        "scheme_fields": asdict(scheme),
        "horizon": float(problem.horizon or 0.0),  # 0: none
        **{name: float(getattr(problem, name)) for name in numbers},
        "steps": steps,
        "times": EQUAL if equal else [float(t) for t in times],
    }


def differences(there: dict, here: dict) -> str:
    """How a file differs from what is wanted here, by name; "" if it does not."""
    return "; ".join(
        f"{name} is {there.get(name, 'not known')} there and {value} here"
        for name, value in here.items()
        if there.get(name) != value
    )


def scheme_of(path: Path, about: dict, schemes: Mapping):
    """The scheme that a file names, of these by name.

    Raises:
        FileError: there is none.
    """
    try:
        return schemes[about["scheme"]](**about["scheme_fields"])
    except (KeyError, TypeError, ProblemError) as exc:
        wanted = f"{about['scheme']} {about['scheme_fields']}"
        raise FileError(f"{path} is damaged, or of another version: no scheme {wanted}.") from exc


@dataclass(frozen=True)
class Saved:
    """A saved solution; its levels are read when a discretisation asks for them."""

    path: Path
    scheme: Scheme
    times: np.ndarray
    converged: bool
    reason: str
    tolerance: float
    history: list[dict]
    seconds: float
    prices: dict[str, np.ndarray]

    def levels_on(self, discrete: Discretisation) -> list[np.ndarray]:
        """The values u and m at all levels on the dofs this rank owns. Collective.

        Raises:
            FileError: the file belongs to another mesh or degree, or is damaged.
        """
        with archive.read(self.path, Nodes(discrete.problem.domain, discrete.V)) as get:
            return [
                np.array([get(name, len(self.times)) for name in members(field, discrete.k)])
                for field in "um"
            ]


def load(path: str | Path, problem) -> Saved:
    """Read all but the levels of what `save` wrote of a solution of this problem. Collective.

    Raises:
        FileError: no such file, not a saved solution, or one with another horizon.
    """
    comm = problem.domain.comm
    with together(comm):
        path = file_path(path)
    about = EARLIER | archive.about(comm, path, "saved solution")
    if "stage" in about:
        raise FileError(f"{path} is the checkpoint of a solve that has not finished.")
    rate = [float] if isinstance(about["discount"], list) else float
    archive.fit(path, about, ABOUT | OUTCOME | {"discount": rate})
    horizon = problem.horizon or 0.0
    if not np.isclose(about["horizon"], horizon, rtol=1e-12, atol=0.0):
        there, here = (
            f"the horizon {y:g}" if y else "no horizon" for y in (about["horizon"], horizon)
        )
        raise FileError(f"{path} holds a solution with {there}; this problem has {here}.")
    if about["crowds"] != crowds(problem):
        there, here = (
            f"the crowds {y}" if y else "one population" for y in (about["crowds"], crowds(problem))
        )
        raise FileError(f"{path} holds {there}; this problem has {here}.")
    here_are = {"problem": problem.title, "population": problem.population}
    here_are["discount"] = discount(problem)
    for name, here in here_are.items():
        if about[name] != here and comm.rank == 0:
            log.warning("%s: its %s is %s, here it is %s", path, name, about[name], here)
    scheme = scheme_of(path, about, SCHEMES)
    if about["steps"] < 1:
        raise FileError(f"{path} is damaged: it has {about['steps']} steps.")
    times = about["times"]
    try:
        grid = about["steps"] if times == EQUAL else array("times", times, (about["steps"] + 1,))
        times = time_levels("times", grid, horizon or 1.0)
    except ProblemError as exc:
        raise FileError(f"{path} is damaged: {exc}") from exc
    prices, steps = about["prices"], (about["steps"],)
    try:
        prices = {name: array(f"prices of {name}", y, steps) for name, y in prices.items()}
    except ProblemError as exc:
        raise FileError(f"{path} is damaged: {exc}") from exc
    if missing := [name for name in problem.prices if name not in prices]:
        raise FileError(f"{path} has no price {missing[0]!r}, which this problem has.")
    outcome = {key: about[key] for key in OUTCOME}
    return Saved(path, scheme, times, prices=prices, **outcome)
