"""The file of a PontryaginSolution: .npz of numpy."""

import io
import json
from pathlib import Path
from typing import Any

from mpi4py import MPI

import numpy as np

from mfg_fem.errors import FileError
from mfg_fem.io.files import file_path
from mfg_fem.resnet.network import write_whole

FORMAT = "mfg_fem.pontryagin 1"
SETTINGS = ("layers", "width", "effort", "smoothness", "form", "horizon", "loss", "dimension")


def write(solution, path: str | Path) -> None:
    """Write everything: see `PontryaginSolution.save`."""
    settings = {name: getattr(solution.problem, name) for name in SETTINGS}
    about: dict[str, Any] = {"format": FORMAT, "settings": settings, "history": solution.history}
    about |= {"converged": solution.converged, "reason": solution.reason}
    arrays: dict[str, Any] = {name: getattr(solution.problem, name) for name in "Xy"}
    arrays |= {"theta": solution.theta, "head": solution.head}
    data = io.BytesIO()
    np.savez(data, about=np.array(json.dumps(about, default=float)), **arrays)
    write_whole(path, data.getvalue())


def read(path: str | Path):
    """Read what `write` wrote: see `PontryaginSolution.load`."""
    from mfg_fem.resnet.extremal import PontryaginSolution
    from mfg_fem.resnet.pontryagin import Pontryagin

    path = file_path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            about, data = json.loads(str(file["about"])), {name: file[name] for name in file.files}
        if about["format"] != FORMAT:
            raise ValueError(f"its format is {about['format']!r}")
        problem = Pontryagin(data["X"], data["y"], comm=MPI.COMM_SELF, **about["settings"])
        ends = about["converged"], about["reason"], about["history"]
        return PontryaginSolution(problem, data["theta"], data["head"], *ends)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise FileError(f"{path} cannot be read as a Pontryagin solution: {error}") from error
