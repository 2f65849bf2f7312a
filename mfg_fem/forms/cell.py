"""The geometry of a simplex cell in UFL: its vertices, edges and barycentric gradients."""

import math

import numpy as np

import basix
import basix.ufl
import ufl


def at_vertices(y, mesh) -> ufl.core.expr.Expr:
    """The values of a linear function at the vertices: exact at the centroid, or on average.

    Integrals are exact by any rule that integrates y, if all other factors are constant.
    """
    return ufl.as_vector([y + ufl.dot(ufl.grad(y), vector) for vector in to_vertices(mesh)])


def to_vertices(mesh) -> list:
    """The vectors from the centroid of the cell to its vertices."""
    X = reference_vertices(mesh)
    return [ufl.Jacobian(mesh) * ufl.as_vector((v - X.mean(axis=0)).tolist()) for v in X]


def edge_vectors(mesh) -> list:
    """The edges of the cell as vectors."""
    X = reference_vertices(mesh)
    return [ufl.Jacobian(mesh) * ufl.as_vector((X[j] - X[i]).tolist()) for i, j in edges(mesh)]


def edges(mesh) -> list[tuple[int, int]]:
    """The edges of the cell as pairs of its vertices, in DOLFINx's order."""
    cell = getattr(basix.CellType, mesh.topology.cell_name())
    return [tuple(edge) for edge in basix.topology(cell)[1]]


def barycentric_gradients(mesh) -> list:
    """The gradients of the linear functions that are 1 at one vertex."""
    K = ufl.JacobianInverse(mesh)
    g = [K[k, :] for k in range(mesh.geometry.dim)]
    return [-sum(g[1:], g[0]), *g]


def at_nodes(mesh, degree: int) -> ufl.Measure:
    """The rule on cells whose points are the nodes of this degree, all of one weight."""
    rule: dict[str, object] = {"quadrature_rule": "vertex", "quadrature_degree": 1}
    if degree > 1:
        cell = getattr(basix.CellType, mesh.topology.cell_name())
        points = basix.create_element(
            basix.ElementFamily.P, cell, degree, basix.LagrangeVariant.equispaced
        ).points
        weight = 1 / (len(points) * math.factorial(mesh.geometry.dim))
        rule = {
            "quadrature_rule": "custom",
            "quadrature_degree": degree,
            "quadrature_points": tuple(map(tuple, points.tolist())),
            "quadrature_weights": (weight,) * len(points),
        }
    return ufl.dx(domain=mesh, metadata=rule)


def reference_vertices(mesh) -> np.ndarray:
    """The vertices of the reference cell, a row each."""
    d = mesh.geometry.dim
    return np.vstack([np.zeros(d), np.eye(d)])
