"""A mesh with every cell cut into 2^d similar ones, and values on both.

The nodes of the new mesh are the nodes of P2 on the old one: its vertices and the middles of its
edges. So spaces are nested, names and seams carry over, and values need no search.
"""

import numpy as np

import basix
import basix.ufl
import dolfinx
from dolfinx import fem

from mfg_fem._compat import geometry_dofmap
from mfg_fem.errors import MeshError
from mfg_fem.mesh import simplices
from mfg_fem.mesh.domain import Domain
from mfg_fem.mesh.periodic import unfolded, wrap

# Of the three diagonals of the octahedron within a tetrahedron the shortest is taken; where two are
# alike, as in the cells of a box, the one across this direction, whatever the ranks.
ACROSS = 1e-3 * np.array([1.0, 0.7, 0.3])


class Refinement:
    """A domain refined once, everywhere. Collective.

    Attributes:
        domain: the refined Domain, with the same names and seams.
    """

    def __init__(self, coarse: Domain):
        mesh, d = coarse.mesh, coarse.dim
        if mesh.ufl_domain().ufl_coordinate_element().embedded_superdegree != 1:
            raise MeshError(
                "A mesh with curved edges cannot be refined here: mesh it anew with straight ones "
                "(in gmsh, Mesh.ElementOrder = 1)."
            )
        self.coarse, self.parts = coarse, 2**d
        self.nodes = fem.functionspace(mesh, ("Lagrange", 2))
        dofs, index_map = self.nodes.dofmap, self.nodes.dofmap.index_map
        x = self.nodes.tabulate_dof_coordinates()[: index_map.size_local, :d]
        cells = dofs.list[: mesh.topology.index_map(d).size_local]
        cells = index_map.local_to_global(cells.ravel()).reshape(cells.shape)
        element = basix.ufl.element("Lagrange", mesh.topology.cell_name(), 1, shape=(d,))
        fine = dolfinx.mesh.create_mesh(
            mesh.comm, cells=self._cut(cells), x=wrap(x, coarse.seams), e=element
        )
        tags = coarse.facet_tags
        if tags is not None:
            tags = simplices.facet_tags(fine, *self._facets(tags))
        # Corners of each cell, ghosts too, in the numbers of the nodes.
        numbers = np.asarray(fine.geometry.input_global_indices)[geometry_dofmap(fine)]
        if coarse.seams:
            fine, tags = unfolded(fine, tags, coarse.seams)
        self.numbers, self.parents = numbers, fine.topology.original_cell_index // self.parts
        self.domain = Domain(fine, tags, coarse.names, coarse.seams, coarse.openings)

    def _cut(self, cells: np.ndarray) -> np.ndarray:
        """The parts of cells, one cell's after the other's."""
        corners = tuple(range(self.coarse.dim + 1))
        if len(corners) < 4:
            return cells[:, parts_of(corners)].reshape(-1, len(corners))
        x = self.coarse.mesh.geometry.x[geometry_dofmap(self.coarse.mesh)[: len(cells)]]
        found = np.empty((len(cells), self.parts, 4), dtype=np.int64)
        a, b, c, d = x[:, :4].swapaxes(0, 1)
        diagonals = [c + d - a - b, b + d - a - c, b + c - a - d]
        lengths = [np.linalg.norm(y, axis=1) + abs(y @ ACROSS) for y in diagonals]
        shortest = np.argmin(lengths, axis=0)
        for which in range(3):
            own = shortest == which
            found[own] = cells[own][:, parts_of(corners, which)]
        return found.reshape(-1, 4)

    def _facets(self, tags: dolfinx.mesh.MeshTags) -> tuple[np.ndarray, np.ndarray]:
        """The parts of the tagged facets of this rank in numbers of the nodes, and their tags."""
        mesh, d = self.coarse.mesh, self.coarse.dim
        topology, dofs = mesh.topology, self.nodes.dofmap
        topology.create_connectivity(d - 1, d)
        topology.create_connectivity(d, d - 1)
        own = tags.indices < topology.index_map(d - 1).size_local
        facets, values = tags.indices[own], tags.values[own]
        cells = topology.connectivity(d - 1, d)
        cells = cells.array[cells.offsets[facets]]
        sides = topology.connectivity(d, d - 1).array.reshape(-1, d + 1)[cells]
        side = (sides == facets[:, None]).argmax(axis=1)
        corners = basix.topology(getattr(basix.CellType, topology.cell_name()))[d - 1]
        local = np.array([parts_of(tuple(some), dim=d) for some in corners])[side]
        local = local.reshape(len(facets), 2 ** (d - 1) * d)
        found = np.take_along_axis(dofs.list[cells], local, axis=1)
        found = dofs.index_map.local_to_global(found.ravel().astype(np.int32))
        return found.reshape(-1, d), np.repeat(values, 2 ** (d - 1))

    def nodal(self, function: fem.Function, V: fem.FunctionSpace) -> np.ndarray:
        """Values of a continuous function at the owned nodes of V, P1 on the new mesh. Collective.

        Shape (owned,), or (owned, components).
        """
        W = fem.functionspace(self.coarse.mesh, ("Lagrange", 2, function.ufl_shape))
        at_nodes, size = fem.Function(W), W.dofmap.index_map_bs
        at_nodes.interpolate(function)
        number = np.empty(V.dofmap.index_map.size_local + V.dofmap.index_map.num_ghosts, np.int64)
        number[V.dofmap.list] = self.numbers
        number = number[: V.dofmap.index_map.size_local]
        values = self._all(at_nodes, W.dofmap.index_map.size_local * size).reshape(-1, size)
        return values[number] if function.ufl_shape else values[number, 0]

    def function(self, function: fem.Function) -> fem.Function:
        """The function on the new mesh: P1 there if it is continuous, or constant on cells.

        Collective.

        Raises:
            MeshError: a function of another kind.
        """
        element, shape = function.function_space.ufl_element(), function.ufl_shape
        if element.discontinuous and element.embedded_superdegree == 0:
            fine = fem.Function(fem.functionspace(self.domain.mesh, ("DG", 0, shape)))
            size = fine.function_space.dofmap.index_map_bs
            owned = function.function_space.dofmap.index_map.size_local
            values = self._all(function, owned * size).reshape(-1, size)
            # Dofs of DG 0 are numbered as cells on both meshes.
            fine.x.array[:] = values[self.parents].ravel()
            return fine
        if element.discontinuous or element.element_family != basix.ElementFamily.P:
            raise MeshError(
                f"a Function of the element {element} cannot be carried to a finer mesh. "
                "Interpolate it into Lagrange or DG 0, or state these data as a callable of x"
            )
        scalar = fem.functionspace(self.domain.mesh, ("Lagrange", 1))
        fine = fem.Function(fem.functionspace(self.domain.mesh, ("Lagrange", 1, shape)))
        values = self.nodal(function, scalar)
        fine.x.array[: values.size] = values.ravel()
        fine.x.scatter_forward()
        return fine

    def _all(self, function: fem.Function, owned: int) -> np.ndarray:
        return np.concatenate(self.coarse.comm.allgather(function.x.array[:owned]))


