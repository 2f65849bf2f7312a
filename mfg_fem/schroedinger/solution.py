"""WaveSolution: the wave at all times, and what is measured of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from mpi4py import MPI

import numpy as np

import ufl
from dolfinx import fem

from mfg_fem._compat import interpolation_points
from mfg_fem.compilation import pointwise
from mfg_fem.errors import ProblemError, together
from mfg_fem.io import paraview
from mfg_fem.io.files import file_path
from mfg_fem.io.frames import Average
from mfg_fem.io.saved import scheme_of
from mfg_fem.mesh.periodic import wrap
from mfg_fem.schroedinger import saved
from mfg_fem.schroedinger.problem import NonlinearSchroedinger
from mfg_fem.schroedinger.run import Run
from mfg_fem.schroedinger.schemes import WAVE_SCHEMES, WaveScheme
from mfg_fem.validate import index


@dataclass(frozen=True, eq=False, repr=False)
class WaveSolution:
    """A wave at all time levels, and what a user would quote of it. Arrays are by level 0..steps.

    Attributes:
        problem, scheme: what was solved and how it was discretised.
        times: the levels; if the solve has failed, those that were reached.
        waves: psi at this rank's nodes, complex, shape (steps + 1, owned); see `coordinates`.
        mass: int rho.
        energy: E of `NonlinearSchroedinger`, kinetic energy plus int W.
        kinetic: int hbar^2 / 2 |grad psi|^2.
        modified_energy: what the scheme conserves if V does not depend on t: see `Relaxation`; for
            DelfourFortinPayre the energy itself.
        chemical_potential: (kinetic + int V rho) / mass, the mean of the Hamiltonian.
        mean_position: int x rho / mass, shape (steps + 1, d). On a torus x jumps at a seam, and
            means of it say little.
        converged, reason: whether all steps succeeded, and why not.
        history: one dict per level with the keys step, t, mass, energy (the modified one), newton
            and krylov, the steps of Newton and iterations of GMRES that led there.
        seconds: wall time of solve, of all its runs if it was resumed.
    """

    problem: NonlinearSchroedinger
    scheme: WaveScheme
    times: np.ndarray
    waves: np.ndarray = field(repr=False)
    mass: np.ndarray
    energy: np.ndarray
    kinetic: np.ndarray
    modified_energy: np.ndarray
    chemical_potential: np.ndarray
    mean_position: np.ndarray
    converged: bool
    reason: str
    history: list[dict]
    seconds: float
    V: fem.FunctionSpace = field(repr=False)
    _squares: np.ndarray = field(repr=False)  # int |x|^2 rho
    gone: ClassVar[dict] = {}  # pictures ask for who has left: nobody

    @classmethod
    def of(cls, run: Run, failed: str) -> "WaveSolution":
        """What the levels and their measures say. Collective."""
        mass, kinetic, energy, modified, potential, *moments, squares = np.transpose(run.measures)
        return cls(
            problem=run.problem,
            scheme=run.scheme,
            times=run.times[: len(run.waves)],
            waves=np.array(run.waves),
            mass=mass,
            energy=energy,
            kinetic=kinetic,
            modified_energy=modified,
            chemical_potential=(kinetic + potential) / mass,
            mean_position=np.transpose(moments) / mass[:, None],
            converged=not failed,
            reason=failed or "all steps have converged",
            history=run.history,
            seconds=run.problem.domain.comm.allreduce(run.seconds, MPI.MAX),
            V=run.V,
            _squares=squares,
        )

    @property
    def steps(self) -> int:
        """Number of time steps."""
        return len(self.times) - 1

    @property
    def coordinates(self) -> np.ndarray:
        """Where this rank's nodes are, shape (owned, d), as those of a `Solution`."""
        domain, owned = self.problem.domain, self.waves.shape[1]
        return wrap(self.V.tabulate_dof_coordinates()[:owned, : domain.dim], domain.seams)

    @property
    def nodal_densities(self) -> np.ndarray:
        """|psi|^2 at this rank's nodes, shape (steps + 1, owned)."""
        return np.abs(self.waves) ** 2

    @property
    def mass_drift(self) -> float:
        """Largest relative change of the mass."""
        return float(np.abs(self.mass / self.mass[0] - 1).max())

    @property
    def energy_drift(self) -> float:
        """Largest change of the modified energy, relative to the sum of its two parts.

        Its parts are the kinetic energy and the size of int W at any time.
        """
        size = (self.kinetic + np.abs(self.energy - self.kinetic)).max()
        return float(np.abs(self.modified_energy - self.modified_energy[0]).max() / size)

    def wave(self, n: int) -> tuple[fem.Function, fem.Function]:
        """Real and imaginary part of psi at level n (0..steps). Collective."""
        psi = self._level("wave", n)
        return self._function(psi.real, "real"), self._function(psi.imag, "imaginary")

    def density(self, n: int) -> fem.Function:
        """The density |psi|^2 at level n (0..steps), taken at the nodes. Collective."""
        return self._function(np.abs(self._level("density", n)) ** 2, "density")

    def current(self, n: int) -> fem.Function:
        """The current rho grad S = hbar Im(conj(psi) grad psi) at level n (0..steps). Collective.

        It is a polynomial of degree 2 degree - 1 on each cell.
        """
        self._level("current", n)
        mesh, degree = self.problem.domain.mesh, 2 * self.scheme.degree - 1
        space = fem.functionspace(mesh, ("DG", degree, (mesh.geometry.dim,)))
        found, (a, b) = fem.Function(space, name="current"), self.wave(n)
        found.interpolate(pointwise(current(self.problem, a, b), interpolation_points(space)))
        return found

    def rms_radius(self, n: int) -> float:
        """Root mean square distance from the mean position at level n (0..steps).

        For a Gaussian on a line it is the standard deviation of the density.
        """
        n = index("rms_radius", n, len(self.times), "levels")
        mean = self.mean_position[n]
        return float(np.sqrt(max(self._squares[n] / self.mass[n] - mean @ mean, 0.0)))

    def frames(self, degree: int, family: str = "Lagrange") -> "WaveFrames":
        """What pictures and files show of it: see `WaveFrames`."""
        return WaveFrames(self, degree, family)

    @property
    def report(self) -> str:
        """A page of numbers; `print(solution)` prints it."""
        nodes = self.V.dofmap.index_map.size_global
        newton, krylov = (sum(row[key] for row in self.history) for key in ("newton", "krylov"))
        steps, last = max(self.steps, 1), len(self.times) - 1
        kept = "modified energy, drift" if self.scheme.relaxed else "energy, drift"
        drift = f"{self.energy_drift:.1e} of its parts"
        mean = ", ".join(f"{x:.6g}" for x in self.mean_position[last])
        return "\n".join(
            [
                f"NonlinearSchroedinger, {self.scheme}: {nodes} nodes x {self.steps} steps",
                f"  {'converged' if self.converged else 'NOT CONVERGED'} ({self.reason})",
                f"  per step                      Newton {newton / steps:.1f}, GMRES "
                f"{krylov / steps:.1f}; {self.seconds:.1f} s in all",
                f"  mass                          {self.mass[0]:.8g}, drift {self.mass_drift:.1e}",
                f"  energy                        {self.energy[0]:.8g} -> {self.energy[-1]:.8g}",
                f"  {kept:<28}  {drift if self.problem.autonomous else 'V depends on t'}",
                f"  mean position at the end      {mean}",
                f"  rms radius                    {self.rms_radius(0):.6g} -> "
                f"{self.rms_radius(last):.6g}",
            ]
        )

    def __str__(self) -> str:
        """The report."""
        return self.report

    def __repr__(self) -> str:
        """Its first line."""
        return f"<WaveSolution of {self.report.splitlines()[0]}>"

    def write(self, path: str | Path, every: int = 1) -> None:
        """Write density, psi and current: see `io.paraview.write`. Collective."""
        paraview.write(self, path, every)

    def save(self, path: str | Path) -> None:
        """Save to one file that `load` reads on any number of ranks. Collective."""
        saved.save(self, path)

    @classmethod
    def load(cls, path: str | Path, problem: NonlinearSchroedinger) -> "WaveSolution":
        """Read what `save` wrote; the problem must live on the same mesh. Collective.

        Mass and energies are measured anew for the problem given.

        Raises:
            FileError: no such file, not a saved wave, or one of another problem.
        """
        if not isinstance(problem, NonlinearSchroedinger):
            raise ProblemError(f"problem must be the wave that was saved, not {problem!r}.")
        comm = problem.domain.comm
        with together(comm):
            path = file_path(path)
        problem.check()
        about = saved.about(comm, path)
        scheme = scheme_of(path, about, WAVE_SCHEMES)
        times = saved.times_of(path, about)
        here = saved.description(problem, scheme, times)
        names = ("problem", "hbar", "horizon")
        saved.refuse_others(path, about, {name: here[name] for name in names})
        run = Run(problem, scheme, times)
        try:
            run.read(path, about)
            return cls.of(run, about["reason"])
        finally:
            run.stepper.destroy()

    def _level(self, what: str, n: int) -> np.ndarray:
        with together(self.problem.domain.comm):
            return self.waves[index(what, n, len(self.times), "levels")]

    def _function(self, values: np.ndarray, name: str) -> fem.Function:
        function = fem.Function(self.V, name=name)
        function.x.array[: len(values)] = values
        function.x.scatter_forward()
        return function


