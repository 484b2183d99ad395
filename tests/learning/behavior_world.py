"""A small world that the behavior family learns in minutes: people who walk, wave and box.

What a person does next has nothing to do with the posture it is seen in first: a take begins in the
posture of any action, facing any way, and goes over to its own, another way. So a behaviour can be
told apart from a posture, and whether a code tells the posture can be measured: a probe that is
given the action, its direction, phase and pace themselves finds nothing in them about the first
posture (its error is that of the mean posture). Takes of poses are those of people on a treadmill:
the pelvis stays above one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.datasets.generate.kinds import KINDS
from pipelines.datasets.generate.scene import Scene
from pipelines.datasets.generate.skeleton import (
    ACTIONS,
    NUM_IDENTITIES,
    SPINE,
    draw_take,
    move,
    person,
)
from pipelines.datasets.generate.walker_3d import CAMERAS, film
from pipelines.io.packing import PackWriter

POSES, PICTURES, SIZE_PX, NUM_FRAMES = "takes", "people", 32, 18
_FPS = 12.0
_FAR = 100.0


def prepare_poses(
    data_root: Path, counts: Mapping[str, int], *, num_frames: int = NUM_FRAMES + 2
) -> Path:
    """Takes of poses alone. counts: split -> how many."""
    folder = data_root / POSES / "prepared" / "poses"
    rows, number = [], 0
    with PackWriter(folder, size_px=SIZE_PX, channels=0, storage="none") as writer:
        for split, count in counts.items():
            for _ in range(count):
                take = _Take(number, num_frames, is_on_treadmill=True)
                frames = np.empty((num_frames, SIZE_PX, SIZE_PX, 0), np.uint8)
                row = _row(f"{split}/{number:05d}", split, take.labels)
                joints = take.joints_m - take.joints_m[:, SPINE, None] * (1, 1, 0)
                extra = {"joints_world_m": joints.astype(np.float32)}
                rows.append(writer.add(row, frames, extra=extra))
                number += 1
        writer.commit({"rows": rows})
        writer.finish(rows, {"dataset": POSES})
    return folder


def prepare_pictures(
    data_root: Path, counts: Mapping[str, int], *, num_frames: int = 12, size_px: int = SIZE_PX
) -> Path:
    """Takes as videos, with the joints in the picture. counts: split -> how many."""
    folder = data_root / PICTURES / "prepared" / f"{size_px}px"
    rows, number = [], 0
    with PackWriter(folder, size_px=size_px, channels=3) as writer:
        for split, count in counts.items():
            for _ in range(count):
                take = _Take(number, num_frames, size_px=size_px)
                frames, joints, labels = take.filmed()
                row = _row(f"{split}/{number:05d}", split, {**take.labels, **labels})
                extra = {"joints_h36m": joints, "joints_world_m": take.joints_m}
                rows.append(writer.add(row, frames, extra=extra))
                number += 1
        writer.commit({"rows": rows})
        writer.finish(rows, {"dataset": PICTURES})
    return folder


class _Take:
    """One take: its action and the action of its first posture are drawn independently."""

    def __init__(
        self,
        number: int,
        num_frames: int,
        *,
        size_px: int = SIZE_PX,
        is_on_treadmill: bool = False,
    ) -> None:
        """is_on_treadmill: no walls to turn at, in a direction that the start does not tell."""
        draw = np.random.default_rng(number)
        self.scene = Scene(1, KINDS["walker_3d"].id, number, size_px, num_frames)
        start, action = (ACTIONS[int(n)] for n in draw.integers(len(ACTIONS), size=2))
        identity = int(draw.integers(NUM_IDENTITIES))
        self.body = person(self.scene, identity)
        take = draw_take(self.scene, action="walk")._replace(start_action=start, action=action)
        reach = 1.1 / self.body.height
        x = float(draw.uniform(-0.8, 0.1)) * reach
        room = (x, -reach, reach)
        if is_on_treadmill:
            take = take._replace(heading=-np.pi * int(draw.integers(2)))
            room = (0.0, -_FAR, _FAR)
        self.movement = move(self.scene, self.body, take, room=room)
        self.joints_m = (self.movement.joints * np.float32(self.body.height)).astype(np.float32)
        self.labels: dict[str, Any] = {"action": action, "identity": identity}

    def filmed(self) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
        """Frames, joints as fractions of the picture, and labels of the camera."""
        camera = CAMERAS[self.scene.index % len(CAMERAS)]
        frames, _, places = film(self.scene, self.body, self.movement, camera)
        size = self.scene.size_px
        scale = size / 1000
        labels = {
            "intrinsics": [value * scale for value in camera.intrinsics],
            "extrinsics": camera.extrinsics.tolist(),
        }
        joints = (places[:, : self.joints_m.shape[1]] / size).astype(np.float32)
        return frames, joints, labels


def _row(video_id: str, split: str, labels: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": video_id,
        "source": f"{video_id}.npz",
        "group": str(labels["identity"]),
        "split": split,
        "fps": _FPS,
        "original_size": [SIZE_PX, SIZE_PX],
        "labels": dict(labels),
    }


SETTINGS: Mapping[str, Any] = {
    "data": {"dataset": POSES, "variant": "poses"},
    "poses": {"num_frames": NUM_FRAMES, "lag": 1},
    "train": {"device": "cpu", "log_every": 100, "save_every": 250},
    "stage1": {
        "net": {"code_size": 64},
        "losses": {
            "weight_reconstruction": 30,
            "weight_regressor": 1.5,
            "regressor_bounds": [0.8, 0.95],
        },
        "kl": {"step": 4e-4, "largest_information": 6},
        "auxiliary": {"classifiers": False},
        "optimizer": {"learning_rate": 2e-3},
        "milestones": [0.5],
        "epochs": 3,
        "tuning_epochs": 0,
    },
    "stage2": {
        "flow": {"num_flows": 4, "hidden_width": 64, "hidden_depth": 1},
        "optimizer": {"learning_rate": 1e-3, "beta1": 0.5, "beta2": 0.9},
        "epochs": 1000,
    },
}
"""Of the behavior net. A code has room for what is done, its pace and its phase."""

RENDERER: Mapping[str, Any] = {
    "data": {"dataset": PICTURES},
    "people": {"sampling": "once"},
    "train": {"device": "cpu", "log_every": 100, "save_every": 250, "keep": 2},
    "network": {"size_px": SIZE_PX, "width": 16, "max_width": 32},
    "perceptual": {"backbone": "efficientnet-lite0", "pixel_weight": 30},
    "kl": {"initial": 0.01, "step": 0.0},
    "regressor": {"num_images": 1},
    "optimizer": {"learning_rate": 2e-3, "beta1": 0.5, "beta2": 0.9},
    "batch_size": 8,
}
