"""Which triangle a point lies in, and streamlines between triangles."""

import numpy as np

from mfg_fem.mesh.locate import COINCIDE, canonical_order
from mfg_fem.plots.scene import Snapshot
from mfg_fem.plots.style import FLOW


def finder(mesh):
    """Finds the triangles of points, of a mesh with walls of no width too.

    Two nodes in one place, as on the sides of such a wall, matplotlib's own takes for a mistake.
    """
    from matplotlib.tri import Triangulation

    x = np.column_stack([mesh.x, mesh.y])
    order = canonical_order(x)
    new = (abs(np.diff(x[order], axis=0)) > COINCIDE * np.ptp(x, axis=0)).any(axis=1)
    if new.all():
        return mesh.get_trifinder()
    first = np.insert(new, 0, True)
    number = np.empty_like(order)
    number[order] = np.cumsum(first) - 1
    return Triangulation(*x[order[first]].T, number[mesh.triangles]).get_trifinder()


def draw_streamlines(ax, mesh, shot: Snapshot, points: int = 160):
    """Streamlines where there are people, on a regular grid."""
    from matplotlib.tri import LinearTriInterpolator

    x = [np.linspace(v.min(), v.max(), points) for v in (mesh.x, mesh.y)]
    X, Y = np.meshgrid(*x)
    find = finder(mesh)
    there, U, V = (
        LinearTriInterpolator(mesh, field, find)(X, Y) for field in (shot.density, *shot.velocity.T)
    )
    nobody = np.ma.getmaskarray(there) | (there.filled(0.0) < 0.02 * shot.density.max())
    if nobody.all():
        return
    U, V = (np.ma.array(v, mask=nobody) for v in (U, V))
    if not max(abs(U).max(), abs(V).max()) > 0:
        return
    lines = ax.streamplot(
        *x, U, V, density=0.9, color=FLOW, linewidth=0.5, arrowsize=0.5, minlength=0.06, zorder=3
    )
    lines.arrows.set_zorder(3)
