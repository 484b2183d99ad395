"""What a generated clip is drawn from (Scene) and what comes out (Clip).

A scene has two independent sources of chance. `appearance` decides everything that can be seen in
frame 0; `dynamics` decides only what happens afterwards. Another `future` of the same scene shares
the first and draws the second anew: a true alternative continuation of the same first frame.

Coordinates: pixels with x to the right and y down; (0, 0) is the upper left corner of the picture,
the centre of pixel (column i, row j) is (i + 0.5, j + 0.5). Places that are stored with a clip are
fractions of width and height, so that they survive a resize.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

Floats = NDArray[np.floating[Any]]
"""Real numbers; float32 wherever the array is large."""

Bytes = NDArray[np.uint8]

FPS = 12.0
"""Frames per second of every generated clip, unless an exported format has its own."""

FLOW_LAGS = (1, 10, 20)
"""Flow is stored from frame t to t + lag for these lags, where the clip is long enough."""


@dataclass(frozen=True)
class Scene:
    """One scene and one of its futures.

    speed_range: the part of every kind's range of speeds that dynamics may draw from, in 0..1.
    """

    seed: int
    kind_id: int
    index: int
    size_px: int = 64
    num_frames: int = 32
    future: int = 0
    speed_range: tuple[float, float] = (0.0, 1.0)

    def appearance(self, meaning: str) -> np.random.Generator:
        """The generator for one meaning ('sky', 'leaves', ...) of what frame 0 shows."""
        return self._generator(0, meaning)

    def dynamics(self, meaning: str) -> np.random.Generator:
        """The generator for one meaning of what happens after frame 0."""
        return self._generator(1 + self.future, meaning)

    def speed(self, slow: float, fast: float, *, rng: np.random.Generator | None = None) -> float:
        """A speed between slow and fast, within this scene's part of the range.

        rng: draws it where the speed belongs to the scene and not to one of its futures.
        """
        low, high = self.speed_range
        fraction = (rng or self.dynamics("speed")).uniform(low, high)
        return float(slow + (fast - slow) * fraction)

    def of_identity(self, kind_id: int, identity: int) -> Scene:
        """The scene that decides the looks of someone who appears in many clips."""
        return replace(self, kind_id=kind_id, index=identity)

    def _generator(self, stream: int, meaning: str) -> np.random.Generator:
        # One child stream per meaning: a new draw in one place does not shift any other.
        key = (stream, zlib.crc32(meaning.encode()))
        sequence = np.random.SeedSequence([self.seed, self.kind_id, self.index], spawn_key=key)
        return np.random.Generator(np.random.PCG64(sequence))


@dataclass(frozen=True)
class Clip:
    """Frames and what is known about them.

    frames: uint8 T H W 3.
    flow: lag -> float32 T-lag 2 H W, motion from frame t to t + lag in pixels, x then y; nan where
      it is not defined. Where something else has come in front at t + lag it is still the true
      motion of what was seen at t.
    visible: lag -> bool T-lag H W, true where what is seen at t is also seen at t + lag.
    maps: name -> T H W, such as `mask` (uint8: 0 is background, other numbers are parts).
    tracks: name -> float32 T ..., one entry per frame, places in fractions of the frame.
    labels: what holds for the whole clip.
    extra: name -> any other arrays.
    """

    frames: Bytes
    labels: dict[str, JsonValue]
    flow: dict[int, Floats] = field(default_factory=dict)
    visible: dict[int, NDArray[np.bool_]] = field(default_factory=dict)
    maps: dict[str, Bytes] = field(default_factory=dict)
    tracks: dict[str, Floats] = field(default_factory=dict)
    extra: dict[str, NDArray[np.generic]] = field(default_factory=dict)


def lags_within(num_frames: int) -> tuple[int, ...]:
    """The lags of FLOW_LAGS that fit into a clip; of one under 11 frames also its whole length."""
    whole = (num_frames - 1,) if 2 < num_frames <= FLOW_LAGS[1] else ()
    return tuple(lag for lag in FLOW_LAGS if lag < num_frames) + whole


def pixel_centres(size_px: int) -> Floats:
    """Coordinates 0.5, 1.5, ... of the pixel centres along one axis."""
    return np.arange(size_px, dtype=np.float32) + np.float32(0.5)


def to_bytes(values: Floats) -> Bytes:
    """Grey levels 0..255 as the nearest uint8; what lies outside is clipped."""
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def ease(frames: Floats, duration: float) -> Floats:
    """Smooth rise from 0 at frame 0 to 1 at frame `duration`, 1 from then on."""
    u = np.clip(frames / np.float32(duration), 0, 1)
    return (u * u * (3 - 2 * u)).astype(np.float32)


def random_color(
    rng: np.random.Generator, low: tuple[float, float, float], high: tuple[float, float, float]
) -> Floats:
    """A colour with each channel drawn between two grey levels, float32 of 3."""
    return rng.uniform(low, high).astype(np.float32)


def random_shade(
    rng: np.random.Generator, dark: tuple[float, float, float], bright: tuple[float, float, float]
) -> Floats:
    """A colour between two, nearly on the line that joins them, float32 of 3."""
    start, end = np.array(dark, np.float32), np.array(bright, np.float32)
    fraction = rng.random() + rng.uniform(-0.1, 0.1, size=3)
    return (start + fraction.astype(np.float32) * (end - start)).astype(np.float32)
