"""Which frames something moves at, read from optical flow: clips start there (spec: poke, 7.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.clips.batches import FlowSource
from pipelines.clips.rules import ListedClips

_BLOCK = 64
"""Frames whose flow is read at once."""


def largest_motion(source: FlowSource, row: int, *, lag: int, num_flows: int) -> np.ndarray:
    """How far the fastest pixel moves from each frame to the frame `lag` later.

    num_flows: frames of the video that have this flow.  Returns float32 num_flows, pixels; 0 where
    nothing is known.
    """
    largest = np.zeros(num_flows, np.float32)
    for start in range(0, num_flows, _BLOCK):
        size = min(_BLOCK, num_flows - start)
        x, y = np.moveaxis(source.flow(lag, row, start, size), 1, 0)
        lengths = np.nan_to_num(np.hypot(x, y), nan=0.0)
        largest[start : start + size] = lengths.max(axis=(1, 2))
    return largest


@dataclass(frozen=True)
class LengthClass:
    """Clips whose length goes with how far the content moves.

    rule: the clips.  above, below: how far their fastest pixel moves at least and what a longer
    clip takes, as fractions of the farthest motion in the data (None: nothing is too far).
    """

    rule: ListedClips
    above: float
    below: float | None


def length_classes(
    motions: Sequence[np.ndarray],
    *,
    min_frames: int,
    max_frames: int,
    cutoff: float,
    step: int = 1,
) -> list[LengthClass]:
    """One class for each length from min_frames + 1 to max_frames + 1 frames, shortest first.

    The clips of class l, of min_frames + 1 + l frames, start at frames whose largest motion exceeds
    cutoff * l / max_frames of the largest in all the data: far motion needs a long clip, and a
    short one may start there too.
    motions: for each video what `largest_motion` gives.
    """
    farthest = max(float(each.max(initial=0)) for each in motions)
    if farthest <= 0:
        raise ValueError("nothing moves in this data")
    classes = []
    last = max_frames - min_frames
    for number in range(last + 1):
        above = cutoff * number / max_frames
        starts = [np.flatnonzero(each > above * farthest) for each in motions]
        below = None if number == last else cutoff * (number + 1) / max_frames
        classes.append(
            LengthClass(ListedClips(min_frames + 1 + number, starts, step), above, below)
        )
    return classes
