"""Reading, resizing and writing images, and sheets of small pictures to look at."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError

from pipelines.datasets.config import Fit
from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.files import atomic_writer
from pipelines.io.fitting import place

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})

MAX_PIXELS = 100_000_000
"""A larger image is refused: a few kilobytes of PNG can unpack to gigabytes."""

_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    UnidentifiedImageError,
    Image.DecompressionBombError,
)


def read_image(path: Path, *, size_px: int | None = None, fit: Fit = "squash") -> np.ndarray:
    """An image file as uint8 H W 3, turned as its EXIF data says, on white where transparent.

    Grey images get three equal channels, 16 bit are scaled to 8. Raises UserError with exit code 4
    when the file is missing, not an image, damaged or larger than MAX_PIXELS.
    """
    image = open_rgb(path)
    return np.asarray(image if size_px is None else fit_image(image, size_px, fit=fit))


def image_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels from the header alone, as shown (EXIF rotation applied).

    Raises UserError as read_image does.
    """
    try:  # what a PNG says of its orientation may stand behind its pixels
        with _opened(path) as image:
            width, height = image.size
            orientation = image.getexif().get(0x0112, 1)
    except _UNREADABLE as problem:
        raise _unreadable(path, problem) from problem
    return (height, width) if orientation in (5, 6, 7, 8) else (width, height)


def open_rgb(path: Path) -> Image.Image:
    """The image as an RGB Pillow image; see read_image."""
    try:
        with _opened(path) as image:
            return _to_rgb(ImageOps.exif_transpose(image))
    except _UNREADABLE as problem:
        raise _unreadable(path, problem) from problem


def fit_image(image: Image.Image, size_px: int, *, fit: Fit) -> Image.Image:
    """A square image of size_px in the same mode (RGB or L), by the project's one filter."""
    if image.size == (size_px, size_px):
        return image
    target = place(image.width, image.height, size_px, fit=fit)
    left, top, width, height = target.crop
    box = (left, top, left + width, top + height)
    scaled = image.resize(target.scaled, Image.Resampling.BICUBIC, box=box)
    if target.fills_square:
        return scaled
    square = Image.new(image.mode, (size_px, size_px))
    square.paste(scaled, target.offset)
    return square


def to_grey(frame: np.ndarray) -> np.ndarray:
    """Luma of uint8 H W 3 as H W 1 (0.299 R + 0.587 G + 0.114 B)."""
    return np.asarray(Image.fromarray(frame).convert("L"))[..., None]


def write_png(path: Path, array: np.ndarray) -> None:
    """Write uint8 H W 3, H W 1 or H W as a PNG, whole or not at all."""
    image = Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array)
    with atomic_writer(path, "wb") as stream:
        image.save(stream, format="PNG")


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]],
    labels: Sequence[str] = (),
    *,
    column_labels: Sequence[str] = (),
    gap_px: int = 3,
    text_px: int = 12,
) -> np.ndarray:
    """Rows of pictures on white with a label left of each row: uint8 H W 3.

    rows: pictures uint8 H W 3 (or H W 1) of any sizes; every cell has the size of the largest.
    """
    pictures = [picture for row in rows for picture in row]
    if not pictures:
        raise ValueError("a contact sheet needs at least one picture")
    cell_height = max(picture.shape[0] for picture in pictures)
    cell_width = max(picture.shape[1] for picture in pictures)
    font = ImageFont.load_default(text_px)
    label_px = max((int(font.getlength(_plain(label))) for label in labels), default=0)
    left = label_px + 2 * gap_px if labels else gap_px
    top = text_px + 2 * gap_px if column_labels else gap_px
    columns = max(len(row) for row in rows)
    width = left + columns * (cell_width + gap_px)
    height = top + len(rows) * (max(cell_height, text_px + 2) + gap_px)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    for column, text in enumerate(column_labels):
        draw.text((left + column * (cell_width + gap_px), gap_px), _plain(text), "black", font)
    for number, row in enumerate(rows):
        y = top + number * (max(cell_height, text_px + 2) + gap_px)
        if number < len(labels):
            middle = y + (cell_height - text_px) // 2
            draw.text((gap_px, middle), _plain(labels[number]), "black", font)
        for column, picture in enumerate(row):
            shown = np.broadcast_to(picture, (*picture.shape[:2], 3))
            place_at = (left + column * (cell_width + gap_px), y)
            sheet.paste(Image.fromarray(np.ascontiguousarray(shown)), place_at)
    return np.asarray(sheet)


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def _opened(path: Path) -> Image.Image:
    try:
        with warnings.catch_warnings():
            # Pillow warns at a limit of its own; ours is checked below.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
    except FileNotFoundError as problem:
        raise UserError(f"no image '{path.name}'", {"looked for": path}, EXIT_NO_DATA) from problem
    except _UNREADABLE as problem:
        raise _unreadable(path, problem) from problem
    width, height = image.size
    if width * height > MAX_PIXELS:
        image.close()
        raise _unreadable(path, f"{width} x {height} pixels are too many", "scale it down first")
    return image


def _unreadable(
    path: Path,
    reason: object,
    remedy: str = "open it in an image program and save it again as PNG or JPEG",
) -> UserError:
    known = isinstance(reason, UnidentifiedImageError)
    text = "not an image of a known format" if known else " ".join(str(reason).split())
    return UserError(
        f"cannot read the image '{path.name}'",
        {"path": path, "reason": text or type(reason).__name__, "to fix": remedy},
        EXIT_NO_DATA,
    )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64)
        eight_bit = np.clip((levels + 128) // 257, 0, 255).astype(np.uint8)
        return Image.fromarray(eight_bit).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed white")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        background = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(background, image).convert("RGB")
    return image.convert("RGB")
