"""Two digits that bounce in a black frame: the smallest sanity set."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from pipelines.datasets.generate.motion import StickMotion, flow_from_start, moved_flow
from pipelines.datasets.generate.scene import Clip, Floats, Scene, lags_within, to_bytes

NUM_DIGITS = 2
GLYPH_HEIGHT = 0.36
"""Height of a digit, fraction of the frame."""

_GLYPHS = """
.###. ..#.. .###. ####. ...#. ##### ..##. ##### .###. .###.
#...# .##.. #...# ....# ..##. #.... .#... ....# #...# #...#
#..## ..#.. ....# ....# .#.#. ####. #.... ...#. #...# #...#
#.#.# ..#.. ...#. .###. #..#. ....# ####. ..#.. .###. .####
##..# ..#.. ..#.. ....# ##### ....# #...# ..#.. #...# ....#
#...# ..#.. .#... ....# ...#. #...# #...# .#... #...# ...#.
.###. .###. ##### ####. ...#. .###. .###. .#... .###. .##..
"""


def generate(scene: Scene, *, with_truth: bool = True) -> Clip:
    """Two digits, the second in front. Futures differ in direction and speed of both."""
    size, num_frames = scene.size_px, scene.num_frames
    digits = [int(d) for d in scene.appearance("digits").integers(10, size=NUM_DIGITS)]
    sprites = [_sprite(digit, size) for digit in digits]
    speed = scene.speed(0.02, 0.06)
    tracks = _bounce(scene, speed)

    shape = (num_frames, size, size)
    frames, owner = np.empty((*shape, 3), np.uint8), np.zeros(shape, np.uint8)
    for t in range(num_frames):
        picture = np.zeros((size, size), np.float32)
        for number, sprite in enumerate(sprites):
            rows, columns, ink = _place(sprite, tracks[t, number] * size, size)
            under = picture[rows, columns]
            np.maximum(under, ink, out=under)
            owner[t, rows, columns][ink > 0.5] = number + 1
        frames[t] = to_bytes(picture * 255)[..., None]
    labels: dict[str, JsonValue] = {"digits": list(digits), "speed": speed}
    if not with_truth:
        return Clip(frames, labels)
    starts = tracks * np.float32(size)
    motion = StickMotion(owner, starts, starts + np.array([1, 0], np.float32))
    flow, visible = moved_flow(owner, motion, lags_within(num_frames))
    extra = flow_from_start(owner, motion)
    return Clip(frames, labels, flow, visible, {"mask": owner}, {"centres": tracks}, extra)


def _sprite(digit: int, size_px: int) -> Floats:
    """Coverage 0..1 of a digit, with one empty pixel around it."""
    rows = [line.split()[digit] for line in _GLYPHS.split("\n") if line]
    bitmap = np.array([[cell == "#" for cell in row] for row in rows], np.float32)
    height = round(GLYPH_HEIGHT * size_px)
    width = round(height * bitmap.shape[1] / bitmap.shape[0])
    y = (np.arange(height) + 0.5) * bitmap.shape[0] / height - 0.5
    x = (np.arange(width) + 0.5) * bitmap.shape[1] / width - 0.5
    smooth = _bilinear(np.pad(bitmap, 1), y + 1, x + 1)
    # Steep around one half: round corners, and an edge about one pixel wide.
    sharp = np.clip((smooth - 0.42) * height / bitmap.shape[0] + 0.5, 0, 1)
    return np.pad(sharp, 1).astype(np.float32)


def _bilinear(field: Floats, y: NDArray[np.float64], x: NDArray[np.float64]) -> Floats:
    top, left = np.floor(y).astype(int), np.floor(x).astype(int)
    down, right = (y - top)[:, None], x - left
    upper = field[top][:, left] * (1 - right) + field[top][:, left + 1] * right
    lower = field[top + 1][:, left] * (1 - right) + field[top + 1][:, left + 1] * right
    return (upper * (1 - down) + lower * down).astype(np.float32)


def _bounce(scene: Scene, speed: float) -> Floats:
    """Centres of the digits, T NUM_DIGITS 2, fractions; they rebound from the borders."""
    margin = np.array([GLYPH_HEIGHT * 5 / 7, GLYPH_HEIGHT]) / 2 + 0.02
    room = 1 - 2 * margin
    start = scene.appearance("start").uniform(0, 1, (NUM_DIGITS, 2)) * room
    rng = scene.dynamics("direction")
    angle = rng.uniform(0, 2 * np.pi, NUM_DIGITS)
    pace = speed * rng.uniform(0.8, 1.2, NUM_DIGITS)
    velocity = pace[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    straight = start + np.arange(scene.num_frames)[:, None, None] * velocity
    # Straight on through mirrored rooms is the same as bouncing in one.
    folded = room - np.abs(np.mod(straight, 2 * room) - room)
    return (folded + margin).astype(np.float32)


def _place(sprite: Floats, centre: Floats, size_px: int) -> tuple[slice, slice, Floats]:
    """Where in the frame a sprite goes, and its coverage there, moved by a part of a pixel."""
    height, width = sprite.shape
    left, top = centre[0] - width / 2, centre[1] - height / 2
    column, row = int(np.floor(left)), int(np.floor(top))
    right, down = np.float32(left - column), np.float32(top - row)
    wide = np.pad(sprite, 1)
    ink = wide[1:, 1:] * (1 - right) + wide[1:, :-1] * right
    below = wide[:-1, 1:] * (1 - right) + wide[:-1, :-1] * right
    ink = ink * (1 - down) + below * down
    # At a border the empty rim of a sprite may lie outside the frame.
    first, start = max(0, -row), max(0, -column)
    last, end = min(height + 1, size_px - row), min(width + 1, size_px - column)
    rows, columns = slice(row + first, row + last), slice(column + start, column + end)
    return rows, columns, ink[first:last, start:end]
