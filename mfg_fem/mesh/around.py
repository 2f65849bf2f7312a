"""A mesh for data in the unit ball: a box with room to move, fine where the data are."""

from mpi4py import MPI

from mfg_fem.errors import MeshError, together
from mfg_fem.mesh.domain import Domain
from mfg_fem.mesh.gmsh import from_gmsh, gmsh_model
from mfg_fem.mesh.simplices import build, check

FINE_RADIUS = 1.2  # the flow moves the data a little outwards
COARSENING = 4.0  # cells at the walls are this many times larger
# Only the ball decides about sizes.
OPTIONS = {"Mesh.MeshSizeExtendFromBoundary": 0.0, "Mesh.MeshSizeFromPoints": 0.0}


def mesh_around(dim: int, half_width: float, cells: int, comm: MPI.Comm) -> Domain:
    """The box [0, 2 half_width]^dim around the unit ball in its middle. Collective.

    Cells in the ball have the size 2 half_width / cells and grow towards the walls, where there
    are no data.

    Raises:
        MeshError: gmsh is missing.
    """
    side = 2 * half_width
    fine = side / cells
    parts = None
    with together(comm, MeshError, "gmsh cannot mesh the box"):
        if comm.rank == 0:
            with gmsh_model(OPTIONS) as gmsh:
                _mesh(gmsh, dim, side, fine)
                parts = check(from_gmsh(gmsh.model))
    return Domain(build(comm, parts)[0])


def _mesh(gmsh, dim: int, side: float, fine: float):
    """Draw the box in gmsh's current model and mesh it."""
    corner = (0.0, 0.0, 0.0)
    if dim == 2:
        gmsh.model.occ.addRectangle(*corner, side, side)
    else:
        gmsh.model.occ.addBox(*corner, side, side, side)
    gmsh.model.occ.synchronize()
    gmsh.model.addPhysicalGroup(dim, [1], name="box")
    ball = gmsh.model.mesh.field.add("Ball")
    numbers = {
        "XCenter": side / 2,
        "YCenter": side / 2,
        "ZCenter": side / 2 if dim == 3 else 0.0,
        "Radius": FINE_RADIUS,
        "VIn": fine,
        "VOut": COARSENING * fine,
        "Thickness": side / 2 - FINE_RADIUS,
    }
    for name, value in numbers.items():
        gmsh.model.mesh.field.setNumber(ball, name, value)
    gmsh.model.mesh.field.setAsBackgroundMesh(ball)
    gmsh.model.mesh.generate(dim)
