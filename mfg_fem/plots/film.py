"""Films of the density, by matplotlib."""

import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

from mpi4py import MPI

from mfg_fem.errors import FileError, alike, together
from mfg_fem.io.files import on_root, replacing
from mfg_fem.io.paraview import chosen_levels
from mfg_fem.plots import colours, drawing
from mfg_fem.plots.request import checked, given_axes, nearest, target
from mfg_fem.plots.scene import Scene, Snapshot
from mfg_fem.plots.style import STYLE, styled
from mfg_fem.validate import number


def animate(
    solution,
    path: str | Path | None = None,
    *,
    ax=None,
    every: int = 1,
    fps: float = 10.0,
    until: float | None = None,
    streamlines: bool = False,
    length: str = "m",
    time: str = "s",
    height: float | None = None,
    dpi: int = 110,
):
    """Film the density: a .gif (by Pillow) or an .mp4 (by ffmpeg, which must be on PATH).

    Args:
        solution: what to film.
        path: the film; by default nothing is written.
        ax: Axes to draw into (rank 0); what else is in their figure is in the film too.
        every: show every so many levels.
        fps: frames per second.
        until: last time to show, by default the horizon.
        streamlines: draw where people walk.
        length: unit of length.
        time: unit of time.
        height: where to cut a 3D domain, half way up by default.
        dpi: dots per inch.

    Returns:
        Without a path, on rank 0, a FuncAnimation of matplotlib, which keeps the fields of all its
        frames; `IPython.display.HTML(film.to_jshtml())` shows it in a notebook. With a path None:
        frames are written one by one and not kept. None on other ranks.
    """
    settings = {"height": height, "dpi": dpi, "streamlines": streamlines, "fps": fps}
    units = checked([solution], length, time, **settings)
    comm = solution.problem.domain.comm
    path = target(comm, path)
    with together(comm):
        if path is not None and path.suffix not in (".gif", ".mp4"):
            raise FileError(f"{path}: films end in .gif or .mp4, not {path.suffix!r}.")
        last = solution.steps if until is None else nearest(solution, number("until", until))
        levels = [n for n in chosen_levels(solution.steps, every) if n <= last]
    alike(comm, levels=levels)
    axes = given_axes(comm, ax, (1,), "a film takes one")
    quantity = colours.density(units, streamlines)
    here = solution.nodal_densities[levels].max(initial=0.0)
    top, scene = comm.allreduce(float(here), MPI.MAX), Scene(solution, height)
    context = f"{path or 'The film'} cannot be filmed"

    def start():
        return _Screen(scene.plan, quantity, units, top, axes, dpi)

    screen = on_root(comm, context, start if axes else styled(start))
    if path is None:
        shots = [scene.at(n) for n in levels]
        return on_root(comm, context, lambda: screen.animation(shots, fps))
    with replacing(comm, path) as temporary:
        palette = None if axes else colours.palette(quantity)
        writer = on_root(comm, context, lambda: _writer(path, fps, palette))
        on_root(comm, context, lambda: writer.setup(screen.figure, temporary, dpi))
        try:
            for count, n in enumerate(levels, start=1):
                shot = scene.at(n)
                on_root(comm, context, lambda s=shot: screen.film(s, writer))
                if comm.rank == 0 and sys.stderr.isatty():
                    end = "\n" if count == len(levels) else ""
                    print(f"\r{path}: frame {count} of {len(levels)}", end=end, file=sys.stderr)
        except BaseException:
            if writer is not None:  # an encoder would wait for more frames
                with suppress(RuntimeError, OSError, ValueError):
                    _finish(writer)
            raise
        on_root(comm, context, lambda: _finish(writer))
    return None


class _Screen:
    """Axes in which one time takes the place of another; on rank 0.

    What else is in axes of the user's stays there, and keeps its style.
    """

    def __init__(self, plan, quantity, units, top: float, axes: list | None, dpi: float):
        self.plan, self.quantity, self.units = plan, quantity, units
        self.own = axes is None
        self.shown: list = []
        self.ends = colours.limits([], quantity, top)
        self.axes = [*(drawing.take(axes, plan) if axes else drawing.lay_out(plan, 1)).flat]
        self.figure = self.axes[0].figure.figure
        if self.own:
            self.figure.set_dpi(dpi)
        if plan.x.shape[1] > 1:
            colours.colour_bar(self.axes, quantity, self.ends, inset=not self.own)

    def show(self, shot: Snapshot):
        """Draw this time in place of the last one."""
        (ax,) = self.axes
        for artist in self.shown:
            artist.remove()
        before = {*ax.get_children()}
        drawing.draw([ax], self.plan, [shot], self.quantity, self.units, self.ends)
        if self.own and not self.shown:
            self.figure.draw_without_rendering()
            self.figure.set_layout_engine("none")  # so that nothing moves from frame to frame
        self.shown = [artist for artist in ax.get_children() if artist not in before]

    def film(self, shot: Snapshot, writer):
        """Show it, and add a frame to the film."""
        import matplotlib

        style = {"savefig.bbox": None}  # a tight one would differ from frame to frame
        with matplotlib.rc_context(STYLE | style if self.own else style):
            self.show(shot)
            try:
                with _pipe_may_break():
                    writer.grab_frame()
            except BrokenPipeError:
                _finish(writer)  # knows why the encoder has ended
                raise

    def animation(self, shots: list[Snapshot], fps: float):
        """What shows them one after the other."""
        import matplotlib
        from matplotlib.animation import FuncAnimation

        def show(shot):
            with matplotlib.rc_context(STYLE if self.own else {}):
                self.show(shot)

        settings = {"interval": 1000 / fps, "cache_frame_data": False}
        return FuncAnimation(self.figure, show, shots, **settings)


def _writer(path: Path, fps: float, palette: list[int] | None):
    """Matplotlib's writer of films with this suffix, or ours if all colours are known."""
    from matplotlib.animation import FFMpegWriter, PillowWriter

    if path.suffix == ".mp4":
        if not FFMpegWriter.isAvailable():
            raise RuntimeError("an .mp4 needs ffmpeg, which is not on PATH; a .gif does not")
        return FFMpegWriter(fps)
    from mfg_fem.plots.gif import GifWriter

    return PillowWriter(fps) if palette is None else GifWriter(fps, palette)


def _finish(writer):
    try:
        with _pipe_may_break():
            writer.finish()
    except subprocess.CalledProcessError as exc:
        raise RuntimeError(f"ffmpeg failed: {exc.stderr.strip()[-500:]}") from exc


@contextmanager
def _pipe_may_break():
    """Make an encoder that has ended an exception: at a SIGPIPE PETSc would end the process."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPIPE})
    try:
        yield
    finally:
        if signal.SIGPIPE in signal.sigpending():
            signal.sigwait({signal.SIGPIPE})
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
