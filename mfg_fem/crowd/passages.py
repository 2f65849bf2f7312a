"""Flow through doors and measurement lines, and the density there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mpi4py import MPI

import numpy as np

import ufl
from dolfinx import fem

from mfg_fem.compilation import compiled
from mfg_fem.crowd.cut import Cut
from mfg_fem.crowd.parts import crowds_of, densities, gone
from mfg_fem.crowd.weights import of_boundary
from mfg_fem.errors import ProblemError, require, together
from mfg_fem.forms.cell import at_vertices
from mfg_fem.forms.drift import state_drift
from mfg_fem.solution.solution import Solution
from mfg_fem.validate import planar


@dataclass(frozen=True)
class Passage:
    """People who pass a door or a measurement line.

    Attributes:
        times: time levels 0..steps.
        count: people who have passed by each of them; of a line those who went from its left to
            its right, less those who came back.
        density: mean density there at each of them.
        width: length of the door, or of the line inside the domain.
    """

    times: np.ndarray
    count: np.ndarray
    density: np.ndarray
    width: float

    @property
    def flow(self) -> np.ndarray:
        """People who pass per unit of time, in each step."""
        return np.diff(self.count) / np.diff(self.times)

    @property
    def specific_flow(self) -> np.ndarray:
        """The flow per unit of width, in each step."""
        return self.flow / self.width


def doors(solution: Any) -> dict[str, Passage]:
    """The `Passage` of each boundary that people can leave through, by name. Collective.

    Of a PopulationsSolution it is that of all crowds together, also in `lines` and `rooms`.
    """
    crowds, found = crowds_of(solution, "doors"), {}
    V, domain = crowds[0].discrete.V, solution.problem.domain
    m = densities(crowds)
    for name, people in gone(solution).items():
        width = domain.measure(name)
        mean = domain.comm.allreduce(m @ of_boundary(domain, V, name), MPI.SUM) / width
        found[name] = Passage(solution.times, people, mean, width)
    return found


def lines(solution: Any, places: Mapping[str, Any]) -> dict[str, Passage]:
    """The `Passage` of each measurement line ((x1, y1), (x2, y2)), by name; in 2D. Collective.

    The flow is positive from the left to the right of who looks from the first point to the second.
    It is the flux of the scheme, drift and diffusion, from the nodes on the left to those on the
    right of the line, in the triangles that it cuts; and the count is corrected by the people in
    these triangles between the nodes and the line. So the count of a line from wall to wall is, to
    round-off, what changes in the number of people beyond it. A line may reach into walls and
    pillars, and should where it ends at one; parts outside the domain count for nothing.
    """
    crowds = crowds_of(solution, "lines")
    V, domain = crowds[0].discrete.V, solution.problem.domain
    with together(domain.comm):
        ends = _checked(places, domain.dim)
        if any(part.problem.limits for part in crowds):
            raise ProblemError("lines: what Wall(pushes=False) adds to the flux is not known.")
    fluxes, m = [_Flux(part) for part in crowds], densities(crowds)
    cuts = {name: Cut(V, line) for name, line in ends.items()}
    for name, cut in cuts.items():
        where = f"lines[{name!r}], from {ends[name][0]} to {ends[name][1]},"
        require(domain.comm, cut.length > 0, f"{where} lies outside the domain.")
    steps = np.zeros((solution.steps, len(cuts)))
    for n in range(solution.steps):
        for flux in fluxes:
            steps[n] += flux.through(n, [*cuts.values()])
    flows = domain.comm.allreduce(steps, MPI.SUM).T * np.diff(solution.times)
    found = {}
    for (name, cut), people in zip(cuts.items(), flows, strict=True):
        weights = np.column_stack([cut.correction(solution.scheme.lumped), cut.on_line])
        beyond, mean = domain.comm.allreduce(m @ weights, MPI.SUM).T
        count = np.append(0.0, np.cumsum(people)) + beyond - beyond[0]
        found[name] = Passage(solution.times, count, mean / cut.length, cut.length)
    return found


def _checked(places: Mapping[str, Any], dim: int) -> dict[str, np.ndarray]:
    if dim != 2:
        raise ProblemError(f"lines are measured in 2D, and the domain has {dim} dimension(s).")
    if not isinstance(places, Mapping):
        raise ProblemError('lines must be a dict such as {"corridor": ((0, 1), (2, 1))}.')
    found = {name: planar(f"lines[{name!r}]", ends, (2, 2)) for name, ends in places.items()}
    for name, (first, last) in found.items():
        if np.array_equal(first, last):
            raise ProblemError(f"lines[{name!r}] begins and ends at the same point.")
    return found


class _Flux:
    """The flux of the Fokker-Planck rows of a crowd, tested with fields constant on cells."""

    def __init__(self, part: Solution):
        self.part, d = part, part.discrete
        problem, state, i, mesh = d.problem, d.state, part.place, d.V.mesh
        u, m = state.fields[2 * i], state.fields[2 * i + 1]
        self.g = fem.Function(fem.functionspace(mesh, ("DG", 0, (2,))))
        corners = [at_vertices(y, mesh) for y in state.densities]
        # As symbols: what the edge viscosity sees of Functions is shifted to vertices by itself.
        symbols = {y: ufl.Coefficient(z.function_space) for y, z in state.quantities.items()}
        made = {symbols[y]: z for y, z in state.quantities.items()}
        around = state.around(problem, corners, symbols)
        gradients, values = d.scheme.measures(mesh)
        moved = m * ufl.dot(state_drift(problem, state, i), self.g)
        population = problem.populations[i]
        diffused = d.scheme.diffusion(population, state, u, around, corners[i], self.g, ufl.grad(m))
        self.forms = compiled([moved * values, -ufl.replace(diffused, made) * gradients])

    def through(self, n: int, cuts: list[Cut]) -> np.ndarray:
        """This rank's part of the flow through each cut in step n. Collective."""
        self.part.see(n)
        found = []
        for cut in cuts:
            self.g.x.array[:] = 0.0
            self.g.x.array.reshape(-1, 2)[cut.cells] = cut.step
            found.append(sum(fem.assemble_scalar(form) for form in self.forms))
        return np.array(found)
