# # What crowd engineers ask of a model, in one table
#
# Tests of the guideline RiMEA, the flows of IMO's circular for passenger ships and an experiment of
# Forschungszentrum Juelich are put to the model of `mfg.crowd.evacuation`. The table has a line for
# each: what was asked, what was expected, what was found, and whether the expectation held. What
# does not hold stays in it, with a reason, and so do the tests that this model cannot be asked.
#
#     docker/run python3 demos/validation/validate.py
#     docker/run python3 demos/validation/validate.py --only "RiMEA 1" "IMO 4"
#     docker/run python3 demos/validation/validate.py --only Juelich --data FOLDER ...
#     docker/run python3 demos/validation/validate.py --calibrate
#
# Each solution is looked at by itself: Newton converged, people are conserved to 1e-10 of them, no
# density is negative. Else the line says so, and its expectation did not hold.

import argparse
import csv
import json
import math
import time
from pathlib import Path

from mpi4py import MPI

import flows
import juelich
import matplotlib
import rimea
from case import balance, faults
from matplotlib.figure import Figure

import mfg_fem as mfg

COLUMNS = 4  # panels beside each other
SOURCES = ("RiMEA", "IMO", "Juelich")  # in this order


def row(case, ax, coarser):
    """The line of the table of one case."""
    line = {"test": case.name, "source": case.source, "asked": case.asked}
    line |= {"expected": case.expected, "found": "", "verdict": "not asked", "why": case.why}
    line |= {"Newton": "", "balance": "", "seconds": ""}
    if case.run is None:
        return line
    start = time.perf_counter()
    try:
        found = case.run(ax, coarser)
    except mfg.NotConverged as error:
        return line | {"verdict": "not held", "why": f"no solution: {error}"}
    wrong = faults(found.solutions)
    held = found.held and not wrong
    return line | {
        "found": found.text,
        "verdict": "held" if held else "not held",
        "why": "; ".join(wrong or ([] if held else [found.why])),
        "Newton": steps([solution.iterations for solution in found.solutions]),
        "balance": f"{max(map(balance, found.solutions)):.0e}",
        "seconds": round(time.perf_counter() - start, 1),
    }


def steps(counts):
    """The Newton steps of each solve, or of many the range."""
    if len(counts) <= COLUMNS:
        return ", ".join(map(str, counts))
    return f"{min(counts)} to {max(counts)} in {len(counts)} solves"


def printed(rows):
    """The table as text: a paragraph for each line."""
    lines = []
    for line in rows:
        lines.append(f"{line['test']}: {line['verdict'].upper()}")
        for name in ("source", "asked", "expected", "found", "why"):
            lines += [f"  {name:9s} {line[name]}"] if line[name] else []
        if line["Newton"]:
            lines.append(
                f"  Newton {line['Newton']}; balance {line['balance']}; {line['seconds']} s"
            )
    return "\n".join(lines)


def markdown(rows):
    """The table as Markdown."""
    names = ["test", "source", "asked", "expected", "found", "verdict", "Newton", "balance"]
    lines = ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]
    for line in rows:
        cells = line | {"verdict": f"{line['verdict']}: {line['why']}".removesuffix(": ")}
        lines.append("| " + " | ".join(str(cells[name]) for name in names) + " |")
    return "\n".join(lines) + "\n"


def write(rows, figure, folder):
    """All of it as files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.md").write_text(markdown(rows))
    (folder / "table.json").write_text(json.dumps(rows, indent=2))
    with (folder / "table.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    figure.savefig(folder / "panels.png", dpi=150)


def panels(cases):
    """A figure with axes for each of the cases that are run."""
    asked = [case for case in cases if case.run]
    height = max(1, math.ceil(len(asked) / COLUMNS))
    figure = Figure((3.6 * COLUMNS, 2.9 * height), layout="constrained")
    axes = figure.subplots(height, COLUMNS, squeeze=False).ravel()
    for ax in axes[len(asked) :]:
        ax.set_axis_off()
    return figure, {case.name: ax for case, ax in zip(asked, axes, strict=False)}


def main():
    """Run, print, write."""
    parser = argparse.ArgumentParser(description="What crowd engineers ask of a model.")
    parser.add_argument("--only", nargs="+", help="names of tests, such as 'RiMEA 1'")
    parser.add_argument("--data", nargs="+", default=[], help="folders of further experiments")
    parser.add_argument("--width", type=float, nargs="+", help="of their pens, m")
    parser.add_argument("--calibrate", action="store_true", help="the capacity, by the experiment")
    parser.add_argument("--coarser", type=float, default=1.0, help="cells and time steps")
    parser.add_argument("--out", default="results/validation", type=Path)
    o, _ = parser.parse_known_args()
    if o.width and len(o.width) != len(o.data):
        parser.error("--width takes as many numbers as --data has folders")
    root = MPI.COMM_WORLD.rank == 0
    capacity = juelich.CAPACITY
    if o.calibrate:
        capacity = juelich.calibrated(juelich.read(juelich.HERE), coarser=o.coarser)
        if root:
            print(f"calibrated: {capacity:.3f} people per metre of door and second", flush=True)
    folders = [(juelich.HERE, None), *zip(o.data, o.width or [None] * len(o.data), strict=True)]
    cases = [*rimea.CASES, *flows.CASES]
    cases += [juelich.case(folder, width, capacity) for folder, width in folders]
    cases.sort(key=lambda case: (SOURCES.index(case.name.split()[0]), number(case.name)))
    if o.only:
        unknown = {*o.only} - {case.name for case in cases}
        if unknown:
            parser.error(f"no test {sorted(unknown)}; there are {[case.name for case in cases]}")
        cases = [case for case in cases if case.name in o.only]
    matplotlib.rcParams.update(mfg.plots.STYLE)
    figure, axes = panels(cases)
    rows = []
    for case in cases:
        ax = axes.get(case.name)
        rows.append(row(case, ax, o.coarser))
        if root:
            print(printed(rows[-1:]), flush=True)
        if ax:
            ax.set_title(case.name)
        if ax and ax.get_legend_handles_labels()[0]:
            ax.legend(frameon=False)
    if root:
        counts = {word: sum(line["verdict"] == word for line in rows) for word in VERDICTS}
        print(", ".join(f"{count} {word}" for word, count in counts.items()))
        write(rows, figure, o.out)


def number(name):
    """The number at the end of the name of a test; 0 if there is none."""
    last = name.split()[-1]
    return int(last) if last.isdigit() else 0


VERDICTS = ("held", "not held", "not asked")
if __name__ == "__main__":
    main()
