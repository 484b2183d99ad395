"""A potted plant that is poked. Texture class 4.

Each leaf is an arc of constant curvature; a poke makes it swing like a damped spring, and leaves
that grow in a similar direction swing along. The plant is a simulator: it answers any poke.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from pipelines.datasets.generate.canvas import Canvas
from pipelines.datasets.generate.motion import flow_from_start, moved_flow
from pipelines.datasets.generate.noise import value_noise
from pipelines.datasets.generate.scene import (
    Bytes,
    Clip,
    Floats,
    Scene,
    lags_within,
    random_shade,
)

LARGEST_AMPLITUDE = 0.55
"""Largest |amplitude| of a poke, rad; from root to tip a leaf turns by up to twice this."""

BACKGROUND, POT, FIRST_LEAF = 0, 1, 2
"""Numbers in the mask; leaf i is FIRST_LEAF + i, leaves with higher numbers are in front."""

_STEM = 0.35
"""Fraction of a leaf's length that is stem."""


@dataclass(frozen=True)
class Plant:
    """Lengths in pixels, angles in rad; leaf arrays have one entry per leaf, the farthest first.

    direction: of a leaf's root, 0 is up, positive to the right.
    rest: turning angle from root to tip of a leaf that is left alone.
    """

    root: Floats
    direction: Floats
    length: Floats
    half_width: Floats
    rest: Floats
    frequency: Floats
    damping: Floats
    color: Floats
    pot_color: Floats
    size_px: int


class Push(NamedTuple):
    """A poke as the physics take it: leaf (None: nothing), where along it, how strongly (rad)."""

    leaf: int | None
    arc: float
    amplitude: float


def generate(scene: Scene, *, with_truth: bool = True) -> Clip:
    """A plant that is poked at frame 0. Futures differ in the leaf, the place and the strength.

    speed: of the leaves' swing; a held-out range of speeds is a range of frequencies.
    """
    plant = _grow(scene)
    push = _random_push(scene, plant)
    return _film(scene, plant, push, poke_lag=_poke_lag(scene), with_truth=with_truth)


def simulate(
    scene: Scene, poke: tuple[float, float, float, float], *, lag: int, with_truth: bool = True
) -> Clip:
    """The plant's answer to a poke at frame 0.

    poke: column and row of a pixel, and how far (pixels, x and y) what it shows shall have moved
      after `lag` frames. The leaf there is pushed with the amplitude that comes nearest to it;
      a poke beside the leaves moves nothing.
    """
    plant = _grow(scene)
    push = push_for(plant, poke, lag=lag, shown=_still(scene, plant))
    return _film(scene, plant, push, poke_lag=lag, with_truth=with_truth, poke=poke)


def push_for(
    plant: Plant, poke: tuple[float, float, float, float], *, lag: int, shown: Bytes
) -> Push:
    """The push whose motion at `lag` is nearest to what the poke asks for. shown: the mask, H W."""
    column, row = int(poke[0]), int(poke[1])
    leaf = int(shown[row, column]) - FIRST_LEAF
    if leaf < 0:
        return Push(None, 0.0, 0.0)
    place = np.array([[column, row]], np.float32) + np.float32(0.5)
    along, across = arc_coordinates(plant, np.array([leaf]), plant.rest[[leaf]], place)
    amplitude = np.linspace(-LARGEST_AMPLITUDE, LARGEST_AMPLITUDE, 2201, dtype=np.float32)
    turn = plant.rest[leaf] + amplitude * _swing(plant, leaf, lag)
    reached = arc_places(plant, np.full(len(turn), leaf), turn, along, across)
    error = np.hypot(*(reached - place - np.array(poke[2:], np.float32)).T)
    # Where the answer hardly depends on the strength, the weakest push will do.
    best = np.argmin(error + np.float32(1e-3) * np.abs(amplitude))
    return Push(leaf, float(along[0]), float(amplitude[best]))


