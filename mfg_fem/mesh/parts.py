"""The connected parts of a mesh."""

import numpy as np

from dolfinx import fem, la


def connected_parts(V: fem.FunctionSpace) -> np.ndarray:
    """The number of the connected part that each local dof is in, alike on all ranks. Collective.

    Parts are those that people can walk in, from cell to cell.
    """
    index_map, mesh = V.dofmap.index_map, V.mesh
    cells = V.dofmap.list[: mesh.topology.index_map(mesh.topology.dim).size_local]
    local = index_map.size_local + index_map.num_ghosts
    first = np.repeat(cells[:, :1], cells.shape[1] - 1, axis=1)
    root = joined(np.arange(local), first.ravel(), cells[:, 1:].ravel())
    root = index_map.local_to_global(root.astype(np.int32))
    owners = la.vector(index_map)
    owners.array[:] = root
    owners.scatter_forward()
    # A ghost is in a part of this rank and in one of its owner's, which are one.
    pairs = np.unique(np.column_stack([root, owners.array.astype(np.int64)]), axis=0)
    pairs = np.concatenate(mesh.comm.allgather(pairs))
    names, places = np.unique(pairs, return_inverse=True)
    places = places.reshape(pairs.shape)
    root_of_names = joined(np.arange(len(names)), *places.T)
    _, number = np.unique(root_of_names, return_inverse=True)
    return number[np.searchsorted(names, root)]


def joined(root: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The least number in the part of each, where pairs of one and other are in the same part."""
    while (root[one] != root[other]).any():
        low, high = np.sort([root[one], root[other]], axis=0)
        np.minimum.at(root, high, low)
        while (root[root] != root).any():
            root = root[root]
    return root
