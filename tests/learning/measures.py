"""What a learning test looks for in generated frames: an arm's effector by its colour, and drift.

numpy only. Frames are uint8 H W 3; places and drifts are fractions of the frame.
"""

from __future__ import annotations

import numpy as np

from pipelines.datasets.generate.arm import LINK_LENGTHS

_ANGLES = np.linspace(0, 2 * np.pi, 180, endpoint=False)
_DOWN = _ANGLES[(_ANGLES > 0) & (np.pi > _ANGLES)]  # the arm hangs from the upper edge
_ALONG = np.linspace(0.12, 0.95, 17)  # samples on a link, as fractions of its length
_BESIDE = 0.09  # where a link must have ended, to its left and right
_REACH = (0.1, 0.9)


def effector_place(frame: np.ndarray, base: np.ndarray) -> np.ndarray:
    """Column and row of the effector: the end of the arm's red forearm, however faint it is.

    base: where the arm is fixed. Both links' lengths are known, so that each is one angle: that of
    the darkest stick from the base, then that of the reddest stick from its end which ends where
    the arm can reach; both over what is beside them.
    """
    values = frame.astype(np.float32)
    brightest = values.max(-1)
    redness = values[..., 0] - values[..., 1:].max(-1)
    dark = np.clip(np.median(brightest) - brightest, 0, None)
    red = np.clip(redness - np.median(redness), 0, None)
    shoulder = _DOWN[np.argmax(_stick(dark, base, _DOWN, LINK_LENGTHS[0]))]
    elbow = base + LINK_LENGTHS[0] * np.array([np.cos(shoulder), np.sin(shoulder)])
    ends = elbow + LINK_LENGTHS[1] * _directions(_ANGLES)
    scores = _stick(red, elbow, _ANGLES, LINK_LENGTHS[1])
    scores[((ends < _REACH[0]) | (ends > _REACH[1])).any(axis=1)] = -np.inf
    return ends[np.argmax(scores)]


def arm_base(place: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Where an arm is fixed, from its effector's place and its two links' angles (rad)."""
    upper, fore = _directions(angles)
    return place - LINK_LENGTHS[0] * upper - LINK_LENGTHS[1] * fore


def _stick(map_: np.ndarray, start: np.ndarray, angles: np.ndarray, length: float) -> np.ndarray:
    """For each angle: the mean of a map along a stick less that beside it."""
    ways = _directions(angles)
    across = np.stack([-ways[:, 1], ways[:, 0]], axis=1)[:, None]
    places = start + ways[:, None] * (_ALONG * length)[:, None]
    on, left, right = (
        _at(map_, *np.moveaxis(places + shift * across, -1, 0)).mean(axis=1)
        for shift in (0, -_BESIDE, _BESIDE)
    )
    return on - (left + right) / 2


def _directions(angles: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _at(map_: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Bilinear values of a map H W at fractions of it; 0 outside."""
    size = len(map_)
    x, y = columns * size - 0.5, rows * size - 0.5
    inside = (x >= 0) & (x <= size - 1) & (y >= 0) & (y <= size - 1)
    x, y = np.clip(x, 0, size - 1.001), np.clip(y, 0, size - 1.001)
    left, top = x.astype(int), y.astype(int)
    right, down = x - left, y - top
    found = (
        map_[top, left] * (1 - right) * (1 - down)
        + map_[top, left + 1] * right * (1 - down)
        + map_[top + 1, left] * (1 - right) * down
        + map_[top + 1, left + 1] * right * down
    )
    return np.where(inside, found, 0)


def horizontal_drift(video: np.ndarray, *, largest: float = 0.1) -> float:
    """How far a sky moves to the right per frame: the shift under which frames agree best.

    video: uint8 T H W 3, start frame first. The upper half, all pairs of following frames at once;
    largest: of the shifts tried, a fraction of the width per frame.
    """
    values = video[:, : video.shape[1] // 2].astype(np.float32).mean(-1)
    values = values - values.mean(axis=(1, 2), keepdims=True)
    width = values.shape[2]
    shifts = np.arange(-round(largest * width * 4), round(largest * width * 4) + 1) / 4
    costs = [_difference(values, shift) for shift in shifts]
    return float(shifts[int(np.argmin(costs))]) / width


def _difference(values: np.ndarray, shift: float) -> float:
    """Mean squared difference between frames and their successors moved back by a shift."""
    width = values.shape[2]
    places = np.arange(width, dtype=np.float32)
    margin = int(np.ceil(abs(shift)))
    kept = slice(margin, width - margin)
    low = np.floor(places + shift).astype(int).clip(0, width - 1)
    high = np.minimum(low + 1, width - 1)
    part = (places + shift) - np.floor(places + shift)
    moved = values[1:, :, low] * (1 - part) + values[1:, :, high] * part
    return float(((moved - values[:-1]) ** 2)[..., kept].mean())