def turning(plant: Plant, push: Push, num_frames: int) -> Floats:
    """Turning angle of every leaf in every frame, T K."""
    t = np.arange(num_frames, dtype=np.float32)[:, None]
    if push.leaf is None:
        return np.repeat(plant.rest[None], num_frames, axis=0)
    apart = (plant.direction - plant.direction[push.leaf]) / 0.5
    coupling = 0.35 * np.exp(-apart * apart)
    coupling[push.leaf] = 1.0
    swing = np.stack([_swing(plant, k, t[:, 0]) for k in range(len(plant.length))], axis=1)
    return (plant.rest + push.amplitude * coupling * swing).astype(np.float32)


def arc_places(
    plant: Plant, leaf: NDArray[np.intp], turn: Floats, along: Floats, across: Floats
) -> Floats:
    """Places N 2 in pixels of points (along, across) of leaves that turn by `turn`."""
    heading = plant.direction[leaf]
    bent = turn * along
    small = np.abs(turn) < 1e-3
    curve = np.where(small, 1, turn)
    up = np.where(small, along, np.sin(bent) / curve) * plant.length[leaf]
    side = np.where(small, 0.5 * bent * along, (1 - np.cos(bent)) / curve) * plant.length[leaf]
    up, side = up - across * np.sin(bent), side + across * np.cos(bent)
    x = plant.root[0] + side * np.cos(heading) + up * np.sin(heading)
    y = plant.root[1] + side * np.sin(heading) - up * np.cos(heading)
    return np.stack([x, y], axis=-1).astype(np.float32)


def arc_coordinates(
    plant: Plant, leaf: NDArray[np.intp] | int, turn: Floats | float, place: Floats
) -> tuple[Floats, Floats]:
    """The inverse of arc_places: fraction along the leaf and pixels to its right side."""
    heading, length = plant.direction[leaf], plant.length[leaf]
    x, y = place[..., 0] - plant.root[0], place[..., 1] - plant.root[1]
    side = x * np.cos(heading) + y * np.sin(heading)
    up = x * np.sin(heading) - y * np.cos(heading)
    curvature = turn / length
    straight = 1 - curvature * side
    bent = np.arctan2(curvature * up, straight)
    # For a straight leaf both quotients are 0/0; their limits are `up` and `side`.
    small = np.abs(turn) < 1e-3
    along = np.where(small, up, bent / np.where(small, 1, curvature)) / length
    radius = np.sqrt(curvature * up * curvature * up + straight * straight)
    across = (2 * side - curvature * (side * side + up * up)) / (1 + radius)
    return along, across


class LeafMotion:
    """Where the visible points of leaves are in later frames; see motion.PointMotion."""

    def __init__(self, plant: Plant, turns: Floats, owner: Bytes) -> None:
        self._plant, self._turns = plant, turns
        self.frame, self.row, self.column = np.nonzero(owner >= FIRST_LEAF)
        self._leaf = owner[self.frame, self.row, self.column].astype(np.int64) - FIRST_LEAF
        place = np.stack([self.column, self.row], axis=1) + np.float32(0.5)
        turn = turns[self.frame, self._leaf]
        self._along, self._across = arc_coordinates(plant, self._leaf, turn, place)

    def positions(self, which: NDArray[np.bool_], lag: int) -> Floats:
        """Places, N 2 in pixels, of the chosen points `lag` frames after they were seen."""
        leaf = self._leaf[which]
        turn = self._turns[self.frame[which] + lag, leaf]
        return arc_places(self._plant, leaf, turn, self._along[which], self._across[which])


def _grow(scene: Scene) -> Plant:
    rng = scene.appearance("leaves")
    size, count = scene.size_px, int(rng.integers(5, 9))
    # Spread over the fan, then shuffled: what is in front has nothing to do with where it grows.
    fan = np.linspace(-0.9, 0.9, count) + rng.uniform(-0.14, 0.14, count)
    direction = rng.permutation(fan)
    physics = scene.appearance("physics")
    pace = scene.speed(0.47, 0.73, rng=physics)
    green = random_shade(scene.appearance("green"), (44, 110, 30), (70, 185, 52))
    tone = rng.uniform(0.72, 1.18, (count, 1)) * rng.uniform(0.85, 1.15, (count, 3))
    pot = random_shade(scene.appearance("pot"), (120, 62, 42), (190, 112, 78))
    root = np.array([rng.uniform(0.44, 0.56), 0.855]) * size
    return Plant(
        root=root.astype(np.float32),
        direction=direction.astype(np.float32),
        length=(rng.uniform(0.35, 0.6, count) * size).astype(np.float32),
        half_width=(rng.uniform(0.055, 0.085, count) * size).astype(np.float32),
        rest=(0.45 * direction + rng.uniform(-0.25, 0.25, count)).astype(np.float32),
        frequency=(pace + physics.uniform(-0.02, 0.02, count)).astype(np.float32),
        damping=physics.uniform(0.06, 0.12, count).astype(np.float32),
        color=(green * tone).astype(np.float32),
        pot_color=pot,
        size_px=size,
    )


