"""A report in a folder: numbers.json, tables as CSV, and a page with pictures."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mfg_fem import crowd
from mfg_fem.crowd.parts import crowds_of
from mfg_fem.crowd.tables import as_csv
from mfg_fem.errors import together
from mfg_fem.handout.numbers import Measured
from mfg_fem.handout.page import page
from mfg_fem.io.files import file_path, on_root, replacing
from mfg_fem.plots import figures
from mfg_fem.plots import service as maps
from mfg_fem.plots.style import WIDTH, new_axes, styled
from mfg_fem.validate import number, text

PICTURES = 4  # times at which densities are drawn
DPI = 150


def write_report(
    solution: Any,
    folder: str | Path,
    *,
    title: str = "Report of a crowd",
    lines: Mapping[str, Any] | None = None,
    rooms: Mapping[str, Any] | None = None,
    service: str | Sequence[float] | None = "walkway",
    crowded: float = 4.0,
    length: str = "m",
    time: str = "s",
) -> dict:
    """Write what a solution says of a crowd into a folder. Collective.

    report.html has numbers, pictures and how well the equations are solved, in one file;
    numbers.json the numbers; people.csv, doors.csv and lines.csv have a line for each time level.
    An older report in the folder is replaced when the new one is complete.

    Args:
        solution: of a game or a control with a horizon, of one crowd, or of several together.
        folder: where to write; it is made if it is not there.
        title: of the page.
        lines: measurement lines by name, as `crowd.lines` takes them.
        rooms: parts of the domain by name, as `crowd.rooms` takes them.
        service: as `plots.plot_service` takes it; None for no maps of it.
        crowded: a density; a map shows for how long each place is above it.
        length: unit of length, a word: nothing is converted.
        time: unit of time.

    Returns:
        The numbers, on every rank.

    Raises:
        ProblemError: what was asked for makes no sense.
        FileError: the folder cannot be written to, or there is no matplotlib.
    """
    crowds_of(solution, "write_report")
    comm = solution.problem.domain.comm
    with together(comm):
        target = file_path(folder, "folder") / "report.html"
        for name, value in (("title", title), ("length", length), ("time", time)):
            text(name, value)
        number("crowded", crowded)
    measured = Measured.of(solution, lines or {}, rooms or {}, length, time)
    numbers, tables, report = measured.numbers, measured.tables, solution.report
    pictures = _pictures(measured, service, crowded)

    def write(place: Path):
        (place / "numbers.json").write_text(json.dumps(numbers, indent=2) + "\n")
        for name, columns in tables.items():
            (place / f"{name}.csv").write_text(as_csv(columns))
        (place / target.name).write_text(page(title, numbers, pictures, report))

    with replacing(comm, target) as temporary:
        on_root(comm, f"{target} cannot be written", lambda: write(temporary.parent))
    return numbers


def _pictures(measured: Measured, service: Any, crowded: float) -> dict[str, bytes]:
    """Caption -> PNG on rank 0. Collective."""
    solution, units = measured.solution, measured.units
    last = crowd.exit_times(solution, [99])[99.0] or solution.times[-1]
    t = np.linspace(0.0, last, PICTURES + 1)[:-1].tolist()
    found = {"Density": figures.plot_density(solution, t=t, **units)}
    if crowd.gone(solution):
        found["People out, and how many leave per unit of time"] = figures.plot_exits(
            solution, **units
        )
    if measured.dim > 1 and service is not None:
        found["Level of service"] = maps.plot_service(solution, t=t, service=service, **units)
    if measured.dim > 1:
        caption = f"Time above {crowded:g} {measured.per_volume}"
        found[caption] = maps.plot_time_above(solution, crowded, **units)
    comm = solution.problem.domain.comm
    found["People inside, in rooms, and past lines"] = on_root(
        comm, "The picture cannot be drawn", styled(lambda: _curves(measured))
    )
    return on_root(
        comm, "The pictures cannot be drawn", lambda: {name: _png(y) for name, y in found.items()}
    )


def _png(figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=DPI)
    return stream.getvalue()


def _curves(measured: Measured):
    """People in the domain and in rooms, and the people past each line, over time."""
    times, lines = measured.solution.times, measured.lines
    axes = [*new_axes((WIDTH, 2.6), "constrained", 1, 2 if lines else 1).flat]
    axes[0].plot(times, crowd.inside(measured.solution), color="black", label="inside")
    for name, people in measured.rooms.items():
        axes[0].plot(times, people, label=name)
    axes[0].set(ylabel="people", ylim=(0, None))
    for name, passage in lines.items():
        axes[1].plot(times, passage.count, label=name)
        axes[1].set(ylabel="people past the line")
    for ax in axes:
        ax.set(xlabel=f"t [{measured.time}]", xlim=(times[0], times[-1]))
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False)
    return axes[0].figure
