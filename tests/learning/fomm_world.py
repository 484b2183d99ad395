"""A small world that the fomm family learns in minutes: robots at their tables, and two digits.

Arms: some workplaces (tables, discs, starting places), the same ones in all splits, with courses
that differ. Digits: two that bounce, any two. What is measured are videos that were not trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.datasets.synthetic import generate
from pipelines.events import Work
from pipelines.fomm.config import TrainRequest
from pipelines.fomm.train import train
from pipelines.io.packing import PackWriter

DATASET, SIZE_PX = "moving-parts", 64
KINDS = ("arm", "moving_digits")
NUM_WORKPLACES = 8
_NUM_FRAMES, _STRIDE = 33, 2

_HOURGLASS = {"block_expansion": 16, "max_features": 64, "num_blocks": 4, "scale_factor": 0.5}

SETTINGS: Mapping[str, Any] = {
    "data": {"dataset": DATASET},
    "train": {"device": "cpu", "log_every": 25, "save_every": 500, "keep": 1},
    "log": {"tensorboard": False},
    "perceptual": {"backbone": "efficientnet-lite0"},
    "model": {
        "size_px": SIZE_PX,
        "num_keypoints": 6,
        "keypoints": {
            "block_expansion": 16,
            "max_features": 64,
            "num_blocks": 4,
            "scale_factor": 0.5,
        },
        "generator": {
            "block_expansion": 16,
            "max_features": 64,
            "num_bottleneck_blocks": 2,
            "dense_motion": _HOURGLASS,
        },
    },
    "losses": {"scales": [1, 0.5], "perceptual": [10, 10, 10, 10, 10]},
    "augment": {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0},
    "optimizer": {"learning_rate": 1e-3, "beta1": 0.5},
    "milestones": [],
    "batch_size": 8,
    "epochs": 1000,
}
"""The published network, narrower; both losses and the warps as published."""

_MODEL_OF_DIGITS: Mapping[str, Any] = {
    "num_keypoints": 10,
    "keypoints": {
        "block_expansion": 16,
        "max_features": 128,
        "num_blocks": 5,
        "scale_factor": 1,
        "has_single_jacobian_map": True,
    },
}
"""Any two of ten shapes, each going its own way: each needs a keypoint that prefers it.

The detector's last convolution has no padding: its map loses three cells on each side, and what is
left counts as -1 to 1. Of 32 cells that stretches the way of a keypoint to 32/26 of its digit's: a
picture warped by it misses by a quarter of the way, and following both digits gains little. The
published networks have 64 cells, and 64/58. One map of jacobians for all keypoints, as published
for mgif, makes a step with so large a map a third shorter.
"""


def settings(kind: str) -> dict[str, Any]:
    """What a kind is trained with."""
    if kind == "arm":
        return dict(SETTINGS)
    augment = {**SETTINGS["augment"], "horizontal_flip": 0}  # a mirrored digit is none
    return {**SETTINGS, "model": {**SETTINGS["model"], **_MODEL_OF_DIGITS}, "augment": augment}


def prepare(data_root: Path, *, num_videos: Mapping[str, int], num_held_out: int) -> Path:
    """The prepared world: of each kind that is named so many videos to train on."""
    folder = data_root / DATASET / "prepared" / f"{SIZE_PX}px"
    rows = []
    with PackWriter(folder, size_px=SIZE_PX, channels=3) as writer:
        for kind, num_trained_on in num_videos.items():
            future = 0
            counts = {"train": num_trained_on, "val": 4, "test": num_held_out}
            for split, count in counts.items():
                for number in range(count):
                    future += 1
                    rows.append(_pack(writer, kind, split, number, future))
        writer.commit({"rows": rows})
        writer.finish(rows, {"dataset": DATASET})
    return folder


def _pack(writer: PackWriter, kind: str, split: str, number: int, future: int) -> dict[str, Any]:
    scene = number % NUM_WORKPLACES if kind == "arm" else future
    clip = generate(kind, scene, size_px=SIZE_PX, num_frames=_NUM_FRAMES, future=future)
    video_id = f"{kind}/{split}/{number:05d}"
    row = {
        "id": video_id,
        "source": f"{video_id}.npz",
        "group": f"{kind}/{scene}",
        "split": split,
        "fps": 6.0,
        "original_size": [SIZE_PX, SIZE_PX],
        "labels": clip.labels,
    }
    places = {
        name: clip.tracks[name][::_STRIDE]
        for name in ("endeffector_pos", "joint_angles", "centres")
        if name in clip.tracks
    }
    return writer.add(row, clip.frames[::_STRIDE], extra=places)


def train_world(
    root: Path, kind: str, *, max_steps: int, work: Work, threads: int | None = None
) -> Path:
    """Train on a kind into root/runs/<kind>, or go on with what is there; returns the run."""
    run_dir = root / "runs" / kind
    config = {
        **settings(kind),
        "data": {"dataset": DATASET, "include": [f"{kind}/*"]},
        "train": {**SETTINGS["train"], "threads": threads},
    }
    fields = {"config": config, "data_root": root / "data", "run_dir": run_dir}
    train(TrainRequest.model_validate({**fields, "max_steps": max_steps}), work)
    return run_dir