def _swing(plant: Plant, leaf: int, t: Floats | int) -> Floats:
    """Turning angle at frame t after a push of amplitude 1."""
    frequency, damping = plant.frequency[leaf], plant.damping[leaf]
    rate = frequency * np.sqrt(1 - damping * damping)
    return 2 * np.exp(-damping * frequency * t) * np.sin(rate * t)


def _random_push(scene: Scene, plant: Plant) -> Push:
    """A push at a place of a leaf that can be seen in frame 0."""
    shown = _still(scene, plant)
    arcs = np.linspace(0.6, 0.97, 38, dtype=np.float32)
    rng = scene.dynamics("poke")
    for leaf in rng.permutation(len(plant.length)):
        turn = np.full(len(arcs), plant.rest[leaf])
        place = arc_places(plant, np.full(len(arcs), leaf), turn, arcs, np.zeros_like(arcs))
        column, row = np.floor(place).astype(np.int64).T.clip(0, plant.size_px - 1)
        free = arcs[shown[row, column] == FIRST_LEAF + leaf]
        if len(free):
            sign = 1 if rng.random() < 0.5 else -1
            strength = float(rng.uniform(0.25, LARGEST_AMPLITUDE))
            return Push(int(leaf), float(rng.choice(free)), sign * strength)
    return Push(None, 0.0, 0.0)


def _film(
    scene: Scene,
    plant: Plant,
    push: Push,
    *,
    poke_lag: int,
    with_truth: bool,
    poke: tuple[float, float, float, float] | None = None,
) -> Clip:
    turns = turning(plant, push, scene.num_frames)
    frames, owner = _render(scene, plant, turns)
    asked = poke or _poke_of(plant, push, turns, poke_lag)
    labels: dict[str, JsonValue] = {
        "texture_class": 4,
        "speed": float(plant.frequency.mean()),
        "poke": [float(value) / plant.size_px for value in asked],
        "poke_lag": poke_lag,
        "poked_leaf": push.leaf,
        "amplitude": push.amplitude,
    }
    if not with_truth:
        return Clip(frames, labels)
    motion = LeafMotion(plant, turns, owner)
    flow, visible = moved_flow(owner, motion, lags_within(scene.num_frames))
    extra = flow_from_start(owner, motion)
    return Clip(frames, labels, flow, visible, maps={"mask": owner}, extra=extra)


def _poke_lag(scene: Scene) -> int:
    return min(10, scene.num_frames - 1)


def _poke_of(
    plant: Plant, push: Push, turns: Floats, lag: int
) -> tuple[float, float, float, float]:
    """The poke that this push answers: a pixel, and its motion from frame 0 to frame lag."""
    if push.leaf is None:
        return 0.0, 0.0, 0.0, 0.0
    leaf, arc = np.array([push.leaf]), np.array([push.arc], np.float32)
    start = arc_places(plant, leaf, turns[0, leaf], arc, np.zeros_like(arc))
    pixel = np.floor(start)
    along, across = arc_coordinates(plant, leaf, turns[0, leaf], pixel + np.float32(0.5))
    end = arc_places(plant, leaf, turns[lag, leaf], along, across)
    x, y = pixel[0]
    dx, dy = end[0] - pixel[0] - np.float32(0.5)
    return float(x), float(y), float(dx), float(dy)


def _still(scene: Scene, plant: Plant) -> Bytes:
    """The mask of frame 0, H W."""
    return _render(scene, plant, plant.rest[None])[1][0]