def current(problem: NonlinearSchroedinger, a, b):
    """The current of the wave a + i b."""
    return fem.Constant(problem.domain.mesh, problem.hbar) * (a * ufl.grad(b) - b * ufl.grad(a))


class WaveFrames:
    """Density, phase, parts and current of a wave as nodal Functions of a degree. Collective.

    Attributes:
        density, value, velocity: for pictures; the value is the phase at the nodes, the velocity
            the current, averaged to the vertices.
        functions: what a file gets, the parts of psi in the place of the phase.
    """

    def __init__(self, solution: WaveSolution, degree: int, family: str):
        self.solution, mesh = solution, solution.problem.domain.mesh
        V = fem.functionspace(mesh, (family, degree))
        W = fem.functionspace(mesh, (family, degree, (mesh.geometry.dim,)))
        names = ("density", "phase", "real", "imaginary")
        self.density, self.value, self.real, self.imaginary = (
            fem.Function(V, name=name) for name in names
        )
        self.velocity = fem.Function(W, name="current")
        self.functions = [self.density, self.real, self.imaginary, self.velocity]
        self._parts = solution.wave(0)
        self._average = Average(mesh, current(solution.problem, *self._parts))

    def show(self, n: int):
        """Fill the Functions with level n; returns self. Collective."""
        wave = self.solution.waves[n]
        for part, values in zip(self._parts, (wave.real, wave.imag), strict=True):
            part.x.array[: len(values)] = values
            part.x.scatter_forward()
        self.velocity.interpolate(self._average())
        self.real.interpolate(self._parts[0])
        self.imaginary.interpolate(self._parts[1])
        psi = self.real.x.array + 1j * self.imaginary.x.array
        self.density.x.array[:], self.value.x.array[:] = np.abs(psi) ** 2, np.angle(psi)
        return self
