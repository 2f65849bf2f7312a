"""The fields of a fluid for ParaView."""

from functools import partial
from pathlib import Path

from dolfinx import fem

from mfg_fem.io import paraview
from mfg_fem.io.frames import Average, Frames


class FluidFrames(Frames):
    """Density, current velocity and the potentials of a fluid as nodal Functions. Collective."""

    def __init__(self, fluid, degree: int, family: str = "Lagrange"):
        super().__init__(fluid.solution, degree, family)
        self.fluid, V = fluid, self.density.function_space
        self.velocity.name = "current"
        names = ("potential", "quantum_potential")
        self.scalars = [fem.Function(V, name=name) for name in names if fluid.has(name)]
        self.functions = [self.density, self.velocity, *self.scalars]
        self._omega = fluid.current(0)
        self._average = Average(V.mesh, self._omega)

    def show(self, n: int):
        """Fill the Functions with level n; returns self. Collective."""
        self._omega.x.array[:] = self.fluid.current(n).x.array
        self.velocity.interpolate(self._average())
        self.density.interpolate(self.solution.density(n))
        for function in self.scalars:
            function.interpolate(getattr(self.fluid, function.name)(n))
        return self


def write(fluid, path: str | Path, every: int):
    """Write a fluid: see `Fluid.write`. Collective."""
    paraview.write(fluid.solution, path, every, partial(FluidFrames, fluid))
