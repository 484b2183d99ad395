"""Grass in gusts of wind. Texture class 3.

A blade is a parabola over its root: at height fraction s it stands lean * s + bend(t) * s^2 of its
own height beside the root. A point keeps its height, so its flow is exact and horizontal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from pipelines.datasets.generate.scene import (
    Clip,
    Floats,
    Scene,
    lags_within,
    pixel_centres,
    random_shade,
    to_bytes,
)

NUM_BLADES = 220
SUBPIXELS = 3
"""Samples per pixel along each axis; odd, so that one of them lies on the centre of the pixel."""


@dataclass(frozen=True)
class Blades:
    """All blades, the farthest first; lengths in pixels, one entry per blade."""

    root_x: Floats
    root_y: Floats
    height: Floats
    half_width: Floats
    lean: Floats
    phase: Floats
    color: Floats


def generate(scene: Scene, *, with_truth: bool = True) -> Clip:
    """A meadow. Futures differ in the gusts and in how fast the blades swing."""
    size, num_frames = scene.size_px, scene.num_frames
    blades = _grow(scene)
    bend, labels = _wind(scene, blades)
    background = _background(scene)
    rows = np.arange(size * SUBPIXELS, dtype=np.float32) / SUBPIXELS + np.float32(0.5 / SUBPIXELS)
    height_fraction = (blades.root_y[:, None] - rows) / blades.height[:, None]
    ink = _ink(blades, height_fraction, background)

    frames = np.empty((num_frames, size, size, 3), np.uint8)
    owner = np.empty((num_frames, size, size), np.uint8)
    stride = np.arange(len(rows), dtype=np.int32)[:, None]
    for t in range(num_frames):
        samples = _paint(blades, height_fraction, bend[t], size)
        color = ink.take(samples * np.int32(len(rows)) + stride, axis=0)
        grouped = color.reshape(size, SUBPIXELS, size, SUBPIXELS, 3)
        frames[t] = to_bytes(grouped.mean(axis=(1, 3)))
        owner[t] = samples[SUBPIXELS // 2 :: SUBPIXELS, SUBPIXELS // 2 :: SUBPIXELS]
    if not with_truth:
        return Clip(frames, labels)
    flow, visible = _flow(blades, bend, owner)
    return Clip(frames, labels, flow, visible, maps={"mask": owner})


def _grow(scene: Scene) -> Blades:
    rng = scene.appearance("blades")
    size = scene.size_px
    depth = np.sort(rng.random(NUM_BLADES)).astype(np.float32)
    size_of_plants = rng.uniform(0.8, 1.1)
    height = rng.uniform(0.42, 0.82, NUM_BLADES) * size_of_plants
    green = random_shade(scene.appearance("green"), (38, 140, 26), (70, 225, 56))
    tone = rng.uniform(0.55, 1.05, (NUM_BLADES, 1)) * rng.uniform(0.85, 1.15, (NUM_BLADES, 3))
    return Blades(
        root_x=(rng.uniform(-0.06, 1.06, NUM_BLADES) * size).astype(np.float32),
        root_y=((1.0 + 0.12 * depth) * size).astype(np.float32),
        height=((height + 0.12 * depth) * size).astype(np.float32),
        half_width=(rng.uniform(0.006, 0.011, NUM_BLADES) * (0.6 + 0.6 * depth) * size).astype(
            np.float32
        ),
        lean=rng.uniform(-0.22, 0.22, NUM_BLADES).astype(np.float32),
        phase=rng.uniform(-0.5, 0.5, NUM_BLADES).astype(np.float32),
        color=(green * tone * (0.75 + 0.25 * depth[:, None])).astype(np.float32),
    )


def _wind(scene: Scene, blades: Blades) -> tuple[Floats, dict[str, JsonValue]]:
    """Bend of every blade in every frame, T NUM_BLADES, and the labels."""
    calm = scene.appearance("wind")
    side = 1.0 if calm.random() < 0.5 else -1.0
    strength = side * calm.uniform(0.15, 0.45)
    pace = scene.speed(0.18, 0.5)
    rng = scene.dynamics("gusts")
    frequency, offset = rng.uniform(0.05, 0.25, 3), rng.uniform(0, 2 * np.pi, 3)
    amplitude = rng.uniform(0.06, 0.18, 3)
    t = np.arange(scene.num_frames)[:, None]
    # Differences to frame 0, where the gust has the strength that the first frame shows.
    gust = strength + (amplitude * (np.sin(frequency * t + offset) - np.sin(offset))).sum(axis=1)
    wave = pace * t - 4.5 * blades.root_x / scene.size_px * side + blades.phase
    flutter = 2.3 * pace * t + 9 * blades.phase
    bend = gust[:, None] + 0.16 * np.sin(wave) + 0.03 * np.sin(flutter)
    direction = 0.0 if side > 0 else float(np.pi)
    labels: dict[str, JsonValue] = {"texture_class": 3, "speed": pace, "direction": direction}
    return bend.astype(np.float32), labels


def _paint(
    blades: Blades, height_fraction: Floats, bend: Floats, size_px: int
) -> NDArray[np.int32]:
    """Which blade each sample shows: 0 none, else its number from 1; (3S) x (3S)."""
    side = size_px * SUBPIXELS
    s = np.clip(height_fraction, 0, 1)
    middle = blades.root_x[:, None] + blades.height[:, None] * s * (
        blades.lean[:, None] + bend[:, None] * s
    )
    # No thinner than one sample, or the tips would fall apart into dots.
    half = np.maximum(blades.half_width[:, None] * (1 - s * s) * SUBPIXELS, 0.5)
    left = np.ceil(middle * SUBPIXELS - half - 0.5).astype(np.int32)
    count = np.floor(middle * SUBPIXELS + half - 0.5).astype(np.int32) - left + 1
    count[(height_fraction <= 0) | (height_fraction >= 1)] = 0
    samples = np.zeros(side * side, np.int32)
    blade, row = np.nonzero(count > 0)
    start, length = left[blade, row], count[blade, row]
    # Runs of samples, the nearest blade last: where several write, the last one stays.
    first = np.cumsum(length) - length
    column = np.arange(length.sum(), dtype=np.int32) + np.repeat(start - first, length)
    place = np.repeat(row * side, length) + column
    inside = (column >= 0) & (column < side)
    samples[place[inside]] = np.repeat(blade + 1, length)[inside]
    return samples.reshape(side, side)


def _ink(blades: Blades, height_fraction: Floats, background: Floats) -> Floats:
    """Colour by (blade number, row of samples), flattened; number 0 is the background. N*rows 3."""
    light = 0.4 + 0.7 * np.clip(height_fraction, 0, 1)
    blade_color = blades.color[:, None] * light[..., None]
    return np.concatenate([background[None], blade_color]).reshape(-1, 3)


def _background(scene: Scene) -> Floats:
    """Colour of each row of samples: sky above, pale haze, dark earth at the foot."""
    rows = pixel_centres(scene.size_px * SUBPIXELS) / (scene.size_px * SUBPIXELS)
    rng = scene.appearance("sky")
    top = random_shade(rng, (120, 165, 205), (165, 205, 235))
    haze = random_shade(rng, (200, 208, 200), (225, 226, 215))
    earth = random_shade(rng, (58, 66, 38), (86, 84, 56))
    stops, colors = np.array([0.0, 0.62, 0.8, 1.0]), np.stack([top, haze, earth * 1.3, earth])
    channels = [np.interp(rows, stops, colors[:, c]) for c in range(3)]
    return np.stack(channels, axis=1).astype(np.float32)


def _flow(
    blades: Blades, bend: Floats, owner: NDArray[np.uint8]
) -> tuple[dict[int, Floats], dict[int, NDArray[np.bool_]]]:
    flow, visible = {}, {}
    num_frames, size, _ = owner.shape
    y = pixel_centres(size)
    s = np.clip((blades.root_y[:, None] - y) / blades.height[:, None], 0, 1)
    reach = np.concatenate([np.zeros((1, size), np.float32), blades.height[:, None] * s * s])
    padded = np.concatenate([np.zeros((num_frames, 1), np.float32), bend], axis=1)
    frame, row, column = np.ogrid[:num_frames, :size, :size]
    for lag in lags_within(num_frames):
        start = owner[:-lag]
        change = padded[lag:] - padded[:-lag]
        shift = change[frame[lag:] - lag, start] * reach[start, row]
        target = np.rint(column + shift).astype(np.int32)
        arrives = owner[frame[lag:], row, target.clip(0, size - 1)]
        visible[lag] = (target >= 0) & (target < size) & (arrives == start)
        flow[lag] = np.zeros((num_frames - lag, 2, size, size), np.float32)
        flow[lag][:, 0] = shift
    return flow, visible
