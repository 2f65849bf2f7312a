"""Films: figures one after the other into a .gif or an .mp4. Serial; see plots.animate."""

import shutil
import subprocess
from pathlib import Path


class Film:
    """A film that grows by figures of one size and is written when it is closed.

    Args:
        path: a .gif (by Pillow) or .mp4 (by ffmpeg).
        fps: frames per second.
        palette: the 256 colours of a .gif: red, green, blue one after the other.
    """

    def __init__(self, path: Path, fps: float, palette: list[int]):
        self.path, self.fps, self.palette = path, fps, palette
        self.frames, self.encoder = [], None
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
            first.save(
                self.path,
                save_all=True,
                append_images=others,
                duration=round(1000 / self.fps),
                loop=0,
            )
        elif self.encoder is not None:
            _, message = self.encoder.communicate()
            if self.encoder.returncode:
                raise RuntimeError(f"ffmpeg failed: {message.decode(errors='replace')[-500:]}")

    def _encode(self, pixels):
        if self.encoder is None:
            height, width, _ = pixels.shape
            source = f"-f rawvideo -pix_fmt rgb24 -s {width}x{height} -r {self.fps} -i -".split()
            target = ["-an", "-pix_fmt", "yuv420p", str(self.path)]
            self.encoder = subprocess.Popen(
                ["ffmpeg", "-y", "-loglevel", "error", *source, *target],
                stdin=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        self.encoder.stdin.write(pixels.tobytes())
