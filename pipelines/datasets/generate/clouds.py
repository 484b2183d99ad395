"""Clouds that drift over static hills. Texture class 1.

The upper layer moves by a constant vector everywhere above the hills; a second, fainter layer
follows more slowly. Flow is that of the first layer.
"""

from __future__ import annotations

import math

import numpy as np
from pydantic import JsonValue

from pipelines.datasets.generate.noise import (
    drifting_noise,
    lerp_columns,
    lerp_rows,
    value_noise,
)
from pipelines.datasets.generate.scene import (
    Clip,
    Floats,
    Scene,
    lags_within,
    pixel_centres,
    random_color,
    to_bytes,
)

CANVAS = (2, 2)
"""Height and width of the noise in frames: what drifts in was outside the first frame."""

_SLOW_LAYER = 0.6


def generate(scene: Scene, *, with_truth: bool = True) -> Clip:
    """A sky. Futures differ in the wind's direction and speed, and in what drifts in later."""
    size, num_frames = scene.size_px, scene.num_frames
    step, direction = _wind(scene)
    hills, horizon, hill_cover = _hills(scene)
    rows = math.ceil(float(horizon.max())) + 1
    upper = drifting_noise(scene, "upper", (8, 8), octaves=5, canvas=CANVAS, kept=(1, 1))
    lower = drifting_noise(scene, "lower", (10, 10), octaves=4, canvas=CANVAS, kept=(1, 1))
    clear, lit, shaded = _colors(scene, rows)
    cover = np.float32(scene.appearance("cover").uniform(0.38, 0.48))
    x = pixel_centres(size)
    y = x[:rows]

    frames = np.empty((num_frames, size, size, 3), np.uint8)
    for t in range(num_frames):
        drift = (np.float32(step[0] * t), np.float32(step[1] * t))
        first = lerp_columns(lerp_rows(upper, _perspective(y - drift[1], horizon)), x - drift[0])
        slow_y = _perspective(y - _SLOW_LAYER * drift[1], horizon) + np.float32(
            0.15 * t * size / 64
        )
        second = lerp_columns(lerp_rows(lower, slow_y), x - _SLOW_LAYER * drift[0])
        density = np.clip(5 * (0.65 * first + 0.35 * second - cover), 0, 1)
        light = np.clip(1.5 * second - 0.25, 0, 1)[..., None]
        sky = clear + density[..., None] * (shaded + light * (lit - shaded) - clear)
        shade = np.float32(1.12 - 0.3 * density.mean())
        cut = hill_cover[:rows]
        frames[t, :rows] = to_bytes(sky + cut * (shade * hills[:rows] - sky))
        frames[t, rows:] = to_bytes(shade * hills[rows:])
    labels: dict[str, JsonValue] = {
        "texture_class": 1,
        "direction": direction,
        "speed": math.hypot(*step) / size,
        "velocity": [step[0] / size, step[1] / size],
    }
    if not with_truth:
        return Clip(frames, labels)
    is_sky = hill_cover[..., 0] < 0.5
    mask = np.broadcast_to(is_sky.astype(np.uint8), frames.shape[:3])
    flow, visible = drifting_flow(is_sky, step, num_frames)
    return Clip(frames, labels, flow, visible, maps={"mask": mask})


def drifting_flow(
    is_moving: np.ndarray, step: tuple[float, float], num_frames: int
) -> tuple[dict[int, Floats], dict[int, np.ndarray]]:
    """Flow and visibility where a fixed region of the frame shows something that drifts.

    is_moving: bool H W.  step: pixels per frame, x and y.
    """
    flow, visible = {}, {}
    height, width = is_moving.shape
    row, column = np.mgrid[:height, :width]
    for lag in lags_within(num_frames):
        vector = np.array([step[0] * lag, step[1] * lag], np.float32)
        field = np.where(is_moving, vector[:, None, None], np.float32(0))
        to_row = np.rint(row + field[1]).astype(np.int64)
        to_column = np.rint(column + field[0]).astype(np.int64)
        inside = (to_row >= 0) & (to_row < height) & (to_column >= 0) & (to_column < width)
        arrives = is_moving[to_row.clip(0, height - 1), to_column.clip(0, width - 1)]
        seen = inside & (arrives == is_moving)
        flow[lag] = np.broadcast_to(field, (num_frames - lag, *field.shape))
        visible[lag] = np.broadcast_to(seen, (num_frames - lag, *seen.shape))
    return flow, visible


def _wind(scene: Scene) -> tuple[tuple[float, float], float]:
    rng = scene.dynamics("direction")
    direction = float(rng.uniform(-0.4, 0.4)) + (math.pi if rng.random() < 0.5 else 0.0)
    speed = scene.speed(0.6, 2.0) * scene.size_px / 64
    return (speed * math.cos(direction), speed * math.sin(direction)), direction


def _perspective(y: Floats, horizon: Floats) -> Floats:
    """Row of the noise for a height in the picture: clouds look larger towards the horizon.

    Its slope falls from 1.3 at the top to 0.7 at the horizon. It is applied after the drift, so a
    cloud keeps its shape and moves by exactly the same vector wherever it is.
    """
    far = np.float32(horizon.mean())
    return 1.3 * y - np.float32(0.3) * y * y / far


def _hills(scene: Scene) -> tuple[Floats, Floats, Floats]:
    """Colours of the hills H W 3, the horizon's row per column W, the hills' cover H W 1."""
    size = scene.size_px
    shape = scene.appearance("hills")
    level, relief = shape.uniform(0.7, 0.82), shape.uniform(0.06, 0.14)
    ridge = value_noise(shape, (1, 5), octaves=4, shape=(1, size))[0]
    horizon = (level + relief * (ridge - 0.5)).astype(np.float32) * size
    color = random_color(scene.appearance("hill color"), (38, 66, 22), (72, 98, 44))
    texture = value_noise(scene.appearance("trees"), (16, 16), octaves=3, shape=(size, size))
    hills = color * (0.55 + 0.9 * texture[..., None])
    cover = np.clip(pixel_centres(size)[:, None] - horizon[None] + 0.5, 0, 1)[..., None]
    return hills, horizon, cover


def _colors(scene: Scene, rows: int) -> tuple[Floats, Floats, Floats]:
    """The clear sky (rows 1 3), the lit and the shaded side of clouds."""
    rng = scene.appearance("sky")
    zenith = random_color(rng, (45, 95, 170), (85, 130, 215))
    haze = random_color(rng, (150, 180, 215), (205, 215, 235))
    warmth = np.float32(rng.random() ** 3) * np.array([0, -14, -38], np.float32)
    height = (pixel_centres(scene.size_px)[:rows] / (0.8 * scene.size_px))[:, None, None]
    clear = zenith + np.clip(height, 0, 1) * (haze - zenith)
    return (
        clear,
        np.array([250, 250, 250], np.float32) + warmth,
        np.array([176, 180, 190], np.float32) + warmth,
    )
