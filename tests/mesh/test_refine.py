"""A refined domain is the same domain, and functions on it are the same functions."""

from mpi4py import MPI

import numpy as np
import pytest
from ranks import ROOT

import basix.ufl
import dolfinx
import ufl
from dolfinx import fem

import mfg_fem as mfg
from mfg_fem.mesh.refine import Refinement

DOMAINS = {
    "line": lambda: mfg.box(1.5, 5),
    "rectangle": lambda: mfg.box((2, 1), (5, 4)),
    "cuboid": lambda: mfg.box((2, 1, 1), (3, 2, 2)),
    "torus": lambda: mfg.box((2, 1), (5, 4), periodic=True),
    "tube": lambda: mfg.box((2, 1, 1), (4, 2, 2), periodic=(True, False, False)),
    "hall": lambda: mfg.read_mesh(ROOT / "meshes" / "hall.msh"),
}


def integral(expression):
    return MPI.COMM_WORLD.allreduce(fem.assemble_scalar(fem.form(expression * ufl.dx)))


@pytest.mark.parametrize("name", DOMAINS)
def test_names_volume_and_functions_stay(name):
    coarse = DOMAINS[name]()
    refinement = Refinement(coarse)
    fine = refinement.domain
    fine.check()
    cells = [y.mesh.topology.index_map(coarse.dim).size_global for y in (coarse, fine)]
    assert cells[1] == 2**coarse.dim * cells[0]
    assert fine.volume() == pytest.approx(coarse.volume())
    assert fine.names == coarse.names and fine.seams == coarse.seams
    for side in fine.names:
        assert fine.measure(side) == pytest.approx(coarse.measure(side))
    f = fem.Function(fem.functionspace(coarse.mesh, ("Lagrange", 1)))
    f.interpolate(lambda x: np.sin(np.pi * x[0]) + x[-1] ** 2)
    g = refinement.function(f)
    k = fem.Function(fem.functionspace(coarse.mesh, ("DG", 0)))
    k.interpolate(lambda x: 1 + np.cos(x[0]))
    for one, other in ((f, g), (k, refinement.function(k))):
        x, y = (ufl.SpatialCoordinate(z.function_space.mesh)[0] for z in (one, other))
        assert integral(other**2 * y) == pytest.approx(integral(one**2 * x))
    slopes = [integral(ufl.dot(ufl.grad(z), ufl.grad(z))) for z in (f, g)]
    assert slopes[1] == pytest.approx(slopes[0])


def test_curved_edges_and_strange_functions_are_refused():
    element = basix.ufl.element("Lagrange", "triangle", 2, shape=(2,))
    x = np.array([[0, 0], [1, 0], [0, 1], [0.6, 0.6], [0, 0.5], [0.5, 0]])
    curved = dolfinx.mesh.create_mesh(MPI.COMM_SELF, cells=np.arange(6)[None], x=x, e=element)
    with pytest.raises(mfg.MeshError, match="curved edges"):
        Refinement(mfg.Domain(curved))
    domain = mfg.box((1, 1), 2)
    for kind in (("DG", 1), ("RT", 1)):
        f = fem.Function(fem.functionspace(domain.mesh, kind))
        with pytest.raises(mfg.MeshError, match="Interpolate it"):
            Refinement(domain).function(f)
