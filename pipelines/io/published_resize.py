"""The resizing of published code bases, to the last bit, without their libraries.

What their loaders gave to a network depends on the filter: none of these widens it when shrinking,
so they alias, and numbers measured on smoother frames are not comparable. Frames are uint8 H W C.
"""

from __future__ import annotations

import functools

import numpy as np

from pipelines.datasets.base import Resize
from pipelines.events import EXIT_USAGE, UserError

_WEIGHT_STEPS = 2048
"""OpenCV's bilinear weights are integers: this many make one."""


def resize(frame: np.ndarray, size_px: int, *, rule: Resize) -> np.ndarray:
    """A frame squashed to size_px x size_px the way `rule` names, uint8 S S C.

    Raises UserError where only ffmpeg can do it, while it decodes.
    """
    if frame.shape[:2] == (size_px, size_px):
        return frame
    if rule.filter == "swscale":
        raise UserError(
            "this published resizing is done while a video is decoded, and these are images",
            {"to fix": "give the videos, or leave out --compat"},
            EXIT_USAGE,
        )
    return {"opencv": opencv_linear, "float": float_linear}[rule.filter](frame, size_px)


def opencv_linear(frame: np.ndarray, size_px: int) -> np.ndarray:
    """What cv2.resize(frame, (size_px, size_px)) gives for bytes.

    Bilinear, no antialias, in integers; shrinking both sides to just a half takes means of 2 x 2.
    """
    height, width = frame.shape[:2]
    if (height, width) == (2 * size_px, 2 * size_px):
        quarters = frame.astype(np.uint16).reshape(size_px, 2, size_px, 2, -1)
        return ((quarters.sum(axis=(1, 3), dtype=np.uint16) + 2) >> 2).astype(np.uint8)
    left, right, weights_x = _columns(width, size_px)
    above, below, weights_y = _rows(height, size_px)

    def mixed_columns(rows: slice | np.ndarray) -> np.ndarray:
        lines = frame[rows]
        mixed: np.ndarray = lines[:, left] * weights_x[:, :1]
        mixed += lines[:, right] * weights_x[:, 1:]
        mixed >>= 4
        return mixed

    # The vertical step drops bits twice before it rounds.
    upper = mixed_columns(above) * weights_y[:, :1, None] >> 16
    lower = mixed_columns(below) * weights_y[:, 1:, None] >> 16
    return np.clip((upper + lower + 2) >> 2, 0, 255).astype(np.uint8)


def float_linear(frame: np.ndarray, size_px: int) -> np.ndarray:
    """Bilinear between pixel centres in floats, no antialias, rounded to the nearest byte.

    The filter of torch.nn.functional.interpolate(mode="bilinear", align_corners=False), which the
    published loaders apply to float images; a packed frame holds bytes.
    """
    height, width = frame.shape[:2]
    left, right, part_x = _float_places(width, size_px)
    above, below, part_y = _float_places(height, size_px)
    upper, lower = (_mixed_columns(frame[rows], left, right, part_x) for rows in (above, below))
    part = part_y[:, None, None]
    mixed = (1 - part) * upper + part * lower
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)


def opencv_grey(frame: np.ndarray) -> np.ndarray:
    """What cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) gives: uint8 H W 3 -> H W 1."""
    weights = np.array([9798, 19235, 3735], np.int32)
    return ((frame @ weights + (1 << 14)) >> 15).astype(np.uint8)[..., None]


Picked = slice | np.ndarray


@functools.cache
def _columns(width: int, size_px: int) -> tuple[Picked, Picked, np.ndarray]:
    """Left and right source columns of each target column, and their integer weights [S 2]."""
    first, part = _opencv_places(width, size_px)
    outside = (first < 0) | (first >= width - 1)
    first, part = np.clip(first, 0, width - 1), np.where(outside, np.float32(0), part)
    second = np.minimum(first + 1, width - 1)
    return _as_slice(first), _as_slice(second), _integer_weights(part)


@functools.cache
def _rows(height: int, size_px: int) -> tuple[Picked, Picked, np.ndarray]:
    """As _columns, for rows: beyond the border the same row is mixed with itself."""
    first, part = _opencv_places(height, size_px)
    above, below = (np.clip(first + step, 0, height - 1) for step in (0, 1))
    return _as_slice(above), _as_slice(below), _integer_weights(part)


def _as_slice(places: np.ndarray) -> Picked:
    """The same places as a slice where they follow at equal steps, which is much faster."""
    steps = np.unique(np.diff(places))
    if len(steps) != 1 or steps[0] <= 0:
        return places
    return slice(int(places[0]), int(places[-1]) + 1, int(steps[0]))


def _opencv_places(source: int, size_px: int) -> tuple[np.ndarray, np.ndarray]:
    places = ((np.arange(size_px) + 0.5) * (source / size_px) - 0.5).astype(np.float32)
    first = np.floor(places).astype(np.int64)
    return first, (places - first.astype(np.float32)).astype(np.float32)


def _integer_weights(part: np.ndarray) -> np.ndarray:
    both = np.stack([np.float32(1) - part, part], axis=1) * np.float32(_WEIGHT_STEPS)
    return np.rint(both).astype(np.int32)


@functools.cache
def _float_places(source: int, size_px: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scale = np.float32(source / size_px)
    places = scale * (np.arange(size_px, dtype=np.float32) + np.float32(0.5)) - np.float32(0.5)
    places = np.maximum(places, 0)
    first = np.minimum(places.astype(np.int64), source - 1)
    return first, np.minimum(first + 1, source - 1), places - first.astype(np.float32)


def _mixed_columns(
    lines: np.ndarray, left: np.ndarray, right: np.ndarray, part: np.ndarray
) -> np.ndarray:
    part = part[:, None]
    return (1 - part) * lines[:, left].astype(np.float32) + part * lines[:, right].astype(
        np.float32
    )
