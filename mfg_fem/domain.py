"""Domain: a simplex mesh whose boundaries go by name. Integer tags never leave this module."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mpi4py import MPI

import numpy as np

import dolfinx
import ufl
from dolfinx import fem

from mfg_fem import torus
from mfg_fem._compat import gmsh_model_to_mesh
from mfg_fem.errors import MeshError, require, together

# With threads, SCOTCH shares out a mesh among ranks in another way at each start: counts of
# iterations and last digits would change from run to run, and in a job that goes on from a file.
os.environ.setdefault("SCOTCH_PTHREAD_NUMBER", "1")

SIMPLICES = ("interval", "triangle", "tetrahedron")


@dataclass(frozen=True)
class Domain:
    """A simplex mesh with named boundaries.

    Args:
        mesh: a DOLFINx mesh of intervals, triangles or tetrahedra.
        facet_tags: DOLFINx MeshTags of its facets.
        names: boundary name -> facet tag.
        seams: axis -> (low, high), where a mesh made by `box` or `glue` is periodic.

    Raises:
        MeshError: other cells, a mesh embedded in a higher dimension, or names without tags.
    """

    mesh: dolfinx.mesh.Mesh
    facet_tags: dolfinx.mesh.MeshTags | None = None
    names: dict[str, int] = field(default_factory=dict)
    seams: dict[int, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self):
        """Refuse what the schemes cannot be built on."""
        cell, gdim = self.mesh.topology.cell_name(), self.mesh.geometry.dim
        if cell not in SIMPLICES or SIMPLICES.index(cell) + 1 != gdim:
            raise MeshError(
                f"The mesh has {cell} cells in {gdim}D; the schemes need intervals in 1D, "
                "triangles in 2D, tetrahedra in 3D. Make a simplex mesh (gmsh does by default)."
            )
        if self.names and self.facet_tags is None:
            raise MeshError("names given without facet_tags: pass the MeshTags they refer to.")

    @classmethod
    def of(cls, domain) -> "Domain":
        """Accept a plain DOLFINx mesh wherever a Domain is."""
        if isinstance(domain, cls):
            return domain
        if isinstance(domain, dolfinx.mesh.Mesh):
            return cls(domain)
        raise MeshError(
            f"domain is a {type(domain).__name__}; pass a Domain, what read_mesh or box return, "
            "or a DOLFINx mesh."
        )

    @property
    def comm(self) -> MPI.Comm:
        """The communicator of the mesh."""
        return self.mesh.comm

    @property
    def dim(self) -> int:
        """Space dimension."""
        return self.mesh.geometry.dim

    def facets(self, name: str) -> np.ndarray:
        """Local facets of the named boundary."""
        if name not in self.names:
            known = ", ".join(sorted(self.names)) or "none: the mesh has no named boundary"
            text = f"No boundary is named {name!r} in this mesh. Its names: {known}."
            if self.seams:
                text += " Sides across a periodic axis are no boundary and have no name."
            raise MeshError(text)
        return self.facet_tags.find(self.names[name])

    def measure(self, name: str) -> float:
        """Length (2D) or area (3D) of the named boundary, number of points (1D). Collective."""
        self.facets(name)
        ds = ufl.Measure("ds", domain=self.mesh, subdomain_data=self.facet_tags)
        one = fem.Constant(self.mesh, 1.0)
        form = fem.form(one * ds(self.names[name]))
        return self.comm.allreduce(fem.assemble_scalar(form), MPI.SUM)

    def volume(self) -> float:
        """Length, area or volume of the whole domain. Collective."""
        one = fem.Constant(self.mesh, 1.0)
        form = fem.form(one * ufl.dx(domain=self.mesh))
        return self.comm.allreduce(fem.assemble_scalar(form), MPI.SUM)


def read_mesh(path: str | Path, comm: MPI.Comm = MPI.COMM_WORLD) -> Domain:
    """Read a gmsh mesh (.msh) or mesh a gmsh geometry (.geo); boundaries keep their names.

    Physical groups of dimension d are the domain (only they are read), those of dimension d-1
    with a name become `Domain.names`. Lengths are whatever the file uses: metres in the demos.

    Raises:
        MeshError: the file does not exist, is not a mesh, or has no physical groups.
    """
    path = Path(path)
    exists = comm.bcast(path.is_file() if comm.rank == 0 else None)
    if not exists:
        raise MeshError(f"Mesh file {path} does not exist (looked from {Path.cwd()}).")
    if path.suffix not in (".msh", ".geo"):
        raise MeshError(f"{path}: read_mesh reads gmsh files, .msh or .geo, not {path.suffix!r}.")
    with together(comm, MeshError):
        try:
            import gmsh
        except ImportError as exc:
            raise MeshError(f"gmsh is not installed, so {path} cannot be read: {exc}") from exc

    gdim, names = None, {}
    try:
        with together(comm, MeshError, f"{path} cannot be read by gmsh"):
            if comm.rank == 0:
                gdim, names = _open_model(gmsh, path)
        gdim, names = comm.bcast((gdim, names))
        mesh, _, facet_tags = gmsh_model_to_mesh(gmsh.model, comm, gdim)
    finally:
        if comm.rank == 0 and gmsh.isInitialized():
            gmsh.finalize()
    return Domain(mesh, facet_tags, names)


def _open_model(gmsh, path: Path) -> tuple[int, dict[str, int]]:
    """Load the file into gmsh: dimension and the names of the boundary groups."""
    gmsh.initialize()
    gmsh.option.setNumber("General.Verbosity", 1)
    gmsh.open(str(path))
    gdim = gmsh.model.getDimension()
    if path.suffix == ".geo":
        gmsh.model.mesh.generate(gdim)
    groups = gmsh.model.getPhysicalGroups()
    if not any(dim == gdim for dim, _ in groups):
        raise MeshError(
            f"it has no physical group of dimension {gdim}. Name the domain and its boundaries, "
            'e.g. Physical Surface("floor") = {1}; Physical Curve("exits") = {5, 6};'
        )
    names = {gmsh.model.getPhysicalName(d, tag): tag for d, tag in groups if d == gdim - 1}
    names.pop("", None)
    return gdim, names


def box(
    lengths: float | Sequence[float],
    cells: int | Sequence[int],
    comm: MPI.Comm = MPI.COMM_WORLD,
    *,
    periodic: bool | Sequence[bool] = False,
) -> Domain:
    """The interval, rectangle or box [0, lengths] with named sides, or a torus.

    Args:
        lengths: side lengths, one number per dimension.
        cells: cells per side, one number for all or one per dimension.
        comm: the communicator that shares the mesh.
        periodic: whether who leaves on one side enters on the other, for all axes or for each;
            three cells or more along these: see `glue`.

    Returns:
        A Domain with the boundaries "left", "right" (first axis), "bottom", "top" (second),
        "back", "front" (third), those of periodic axes excepted.
    """
    lengths = np.atleast_1d(np.asarray(lengths, dtype=float))
    gdim = len(lengths)
    cells = np.broadcast_to(np.asarray(cells), gdim).tolist()
    if gdim > 3 or not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise MeshError(f"box: lengths must be one to three positive numbers, not {lengths}.")
    if not all(isinstance(n, int) and n > 0 for n in cells):
        raise MeshError(f"box: cells must be positive integers, not {cells}.")
    low = np.zeros(gdim)
    if gdim == 1:
        mesh = dolfinx.mesh.create_interval(comm, cells[0], [0.0, lengths[0]])
    else:
        create = dolfinx.mesh.create_rectangle if gdim == 2 else dolfinx.mesh.create_box
        mesh = create(comm, [low, lengths], cells)
    sides = ("left", "right", "bottom", "top", "back", "front")[: 2 * gdim]
    facets, tags = [], []
    for tag, _ in enumerate(sides, start=1):
        axis, wall = (tag - 1) // 2, lengths[(tag - 1) // 2] * ((tag - 1) % 2)
        found = dolfinx.mesh.locate_entities_boundary(
            mesh, gdim - 1, lambda x, a=axis, w=wall: np.isclose(x[a], w)
        )
        facets.append(found)
        tags.append(np.full(len(found), tag, dtype=np.int32))
    facets, tags = np.concatenate(facets), np.concatenate(tags)
    order = np.argsort(facets)
    facet_tags = dolfinx.mesh.meshtags(mesh, gdim - 1, facets[order], tags[order])
    domain = Domain(mesh, facet_tags, {name: tag for tag, name in enumerate(sides, start=1)})
    return glue(domain, periodic)


def glue(domain: Domain, periodic: bool | Sequence[bool] = True) -> Domain:
    """Make opposite sides of a domain one: a torus, or a tube if only some axes are periodic.

    Initial density, terminal and exit costs must be periodic too, for a node on a seam has one
    value of them. What is integrated cell by cell (the other data) may jump there.

    Args:
        domain: its sides at the lowest and the highest coordinate of an axis must be flat and have
            the same nodes, as those of `box` and of gmsh's `Periodic Curve`.
        periodic: whether to glue, for all axes or for each.

    Returns:
        A Domain in which boundaries that were glued have no name.

    Raises:
        MeshError: the sides do not match, or there are fewer than three cells between them.
    """
    flags = [periodic] * domain.dim if isinstance(periodic, bool) else list(periodic)
    if len(flags) != domain.dim or not all(isinstance(flag, bool) for flag in flags):
        raise MeshError(
            f"periodic must be True, False or a list of {domain.dim} of them, one per axis, not "
            f"{periodic}."
        )
    axes = [axis for axis, flag in enumerate(flags) if flag]
    if not axes:
        return domain
    if domain.seams:
        raise MeshError("The domain is periodic already: glue all its axes at once.")
    mesh, facet_tags, seams = torus.glue(domain.mesh, domain.facet_tags, axes)
    known = set() if facet_tags is None else set(facet_tags.values.tolist())
    known = set().union(*domain.comm.allgather(known))
    names = {name: tag for name, tag in domain.names.items() if tag in known}
    return Domain(mesh, facet_tags, names, seams)


def boundary_dofs(domain: Domain, V: fem.FunctionSpace, name: str) -> np.ndarray:
    """Degrees of freedom of V on the named boundary, owned and ghosted. Collective.

    Raises:
        MeshError: unknown name, or a boundary without any facet.
    """
    facets = domain.facets(name)
    require(
        domain.comm,
        domain.comm.allreduce(len(facets), MPI.SUM) > 0,
        f"The boundary {name!r} has no facets in this mesh.",
        MeshError,
    )
    return fem.locate_dofs_topological(V, domain.dim - 1, facets)
