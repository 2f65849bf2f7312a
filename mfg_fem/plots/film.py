"""Films: figures one after the other into a .gif or an .mp4. Serial; see plots.animate."""

import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any


class Film:
    """A film that grows by figures of one size and is written when it is closed.

    Args:
        path: a .gif (by Pillow) or .mp4 (by ffmpeg).
        fps: frames per second.
        palette: the 256 colours of a .gif: red, green, blue one after the other.
    """

    def __init__(self, path: Path, fps: float, palette: list[int]):
        self.path, self.fps, self.palette = path, fps, palette
        self.frames: list = []
        self.encoder: Any = None
        self.stream: Any = None
        if path.suffix == ".mp4" and shutil.which("ffmpeg") is None:
            raise RuntimeError("an .mp4 needs ffmpeg, which is not on PATH; a .gif does not")

    def add(self, figure, dpi: int):
        """Draw one more frame."""
        import numpy as np
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from PIL import Image

        figure.set_dpi(dpi)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        pixels = np.asarray(canvas.buffer_rgba())[..., :3]
        pixels = np.ascontiguousarray(pixels[: len(pixels) // 2 * 2, : pixels.shape[1] // 2 * 2])
        if self.path.suffix == ".gif":  # one palette for all frames, or colours would flicker
            colours = Image.new("P", (1, 1))
            colours.putpalette(self.palette)
            image = Image.fromarray(pixels)
            self.frames.append(image.quantize(palette=colours, dither=Image.Dither.NONE))
        else:
            self._encode(pixels)

    def close(self):
        """Write the file."""
        if self.path.suffix == ".gif":
            first, *others = self.frames
            timing = {"duration": round(1000 / self.fps), "loop": 0}
            first.save(self.path, save_all=True, append_images=others, **timing)
        elif self.encoder is not None:
            self.stream.close()
            _, message = self.encoder.communicate()
            if self.encoder.returncode:
                raise RuntimeError(f"ffmpeg failed: {message.decode(errors='replace')[-500:]}")

    def stop(self):
        """Leave no encoder behind that still waits for frames."""
        if self.encoder is not None and self.encoder.poll() is None:
            self.stream.close()
            self.encoder.kill()
            self.encoder.communicate()

    def _encode(self, pixels):
        if self.encoder is None:
            height, width, _ = pixels.shape
            source = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {self.fps} -i -".split()
            target = ["-an", "-pix_fmt", "yuv420p", str(self.path)]
            self.stream, theirs = socket.socketpair()
            with theirs:
                self.encoder = subprocess.Popen(
                    ["ffmpeg", "-y", "-loglevel", "error", *source, *target],
                    stdin=theirs.fileno(),
                    stderr=subprocess.PIPE,
                )
        try:
            # An encoder that has ended must not be a SIGPIPE, at which PETSc ends the process.
            self.stream.sendall(pixels.tobytes(), getattr(socket, "MSG_NOSIGNAL", 0))
        except ConnectionError:
            self.close()  # knows why it has ended
            raise
