"""Mesh files read into plain arrays, on the rank that reads: gmsh's and XDMF."""

import logging
import math
import re
import tempfile
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

from mpi4py import MPI

import numpy as np

import dolfinx
from dolfinx import io

from mfg_fem._compat import cell_perm_array, geometry_dofmap
from mfg_fem.errors import MeshError
from mfg_fem.mesh.simplices import SIMPLICES, Simplices

log = logging.getLogger(__name__)

NAME = re.compile(rb'\s*(\d+)\s+(\d+)\s+"(.*)"')  # dimension, number, name of a physical group


def read(path: Path) -> Simplices:
    """What the file holds. Not collective.

    Raises:
        MeshError: another kind of file, or one that lacks a mesh the schemes can be built on.
        Exception: whatever gmsh or DOLFINx raise on a damaged file.
    """
    if path.is_dir():
        raise MeshError("it is a folder.")
    if not path.exists():
        raise MeshError(f"it does not exist (looked from {Path.cwd()}).")
    kind = path.suffix.lower()
    if kind not in (".msh", ".geo", ".xdmf"):
        raise MeshError(
            f"it is a {kind or 'file without an ending'}, and read_mesh reads .msh and .geo of "
            "gmsh, and .xdmf. If meshio can read it, make it one of gmsh by "
            f"meshio.read({path.name!r}).write({path.stem + '.msh'!r}, file_format='gmsh22'). "
            "If DOLFINx can, mfg.Domain(mesh) takes the mesh."
        )
    with path.open("rb") as file:  # a file that may not be read is one of Python's own errors
        head = file.read(1024)
    if kind == ".xdmf":
        return _read_xdmf(path)
    # In formats before 4 each element has the number of its physical group. gmsh would give one
    # group to all elements of a curve or surface; with this option it takes the one for the other.
    legacy = kind == ".msh" and not re.search(rb"\$MeshFormat\s+[4-9]", head)
    with gmsh_model({"Mesh.SwitchElementTags": int(legacy)}) as gmsh:
        if kind == ".geo":
            _draw(gmsh, path)
            return from_gmsh(gmsh.model)
        gmsh.merge(str(path))
        entities = _entities_by_number(gmsh.model) if legacy else _entities_of_groups(gmsh.model)
        if not entities:
            log.warning("%s has no physical groups: no boundary has a name.", path)
            dim = gmsh.model.getDimension()
            entities = {(dim, 0): [number for _, number in gmsh.model.getEntities(dim)]}
        return from_gmsh(gmsh.model, entities, _names(path))


def _draw(gmsh, path: Path):
    """Mesh what a .geo draws."""
    with tempfile.TemporaryDirectory() as folder:
        # If the last line of a file has no line end, gmsh reads only the first statement in it,
        # unless the file is included by another one.
        whole = Path(folder, "whole.geo")
        whole.write_text(f'Include "{path.absolute()}";\n')
        gmsh.merge(str(whole))
    gmsh.model.mesh.generate(gmsh.model.getDimension())


@contextmanager
def gmsh_model(options: dict[str, float]):
    """A gmsh session with these options and an empty model; one of the caller stays as it is.

    Raises:
        MeshError: gmsh is missing.
    """
    try:
        import gmsh
    except ImportError as exc:
        raise MeshError(f"gmsh is not installed: {exc}.") from exc
    before = gmsh.model.getCurrent() if gmsh.isInitialized() else None
    if before is None:
        gmsh.initialize(readConfigFiles=False, interruptible=False)
    options = {"General.Verbosity": 1} | options
    theirs = {name: gmsh.option.getNumber(name) for name in options}
    try:
        for name, value in options.items():
            gmsh.option.setNumber(name, value)
        gmsh.model.add("mfg_fem")
        yield gmsh
    finally:
        if before is None:
            gmsh.finalize()
        else:
            gmsh.model.remove()
            gmsh.model.setCurrent(before)
            for name, value in theirs.items():
                gmsh.option.setNumber(name, value)


def _entities_of_groups(model) -> dict[tuple[int, int], list[int]]:
    """Curves, surfaces, ... of each physical group (dimension, number)."""
    return {group: model.getEntitiesForPhysicalGroup(*group) for group in model.getPhysicalGroups()}


def _entities_by_number(model) -> dict[tuple[int, int], list[int]]:
    """Curves, surfaces, ... of each group where their numbers are those of groups; 0 is none."""
    groups = defaultdict(list)
    for dim, number in model.getEntities():
        parent_dim, parent = model.getParent(dim, number)  # -1 unless the mesh is partitioned
        group = parent if parent_dim == dim else number
        if group and parent_dim in (-1, dim):  # others lie where two parts of a mesh meet
            groups[dim, group].append(number)
    return groups


def _names(path: Path) -> dict[tuple[int, int], str]:
    """Names of the physical groups in a .msh; gmsh's own list drops one that comes twice."""
    names = {}
    with path.open("rb") as file:
        for line in file:
            if line.startswith((b"$Nodes", b"$Entities", b"$NOD")):
                break
            if found := NAME.match(line):
                dim, number, name = found.groups()
                names[int(dim), int(number)] = name.decode(errors="replace")
    return names


