"""A person who walks, waves or boxes before a wall, seen from the side. Texture class 6."""

from __future__ import annotations

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
    pixel_centres,
    random_shade,
)
from pipelines.datasets.generate.skeleton import (
    HEAD,
    L_ELBOW,
    L_FOOT,
    L_HIP,
    L_KNEE,
    L_SHOULDER,
    L_WRIST,
    NECK,
    NUM_IDENTITIES,
    R_ELBOW,
    R_FOOT,
    R_HIP,
    R_KNEE,
    R_SHOULDER,
    R_WRIST,
    SPINE,
    Movement,
    Person,
    common_joints,
    draw_take,
    move,
    person,
)

FLOOR = 0.9
"""Height of the ground line in the picture."""

_R_TOES, _L_TOES, _FACE, _HAIR = 17, 18, 19, 20
"""Points that limbs refer to beside the 17 joints; see all_points."""

_LIMBS = (
    # start, end, radii (of the body height), clothes, how much nearer than its joints it counts
    (R_FOOT, _R_TOES, 0.026, 0.02, "shoes", 0.0),
    (L_FOOT, _L_TOES, 0.026, 0.02, "shoes", 0.0),
    (R_HIP, R_KNEE, 0.043, 0.034, "trousers", 0.0),
    (R_KNEE, R_FOOT, 0.034, 0.025, "trousers", 0.0),
    (L_HIP, L_KNEE, 0.043, 0.034, "trousers", 0.0),
    (L_KNEE, L_FOOT, 0.034, 0.025, "trousers", 0.0),
    (SPINE, NECK, 0.062, 0.07, "shirt", 0.01),
    (NECK, _FACE, 0.026, 0.026, "skin", -0.06),
    (_FACE, _FACE, 0.064, 0.064, "skin", 0.02),
    (_HAIR, _HAIR, 0.053, 0.053, "hair", 0.021),
    (R_SHOULDER, R_ELBOW, 0.034, 0.028, "shirt", 0.03),
    (R_ELBOW, R_WRIST, 0.025, 0.02, "skin", 0.04),
    (L_SHOULDER, L_ELBOW, 0.034, 0.028, "shirt", 0.03),
    (L_ELBOW, L_WRIST, 0.025, 0.02, "skin", 0.04),
)
LIMB_STARTS = np.array([limb[0] for limb in _LIMBS])
LIMB_ENDS = np.array([limb[1] for limb in _LIMBS])
"""Limb i is part i + 1 of the mask and goes from LIMB_STARTS[i] to LIMB_ENDS[i] of `all_points`."""


def generate(
    scene: Scene,
    *,
    with_truth: bool = True,
    action: str | None = None,
    identity: int | None = None,
) -> Clip:
    """A person. Futures differ in pace, stride, and in what the person does next.

    action: walk, wave or box from the first frame on, instead of a drawn one.
    identity: 0 to NUM_IDENTITIES - 1, instead of a drawn one.
    """
    if identity is None:
        identity = int(scene.appearance("identity").integers(NUM_IDENTITIES))
    body = person(scene, identity)
    take = draw_take(scene, action=action)
    view = scene.appearance("view")
    height = float(view.uniform(0.52, 0.63) * body.height / 1.7)
    margin = 0.14 / height
    room = (float(view.uniform(0.15, 0.45)) / height, margin, 1 / height - margin)
    movement = move(scene, body, take, room=room)

    points = all_points(movement)
    size = scene.size_px
    places = np.stack([points[..., 0], -points[..., 2]], axis=-1) * np.float32(height * size)
    places[..., 1] += np.float32(FLOOR * size)
    scale = np.full(len(places), height * size, np.float32)
    frames, owner = render(
        backdrop(scene), places, points[..., 1], scale, body, abs(np.sin(movement.yaw))
    )
    labels: dict[str, JsonValue] = {
        "texture_class": 6,
        "action": take.action,
        "start_action": take.start_action,
        "identity": identity,
        "speed": 1 / take.gait.period,
    }
    if not with_truth:
        return Clip(frames, labels)
    motion = StickMotion(owner, places[:, LIMB_STARTS], places[:, LIMB_ENDS])
    flow, visible = moved_flow(owner, motion, lags_within(scene.num_frames))
    joints = common_joints(places) / np.float32(size)
    extra = flow_from_start(owner, motion)
    return Clip(frames, labels, flow, visible, {"mask": owner}, {"joints": joints}, extra)


def all_points(movement: Movement) -> Floats:
    """The 17 joints, right and left toes, the middle of the head and of the hair: T 21 3."""
    joints = movement.joints
    upright = joints[:, HEAD] - joints[:, NECK]
    back = np.stack([-np.cos(movement.yaw), -np.sin(movement.yaw), 0 * movement.yaw], axis=1)
    face = joints[:, NECK] + 0.57 * upright
    hair = joints[:, NECK] + 0.8 * upright + np.float32(0.022) * back
    return np.concatenate([joints, movement.toes, face[:, None], hair[:, None]], axis=1)


def render(
    background: Floats,
    places: Floats,
    depth: Floats,
    scale: Floats,
    body: Person,
    frontal: Floats,
) -> tuple[Bytes, Bytes]:
    """Frames T H W 3 and masks T H W of a body.

    places: T 21 2 in pixels.  depth: T 21, larger is farther, in body heights.
    scale: pixels per body height in each frame.  frontal: 0 seen from the side .. 1 from the front.
    """
    order = _drawing_order(depth)
    shape = (len(places), *background.shape[:2])
    frames, owner = np.empty((*shape, 3), np.uint8), np.empty(shape, np.uint8)
    for t in range(len(places)):
        canvas = Canvas(background)
        near = depth[t, SPINE]
        for limb in order[t]:
            start, end, first, second, clothes, _ = _LIMBS[limb]
            wide = scale[t] * body.girth
            if start == SPINE:
                wide *= 1 + 0.45 * frontal[t]
            far_side = np.clip((depth[t, start] - near) / 0.06, 0, 1) * (clothes != "skin")
            color = getattr(body, clothes) * np.float32(1 - 0.3 * far_side)
            canvas.stick(
                places[t, start], places[t, end], radius=(first * wide, second * wide),
                color=color, part=int(limb) + 1,
            )  # fmt: skip
        frames[t], owner[t] = canvas.picture(), canvas.part
    return frames, owner


def backdrop(scene: Scene) -> Floats:
    """A mottled wall over a darker floor, H W 3."""
    size = scene.size_px
    wall = value_noise(scene.appearance("wall"), (6, 6), octaves=4, shape=(size, size))
    color = random_shade(scene.appearance("wall color"), (122, 122, 122), (176, 174, 168))
    y = pixel_centres(size)[:, None]
    on_floor = np.clip(y - (FLOOR + 0.01) * size + 0.5, 0, 1)
    light = (0.88 + 0.2 * wall) * (1 - 0.28 * on_floor)
    return color * light[..., None]


def _drawing_order(depth: Floats) -> NDArray[np.intp]:
    """Limbs from the farthest to the nearest, T 14."""
    nearer = np.array([limb[5] for limb in _LIMBS], np.float32)
    middle = 0.5 * (depth[:, LIMB_STARTS] + depth[:, LIMB_ENDS]) - nearer
    return np.argsort(-middle, axis=1, kind="stable")