def parts_of(corners: tuple[int, ...], which: int = 0, dim: int | None = None) -> np.ndarray:
    """The parts of a simplex with these corners of a cell, in dofs of P2 on that cell.

    Args:
        corners: of the simplex.
        which: the diagonal of the octahedron in a tetrahedron is that between the middles of the
            edge from the first corner to this one of the others, and of the edge opposite to it.
        dim: dimension of the cell, by default that of the simplex.
    """
    dim = len(corners) - 1 if dim is None else dim
    cell = basix.CellType[simplices.SIMPLICES[dim - 1]]
    edges = [frozenset(edge) for edge in basix.topology(cell)[1]]

    def middle(i: int, j: int) -> int:
        return i if i == j else dim + 1 + edges.index(frozenset((i, j)))

    parts = [[middle(i, j) for j in corners] for i in corners]
    if len(corners) == 3:
        a, b, c = corners
        parts.append([middle(b, c), middle(c, a), middle(a, b)])
    if len(corners) == 4:
        a, *others = corners
        b = others.pop(which)
        c, d = others
        ends, around = [middle(a, b), middle(c, d)], [(a, c), (a, d), (b, d), (b, c)]
        ring = [middle(*edge) for edge in around]
        parts += [[*ends, ring[k - 1], ring[k]] for k in range(4)]
    return np.array(parts)