def _render(scene: Scene, plant: Plant, turns: Floats) -> tuple[Bytes, Bytes]:
    """Frames and masks for the turning angles T K."""
    wall = _wall(scene)
    size = plant.size_px
    frames = np.empty((len(turns), size, size, 3), np.uint8)
    owner = np.empty((len(turns), size, size), np.uint8)
    for t, turn in enumerate(turns):
        canvas = Canvas(wall)
        for leaf in range(len(turn)):
            _draw_leaf(canvas, plant, leaf, float(turn[leaf]))
        _draw_pot(canvas, plant)
        frames[t], owner[t] = canvas.picture(), canvas.part
    return frames, owner


def _draw_leaf(canvas: Canvas, plant: Plant, leaf: int, turn: float) -> None:
    size = plant.size_px
    arcs = np.linspace(0, 1, 9, dtype=np.float32)
    which = np.full(9, leaf)
    spine = arc_places(plant, which, np.full(9, turn), arcs, np.zeros_like(arcs))
    margin = plant.half_width[leaf] + 0.01 * size + 1
    low = np.clip(np.floor(spine.min(axis=0) - margin), 0, size).astype(int)
    high = np.clip(np.ceil(spine.max(axis=0) + margin), 0, size).astype(int)
    x = np.arange(low[0], high[0], dtype=np.float32) + np.float32(0.5)
    y = np.arange(low[1], high[1], dtype=np.float32) + np.float32(0.5)
    place = np.stack(np.broadcast_arrays(x[None], y[:, None]), axis=-1)
    along, across = arc_coordinates(plant, leaf, turn, place)
    blade = np.clip((along - _STEM) / (1 - _STEM), 0, 1)
    bulge = np.maximum(np.sin(np.pi * blade), 0)  # float32: sin(pi) lies a little below 0
    width = plant.half_width[leaf] * bulge ** np.float32(0.8)
    width += np.float32(0.008 * size)
    beyond = np.maximum(-along, along - 1) * plant.length[leaf]
    cover = np.clip(np.minimum(width - np.abs(across), -beyond) + np.float32(0.5), 0, 1)
    color = plant.color[leaf] * _leaf_light(blade, across, width, size)[..., None]
    rows, columns = slice(low[1], high[1]), slice(low[0], high[0])
    canvas.blend(rows, columns, cover, color, FIRST_LEAF + leaf)


def _leaf_light(blade: Floats, across: Floats, width: Floats, size: int) -> Floats:
    """Brightness of a leaf: one half darker, a dark middle vein, faint side veins."""
    side = across / width
    halves = 1 + 0.1 * np.clip(6 * side, -1, 1)
    vein = across / np.float32(0.009 * size)
    side_veins = 0.05 * np.sin(34 * blade - 5 * np.abs(side))
    return halves * (1 - 0.35 * np.exp(-vein * vein)) + side_veins


def _draw_pot(canvas: Canvas, plant: Plant) -> None:
    size = plant.size_px
    x = np.arange(size, dtype=np.float32) + np.float32(0.5)
    top = plant.root[1] - 0.012 * size
    y = x[int(top) - 1 :, None]
    height = (y - top) / size
    half = size * np.where(height < 0.035, 0.1, 0.092 - 0.16 * (height - 0.035))
    offset = (x - plant.root[0]) / half
    cover = np.clip((1 - np.abs(offset)) * half + 0.5, 0, 1) * np.clip(y - top + 0.5, 0, 1)
    light = 1.08 - 0.3 * np.square(offset + 0.35) - 0.12 * ((height > 0.035) & (height < 0.05))
    color = plant.pot_color * np.clip(light, 0.3, 1.2)[..., None]
    canvas.blend(slice(int(top) - 1, size), slice(0, size), cover, color, POT)


def _wall(scene: Scene) -> Floats:
    size = scene.size_px
    texture = value_noise(scene.appearance("wall"), (5, 5), octaves=4, shape=(size, size))
    hue = scene.appearance("wall color").uniform(0, 2 * np.pi)
    tint = np.cos(hue + np.array([0, 2, 4], np.float32) * np.float32(np.pi / 3))
    return (168 + 26 * tint) * (0.86 + 0.28 * texture[..., None])
