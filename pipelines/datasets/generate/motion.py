"""Exact motion of what was drawn: flow, and whether a point is still seen later.

A stick has a start and an end point; a point of it is (along, across): the fraction of the way from
start to end, and pixels to the side of that line.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.datasets.generate.scene import Bytes, Float32, lags_within

FlowTruth = tuple[dict[int, Float32], dict[int, NDArray[np.bool_]]]
"""Flow and visibility by lag, as in Clip."""


def stick_flow(owner: Bytes, starts: Float32, ends: Float32) -> FlowTruth:
    """Motion of everything that is drawn as sticks on a background that stands still.

    owner: part shown by each pixel, T H W, 0 is the background.
    starts, ends: end points of part p in frame t at [t, p - 1], T P 2, pixels.
    """
    return moved_flow(owner, StickMotion(owner, starts, ends), lags_within(len(owner)))


class StickMotion:
    """Where the visible points of sticks are in later frames."""

    def __init__(self, owner: Bytes, starts: Float32, ends: Float32) -> None:
        self._starts, self._axes = starts, ends - starts
        frame, row, column = np.nonzero(owner)
        stick = owner[frame, row, column].astype(np.int64) - 1
        self.frame, self.row, self.column, self.stick = frame, row, column, stick
        axis = self._axes[frame, stick]
        from_start = np.stack([column, row], axis=1) + np.float32(0.5) - starts[frame, stick]
        length2 = np.maximum((axis * axis).sum(axis=1), 1e-6)
        self.along = (from_start * axis).sum(axis=1) / length2
        cross = axis[:, 0] * from_start[:, 1] - axis[:, 1] * from_start[:, 0]
        self.across = cross / np.sqrt(length2)

    def positions(self, which: NDArray[np.bool_], lag: int) -> Float32:
        """Places, N 2 in pixels, of the chosen points `lag` frames after the one they were seen in."""
        frame, stick = self.frame[which] + lag, self.stick[which]
        axis = self._axes[frame, stick]
        length = np.maximum(np.sqrt((axis * axis).sum(axis=1)), 1e-3)
        normal = np.stack([-axis[:, 1], axis[:, 0]], axis=1) / length[:, None]
        start = self._starts[frame, stick]
        return start + self.along[which, None] * axis + self.across[which, None] * normal


class PointMotion(Protocol):
    """Points that are seen and move: entry i is seen in frame[i] at the pixel row[i], column[i]."""

    frame: NDArray[np.intp]
    row: NDArray[np.intp]
    column: NDArray[np.intp]

    def positions(self, which: NDArray[np.bool_], lag: int) -> Float32:
        """Places, N 2 in pixels, of the chosen points `lag` frames after the one they were seen in."""
        ...


def moved_flow(owner: Bytes, motion: PointMotion, lags: tuple[int, ...]) -> FlowTruth:
    """Flow and visibility by lag from the motion of points; all that is none of them stands still."""
    flow, visible = {}, {}
    num_frames, height, width = owner.shape
    for lag in lags:
        which = motion.frame < num_frames - lag
        t, row, column = motion.frame[which], motion.row[which], motion.column[which]
        target = motion.positions(which, lag)
        field = np.zeros((num_frames - lag, 2, height, width), np.float32)
        field[t, 0, row, column] = target[:, 0] - column - np.float32(0.5)
        field[t, 1, row, column] = target[:, 1] - row - np.float32(0.5)
        seen = owner[:-lag] == owner[lag:]
        seen[t, row, column] = shows(owner, t + lag, target, owner[t, row, column])
        flow[lag], visible[lag] = field, seen
    return flow, visible


def shows(
    owner: Bytes, frame: NDArray[np.intp], place: Float32, part: Bytes
) -> NDArray[np.bool_]:
    """Whether the pixel at a place (N 2, pixels) shows the part; places outside do not."""
    column, row = np.floor(place).astype(np.int64).T
    height, width = owner.shape[1:]
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    there = owner[frame, row.clip(0, height - 1), column.clip(0, width - 1)]
    return inside & (there == part)


def flow_from_start(owner: Bytes, motion: PointMotion) -> dict[str, NDArray[np.generic]]:
    """Motion from frame 0 to every later frame, for Clip.extra.

    flow_from_start: float32 T-1 2 H W, entry t-1 is the motion from frame 0 to frame t in pixels.
    visible_from_start: bool T-1 H W, whether what frame 0 shows is seen in frame t.
    """
    which = motion.frame == 0
    row, column = motion.row[which], motion.column[which]
    later = len(owner) - 1
    flow = np.zeros((later, 2, *owner.shape[1:]), np.float32)
    seen = owner[1:] == owner[0]
    for t in range(1, later + 1):
        target = motion.positions(which, t)
        flow[t - 1, 0, row, column] = target[:, 0] - column - np.float32(0.5)
        flow[t - 1, 1, row, column] = target[:, 1] - row - np.float32(0.5)
        moment = np.full(len(row), t)
        seen[t - 1, row, column] = shows(owner, moment, target, owner[0, row, column])
    return {"flow_from_start": flow, "visible_from_start": seen}
