"""How a frame of any shape becomes a square one; the same for videos, images and arrays.

One filter everywhere: bicubic (a = -0.5), widened when shrinking so that nothing aliases. ffmpeg's
scaler and Pillow agree on it to a fraction of a grey level, so a clip gives the same frames whether
it comes as a video, as a folder of images or as an array.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.datasets.config import Fit

FILTER = "bicubic (a=-0.5), antialiased; ffmpeg swscale for videos, Pillow for images and arrays"


@dataclass(frozen=True)
class Placement:
    """The part `crop` of a frame is scaled to `scaled` and put at `offset` of a black square.

    crop: left, top, width, height in source pixels.  scaled: width, height.  offset: x, y.
    """

    crop: tuple[int, int, int, int]
    scaled: tuple[int, int]
    offset: tuple[int, int]
    size_px: int

    @property
    def fills_square(self) -> bool:
        """Whether no border stays black."""
        return self.scaled == (self.size_px, self.size_px)


def place(
    width: int, height: int, size_px: int, *, fit: Fit, pixel_aspect: float = 1.0
) -> Placement:
    """Where a frame of width x height pixels goes in a square of size_px.

    fit: squash takes the whole frame whatever its shape, center-crop the largest square in its
    middle, pad the whole frame between black borders.  pixel_aspect: width of a pixel over its
    height, where videos do not have square pixels.
    """
    whole, square = (0, 0, width, height), (size_px, size_px)
    if fit == "squash":
        return Placement(whole, square, (0, 0), size_px)
    shown_width = width * pixel_aspect
    if fit == "center-crop":
        side = min(shown_width, height)
        crop_width = min(width, max(1, round(side / pixel_aspect)))
        crop_height = max(1, round(side))
        # Even places keep luma and the coarser chroma samples of a video together.
        left, top = (width - crop_width) // 4 * 2, (height - crop_height) // 4 * 2
        return Placement((left, top, crop_width, crop_height), square, (0, 0), size_px)
    scale = size_px / max(shown_width, height)
    scaled = (max(1, round(shown_width * scale)), max(1, round(height * scale)))
    offset = ((size_px - scaled[0]) // 2, (size_px - scaled[1]) // 2)
    return Placement(whole, scaled, offset, size_px)
