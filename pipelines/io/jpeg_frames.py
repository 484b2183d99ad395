"""Frames kept as JPEG, one after another in one array of bytes: about a seventh of the raw space.

Quality 95 without colour subsampling: about two levels of error, and 50 to 100 times slower to read
than raw frames.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

QUALITY = 95


@dataclass(frozen=True)
class JpegFrames:
    """T encoded frames. data: uint8, flat.  ends: int64 T, where each ends in data."""

    data: np.ndarray
    ends: np.ndarray

    def __len__(self) -> int:
        return len(self.ends)

    def part(self, start: int, count: int) -> JpegFrames:
        """Frames start .. start + count - 1."""
        ends = self.ends[start : start + count]
        first = int(self.ends[start - 1]) if start else 0
        last = int(ends[-1]) if len(ends) else first
        return JpegFrames(self.data[first:last], np.asarray(ends) - first)

    def decoded(self, channels: int) -> np.ndarray:
        """The frames, uint8 T H W C."""
        starts = np.r_[0, self.ends[:-1]].astype(np.int64)
        pieces = (self.data[a:b] for a, b in zip(starts, self.ends, strict=True))
        return np.stack([_decode(piece.tobytes(), channels) for piece in pieces])


def encode(frame: np.ndarray) -> bytes:
    """A frame, uint8 H W 3 or H W 1, as JPEG; equal frames give equal bytes."""
    image = Image.fromarray(frame if frame.shape[2] == 3 else frame[..., 0])
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=QUALITY, subsampling=0)
    return stream.getvalue()


def _decode(data: bytes, channels: int) -> np.ndarray:
    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        frame = np.asarray(image)
    return frame if channels == 3 else frame[..., None]
