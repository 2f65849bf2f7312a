"""Domain: a simplex mesh whose boundaries go by name. Integer tags never leave this module."""

import difflib
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from mpi4py import MPI

import numpy as np

import dolfinx
import ufl
from dolfinx import fem

from mfg_fem._compat import geometry_dofmap
from mfg_fem.compilation import compiled
from mfg_fem.errors import MeshError, alike, together
from mfg_fem.mesh import gmsh, simplices
from mfg_fem.mesh.box import make as make_box
from mfg_fem.mesh.periodic import glue as glue_sides
from mfg_fem.validate import is_integer

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Domain:
    """A simplex mesh with named boundaries. Collective.

    Args:
        mesh: a DOLFINx mesh of intervals, triangles or tetrahedra.
        facet_tags: DOLFINx MeshTags of its facets.
        names: boundary name -> facet tag, or several (kept as a tuple); names may share tags.
        seams: axis -> (low, high), where a mesh made by `box` or `glue` is periodic.
        openings: names of boundaries that are meant to lie inside, as doors between two rooms.

    Raises:
        MeshError: other cells, cells without volume, a mesh embedded in a higher dimension, tags
            of something else than its facets, or names without tags.
    """

    mesh: dolfinx.mesh.Mesh
    facet_tags: dolfinx.mesh.MeshTags | None = None
    names: Mapping[str, int | Sequence[int]] = field(default_factory=dict)
    seams: dict[int, tuple[float, float]] = field(default_factory=dict)
    openings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what the schemes cannot be built on."""
        _check_mesh(self.mesh)
        with together(self.comm):
            if self.facet_tags is not None:
                _check_tags(self.mesh, self.facet_tags)
            names = _tags_of_names(self)
        alike(self.comm, names=names)
        _check_known(names, _known_tags(self.comm, self.facet_tags))
        object.__setattr__(self, "names", names)

    def check(self) -> None:
        """Refuse a mesh that has become flat or folded, or is folded from the start. Collective."""
        _check_mesh(self.mesh)
        # A periodic mesh was checked before it was glued. In 1D, DOLFINx takes the ends of a rank's
        # part for boundaries.
        if self.seams or self.dim == 1:
            return
        # By the divergence theorem: what two cells contribute at the facet between them cancels,
        # unless both lie on the same side of it.
        x, n = ufl.SpatialCoordinate(self.mesh), ufl.FacetNormal(self.mesh)
        low = self.mesh.geometry.x.min(axis=0, initial=np.inf)
        self.comm.Allreduce(MPI.IN_PLACE, low, MPI.MIN)
        low = fem.Constant(self.mesh, low[: self.dim])
        enclosed = self._integral(ufl.dot(x - low, n) * ufl.ds(domain=self.mesh)) / self.dim
        volume = self.volume()
        if abs(volume - enclosed) > 1e-6 * volume:
            raise MeshError(
                f"The mesh is folded: its cells, of {volume:.6g} together, overlap in a boundary "
                f"that encloses {enclosed:.6g}. Mesh the domain anew, or move nodes by less."
            )

    @classmethod
    def of(cls, domain: "Domain | dolfinx.mesh.Mesh") -> "Domain":
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

    @cached_property
    def inside(self) -> tuple[str, ...]:
        """Names of boundaries of which some facets lie between two cells. Collective."""
        owned = self._owned_facets()
        outer = np.zeros(owned, dtype=bool)
        outer[dolfinx.mesh.exterior_facet_indices(self.mesh.topology)] = True
        facets = [self.facets(name) for name in self.names]
        found = np.array([not outer[f[f < owned]].all() for f in facets], dtype=bool)
        self.comm.Allreduce(MPI.IN_PLACE, found, MPI.LOR)
        return tuple(name for name, is_inside in zip(self.names, found, strict=True) if is_inside)

    def facets(self, name: str) -> np.ndarray:
        """Local facets of the named boundary."""
        if not isinstance(name, str) or name not in self.names:
            known = ", ".join(sorted(self.names)) or "none: the mesh has no named boundary"
            text = f"No boundary is named {name!r} in this mesh. Its names: {known}."
            if near := difflib.get_close_matches(str(name), self.names, 1):
                text += f" Do you mean {near[0]!r}?"
            if self.seams:
                text += " Sides across a periodic axis are no boundary and have no name."
            raise MeshError(text)
        if self.facet_tags is None:
            return np.empty(0, dtype=np.int32)
        return self.facet_tags.indices[np.isin(self.facet_tags.values, self.names[name])]

    def measure(self, name: str) -> float:
        """Length (2D) or area (3D) of the named boundary, number of points (1D). Collective."""
        return self._integral(fem.Constant(self.mesh, 1.0) * self.ds(self.facets(name)))

    def ds(self, facets: np.ndarray) -> ufl.Measure:
        """The measure on these local facets, of which the owned ones count. Collective."""
        d, topology = self.dim, self.mesh.topology
        facets = facets[facets < self._owned_facets()]
        # Each facet is integrated from one of its cells, so that those inside the domain count.
        cells = topology.connectivity(d - 1, d)
        cells = cells.array[cells.offsets[facets]]
        topology.create_connectivity(d, d - 1)
        sides = topology.connectivity(d, d - 1).array.reshape(-1, d + 1)[cells]
        pairs = np.column_stack([cells, (sides == facets[:, None]).argmax(axis=1)])
        entities = [(1, pairs.astype(np.int32).ravel())]
        return ufl.Measure("ds", domain=self.mesh, subdomain_data=entities)(1)

    def volume(self) -> float:
        """Length, area or volume of the whole domain. Collective."""
        return self._integral(fem.Constant(self.mesh, 1.0) * ufl.dx(domain=self.mesh))

    def _integral(self, form: ufl.Form) -> float:
        return self.comm.allreduce(fem.assemble_scalar(compiled(form)), MPI.SUM)

    def _owned_facets(self) -> int:
        """The number of facets this rank owns, which come before ghosts. Collective at first."""
        d, topology = self.dim, self.mesh.topology
        topology.create_entities(d - 1)
        topology.create_connectivity(d - 1, d)
        return topology.index_map(d - 1).size_local


def _check_mesh(mesh: dolfinx.mesh.Mesh) -> None:
    """Refuse all but simplices of the dimension of space with some volume. Collective."""
    if not isinstance(mesh, dolfinx.mesh.Mesh):
        raise MeshError(f"mesh is a {type(mesh).__name__}; pass a DOLFINx mesh.")
    cell, gdim = mesh.topology.cell_name(), mesh.geometry.dim
    if cell not in simplices.SIMPLICES or simplices.SIMPLICES.index(cell) + 1 != gdim:
        raise MeshError(
            f"The mesh has {cell} cells in {gdim}D; the schemes need intervals in 1D, "
            "triangles in 2D, tetrahedra in 3D. Make a simplex mesh (gmsh does by default)."
        )
    if mesh.geometry.x.dtype != np.float64:
        raise MeshError(
            f"The mesh has {mesh.geometry.x.dtype} geometry; make it with dtype float64."
        )
    cells = geometry_dofmap(mesh)[: mesh.topology.index_map(gdim).size_local]
    nodes = mesh.geometry.x[:, :gdim][cells]
    bad = simplices.degenerate(nodes, mesh.ufl_domain().ufl_coordinate_element())
    found = mesh.comm.allgather((int(bad.sum()), nodes[bad][:1, : gdim + 1]))
    if count := sum(number for number, _ in found):
        corners = next(corners[0] for number, corners in found if number)
        raise MeshError(f"The mesh cannot be used: {simplices.about_degenerate(count, corners)}")


def _check_tags(mesh: dolfinx.mesh.Mesh, facet_tags: dolfinx.mesh.MeshTags) -> None:
    """Refuse tags of something else than the facets of this mesh."""
    if not isinstance(facet_tags, dolfinx.mesh.MeshTags):
        raise MeshError(f"facet_tags is a {type(facet_tags).__name__}; pass DOLFINx MeshTags.")
    if facet_tags.topology is not mesh.topology._cpp_object:
        raise MeshError("facet_tags are those of another mesh; pass tags made for this one.")
    facets = mesh.topology.dim - 1
    if facet_tags.dim != facets:
        raise MeshError(
            f"facet_tags have the dimension {facet_tags.dim}; facets of this mesh have {facets}."
        )


def _tags_of_names(domain: Domain) -> dict[str, tuple[int, ...]]:
    """The tags of each name."""
    names, facet_tags = domain.names, domain.facet_tags
    if not isinstance(names, Mapping):
        raise MeshError(f'names must be a dict such as {{"exit": 3}}, not {names!r}.')
    result = {}
    for name, tags in names.items():
        several = tags if isinstance(tags, tuple | list) else (tags,)
        if not (isinstance(name, str) and all(map(is_integer, several))):
            raise MeshError(f"names must map names to facet tags, not {name!r} to {tags!r}.")
        result[name] = tuple(int(tag) for tag in several)
    wanted = set().union(*result.values())
    if wanted and facet_tags is None:
        raise MeshError("names given without facet_tags: pass the MeshTags they refer to.")
    return result


def _check_known(names: dict[str, tuple[int, ...]], known: set[int]) -> None:
    """Refuse tags that no facet has."""
    for name, tags in names.items():
        if missing := set(tags) - known:
            raise MeshError(
                f"names[{name!r}]: no facet has the tag {min(missing)}; facet_tags has "
                f"{', '.join(map(str, sorted(known))) or 'none'}."
            )


def _known_tags(comm: MPI.Comm, facet_tags: dolfinx.mesh.MeshTags | None) -> set[int]:
    """The values that facets of any rank have. Collective."""
    values = np.empty(0, dtype=int) if facet_tags is None else np.unique(facet_tags.values)
    return set().union(*comm.allgather(values.tolist()))


def read_mesh(path: str | Path, comm: MPI.Comm = MPI.COMM_WORLD) -> Domain:
    """Read a mesh of gmsh (.msh) or XDMF (.xdmf), or mesh a gmsh geometry (.geo).

    Of a gmsh file, the physical groups of dimension d are the domain (only they are read), and
    those of dimension d-1 are its boundaries, `Domain.names`: a group without a name goes by its
    number, and a facet may be in several. Of XDMF, facet tags are the names. A mesh that is tilted
    in space is laid flat, with its lengths as they are, in the unit of the file: metres in the
    demos. A .geo is a program, which may run any command (gmsh's SystemCall): take it only from
    people you trust.

    Raises:
        MeshError: the file does not exist or is not a mesh; or the mesh is not one of simplices,
            not plane, degenerate, without physical groups, or does not follow its boundaries.
    """
    check_comm(comm)
    parts = None
    with together(comm):
        if not isinstance(path, str | os.PathLike):
            raise MeshError(f"read_mesh takes the path of a file, not {path!r}.")
    with together(comm, MeshError, f"{path} cannot be read"):
        if comm.rank == 0:
            parts = simplices.check(gmsh.read(Path(path).expanduser()))
    domain = Domain(*simplices.build(comm, parts))
    empty = [name for name, tags in domain.names.items() if not tags]
    if domain.inside and comm.rank == 0:
        log.warning(
            "%s: the boundaries %s lie inside the domain, where people walk through them; they can "
            "be no Exit. To make a wall of one, let gmsh's plugin Crack cut the mesh there.",
            path,
            ", ".join(map(repr, domain.inside)),
        )
    if empty and comm.rank == 0:
        log.warning("%s: the boundaries %s have no facets.", path, ", ".join(map(repr, empty)))
    return domain


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
        periodic: whether players who leave on one side enter on the opposite one, for all axes
            or for each; it takes three cells or more along these: see `glue`.

    Returns:
        A Domain with the boundaries "left", "right" (first axis), "bottom", "top" (second),
        "back", "front" (third), those of periodic axes excepted.

    Raises:
        MeshError: arguments that make no sense, or more cells than memory can hold.
    """
    check_comm(comm)
    return glue(Domain(*make_box(lengths, cells, comm)), periodic)


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
    domain = Domain.of(domain)
    flags = [periodic] * domain.dim if isinstance(periodic, bool) else periodic
    with together(domain.comm):
        good = isinstance(flags, Sequence) and all(isinstance(flag, bool) for flag in flags)
        if not good or len(flags) != domain.dim:
            raise MeshError(
                f"periodic must be True, False or a list of {domain.dim} of them, one per axis, "
                f"not {periodic!r}."
            )
    alike(domain.comm, periodic=[*flags])
    axes = [axis for axis, flag in enumerate(flags) if flag]
    if not axes:
        return domain
    if domain.seams:
        raise MeshError("The domain is periodic already: glue all its axes at once.")
    mesh, facet_tags, seams = glue_sides(domain.mesh, domain.facet_tags, axes)
    known = _known_tags(domain.comm, facet_tags)
    left = {name: [t for t in tags if t in known] for name, tags in _tags_of_names(domain).items()}
    names = {name: tags for name, tags in left.items() if tags}
    return Domain(mesh, facet_tags, names, seams, domain.openings)


def check_comm(comm: MPI.Comm) -> None:
    """Refuse what is no communicator."""
    if not isinstance(comm, MPI.Comm) or comm == MPI.COMM_NULL:
        kind = "a null one" if isinstance(comm, MPI.Comm) else type(comm).__name__
        raise MeshError(f"comm must be an MPI communicator such as MPI.COMM_WORLD, not {kind}.")


def boundary_dofs(domain: Domain, V: fem.FunctionSpace, name: str) -> np.ndarray:
    """Degrees of freedom of V on the named boundary, owned and ghosted. Collective."""
    return fem.locate_dofs_topological(V, domain.dim - 1, domain.facets(name))
