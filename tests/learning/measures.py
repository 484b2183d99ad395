"""What a learning test looks for in generated frames: an arm's effector by its colour, and drift.

numpy only. Frames are uint8 H W 3; places and drifts are fractions of the frame.
"""

from __future__ import annotations

import numpy as np

from pipelines.datasets.generate.arm import LINK_LENGTHS

_ANGLES = np.linspace(0, 2 * np.pi, 48, endpoint=False)
_ALONG = np.linspace(0.15, 0.95, 9)  # samples on the forearm, as fractions of its length
_BEYOND = (1.15, 1.3)  # samples past the effector, where the forearm must have ended
_GRID = np.linspace(0.1, 0.9, 49)


def effector_place(frame: np.ndarray) -> np.ndarray:
    """Column and row of the effector: the end of the red forearm, whose length is known.

    For every place and angle: how red a stick of that length is, how much more black there is
    around its far end, the elbow with the upper link, than around the place, and how little red
    follows beyond the place. The best one wins, however faint it is.
    """
    values = frame.astype(np.float32)
    red = np.clip(values[..., 0] - values[..., 1:].max(-1) - _table_red(values), 0, None)
    dark = _blurred(np.clip(110 - values.max(-1), 0, None))
    columns, rows = np.meshgrid(_GRID, _GRID)
    at_place = _at(dark, columns, rows)
    best, place = -np.inf, np.zeros(2)
    for angle in _ANGLES:
        step = LINK_LENGTHS[1] * np.array([np.cos(angle), np.sin(angle)])
        stick = np.mean([_at(red, columns + s * step[0], rows + s * step[1]) for s in _ALONG], 0)
        elbow = _at(dark, columns + step[0], rows + step[1])
        past = [_at(red, columns + (1 - s) * step[0], rows + (1 - s) * step[1]) for s in _BEYOND]
        score = stick + elbow - at_place - 0.5 * np.mean(past, 0)
        index = np.unravel_index(np.argmax(score), score.shape)
        if score[index] > best:
            best, place = float(score[index]), np.array([columns[index], rows[index]])
    return place


def _table_red(values: np.ndarray) -> float:
    """How much redder than green the table is, which fills most of the frame."""
    return float(np.median(values[..., 0] - values[..., 1:].max(-1))) + 10


def _blurred(map_: np.ndarray) -> np.ndarray:
    """Means of 5 x 5 squares."""
    padded = np.pad(map_, 2, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5))
    return windows.mean(axis=(2, 3))


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
