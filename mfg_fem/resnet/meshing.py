"""A mesh for data in the unit ball: a box with room to move, fine where the data are."""

from mpi4py import MPI

from mfg_fem._compat import gmsh_model_to_mesh
from mfg_fem.domain import Domain
from mfg_fem.errors import MeshError, together

FINE_RADIUS = 1.2  # the flow moves the data a little outwards
COARSENING = 4.0  # cells at the walls are so much larger


def mesh_around(dim: int, half_width: float, cells: int, comm: MPI.Comm) -> Domain:
    """The box [0, 2 half_width]^dim around the unit ball in its middle. Collective.

    Cells in the ball have the size 2 half_width / cells and grow towards the walls, where
    nobody is.

    Raises:
        MeshError: gmsh is missing.
    """
    with together(comm, MeshError):
        try:
            import gmsh
        except ImportError as exc:
            raise MeshError(f"gmsh is not installed, and makes the meshes here: {exc}") from exc
    side = 2 * half_width
    fine = side / cells
    try:
        if comm.rank == 0:
            gmsh.initialize()
            gmsh.option.setNumber("General.Verbosity", 1)
            corner = (0.0, 0.0, 0.0)
            if dim == 2:
                gmsh.model.occ.addRectangle(*corner, side, side)
            else:
                gmsh.model.occ.addBox(*corner, side, side, side)
            gmsh.model.occ.synchronize()
            gmsh.model.addPhysicalGroup(dim, [1], name="box")
            ball = gmsh.model.mesh.field.add("Ball")
            numbers = {
                "XCenter": half_width,
                "YCenter": half_width,
                "ZCenter": half_width if dim == 3 else 0.0,
                "Radius": FINE_RADIUS,
                "VIn": fine,
                "VOut": COARSENING * fine,
                "Thickness": half_width - FINE_RADIUS,
            }
            for name, value in numbers.items():
                gmsh.model.mesh.field.setNumber(ball, name, value)
            gmsh.model.mesh.field.setAsBackgroundMesh(ball)
            gmsh.option.setNumber("Mesh.MeshSizeExtendFromBoundary", 0)
            gmsh.option.setNumber("Mesh.MeshSizeFromPoints", 0)
            gmsh.model.mesh.generate(dim)
        mesh, _, _ = gmsh_model_to_mesh(gmsh.model, comm, dim)
    finally:
        if comm.rank == 0 and gmsh.isInitialized():
            gmsh.finalize()
    return Domain(mesh)
