"""Saved waves, and checkpoints, which are the levels so far: any number of ranks can read them."""

from pathlib import Path

import numpy as np

from mfg_fem.errors import FileError, together
from mfg_fem.io import archive, saved
from mfg_fem.io.files import file_path
from mfg_fem.mesh.nodes import Nodes
from mfg_fem.validate import array

ROW = {"step": int, "newton": int, "krylov": int} | dict.fromkeys(("t", "mass", "energy"), float)
ABOUT: dict = {"problem": str, "scheme": str, "scheme_fields": dict, "steps": int, "horizon": float}
ABOUT |= {"hbar": float, "history": [ROW], "seconds": float, "reason": str, "levels": int}
SAME = 1e-6  # relative difference of energies of one wave; ranks differ in the last digits


def save(solution, path: str | Path):
    """Save to one file that `load` reads on any number of ranks. Collective.

    The file is a zip of .npy members: `nodes`, `times`, `re00000`, `im00000`, ... and `about`
    (JSON).

    Raises:
        FileError: the file cannot be written; on every rank.
    """
    with together(solution.problem.domain.comm):
        path = file_path(path)
    reason = "" if solution.converged else solution.reason
    write(path, solution, solution.times, solution.waves, solution.history, reason)


def description(problem, scheme, times: np.ndarray) -> dict:
    """The entries of `about` that name the problem, the scheme and the times."""
    return saved.description(problem, scheme, times, "hbar")


def write(path: Path, owner, times, waves, history: list[dict], reason: str = ""):
    """Write the levels there are; the owner has problem, scheme, V and seconds. Collective."""
    nodes = Nodes(owner.problem.domain, owner.V)
    about = description(owner.problem, owner.scheme, times)
    about |= {"levels": len(waves), "history": history, "seconds": owner.seconds, "reason": reason}
    with archive.write(path, nodes, about, times=times) as put:
        put("re", [wave.real for wave in waves])
        put("im", [wave.imag for wave in waves])


def about(comm, path: Path) -> dict:
    """What a file says of its wave. Collective.

    Raises:
        FileError: no such file, or another kind of file.
    """
    found = archive.about(comm, path, "saved wave")
    if found.get("problem") != "NonlinearSchroedinger":
        raise FileError(f"{path} holds no wave, but the solution of a {found.get('problem')}.")
    archive.fit(path, found, ABOUT)
    if len(found["history"]) != found["levels"]:
        raise FileError(f"{path} is damaged: its history has another length than its levels.")
    return {"times": saved.EQUAL} | found


def times_of(path: Path, found: dict) -> np.ndarray:
    """The times of a saved wave."""
    if found["times"] == saved.EQUAL:
        return np.linspace(0.0, found["horizon"], found["steps"] + 1)
    try:
        return array("times", found["times"], (found["steps"] + 1,))
    except ValueError as exc:
        raise FileError(f"{path} is damaged: {exc}") from exc


def levels(path: Path, domain, V, count: int) -> np.ndarray:
    """The waves at the nodes this rank owns, shape (count, owned). Collective."""
    with archive.read(path, Nodes(domain, V)) as get:
        return get("re", count) + 1j * get("im", count)


def check_energies(path: Path, history: list[dict], here: np.ndarray, size: float):
    """Refuse levels whose energies in this problem are others than those that were saved."""
    there = np.array([row["energy"] for row in history])
    if not np.abs(there - here).max() <= SAME * size:
        raise FileError(
            f"{path} belongs to another problem: the energy of its wave was {there[0]:.6g} at the "
            f"start and {there[-1]:.6g} at its end, and is {here[0]:.6g} and {here[-1]:.6g} with "
            "this potential. Name another file, or delete this one to begin anew."
        )


def refuse_others(path: Path, there: dict, here: dict):
    """Refuse a file of another solve: what it says is compared by name."""
    if differ := saved.differences(there, here):
        raise FileError(
            f"{path} belongs to another solve: {differ}. Name another file, or delete this one "
            "to begin anew."
        )
