"""A small world that the fomm family learns in minutes: robots at their tables, and two digits.

Arms: some workplaces (tables, discs, starting places), the same ones in all splits, with courses
that differ. Digits: two that bounce, any two. What is measured are videos that were not trained on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def prepare(
    data_root: Path, *, num_videos: int, num_held_out: int = 16, kinds: Sequence[str] = KINDS
) -> Path:
    """The prepared world: `num_videos` to train on of each kind."""
    folder = data_root / DATASET / "prepared" / f"{SIZE_PX}px"
    counts = {"train": num_videos, "val": 4, "test": num_held_out}
    rows = []
    with PackWriter(folder, size_px=SIZE_PX, channels=3) as writer:
        for kind in kinds:
            future = 0
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
        **SETTINGS,
        "data": {"dataset": DATASET, "include": [f"{kind}/*"]},
        "train": {**SETTINGS["train"], "threads": threads},
    }
    fields = {"config": config, "data_root": root / "data", "run_dir": run_dir}
    train(TrainRequest.model_validate({**fields, "max_steps": max_steps}), work)
    return run_dir
