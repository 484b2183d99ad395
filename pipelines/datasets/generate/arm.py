"""A two-link robot arm over a table with discs, seen from above, as in BAIR. Texture class 5.

The effector is pulled towards targets like a damped spring; the elbow follows by the law of
cosines; discs that the effector meets are pushed aside. The arm is a simulator: it answers any
poke.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from pipelines.datasets.generate.canvas import Canvas
from pipelines.datasets.generate.motion import StickMotion, flow_from_start, moved_flow
from pipelines.datasets.generate.noise import value_noise
from pipelines.datasets.generate.scene import (
    Bytes,
    Clip,
    Floats,
    Scene,
    lags_within,
    random_color,
    random_shade,
)

MOST_DISCS = 8
UPPER_LINK, FOREARM, ELBOW, EFFECTOR = 1, 2, 3, 4
"""Numbers in the mask; disc i is FIRST_DISC + i, 0 is the table."""
FIRST_DISC = 5

EFFECTOR_COLOR = np.array([18, 16, 20], np.float32)
LINK_LENGTHS = (0.42, 0.38)
"""Upper link and forearm, fractions of the frame."""

_REACH_LOW, _REACH_HIGH = np.array([0.15, 0.38]), np.array([0.85, 0.76])
_KEPT_SPEED = 0.75
_FRAMES_PER_TARGET = 7
_EFFECTOR_RADIUS = 0.03


@dataclass(frozen=True)
class Workplace:
    """What frame 0 shows; places and radii are fractions of the frame."""

    base: Floats
    start: Floats
    elbow_side: float
    discs: Floats
    radii: Floats
    disc_colors: Floats
    forearm_color: Floats
    table: Floats


@dataclass(frozen=True)
class Tracks:
    """Where everything is: effector and elbow T 2, discs T N 2, angles T 2 (rad); fractions."""

    effector: Floats
    elbow: Floats
    discs: Floats
    angles: Floats


def generate(scene: Scene, *, with_truth: bool = True) -> Clip:
    """An arm at work. Futures differ in the targets and in how hard it is pulled."""
    place = _furnish(scene)
    pull = scene.speed(0.04, 0.08)
    count = -(-scene.num_frames // _FRAMES_PER_TARGET)
    targets = scene.dynamics("targets").uniform(_REACH_LOW, _REACH_HIGH, (count, 2))
    targets = _within_reach(targets, place.base)
    path = effector_path(place.start, targets, pull=pull, num_frames=scene.num_frames)
    return _film(scene, place, path, {"speed": pull}, with_truth=with_truth)


def simulate(
    scene: Scene, poke: tuple[float, float, float, float], *, lag: int, with_truth: bool = True
) -> Clip:
    """The arm's answer to a poke at frame 0: its effector is pulled to one target, and stays there.

    poke: column and row of a pixel, and how far (pixels, x and y) what it shows shall have moved
      after `lag` frames. The target within reach that comes nearest to it is taken; a poke beside
      the arm moves nothing.
    """
    place = _furnish(scene)
    pull = scene.speed(0.04, 0.08)
    target = target_for(scene, place, poke, pull=pull, lag=lag)
    path = effector_path(place.start, target[None], pull=pull, num_frames=scene.num_frames)
    labels: dict[str, JsonValue] = {
        "speed": pull,
        "poke": [float(value) / scene.size_px for value in poke],
        "poke_lag": lag,
        "target": [float(value) for value in target],
    }
    return _film(scene, place, path, labels, with_truth=with_truth)


def effector_path(
    start: Floats, targets: NDArray[np.float64], *, pull: float, num_frames: int
) -> Floats:
    """Places of the effector, T 2: pulled to each target for some frames, to the last for good."""
    place, velocity = start.astype(np.float64), np.zeros(2)
    path = [place]
    for t in range(num_frames - 1):
        target = targets[min(t // _FRAMES_PER_TARGET, len(targets) - 1)]
        velocity = _KEPT_SPEED * velocity + pull * (target - place)
        place = place + velocity
        path.append(place)
    return np.stack(path).astype(np.float32)


def target_for(
    scene: Scene,
    place: Workplace,
    poke: tuple[float, float, float, float],
    *,
    pull: float,
    lag: int,
) -> NDArray[np.float64]:
    """The target under which the poked point's motion at `lag` is nearest to the asked one."""
    size = scene.size_px
    column, row = int(poke[0]), int(poke[1])
    still = _track(place, place.start[None])
    owner = _render(scene, place, still)[1]
    if not 0 < owner[0, row, column] < FIRST_DISC:
        return place.start.astype(np.float64)
    # How far the effector has come at `lag` is the same fraction of the way for every target.
    to_right = np.array([[1.0, 0.0]])
    progress = effector_path(np.zeros(2, np.float32), to_right, pull=pull, num_frames=lag + 1)[
        -1, 0
    ]
    grid = [np.linspace(low, high, 141) for low, high in zip(_REACH_LOW, _REACH_HIGH, strict=True)]
    targets = np.stack(np.meshgrid(*grid), axis=-1).reshape(-1, 2)
    targets = _within_reach(targets, place.base)
    ends = place.start + progress * (targets - place.start).astype(np.float32)
    elbows = _elbows(place, ends)[0]
    part = owner[0, row, column]
    pixel = np.array([column, row], np.float32) + np.float32(0.5)
    reached = _carried(part, pixel / size, place, still, ends, elbows) * size
    error = np.hypot(*(reached - pixel - np.array(poke[2:], np.float32)).T)
    return targets[int(np.argmin(error))]


