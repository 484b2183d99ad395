"""Fire: noise that rises through a flame-shaped hull. Texture class 0.

Its flow is not defined: what rises is not carried along with its brightness.
"""

from __future__ import annotations

import numpy as np
from pydantic import JsonValue

from pipelines.datasets.generate.noise import (
    drifting_noise,
    gather_columns,
    lerp_columns,
    lerp_rows,
)
from pipelines.datasets.generate.scene import Bytes, Clip, Scene, pixel_centres

CANVAS = (4, 1)
"""Height and width of the noise in frames; what rises repeats after this height."""

_RAMP_SIZE = 1024


def generate(scene: Scene, *, with_truth: bool = True) -> Clip:
    """A flame. Futures differ in how fast it rises, how it sways, and in what rises later."""
    size = scene.size_px
    rise = scene.speed(2.5, 4.5) * size / 64
    sway = float(scene.dynamics("sway").uniform(-0.9, 0.9)) * size / 64
    flicker = float(scene.dynamics("flicker").uniform(0.6, 1.2))
    shape = scene.appearance("shape")
    centre, width = shape.uniform(0.38, 0.62) * size, shape.uniform(0.13, 0.23) * size

    texture = drifting_noise(scene, "texture", (8, 8), octaves=4, canvas=CANVAS, kept=(1.3, 1))
    wobble = drifting_noise(scene, "wobble", (10, 4), octaves=3, canvas=CANVAS, kept=(1, 1))
    ramp = _color_ramp(scene.appearance("color"))
    x = pixel_centres(size)
    y = x[:, None]
    height = 1 - y / size
    floor = np.clip((y / size - 0.12) / 0.6, 0, 1)

    frames = np.empty((scene.num_frames, size, size, 3), np.uint8)
    mask = np.empty((scene.num_frames, size, size), np.uint8)
    for t in range(scene.num_frames):
        bend = lerp_columns(lerp_rows(wobble, y[:, 0] + 0.6 * rise * t), x + sway * t)
        shift = (bend - 0.5) * (0.35 * size * height)
        value = gather_columns(lerp_rows(texture, 1.3 * y[:, 0] + rise * t), x + shift)
        off_axis = (x + shift - centre) / width
        hull = np.exp(-off_axis * off_axis * (1 + 1.5 * height)) * floor
        heat = np.clip(2.1 * hull * value + 0.35 * hull - 0.25 * height, 0, 1)
        heat = np.clip(heat * np.float32(1 + 0.08 * np.sin(flicker * t)), 0, 1)
        frames[t] = ramp.take((heat * (_RAMP_SIZE - 1)).astype(np.int32), axis=0)
        mask[t] = heat > 0.12
    labels: dict[str, JsonValue] = {"texture_class": 0, "speed": rise / size, "sway": sway / size}
    return Clip(frames, labels, maps={"mask": mask} if with_truth else {})


def _color_ramp(rng: np.random.Generator) -> Bytes:
    """Black, dark red, orange, yellow, white-yellow; the tint differs a little between fires."""
    stops = np.array(
        [[6, 5, 8], [125, 20, 6], [235, 105, 12], [255, 205, 70], [255, 250, 214]], np.float32
    )
    stops[1:4] *= rng.uniform((0.92, 0.85, 0.8), (1.05, 1.08, 1.3)).astype(np.float32)
    place = np.linspace(0, len(stops) - 1, _RAMP_SIZE)
    channels = [np.interp(place, np.arange(len(stops)), stops[:, c]) for c in range(3)]
    return np.rint(np.clip(np.stack(channels, axis=1), 0, 255)).astype(np.uint8)
