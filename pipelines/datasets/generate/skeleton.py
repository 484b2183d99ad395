"""A walking, waving, boxing body: joints in space for every frame.

Body lengths are fractions of the body's height. World axes: x to the right of the side camera,
y away from it, z up; the ground is z = 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pipelines.datasets.generate.scene import Floats, Scene, ease, random_color, random_shade

ACTIONS = ("walk", "wave", "box")
NUM_IDENTITIES = 25
"""People; each has looks and proportions of its own."""

PERSON_KIND_ID = 100
"""Stands for a kind in the streams of chance that decide what a person looks like."""

JOINT_NAMES = (
    "right hip", "right knee", "right foot", "left hip", "left knee", "left foot", "spine",
    "thorax", "neck", "nose", "head", "left shoulder", "left elbow", "left wrist",
    "right shoulder", "right elbow", "right wrist",
)  # fmt: skip
"""The 17 joints of Human3.6M in their usual order; `spine` is the middle of the pelvis."""

(R_HIP, R_KNEE, R_FOOT, L_HIP, L_KNEE, L_FOOT, SPINE, THORAX, NECK, NOSE, HEAD,
 L_SHOULDER, L_ELBOW, L_WRIST, R_SHOULDER, R_ELBOW, R_WRIST) = range(17)  # fmt: skip

_FRAMES_TO_CHANGE = 6.0
"""Frames in which a body passes from what it does in frame 0 to what it does next."""


@dataclass(frozen=True)
class Person:
    """Looks and proportions of one identity; lengths in fractions of the body height."""

    height: float
    thigh: float
    shin: float
    torso: float
    upper_arm: float
    forearm: float
    girth: float
    shirt: Floats
    trousers: Floats
    skin: Floats
    shoes: Floats
    hair: Floats


class Gait(NamedTuple):
    """How an action is done: frames per cycle, thigh amplitude (rad), vigour of the arms."""

    period: float
    stride: float
    vigour: float


class Movement(NamedTuple):
    """Joints of a take.

    joints: T 17 3, fractions of the body height, in world axes.  toes: T 2 3, right then left.
    yaw: T, direction the body faces, 0 is +x, -pi/2 is towards the side camera.
    """

    joints: Floats
    toes: Floats
    yaw: Floats


class Take(NamedTuple):
    """What happens: the action seen in frame 0, the action after it, and how it is done."""

    start_action: str
    action: str
    gait: Gait
    heading: float


def person(scene: Scene, identity: int) -> Person:
    """Looks of an identity (0 to NUM_IDENTITIES - 1), the same in every clip of a seed."""
    own = scene.of_identity(PERSON_KIND_ID, identity)
    shape = own.appearance("shape").uniform(0.92, 1.08, 6)
    colors = own.appearance("clothes")
    return Person(
        height=float(1.7 * shape[0]),
        thigh=float(0.245 * shape[1]),
        shin=float(0.235 * shape[1]),
        torso=float(0.29 * shape[2]),
        upper_arm=float(0.165 * shape[3]),
        forearm=float(0.155 * shape[3]),
        girth=float(shape[4] ** 2),
        shirt=random_color(colors, (25,) * 3, (215,) * 3),
        trousers=random_color(colors, (25,) * 3, (120,) * 3),
        skin=random_shade(own.appearance("skin"), (112, 74, 54), (222, 176, 146)),
        shoes=random_shade(colors, (22, 20, 20), (90, 70, 60)),
        hair=random_shade(own.appearance("hair"), (28, 20, 16), (136, 104, 66)),
    )


def draw_take(scene: Scene, *, action: str | None = None) -> Take:
    """Decide what happens. action: this one from the first frame on, instead of a drawn one."""
    rng = scene.appearance("action")
    start = ACTIONS[int(rng.integers(len(ACTIONS)))] if action is None else action
    later = scene.dynamics("action")
    changes = action is None and later.random() < 0.25
    following = ACTIONS[int(later.integers(len(ACTIONS)))] if changes else start
    rate = scene.speed(1 / 22, 1 / 14)
    gait = Gait(1 / rate, float(later.uniform(0.35, 0.55)), float(later.uniform(0.75, 1.25)))
    heading = 0.0 if later.random() < 0.5 else -float(np.pi)
    if start != "wave":  # a body seen from the side in frame 0 goes on the way it faces
        heading = _first_heading(scene)
    return Take(start, following, gait, heading)


def move(scene: Scene, body: Person, take: Take, *, room: tuple[float, float, float]) -> Movement:
    """Joints of a body that does what the take says.

    room: the body's x in frame 0 if it faces +x (mirrored in the room if not), and the lowest and
      highest x, at which it turns round.
    """
    t = np.arange(scene.num_frames, dtype=np.float32)
    rng = scene.appearance("pose")
    first = Gait(take.gait.period, float(rng.uniform(0.35, 0.55)), float(rng.uniform(0.8, 1.2)))
    phase = np.float32(rng.uniform(0, 2 * np.pi)) + np.float32(2 * np.pi / take.gait.period) * t
    weight = ease(t, _FRAMES_TO_CHANGE)[:, None]
    before = _angles(take.start_action, first, phase)
    after = _angles(take.action, take.gait, phase)
    angles = {name: before[name] * (1 - weight) + after[name] * weight for name in before}
    pace = 4 * (body.thigh + body.shin) / take.gait.period
    step = pace * (
        np.sin(first.stride) * (take.start_action == "walk") * (1 - weight[:, 0])
        + np.sin(take.gait.stride) * (take.action == "walk") * weight[:, 0]
    )
    yaw, x = _wander(scene, take, step, room)
    return _stand(body, angles, yaw, x)


def common_joints(joints: Floats) -> Floats:
    """The 11 joints of COMMON_JOINT_NAMES from the 17: T 11 D."""
    head = joints[:, NECK] + 0.57 * (joints[:, HEAD] - joints[:, NECK])
    chosen = [L_KNEE, R_KNEE, L_FOOT, R_FOOT, L_ELBOW, R_ELBOW, L_WRIST, R_WRIST]
    core = np.stack([joints[:, SPINE], joints[:, NECK], head], axis=1)
    return np.concatenate([core, joints[:, chosen]], axis=1)


COMMON_JOINT_NAMES = (
    "hip", "neck", "head", "left knee", "right knee", "left foot", "right foot",
    "left elbow", "right elbow", "left hand", "right hand",
)  # fmt: skip


def _first_heading(scene: Scene) -> float:
    return 0.0 if scene.appearance("heading").random() < 0.5 else -float(np.pi)


def _angles(action: str, gait: Gait, phase: Floats) -> dict[str, Floats]:
    """Joint angles in rad, T 2 (left, right) each, of one action at the given phases."""
    both = np.stack([phase, phase + np.float32(np.pi)], axis=1)
    rest = np.zeros_like(both)
    angles = {
        "thigh": rest + np.array([0.05, -0.05], np.float32), "knee": rest + np.float32(0.06),
        "swing": rest, "raise": rest + np.float32(0.08), "elbow": rest + np.float32(0.2),
        "sideways": rest, "lean": rest,
    }  # fmt: skip
    if action == "walk":
        angles["thigh"] = gait.stride * np.sin(both)
        angles["knee"] = 0.15 + 0.55 * np.maximum(0, np.cos(both))
        angles["swing"] = -0.9 * gait.vigour * gait.stride * np.sin(both)
        angles["elbow"] = 0.35 + 0.2 * np.sin(both + np.pi)
        angles["lean"] = rest + np.float32(0.06)
    elif action == "wave":
        up = np.stack([phase, phase], axis=1)  # both arms together
        angles["raise"] = 1.75 + 0.5 * gait.vigour * np.sin(up)
        angles["elbow"] = 0.55 + 0.45 * gait.vigour * np.sin(up + 0.6)
        angles["sideways"] = rest + 1
    else:
        punch = np.clip(1.6 * gait.vigour * np.sin(both), 0, 1)
        angles["swing"] = 0.35 + 1.15 * punch
        angles["elbow"] = 2.1 - 1.95 * punch
        angles["thigh"] = rest + np.array([0.22, -0.2], np.float32)
        angles["knee"] = rest + np.array([0.2, 0.12], np.float32)
        angles["lean"] = 0.08 + 0.05 * np.sin(2 * both)
    return {name: value.astype(np.float32) for name, value in angles.items()}


def _wander(
    scene: Scene, take: Take, step: Floats, room: tuple[float, float, float]
) -> tuple[Floats, Floats]:
    """Yaw and x for every frame: turns towards the action's direction, and round at the borders."""
    x, low, high = room
    facing_camera = -np.pi / 2 + float(scene.appearance("slant").uniform(-0.25, 0.25))
    yaw = facing_camera if take.start_action == "wave" else _first_heading(scene)
    if _first_heading(scene) < 0:
        x = low + high - x
    heading = take.heading
    yaws, places = [], []
    for stride in step:
        yaws.append(yaw)
        places.append(x)
        if not low <= x <= high:
            heading = 0.0 if x < low else -float(np.pi)
        target = facing_camera if take.action == "wave" else heading
        # All directions lie in -pi..0: a turn shows the face, not the back.
        yaw += float(np.clip(target - yaw, -0.5, 0.5))
        x += float(stride * np.cos(yaw))
    return np.array(yaws, np.float32), np.array(places, np.float32)