def _carried(
    part: int,
    point: Floats,
    place: Workplace,
    still: Tracks,
    ends: Floats,
    elbows: Floats,
) -> Floats:
    """Where a point of the arm goes when effector and elbow are at `ends` and `elbows`, N 2."""
    starts = {
        UPPER_LINK: (place.base, still.elbow[0]),
        FOREARM: (still.elbow[0], still.effector[0]),
    }
    moved = {UPPER_LINK: (place.base[None], elbows), FOREARM: (elbows, ends)}
    if part in (ELBOW, EFFECTOR):
        centre, centres = {ELBOW: (still.elbow[0], elbows), EFFECTOR: (still.effector[0], ends)}[
            part
        ]
        return centres + (point - centre)
    (start, end), (new_start, new_end) = starts[part], moved[part]
    axis, new_axis = end - start, new_end - new_start
    length2 = float(axis @ axis)
    along = float((point - start) @ axis) / length2
    across = float(axis[0] * (point - start)[1] - axis[1] * (point - start)[0]) / length2
    normal = np.stack([-new_axis[:, 1], new_axis[:, 0]], axis=1)
    return new_start + along * new_axis + across * normal


def _furnish(scene: Scene) -> Workplace:
    rng = scene.appearance("discs")
    count = int(rng.integers(4, MOST_DISCS + 1))
    radii = rng.uniform(0.032, 0.062, MOST_DISCS)[:count]
    base = np.array([scene.appearance("base").uniform(0.4, 0.6), -0.02])
    start = scene.appearance("effector").uniform(_REACH_LOW, _REACH_HIGH)
    start = _within_reach(start[None], base)[0]
    return Workplace(
        base=base.astype(np.float32),
        start=start.astype(np.float32),
        elbow_side=1.0 if scene.appearance("elbow").random() < 0.5 else -1.0,
        discs=_scatter(rng, radii, start),
        radii=radii.astype(np.float32),
        disc_colors=np.stack([random_color(rng, (20,) * 3, (240,) * 3) for _ in range(count)]),
        forearm_color=random_shade(scene.appearance("forearm"), (120, 18, 18), (190, 40, 30)),
        table=_table(scene),
    )


def _within_reach(places: NDArray[np.float64], base: NDArray[np.floating]) -> NDArray[np.float64]:
    """The places N 2, drawn in towards the base where the arm could not stretch to them."""
    offset = places - base
    distance = np.hypot(offset[:, 0], offset[:, 1])
    return base + offset * np.minimum(1, 0.95 * sum(LINK_LENGTHS) / distance)[:, None]


def _scatter(rng: np.random.Generator, radii: NDArray[np.float64], start: Floats) -> Floats:
    """Places that touch neither each other nor the effector, as far as ten tries go."""
    placed: list[NDArray[np.float64]] = []
    for radius in radii:
        tries = rng.uniform((0.1, 0.4), (0.9, 0.92), (10, 2))
        others = np.array([start, *placed])
        room = np.hypot(*(tries[:, None] - others[None]).transpose(2, 0, 1)).min(axis=1)
        fits = np.nonzero(room > radius + 0.075)[0]
        placed.append(tries[fits[0] if len(fits) else int(np.argmax(room))])
    return np.array(placed, np.float32)


def _elbows(place: Workplace, effector: Floats) -> tuple[Floats, Floats]:
    """Elbows N 2 for effector places N 2, and the angles of both links N 2 (rad, 0 is right)."""
    upper, fore = LINK_LENGTHS
    reach = effector - place.base
    distance = np.clip(np.hypot(reach[:, 0], reach[:, 1]), abs(upper - fore) + 1e-3, upper + fore)
    cosine = (upper**2 + distance**2 - fore**2) / (2 * upper * distance)
    inner = np.arccos(np.clip(cosine, -1, 1))
    shoulder = np.arctan2(reach[:, 1], reach[:, 0]) + place.elbow_side * inner
    elbow = place.base + upper * np.stack([np.cos(shoulder), np.sin(shoulder)], axis=1)
    forearm = effector - elbow
    angles = np.stack([shoulder, np.arctan2(forearm[:, 1], forearm[:, 0])], axis=1)
    return elbow.astype(np.float32), angles.astype(np.float32)


