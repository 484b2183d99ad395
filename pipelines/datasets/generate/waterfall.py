"""A waterfall between rocks. Texture class 2.

The water falls by the same number of pixels in every frame: flow is (0, speed) on the water.
"""

from __future__ import annotations

import math

import numpy as np
from pydantic import JsonValue

from pipelines.datasets.generate.noise import drifting_noise, lerp_rows, value_noise
from pipelines.datasets.generate.scene import (
    Clip,
    Floats,
    Scene,
    lags_within,
    pixel_centres,
    random_color,
    random_shade,
    to_bytes,
)

CANVAS = (2, 1)
"""Height and width of the noise in frames; the water repeats after some falls of this height."""

_SPLASH_FROM = 0.8


def generate(scene: Scene, *, with_truth: bool = True) -> Clip:
    """A waterfall. Futures differ in the speed of the fall and in the water that comes later."""
    size, num_frames = scene.size_px, scene.num_frames
    speed = scene.speed(1.5, 4.0) * size / 64
    coarse = drifting_noise(scene, "coarse", (10, 14), octaves=4, canvas=CANVAS, kept=(0.35, 1))
    fine = drifting_noise(scene, "fine", (16, 28), octaves=3, canvas=CANVAS, kept=(0.5, 1))
    bank = drifting_noise(scene, "bank", (8, 2), octaves=3, canvas=CANVAS, kept=(0.35, 1))
    spray = drifting_noise(scene, "spray", (24, 12), octaves=3, canvas=CANVAS, kept=(1, 1))
    rock = _rock(scene)
    tint = random_color(scene.appearance("water"), (0.9, 0.97, 0.98), (0.98, 1.0, 1.03))
    centre, half_width = _column(scene)
    x = pixel_centres(size)
    y = x[:, None]
    splash_room = np.clip((y / size - _SPLASH_FROM) / (1 - _SPLASH_FROM), 0, 1)
    roundness = 18 * np.cos((x - centre) / half_width * 1.3)

    frames = np.empty((num_frames, size, size, 3), np.uint8)
    mask = np.empty((num_frames, size, size), np.uint8)
    for t in range(num_frames):
        fallen = y[:, 0] - np.float32(speed * t)
        water = 0.7 * lerp_rows(coarse, 0.35 * fallen) + 0.3 * lerp_rows(fine, 0.5 * fallen)
        ragged = (lerp_rows(bank[:, [0, size // 2]], 0.35 * fallen) - 0.5) * (0.12 * size)
        widening = half_width * (1 + 0.25 * y / size)
        left, right = centre - widening + ragged[:, :1], centre + widening + ragged[:, 1:]
        cover = np.clip(np.minimum(x - left, right - x) * (64 / size) * 0.7 + 0.5, 0, 1)
        foam = splash_room * lerp_rows(spray, y[:, 0] + np.float32(0.7 * speed * t))
        level = 142 + 190 * (water - 0.45) + roundness + 110 * foam
        picture = rock + cover[..., None] * (level[..., None] * tint - rock)
        frames[t] = to_bytes(picture)
        mask[t] = cover > 0.5
    labels: dict[str, JsonValue] = {
        "texture_class": 2,
        "speed": speed / size,
        "direction": math.pi / 2,
    }
    if not with_truth:
        return Clip(frames, labels)
    flow, visible = _flow(mask, speed)
    return Clip(frames, labels, flow, visible, maps={"mask": mask})


def _flow(mask: np.ndarray, speed: float) -> tuple[dict[int, Floats], dict[int, np.ndarray]]:
    flow, visible = {}, {}
    num_frames, size, _ = mask.shape
    for lag in lags_within(num_frames):
        start, end = mask[:-lag], mask[lag:]
        field = np.zeros((num_frames - lag, 2, size, size), np.float32)
        field[:, 1] = np.float32(speed * lag) * start
        seen = (start == 0) & (end == 0)
        fallen = round(speed * lag)
        if fallen < size:
            seen[:, : size - fallen] |= (start[:, : size - fallen] & end[:, fallen:]) == 1
        flow[lag], visible[lag] = field, seen
    return flow, visible


def _column(scene: Scene) -> tuple[float, float]:
    rng = scene.appearance("column")
    return rng.uniform(0.4, 0.6) * scene.size_px, rng.uniform(0.16, 0.28) * scene.size_px


def _rock(scene: Scene) -> Floats:
    size = scene.size_px
    large = value_noise(scene.appearance("rock"), (6, 6), octaves=4, shape=(size, size))
    grain = value_noise(scene.appearance("grain"), (24, 24), octaves=2, shape=(size, size))
    color = random_shade(scene.appearance("rock color"), (58, 60, 46), (112, 102, 88))
    return color * (0.45 + 0.75 * large + 0.35 * grain)[..., None]
