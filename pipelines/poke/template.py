"""Following a part of a picture through a video, by matching what it looked like at first.

The template is the part as the start frame shows it, cut out by its mask. In each frame it is tried
at every place and in several turns near those of the frame before, so that look-alikes farther away
are not mistaken for it. Needs no network.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_HALF_PX = 14  # the template's square reaches so far from the followed pixel
_SIGMA_PX = 8.0  # pixels nearer to the followed one count more
_REACH_PX = 7  # farthest step from one frame to the next
_TURN_RAD, _NUM_TURNS = np.deg2rad(12.0), 2  # smallest turn tried, and how many each way
_NEARNESS = 30.0  # squared grey levels that a place one pixel farther must fit better by
_LEAST_WEIGHT = 0.02  # of the largest, for a pixel to be compared at all


@dataclass(frozen=True)
class _Start:
    """The start frame, float H W 3, the part's mask, H W, and the followed pixel."""

    frame: Floats
    mask: Floats
    column: int
    row: int

    def turned(self, angle: float) -> tuple[Floats, Floats]:
        """The template turned about the followed pixel: its pixels, n n 3, and weights, n n."""
        offsets = np.arange(-_HALF_PX, _HALF_PX + 1)
        down, right = np.meshgrid(offsets, offsets, indexing="ij")
        cos, sin = np.cos(angle), np.sin(angle)
        last = len(self.frame) - 1
        x = np.clip(self.column + cos * right + sin * down, 0, last)
        y = np.clip(self.row - sin * right + cos * down, 0, last)
        near = np.exp(-(right**2 + down**2) / (2 * _SIGMA_PX**2))
        weights = near * self.mask[np.rint(y).astype(int), np.rint(x).astype(int)]
        return _bilinear(self.frame, x, y), weights / weights.sum()


def follow(
    start: np.ndarray, video: np.ndarray, mask: np.ndarray, *, column: int, row: int
) -> tuple[float, float]:
    """How far a pixel of a part has moved at the end of a video: x and y in pixels.

    start: uint8 S S 3.  video: uint8 T S S 3, the frames after it.  mask: bool S S, the part in the
    start frame, the pixel (column, row) in it.
    """
    template = _Start(start.astype(np.float32), _grown(mask), column, row)
    place, angle = np.zeros(2), 0.0
    for frame in video:
        place, angle = _nearest(template, frame.astype(np.float32), place, angle)
    return float(place[0]), float(place[1])


def _nearest(
    start: _Start, frame: Floats, place: np.ndarray, angle: float
) -> tuple[np.ndarray, float]:
    """Where the template fits a frame best, near a place and an angle: new place and angle."""
    size, reach = len(frame), _HALF_PX + _REACH_PX
    middle = np.rint(np.array([start.column, start.row]) + place).astype(int).clip(0, size - 1)
    padded = np.pad(frame, ((reach, reach), (reach, reach), (0, 0)), mode="edge")
    area = padded[middle[1] : middle[1] + 2 * reach + 1, middle[0] : middle[0] + 2 * reach + 1]
    side = 2 * _HALF_PX + 1
    windows = np.lib.stride_tricks.sliding_window_view(area, (side, side), axis=(0, 1))
    windows = np.moveaxis(windows, 2, -1)
    offsets = np.arange(-_REACH_PX, _REACH_PX + 1)
    far = _NEARNESS * np.hypot(*np.meshgrid(offsets, offsets))
    best, found = np.inf, (place, angle)
    for turn in range(-_NUM_TURNS, _NUM_TURNS + 1):
        tried = angle + turn * _TURN_RAD
        pixels, weights = start.turned(tried)
        used = weights > _LEAST_WEIGHT * weights.max()
        differences = np.square(windows[:, :, used] - pixels[used]).mean(-1)
        error = differences @ weights[used]
        down, right = np.unravel_index(np.argmin(error + far), error.shape)
        if (error + far)[down, right] < best:
            best = (error + far)[down, right]
            between = _lowest(error[down], right), _lowest(error[:, right], down)
            moved = middle - (start.column, start.row) + (right - _REACH_PX, down - _REACH_PX)
            found = (moved + between, tried)
    return found


def _lowest(errors: np.ndarray, place: np.intp) -> float:
    """Where the parabola through three neighbours is lowest, in -0.5 .. 0.5."""
    if not 0 < place < len(errors) - 1:
        return 0.0
    left, middle, right = errors[place - 1 : place + 2]
    bend = left - 2 * middle + right
    return 0.0 if bend <= 0 else float(np.clip((left - right) / (2 * bend), -0.5, 0.5))


def _grown(mask: np.ndarray) -> Floats:
    """A mask and its four neighbours, so that the part's edge is compared too."""
    padded = np.pad(mask, 1)
    grown = mask | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    return grown.astype(np.float32)


def _bilinear(frame: Floats, x: np.ndarray, y: np.ndarray) -> Floats:
    """A frame's values between its pixels. x, y: ..., within the frame.  Returns ... 3."""
    last = len(frame) - 2
    left, top = np.minimum(x.astype(int), last), np.minimum(y.astype(int), last)
    right, down = (x - left)[..., None], (y - top)[..., None]
    above = frame[top, left] * (1 - right) + frame[top, left + 1] * right
    below = frame[top + 1, left] * (1 - right) + frame[top + 1, left + 1] * right
    return (above * (1 - down) + below * down).astype(np.float32)
