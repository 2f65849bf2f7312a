"""Integrals: many over the domain by one kernel, and means of a function between two densities."""

from collections.abc import Callable

from mpi4py import MPI

import numpy as np

import ufl
from dolfinx import fem

from mfg_fem.compilation import compiled

GAUSS = 5  # points of the integral over densities: exact for polynomials of degree 9


def mean_between(function: Callable, a, b):
    """The mean of function(s) over s from a to b, in UFL, by Gauss' rule."""
    points, weights = np.polynomial.legendre.leggauss(GAUSS)
    rule = zip(((1 + points) / 2).tolist(), (weights / 2).tolist(), strict=True)
    return sum(weight * function((1 - r) * a + r * b) for r, weight in rule)


class Totals:
    """Integrals of scalar expressions over the domain. Collective.

    Each is tested with a function that is constant on every cell, so that one kernel has them all.
    """

    def __init__(self, mesh, measure: ufl.Measure, expressions: list):
        self.comm, self.size = mesh.comm, len(expressions)
        self.cells = mesh.topology.index_map(mesh.topology.dim).size_local
        test = ufl.TestFunction(fem.functionspace(mesh, ("DG", 0, (self.size,))))
        self.form = compiled(ufl.dot(ufl.as_vector(expressions), test) * measure)

    def __call__(self) -> np.ndarray:
        """Their values at present, shape (expressions,)."""
        of_cells = fem.assemble_vector(self.form).array.reshape(-1, self.size)[: self.cells]
        return self.comm.allreduce(of_cells.sum(axis=0), MPI.SUM)
