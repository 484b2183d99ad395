"""The walker in space, seen by two cameras, with the joints of Human3.6M.

Clips 2k and 2k + 1 are the two views of take k: same person, same movement, other camera and wall.
World coordinates are millimetres, x and y on the ground, z up; a camera's are x right, y down,
z ahead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from pydantic import JsonValue

from pipelines.datasets.generate.motion import StickMotion, flow_from_start, moved_flow
from pipelines.datasets.generate.scene import Bytes, Clip, Floats, Scene, lags_within
from pipelines.datasets.generate.skeleton import (
    JOINT_NAMES,
    L_FOOT,
    L_WRIST,
    NECK,
    NUM_IDENTITIES,
    R_FOOT,
    R_WRIST,
    SPINE,
    Movement,
    Person,
    Take,
    draw_take,
    move,
    person,
)
from pipelines.datasets.generate.walker import (
    LIMB_ENDS,
    LIMB_STARTS,
    all_points,
    backdrop,
    render,
)

NATIVE_SIZE_PX = 1000
"""Side of the square picture that the cameras' intrinsics are given for."""

_ROOM_MM = 1100.0


@dataclass(frozen=True)
class Camera:
    """A pinhole camera: x_camera = rotation @ x_world + translation_mm."""

    id: int
    rotation: Floats
    translation_mm: Floats
    focal_px: float
    centre_px: tuple[float, float]

    def see(self, points_mm: Floats) -> tuple[Floats, Floats]:
        """Pixels (... 2, of the native picture) and distance along the view in mm (...)."""
        seen = points_mm @ self.rotation.T + self.translation_mm
        depth = seen[..., 2]
        return seen[..., :2] / depth[..., None] * self.focal_px + np.array(
            self.centre_px, np.float32
        ), depth

    @property
    def intrinsics(self) -> list[float]:
        """f_x, x_0, f_y, y_0 in pixels of the native picture."""
        return [self.focal_px, self.centre_px[0], self.focal_px, self.centre_px[1]]

    @property
    def extrinsics(self) -> Floats:
        """[R | t], 3 4, translation in mm."""
        return np.concatenate([self.rotation, self.translation_mm[:, None]], axis=1)


def _camera(id: int, azimuth: float, height_mm: float, focal_px: float) -> Camera:
    place = np.array([3700 * np.sin(azimuth), -3700 * np.cos(azimuth), height_mm])
    ahead = np.array([0, 0, 880.0]) - place
    ahead /= np.linalg.norm(ahead)
    right = np.cross(ahead, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(ahead, right), ahead])
    translation = (-rotation @ place).astype(np.float32)
    return Camera(id, rotation.astype(np.float32), translation, focal_px, (512.0, 505.0))


CAMERAS = (
    _camera(54138969, azimuth=-0.35, height_mm=1350, focal_px=1145.0),
    _camera(55011271, azimuth=0.95, height_mm=1500, focal_px=1150.0),
)


def generate(scene: Scene, *, with_truth: bool = True, action: str | None = None) -> Clip:
    """One view of a person. Futures differ in pace, stride, and in what the person does next."""
    camera = CAMERAS[scene.index % len(CAMERAS)]
    number = scene.index // len(CAMERAS)
    of_take = replace(scene, index=number)
    identity = int(of_take.appearance("identity").integers(NUM_IDENTITIES))
    body = person(scene, identity)
    take, movement = perform(of_take, body, action=action)
    frames, owner, places = film(scene, body, movement, camera)
    scale = scene.size_px / NATIVE_SIZE_PX
    labels: dict[str, JsonValue] = {
        "action": take.action,
        "start_action": take.start_action,
        "identity": identity,
        "take": number,
        "speed": 1 / take.gait.period,
        "camera": camera.id,
        "intrinsics": [value * scale for value in camera.intrinsics],
        "extrinsics": camera.extrinsics.tolist(),
    }
    if not with_truth:
        return Clip(frames, labels)
    motion = StickMotion(owner, places[:, LIMB_STARTS], places[:, LIMB_ENDS])
    flow, visible = moved_flow(owner, motion, lags_within(scene.num_frames))
    count = len(JOINT_NAMES)
    tracks = {
        "joints_h36m": places[:, :count] / np.float32(scene.size_px),
        "joints_world_m": movement.joints * np.float32(body.height),
    }
    extra = flow_from_start(owner, motion)
    return Clip(frames, labels, flow, visible, {"mask": owner}, tracks, extra)


def perform(scene: Scene, body: Person, *, action: str | None = None) -> tuple[Take, Movement]:
    """A take in the middle of the room."""
    take = draw_take(scene, action=action)
    half = _ROOM_MM / (1000 * body.height)
    start = float(scene.appearance("start").uniform(-0.8, 0.1)) * half
    return take, move(scene, body, take, room=(start, -half, half))


def film(
    scene: Scene, body: Person, movement: Movement, camera: Camera
) -> tuple[Bytes, Bytes, Floats]:
    """Frames, masks, and the places T 21 2 in pixels of all points, as one camera sees them."""
    height_mm = np.float32(1000 * body.height)
    pixels, depth = camera.see(all_points(movement) * height_mm)
    shrink = np.float32(scene.size_px / NATIVE_SIZE_PX)
    scale = camera.focal_px * height_mm / depth[:, SPINE] * shrink
    facing = np.stack([np.cos(movement.yaw), np.sin(movement.yaw)], axis=1)
    frontal = np.abs(facing @ camera.rotation[2, :2])
    places = pixels * shrink
    frames, owner = render(backdrop(scene), places, depth / height_mm, scale, body, frontal)
    return frames, owner, places


def joints_32(movement: Movement) -> Floats:
    """The 32 joints of Human3.6M's files, T 32 3; those that our bodies lack repeat a neighbour."""
    joints, toes = movement.joints, movement.toes
    full = np.empty((len(joints), 32, 3), np.float32)
    # Rows of the 32 for the 17 in JOINT_NAMES' order.
    full[:, KEPT_OF_32] = joints
    full[:, 0], full[:, 16], full[:, 24] = joints[:, SPINE], joints[:, NECK], joints[:, NECK]
    for side, foot in ((0, R_FOOT), (1, L_FOOT)):
        first = 4 if foot == R_FOOT else 9
        full[:, first], full[:, first + 1] = toes[:, side], toes[:, side]
    full[:, 20:24] = joints[:, L_WRIST, None]
    full[:, 28:32] = joints[:, R_WRIST, None]
    return full


KEPT_OF_32 = np.array([1, 2, 3, 6, 7, 8, 11, 12, 13, 14, 15, 17, 18, 19, 25, 26, 27])
