"""A .gif with one palette for all frames; matplotlib is imported with this module."""

from io import BytesIO

from matplotlib.animation import AbstractMovieWriter
from PIL import Image


class GifWriter(AbstractMovieWriter):
    """What PillowWriter of matplotlib does, with one palette instead of one for each frame.

    Those make colours flicker and files larger: by 70 % for the film of a hall that empties.

    Args:
        fps: frames per second.
        palette: the 256 colours: red, green, blue one after the other.
    """

    def __init__(self, fps: float, palette: list[int]):
        super().__init__(fps=fps)
        self.palette = Image.new("P", (1, 1))
        self.palette.putpalette(palette)

    def setup(self, fig, outfile, dpi=None):
        """Begin a film of this figure."""
        super().setup(fig, outfile, dpi)
        self.frames = []

    def grab_frame(self, **settings):
        """Add the figure as it is now."""
        pixels = BytesIO()
        self.fig.savefig(pixels, format="rgba", dpi=self.dpi, **settings)
        image = Image.frombuffer("RGBA", self.frame_size, pixels.getvalue(), "raw", "RGBA", 0, 1)
        image = image.convert("RGB").quantize(palette=self.palette, dither=Image.Dither.NONE)
        self.frames.append(image)

    def finish(self):
        """Write the file."""
        first, *others = self.frames
        settings = {"duration": round(1000 / self.fps), "loop": 0}
        first.save(self.outfile, save_all=True, append_images=others, **settings)
