"""Exact motion of what was drawn: flow, and whether a point is still seen later.

A stick has a start and an end point; a point of it is (along, across): the fraction of the way from
start to end, and pixels to the side of that line.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.datasets.generate.scene import Bytes, Floats

_STANDS_STILL_PX = 1e-3

FlowTruth = tuple[dict[int, Floats], dict[int, NDArray[np.bool_]]]
"""Flow and visibility by lag, as in Clip."""


class PointMotion(Protocol):
    """Points that are seen and move: entry i is seen in frame[i] at the pixel row[i], column[i]."""

    frame: NDArray[np.intp]
    row: NDArray[np.intp]
    column: NDArray[np.intp]

    def positions(self, which: NDArray[np.bool_], lag: int) -> Floats:
        """Places, N 2 in pixels, of the chosen points `lag` frames after they were seen."""
        ...


class StickMotion:
    """Where the visible points of sticks are in later frames.

    A point goes with the nearest point of its stick's line, and turns about that as the line turns.
    """

    def __init__(self, owner: Bytes, starts: Floats, ends: Floats) -> None:
        """owner: part shown by each pixel, T H W, 0 is the background, which stands still.

        starts, ends: end points of part p in frame t at [t, p - 1], T P 2, pixels.
        """
        self._starts, self._axes = starts, ends - starts
        self.frame, self.row, self.column = np.nonzero(owner)
        self._stick = owner[self.frame, self.row, self.column].astype(np.int64) - 1
        axis = self._axes[self.frame, self._stick]
        place = np.stack([self.column, self.row], axis=1) + np.float32(0.5)
        from_start = place - starts[self.frame, self._stick]
        length2 = np.maximum((axis * axis).sum(axis=1), 1e-6)
        self._along = np.clip((from_start * axis).sum(axis=1) / length2, 0, 1)[:, None]
        self._aside = from_start - self._along * axis

    def positions(self, which: NDArray[np.bool_], lag: int) -> Floats:
        """Places, N 2 in pixels, of the chosen points `lag` frames after they were seen."""
        frame, stick = self.frame[which], self._stick[which]
        before, after = self._axes[frame, stick], self._axes[frame + lag, stick]
        aside = self._aside[which]
        # A stick that points at the viewer has no direction to turn with; its end only shifts.
        shorter = np.minimum((before * before).sum(axis=1), (after * after).sum(axis=1))
        turns = shorter > (aside * aside).sum(axis=1)
        cosine = np.where(turns, (before * after).sum(axis=1), 1)
        sine = np.where(turns, before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0], 0)
        size = np.hypot(cosine, sine)
        cosine, sine = cosine / size, sine / size
        x = aside[:, 0] * cosine - aside[:, 1] * sine
        y = aside[:, 0] * sine + aside[:, 1] * cosine
        on_line = self._starts[frame + lag, stick] + self._along[which] * after
        return on_line + np.stack([x, y], axis=1)


def moved_flow(owner: Bytes, motion: PointMotion, lags: tuple[int, ...]) -> FlowTruth:
    """Flow and visibility by lag from the motion of points; everything else stands still."""
    flow, visible = {}, {}
    num_frames, height, width = owner.shape
    for lag in lags:
        which = motion.frame < num_frames - lag
        t, row, column = motion.frame[which], motion.row[which], motion.column[which]
        target = motion.positions(which, lag)
        field = np.zeros((num_frames - lag, 2, height, width), np.float32)
        field[t, :, row, column] = _steps(target, row, column)
        seen = owner[:-lag] == owner[lag:]
        seen[t, row, column] = shows(owner, t + lag, target, owner[t, row, column])
        flow[lag], visible[lag] = field, seen
    return flow, visible


def shows(owner: Bytes, frame: NDArray[np.intp], place: Floats, part: Bytes) -> NDArray[np.bool_]:
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
        flow[t - 1][:, row, column] = _steps(target, row, column).T
        moment = np.full(len(row), t)
        seen[t - 1, row, column] = shows(owner, moment, target, owner[0, row, column])
    return {"flow_from_start": flow, "visible_from_start": seen}


def _steps(target: Floats, row: NDArray[np.intp], column: NDArray[np.intp]) -> Floats:
    """From pixel centres to targets, N 2; exactly 0 where only rounding moved a point."""
    steps = target - np.stack([column, row], axis=1) - np.float32(0.5)
    steps[np.abs(steps) < _STANDS_STILL_PX] = 0
    return steps
