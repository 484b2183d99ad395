"""What a browser sends: is it a picture or a clip, and nothing else besides?

The bytes decide, never a name or a content type. Only sizes are read here before anything is
unpacked. What is refused raises Refused with the status of the answer.
"""

from __future__ import annotations

import io
import mmap
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.events import UserError
from pipelines.io.images import open_rgb
from pipelines.io.video import iter_video, probe
from pipelines.serve.config import Limits

PREVIEW_PX = 1024
"""Longest side of the copy that the page shows."""

_IMAGES = {
    b"\x89PNG\r\n\x1a\n": ".png",
    b"\xff\xd8\xff": ".jpg",
    b"BM": ".bmp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}
_MARKUP = (b"<script", b"<svg", b"<!doctype html", b"<html", b"<?php", b"%pdf-")
_HEAD_BYTES, _TAIL_BYTES = 1024, 65_557


class Refused(Exception):
    """A request that is not carried out. status: of HTTP.  message: for a person, no full stop."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(frozen=True)
class Picture:
    """A picture that was found good. preview: PNG of at most PREVIEW_PX."""

    width: int
    height: int
    preview: bytes


@dataclass(frozen=True)
class Clip:
    """A clip that was found good. preview: PNG of its first frame."""

    width: int
    height: int
    num_frames: int
    preview: bytes


def image_suffix(path: Path) -> str:
    """The suffix that the file's first bytes call for; Refused (415) for no known kind."""
    head = _head(path)
    for magic, suffix in _IMAGES.items():
        if head.startswith(magic):
            return suffix
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return ".webp"
    raise Refused(415, "this is no picture: PNG, JPEG, WebP, BMP and TIFF are taken")


def read_picture(path: Path, limits: Limits) -> Picture:
    """Check a picture and make its preview.

    Raises Refused: 415 for another kind of file, 413 for too many pixels, 422 when it is damaged or
    is another kind of file at the same time.
    """
    image_suffix(path)
    _refuse_polyglot(path)
    _refuse_many_pixels(path, limits)
    try:
        image = open_rgb(path)
    except UserError as problem:
        raise Refused(422, _reason(problem)) from problem
    width, height = image.size
    image.thumbnail((PREVIEW_PX, PREVIEW_PX))
    return Picture(width, height, to_png(np.asarray(image)))


def read_clip(path: Path, limits: Limits) -> Clip:
    """Check a clip by decoding all of it. Raises Refused as read_picture does."""
    if not _is_film(_head(path)):
        raise Refused(415, "this is no clip: MP4, MOV, WebM, MKV, AVI and GIF are taken")
    try:
        info = probe(path)
        if info.width * info.height > limits.clip_pixels:
            raise Refused(413, f"frames of {info.width} x {info.height} pixels are too large")
        num_frames, first = 0, None
        for frame in iter_video(path, max_frames=limits.clip_frames, info=info):
            first = frame if first is None else first
            num_frames += 1
    except UserError as problem:
        raise Refused(422, _reason(problem)) from problem
    if first is None:
        raise Refused(422, "this clip has no frame")
    image = Image.fromarray(first)
    image.thumbnail((PREVIEW_PX, PREVIEW_PX))
    return Clip(info.width, info.height, num_frames, to_png(np.asarray(image)))


def to_png(picture: np.ndarray) -> bytes:
    """A picture, uint8 H W 3, as a PNG that is quickly made."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, format="PNG", compress_level=1)
    return stream.getvalue()


def from_png(data: bytes) -> np.ndarray:
    """The inverse of to_png."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_HEAD_BYTES)


def _is_film(head: bytes) -> bool:
    return (
        head[4:8] in (b"ftyp", b"moov", b"wide", b"mdat", b"skip", b"free")
        or head.startswith((b"\x1aE\xdf\xa3", b"GIF87a", b"GIF89a"))
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
    )


def _refuse_many_pixels(path: Path, limits: Limits) -> None:
    """By the header alone: a few bytes can unpack to gigabytes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                num_pixels = image.width * image.height
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        num_pixels = limits.pixels + 1
    except (OSError, ValueError, SyntaxError) as problem:
        raise Refused(422, f"cannot read the picture: {problem}") from problem
    if num_pixels > limits.pixels:
        most = limits.pixels // 1_000_000
        raise Refused(413, f"this picture has too many pixels: {most} million are taken")


def _refuse_polyglot(path: Path) -> None:
    """A file that a browser, an archiver or a viewer would take for something else as well."""
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
        head, tail = bytes(data[:_HEAD_BYTES]).lower(), bytes(data[-_TAIL_BYTES:]).lower()
        is_png = data[:4] == b"\x89PNG"
        has_more = is_png and data.rfind(b"IEND") not in (-1, len(data) - 8)
    has_markup = any(word in part for word in _MARKUP for part in (head, tail))
    if has_more or has_markup or zipfile.is_zipfile(path):
        raise Refused(422, "this file is a picture and something else at the same time")


def _reason(problem: UserError) -> str:
    reason = problem.details.get("reason") or problem.details.get("ffmpeg says")
    words = problem.message.split(" '")[0]
    return f"{words}: {reason}" if reason else words