def from_gmsh(model, entities=None, names=None) -> Simplices:
    """The cells of the physical groups in a gmsh model, and its groups of facets.

    Args:
        model: gmsh's current model.
        entities: (dimension, number) of a group -> its curves, surfaces, ...; else as in the model.
        names: (dimension, number) of a group -> its name; else as in the model.

    Raises:
        MeshError: no group of the model's dimension, or cells that are no simplices.
    """
    entities = _entities_of_groups(model) if entities is None else entities
    names = {group: model.getPhysicalName(*group) for group in entities} if names is None else names
    dim = model.getDimension()
    domain = sorted({e for group, own in entities.items() if group[0] == dim for e in own})
    if dim < 1:
        raise MeshError("it has no cells.")
    if not domain:
        raise MeshError(
            f"it has no physical group of dimension {dim}. Name the domain and its "
            'boundaries, e.g. Physical Surface("floor") = {1}; Physical Curve("exits") = {5, 6};'
        )
    kinds = _elements(model, dim, domain)
    if len(kinds) != 1:
        raise MeshError(f"its cells have the degrees {sorted(kinds)}; they need one in common.")
    ((degree, cells),) = kinds.items()
    cell = getattr(dolfinx.mesh.CellType, SIMPLICES[dim - 1])
    cells = cells[:, cell_perm_array(cell, cells.shape[1])]

    tags, x, _ = model.mesh.getNodes()
    order = np.argsort(tags)
    tags, x = tags[order], x.reshape(-1, 3)[order]

    def points(nodes: np.ndarray) -> np.ndarray:
        found = np.searchsorted(tags, nodes).clip(max=len(tags) - 1)
        if (tags[found] != nodes).any():
            raise MeshError("it has elements with nodes that are not in it.")
        return found

    numbers = [number for d, number in sorted({*entities, *names}) if d == dim - 1]
    called = {number: names.get((dim - 1, number)) or str(number) for number in numbers}
    unnamed = [number for number in numbers if not names.get((dim - 1, number))]
    for number in unnamed:
        if list(called.values()).count(str(number)) > 1:
            raise MeshError(f"group {number} has no name, and another is called so. Name it.")
    if unnamed:
        log.warning("Groups without a name are called by their numbers: %s.", str(unnamed)[1:-1])
    groups = []
    for number, name in called.items():
        facets = _elements(model, dim - 1, entities.get((dim - 1, number), ())).values()
        corners = [np.empty((0, dim), dtype=np.int64), *(nodes[:, :dim] for nodes in facets)]
        groups.append((name, number, points(np.concatenate(corners))))
    return Simplices(x, points(cells), dim, degree, groups)


def _elements(model, dim: int, entities) -> dict[int, np.ndarray]:
    """Nodes of the elements of these entities by degree, shape (elements, nodes)."""
    found = defaultdict(list)
    for entity in entities:
        for kind, _, nodes in zip(*model.mesh.getElements(dim, entity), strict=True):
            name, _, degree, count, _, corners = model.mesh.getElementProperties(kind)
            if corners != dim + 1 or count != math.comb(degree + dim, dim):
                raise MeshError(
                    f"it has elements of the kind {name!r}; the schemes need intervals in 1D, "
                    "triangles in 2D and tetrahedra in 3D, as gmsh makes without Recombine."
                )
            found[degree].append(nodes.astype(np.int64).reshape(-1, count))
    return {degree: np.concatenate(parts) for degree, parts in found.items()}


def _read_xdmf(path: Path) -> Simplices:
    """The mesh, and its tagged facets, which are named by their tags: "1", "2", ..."""
    grids = {grid.get("Name"): grid for grid in ElementTree.parse(path).findall("Domain/Grid")}
    topologies = {name: grid.find("Topology") for name, grid in grids.items()}
    types = {k: t.get("TopologyType", "").lower() for k, t in topologies.items() if t is not None}
    meshes = [name for name in types if grids[name].find("Geometry") is not None]
    if len(meshes) != 1:
        raise MeshError(f"it holds {len(meshes)} meshes; it needs one Grid with a Geometry.")
    with io.XDMFFile(MPI.COMM_SELF, path, "r") as file:
        mesh = file.read_mesh(name=meshes[0])
        dim, cell = mesh.topology.dim, mesh.topology.cell_name()
        if cell not in SIMPLICES:
            raise MeshError(f"it has {cell} cells; the schemes need simplices.")
        mesh.topology.create_entities(dim - 1)
        mesh.topology.create_connectivity(dim - 1, dim)
        kinds = (("polyvertex",), ("polyline", "edge_3"), ("triangle", "triangle_6"))[dim - 1]
        tagged = [
            file.read_meshtags(mesh, name=name)
            for name, kind in types.items()
            if name not in meshes and kind in kinds
        ]
    groups: list[tuple[str, int, np.ndarray]] = []
    for tags in tagged:
        for value in np.unique(tags.values).tolist():
            name, number = str(value), value
            if len(tagged) > 1:
                name, number = f"{tags.name} {value}", len(groups) + 1
            facets = tags.find(value)
            nodes = dolfinx.mesh.entities_to_geometry(mesh, dim - 1, facets)
            corners = nodes.reshape(len(facets), -1)[:, :dim]
            groups.append((name, number, corners))
    degree = mesh.ufl_domain().ufl_coordinate_element().embedded_superdegree
    return Simplices(mesh.geometry.x, geometry_dofmap(mesh), dim, degree, groups)
