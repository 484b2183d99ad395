"""A small prepared variant whose every value says where it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipelines.io.packed import PackedVideos
from pipelines.io.packing import PackWriter, encode_flow

SIZE = 4
LAG = 3

VIDEOS = {
    # id -> frames, split
    "001_1_1": (20, "train"),
    "001_1_2": (17, "train"),
    "fern/a": (40, "train"),
    "fern/b": (18, "train"),
    "ivy/c": (25, "val"),
    "ivy/d": (30, "test"),
    "ivy/e": (24, "test"),
}


def frames_of(row: int, frames: Sequence[int]) -> np.ndarray:
    """T H W C: channel 0 is the row, channel 1 the frame, channel 2 the pixel."""
    values = np.zeros((len(frames), SIZE, SIZE, 3), np.uint8)
    values[..., 0] = row
    values[..., 1] = np.asarray(frames)[:, None, None]
    values[..., 2] = np.arange(SIZE * SIZE).reshape(SIZE, SIZE)
    return values


def flow_of(row: int, frames: Sequence[int]) -> np.ndarray:
    """T 2 H W: x is the frame, y the row; the last pixel is not known."""
    values = np.zeros((len(frames), 2, SIZE, SIZE), np.float32)
    values[:, 0] = np.asarray(frames)[:, None, None]
    values[:, 1] = row
    values[..., -1, -1] = np.nan
    return values


def joints_of(row: int, frames: Sequence[int]) -> np.ndarray:
    """T 5 2: the frame and the row."""
    values = np.zeros((len(frames), 5, 2), np.float32)
    values[..., 0] = np.asarray(frames)[:, None]
    values[..., 1] = row
    return values


def prepare(folder: Path) -> PackedVideos:
    """Write the variant."""
    with PackWriter(folder, size_px=SIZE, channels=3, shard_bytes=3000) as writer:
        for row, (video, (length, split)) in enumerate(VIDEOS.items()):
            facts = {"id": video, "source": video, "group": video, "split": split}
            facts |= {"fps": 25.0, "original_size": [SIZE, SIZE], "labels": {}}
            flow = {LAG: encode_flow(flow_of(row, range(length - LAG)))}
            extra = {"joints": joints_of(row, range(length))}
            packed = writer.add(facts, frames_of(row, range(length)), flow=flow, extra=extra)
            writer.commit({"rows": [packed]})
        rows = [row for entry in writer.entries for row in entry["rows"]]
        writer.finish(rows, {"dataset": "toy", "variant": folder.name})
    return PackedVideos(folder)
