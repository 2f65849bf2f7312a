"""`python -m mfg_fem evacuate PLAN --door NAME X1 Y1 X2 Y2 --people N`: from a plan to a report."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from mpi4py import MPI

import mfg_fem as mfg

MESHES = (".msh", ".geo", ".xdmf")


def arguments(words: list[str]) -> argparse.Namespace:
    """The command line; options of PETSc, -mfg_..., go to the solver."""
    parser = argparse.ArgumentParser(prog="python -m mfg_fem", description=mfg.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    evacuate = commands.add_parser(
        "evacuate",
        help="people leave a building by its doors",
        description="People leave a building by its doors: from a floor plan to a report with "
        "pictures, tables and a film. Metres and seconds. Options of PETSc begin with -mfg_.",
    )
    add = evacuate.add_argument
    add("plan", type=Path, help=".wkt, .geojson or .dxf, or a mesh: .msh, .geo, .xdmf")
    add(
        "--door", nargs="+", action="append", metavar="NAME [X1 Y1 X2 Y2]", required=True,
        help="the name of a door, and its ends unless the plan has it; may be repeated",
    )  # fmt: skip
    add("--people", type=float, required=True, help="how many")
    add("--start", type=float, nargs="+", metavar="X Y", help="corners of where they are at first")
    add("--premovement", type=float, nargs=2, metavar=("MEAN", "STD"), help="s before they walk")
    add(
        "--line", nargs=5, action="append", default=[], metavar=("NAME", "X1", "Y1", "X2", "Y2"),
        help="a measurement line; may be repeated",
    )  # fmt: skip
    add("--capacity", type=float, default=mfg.crowd.CAPACITY, help="people/(m s) through doors")
    add("--free-speed", type=float, default=mfg.crowd.FREE_SPEED, help="m/s")
    add("--horizon", type=float, help="s (default: by the size of the plan and its doors)")
    add("--steps", type=int, help="time steps (default: one a second, at least 40)")
    add("--size", type=float, default=0.5, help="longest edge of the mesh of a plan, m")
    add("--scale", type=float, help="metres in a unit of the drawing")
    add("--out", type=Path, help="folder of the report (default: results/PLAN)")
    options, others = parser.parse_known_args(words)
    if wrong := [word for word in others if word.startswith("-") and not word.startswith("-mfg_")]:
        parser.error(f"unknown: {' '.join(wrong)} (PETSc options for the solver begin with -mfg_)")
    try:
        options.ends = {name: ends(corners) for name, *corners in options.door if corners}
        options.lines = {name: ends(corners) for name, *corners in options.line}
        if options.start:
            x, y = options.start[::2], options.start[1::2]
            options.start = [*zip(x, y, strict=True)]
    except ValueError as error:
        parser.error(str(error))
    return options


def ends(words: list[str]) -> tuple:
    """Two points from X1 Y1 X2 Y2."""
    if len(words) != 4:
        raise ValueError(f"the ends of a door are four numbers, X1 Y1 X2 Y2, not {words}")
    a, b, c, d = map(float, words)
    return (a, b), (c, d)


def evacuate(o: argparse.Namespace):
    """Solve, and write the report. Collective."""
    if o.plan.suffix.lower() in MESHES:
        if o.ends:
            raise mfg.MeshError(
                f"{o.plan} is a mesh, whose doors are its boundaries: give --door NAME alone."
            )
        building = mfg.read_mesh(o.plan)
    else:
        building = mfg.read_plan(o.plan, o.ends, o.size, scale=o.scale)
    game = mfg.crowd.evacuation(
        building,
        o.people,
        [name for name, *_ in o.door],
        horizon=o.horizon,
        initial_density=(lambda x: 1.0) if o.start is None else o.start,
        capacity=o.capacity,
        free_speed=o.free_speed,
    )
    problem: Any = game
    if o.premovement:
        delay = mfg.crowd.LogNormalDelay(*o.premovement)
        late = 0.0 if o.horizon else delay.mean + 3 * delay.std
        problem = mfg.crowd.with_premovement(replace(game, horizon=game.duration + late), delay)
    solution = mfg.solve(problem, o.steps or max(40, round(problem.duration)))
    out = o.out or Path("results") / o.plan.stem
    numbers = mfg.write_report(solution, out, title=o.plan.name, lines=o.lines)
    mfg.plots.animate(solution, out / "crowd.gif", fps=8)
    if building.comm.rank == 0:
        print(solution.report)
        for name, seconds in numbers["exit times"].items():
            never = f"not within {problem.horizon:g} s"
            print(f"  {name}: {never if seconds is None else f'{seconds:.1f}'}")
        print(f"  all of it: {out / 'report.html'}")


def main():
    """Run a command; an error of ours is one line."""
    options = arguments(sys.argv[1:])
    try:
        evacuate(options)
    except mfg.MFGError as error:
        if MPI.COMM_WORLD.rank == 0:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