def _track(place: Workplace, effector: Floats) -> Tracks:
    elbow, angles = _elbows(place, effector)
    discs = np.empty((len(effector), *place.discs.shape), np.float32)
    now = place.discs
    for t, tip in enumerate(effector):
        away = now - tip
        distance = np.maximum(np.hypot(away[:, 0], away[:, 1]), 1e-4)
        overlap = place.radii + np.float32(_EFFECTOR_RADIUS) - distance
        now = now + away / distance[:, None] * np.maximum(overlap, 0)[:, None]
        discs[t] = now
    return Tracks(effector, elbow, discs, angles)


def _film(
    scene: Scene,
    place: Workplace,
    effector: Floats,
    labels: dict[str, JsonValue],
    *,
    with_truth: bool,
) -> Clip:
    tracks = _track(place, effector)
    frames, owner = _render(scene, place, tracks)
    labels = {"texture_class": 5, "num_discs": len(place.radii), **labels}
    if not with_truth:
        return Clip(frames, labels)
    starts, ends = _sticks(place, tracks)
    motion = StickMotion(owner, starts * scene.size_px, ends * scene.size_px)
    flow, visible = moved_flow(owner, motion, lags_within(scene.num_frames))
    num_frames = scene.num_frames
    discs = np.full((num_frames, MOST_DISCS, 2), np.nan, np.float32)
    discs[:, : len(place.radii)] = tracks.discs
    height = np.zeros((num_frames, 1), np.float32)
    places = {
        "endeffector_pos": np.concatenate([tracks.effector, height], axis=1),
        "joint_angles": tracks.angles,
        "discs": discs,
    }
    extra = flow_from_start(owner, motion)
    return Clip(frames, labels, flow, visible, {"mask": owner}, places, extra)


def _sticks(place: Workplace, tracks: Tracks) -> tuple[Floats, Floats]:
    """Ends of every part's stick, T P 2 in fractions; a disc's stick only says where it is."""
    base = np.broadcast_to(place.base, tracks.elbow.shape)
    starts = [base, tracks.elbow, tracks.elbow, tracks.effector]
    right = np.array([0.05, 0], np.float32)
    ends = [tracks.elbow, tracks.effector, tracks.elbow + right, tracks.effector + right]
    return (
        np.concatenate([np.stack(starts, axis=1), tracks.discs], axis=1),
        np.concatenate([np.stack(ends, axis=1), tracks.discs + right], axis=1),
    )


def _render(scene: Scene, place: Workplace, tracks: Tracks) -> tuple[Bytes, Bytes]:
    size = scene.size_px
    shape = (len(tracks.effector), size, size)
    frames, owner = np.empty((*shape, 3), np.uint8), np.empty(shape, np.uint8)
    black = np.array([26, 24, 28], np.float32)
    base = place.base * size
    for t in range(shape[0]):
        canvas = Canvas(place.table)
        for i, (disc, radius) in enumerate(zip(tracks.discs[t] * size, place.radii, strict=True)):
            canvas.disc(disc, radius * size, color=place.disc_colors[i], part=FIRST_DISC + i)
        elbow, tip = tracks.elbow[t] * size, tracks.effector[t] * size
        thick, thin = (0.042 * size, 0.038 * size), (0.028 * size, 0.022 * size)
        canvas.stick(elbow, tip, radius=thin, color=place.forearm_color, part=FOREARM, shading=0.45)
        canvas.stick(base, elbow, radius=thick, color=black, part=UPPER_LINK, shading=0.6)
        canvas.disc(elbow, 0.046 * size, color=black, part=ELBOW)
        canvas.disc(tip, _EFFECTOR_RADIUS * size, color=EFFECTOR_COLOR, part=EFFECTOR)
        frames[t], owner[t] = canvas.picture(), canvas.part
    return frames, owner


def _table(scene: Scene) -> Floats:
    size = scene.size_px
    coarse = value_noise(scene.appearance("table"), (4, 4), octaves=3, shape=(size, size))
    grain = value_noise(scene.appearance("grain"), (32, 32), octaves=2, shape=(size, size))
    color = random_shade(scene.appearance("table color"), (158, 128, 96), (202, 178, 142))
    return color * (0.86 + 0.16 * coarse + 0.12 * grain)[..., None]
