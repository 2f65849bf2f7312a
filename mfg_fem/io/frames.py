"""The fields of a solution as nodal Functions, one level at a time."""

import numpy as np

import ufl
from dolfinx import fem, la

from mfg_fem.compilation import compiled
from mfg_fem.forms.drift import state_drift


class Average:
    """A vector field averaged to the vertices, weighted by volume. Collective.

    This is its L2 projection on P1 with lumped mass.
    """

    def __init__(self, mesh, field):
        d = mesh.geometry.dim
        P1 = fem.functionspace(mesh, ("Lagrange", 1, (d,)))
        dx = ufl.dx(domain=mesh, metadata={"quadrature_degree": 2})
        test, self.found = ufl.TestFunction(P1), fem.Function(P1)
        self._moments = compiled(ufl.dot(field, test) * dx)
        ones = fem.Constant(mesh, np.ones(d))
        self._weights = self._assemble(compiled(ufl.dot(ones, test) * dx))

    def __call__(self) -> fem.Function:
        """The average of the field as it is now; the same Function each time."""
        self.found.x.array[:] = self._assemble(self._moments) / self._weights
        return self.found

    def _assemble(self, form: fem.Form) -> np.ndarray:
        total = fem.Function(self.found.function_space).x
        fem.assemble_vector(total.array, form)
        total.scatter_reverse(la.InsertMode.add)
        total.scatter_forward()
        return total.array.copy()


class Frames:
    """Value function, density and velocity as nodal Functions of a given degree. Collective.

    The family is that of the Functions: "DG" gives each cell its own nodes, as ParaView would draw
    the cells at the seam of a torus across the whole domain.

    The velocity of a step is constant (P1) or linear (P2) on each cell; here it is averaged to the
    vertices. Level n shows the velocity of the step that begins there, the last level that of the
    last step: see `Solution.velocity`.

    Attributes:
        value, density, velocity: the Functions that `show` fills.
        functions: what a file gets of them.
    """

    def __init__(self, solution, degree: int, family: str = "Lagrange"):
        self.solution, problem, discrete = solution, solution.problem, solution.discrete
        mesh = problem.domain.mesh
        self._u, self._m = solution.value(0), solution.density(0)
        V = fem.functionspace(mesh, (family, degree))
        W = fem.functionspace(mesh, (family, degree, (problem.domain.dim,)))
        self.value, self.density = fem.Function(V, name="value"), fem.Function(V, name="density")
        self.velocity = fem.Function(W, name="velocity")
        self.functions = [self.density, self.value, self.velocity]
        velocity = state_drift(discrete.problem, discrete.state, solution.place)
        self._average = Average(mesh, velocity)

    def show(self, n: int):
        """Fill the Functions with level n; returns self. Collective."""
        levels, steps = self.solution.levels, self.solution.steps
        self.solution.see(min(n, steps - 1))
        self.velocity.interpolate(self._average())
        self._fill(levels.u[n], levels.m[n])
        self.value.interpolate(self._u)
        self.density.interpolate(self._m)
        return self

    def _fill(self, u: np.ndarray, m: np.ndarray):
        for function, values in ((self._u, u), (self._m, m)):
            function.x.array[: len(values)] = values
            function.x.scatter_forward()


class CrowdFrames:
    """The fields of several crowds as nodal Functions, with the name of the crowd. Collective."""

    def __init__(self, solution, degree: int, family: str = "Lagrange"):
        self.solution = solution
        parts = zip(solution, solution.whole, strict=True)
        self._frames = {name: Frames(part, degree, family) for name, part in parts}
        self.functions = []
        for name, frames in self._frames.items():
            for function in frames.functions:
                function.name = f"{function.name} {name}"
                self.functions.append(function)
        self.density = self.functions[0]

    def show(self, n: int):
        """Fill the Functions with level n; returns self. Collective."""
        for frames in self._frames.values():
            frames.show(n)
        return self
