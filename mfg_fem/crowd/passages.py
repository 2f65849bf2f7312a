"""Flow through doors and measurement lines, and the density there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mpi4py import MPI

import numpy as np

import ufl
from dolfinx import fem

from mfg_fem.compilation import compiled
from mfg_fem.crowd.parts import crowds_of, densities, gone
from mfg_fem.crowd.weights import ASIDE, corners_of, of_boundary, of_segment, right_of
from mfg_fem.errors import ProblemError, require, together
from mfg_fem.forms.cell import at_vertices
from mfg_fem.forms.drift import state_drift
from mfg_fem.mesh.domain import boundary_dofs
from mfg_fem.mesh.locate import gradients_of
from mfg_fem.problem.boundary import Wall
from mfg_fem.solution.solution import Solution
from mfg_fem.validate import array

BAND = 2.0  # cells: the width of the band around a line whose flow is averaged


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
    It is the flux of the scheme, drift and diffusion, averaged over a band of two cells around the
    line by a function v that rises across it from 0 to 1: int J . grad v. So the count of a line
    from wall to wall is, to round-off, what changes in the weighted number of people beyond it, and
    that of a line before a door is what has gone through the door and who stands in between. Parts
    of a line outside the domain, in a pillar or a wall, count for nothing.
    """
    crowds = crowds_of(solution, "lines")
    V, domain = crowds[0].discrete.V, solution.problem.domain
    with together(domain.comm):
        ends = _checked(places, domain.dim)
        if any(part.problem.limits for part in crowds):
            raise ProblemError("lines: what Wall(pushes=False) adds to the flux is not known.")
    fluxes, m = [_Flux(part) for part in crowds], densities(crowds)
    bands, found = {}, {}
    for name, line in ends.items():
        weights, lengths, cells = of_segment(V, line)
        message = f"lines[{name!r}], from {line[0]} to {line[1]}, lies outside the domain."
        require(domain.comm, lengths.any(), message)
        bands[name] = _band(crowds, line, lengths, cells)
        mean = domain.comm.allreduce(m @ weights, MPI.SUM) / lengths.sum()
        found[name] = mean, float(lengths.max())
    steps = [
        np.sum([flux.through(n, bands) for flux in fluxes], axis=0) for n in range(solution.steps)
    ]
    people = domain.comm.allreduce(np.reshape(steps, (solution.steps, len(bands))), MPI.SUM)
    people = np.cumsum(people * np.diff(solution.times)[:, None], axis=0)
    return {
        name: Passage(solution.times, np.append(0.0, count), *found[name])
        for name, count in zip(bands, people.T, strict=True)
    }


def _checked(places: Mapping[str, Any], dim: int) -> dict[str, np.ndarray]:
    if dim != 2:
        raise ProblemError(f"lines are measured in 2D, and the domain has {dim} dimension(s).")
    if not isinstance(places, Mapping):
        raise ProblemError('lines must be a dict such as {"corridor": ((0, 1), (2, 1))}.')
    found = {name: array(f"lines[{name!r}]", ends, (2, 2)) for name, ends in places.items()}
    for name, (first, last) in found.items():
        if np.array_equal(first, last):
            raise ProblemError(f"lines[{name!r}] begins and ends at the same point.")
    return found


def _band(
    crowds: list[Solution], ends: np.ndarray, lengths: np.ndarray, crossed: np.ndarray
) -> np.ndarray:
    """The gradient of v on each cell of this rank, shape (cells, 2). Collective.

    Doors and entries lie beyond the line or before it, even in the band: v is 1 or 0 there. If all
    that are in the band are near the line, the band ends at them.
    """
    domain, right = crowds[0].problem.domain, right_of(ends)
    corners, length = corners_of(domain.mesh), np.linalg.norm(ends[1] - ends[0])
    beyond = (corners - ends[0]) @ right
    along = (corners - ends[0]) @ np.array([-right[1], right[0]])
    low, high = along.min(axis=1), along.max(axis=1)
    share = np.clip((np.minimum(high, length) - np.maximum(low, 0.0)) / (high - low), 0.0, 1.0)
    size = np.ptp(beyond[crossed], axis=1).max(initial=0.0)
    half = BAND / 2 * domain.comm.allreduce(size, MPI.MAX)
    passable = _passable(crowds)
    near = passable & (share > 0)[:, None] & (abs(beyond) <= half)
    reach = domain.comm.allreduce(abs(beyond[near]).max(initial=-1.0), MPI.MAX)
    half = half if reach < 0 else max(reach, ASIDE * length)
    on_it = -ASIDE * length if lengths[0] >= lengths[1] else ASIDE * length
    v = np.where(passable, beyond > on_it, np.clip(0.5 + beyond / (2 * half), 0.0, 1.0))
    return share[:, None] * np.einsum("ci,cid->cd", v, gradients_of(corners))


def _passable(crowds: list[Solution]) -> np.ndarray:
    """Which corners of this rank's cells lie where people come or go. Collective."""
    domain = crowds[0].problem.domain
    P1 = fem.functionspace(domain.mesh, ("Lagrange", 1))
    there = np.zeros(len(P1.tabulate_dof_coordinates()), dtype=bool)
    for part in crowds:
        for name, condition in part.problem.boundary.items():
            if not isinstance(condition, Wall):
                there[boundary_dofs(domain, P1, name)] = True
    cells = domain.mesh.topology.index_map(domain.dim).size_local
    return there[P1.dofmap.list[:cells]]


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

    def through(self, n: int, bands: dict[str, np.ndarray]) -> np.ndarray:
        """This rank's part of the flow through each band in step n. Collective."""
        self.part.see(n)
        found = []
        for band in bands.values():
            self.g.x.array[: band.size] = band.ravel()
            found.append(sum(fem.assemble_scalar(form) for form in self.forms))
        return np.array(found)