def _stand(body: Person, angles: Mapping[str, Floats], yaw: Floats, x: Floats) -> Movement:
    """Joints from angles, with the lower foot on the ground."""
    zero = np.zeros_like(yaw)
    up = np.stack([zero, zero, zero + 1], axis=1)
    ahead = np.stack([np.cos(yaw), np.sin(yaw), zero], axis=1)
    left = np.stack([-np.sin(yaw), np.cos(yaw), zero], axis=1)

    def in_stride(angle: Floats) -> Floats:
        return ahead * np.sin(angle)[:, None] - up * np.cos(angle)[:, None]

    thigh, knee = angles["thigh"], angles["knee"]
    drop = body.thigh * np.cos(thigh) + body.shin * np.cos(thigh - knee)
    ankle_height = 0.035
    pelvis = up * (drop.max(axis=1) + ankle_height)[:, None] + np.stack([x, zero, zero], axis=1)
    lean = angles["lean"].mean(axis=1)
    spine = up * np.cos(lean)[:, None] + ahead * np.sin(lean)[:, None]

    joints = np.empty((len(yaw), len(JOINT_NAMES), 3), np.float32)
    toes = np.empty((len(yaw), 2, 3), np.float32)
    joints[:, SPINE], joints[:, THORAX] = pelvis, pelvis + 0.5 * body.torso * spine
    joints[:, NECK] = neck = pelvis + body.torso * spine
    joints[:, HEAD] = neck + 0.17 * spine
    joints[:, NOSE] = neck + 0.09 * spine + 0.045 * ahead
    arms = ((0, 1.0, L_SHOULDER), (1, -1.0, R_SHOULDER))
    legs = ((0, 1.0, L_HIP), (1, -1.0, R_HIP))
    for side, sign, hip in legs:
        joints[:, hip] = pelvis + sign * 0.05 * body.girth * left
        joints[:, hip + 1] = joints[:, hip] + body.thigh * in_stride(thigh[:, side])
        shank = in_stride(thigh[:, side] - knee[:, side])
        joints[:, hip + 2] = joints[:, hip + 1] + body.shin * shank
        toes[:, 1 - side] = joints[:, hip + 2] + 0.075 * ahead - 0.015 * up
    for side, sign, shoulder in arms:
        joints[:, shoulder] = neck - 0.03 * spine + sign * 0.095 * body.girth * left
        arm, bend = _arm(angles, side, sign, ahead, left, up)
        elbow = angles["elbow"][:, side, None]
        joints[:, shoulder + 1] = joints[:, shoulder] + body.upper_arm * arm
        forearm = arm * np.cos(elbow) + bend * np.sin(elbow)
        joints[:, shoulder + 2] = joints[:, shoulder + 1] + body.forearm * forearm
    return Movement(joints, toes, yaw)


def _arm(
    angles: Mapping[str, Floats], side: int, sign: float, ahead: Floats, left: Floats, up: Floats
) -> tuple[Floats, Floats]:
    """Direction of the upper arm, and the direction in which the forearm bends away from it."""
    swing, lift = angles["swing"][:, side, None], angles["raise"][:, side, None]
    sideways = angles["sideways"][:, side, None]
    out = sign * left
    arm = ahead * np.sin(swing) * np.cos(lift) + out * np.sin(lift)
    arm = arm - up * np.cos(swing) * np.cos(lift)
    forward_bend = ahead * np.cos(swing) + up * np.sin(swing)
    sideways_bend = out * np.cos(lift) + up * np.sin(lift)
    bend = (1 - sideways) * forward_bend + sideways * sideways_bend
    bend = bend - arm * (bend * arm).sum(axis=1, keepdims=True)
    return arm, bend / np.linalg.norm(bend, axis=1, keepdims=True)
