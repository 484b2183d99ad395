"""A small world that the inbetween family learns in minutes: two digits that bounce.

The digits are always the same two; where they go is chance. What is measured are the frames between
the ends of clips of courses that no training has seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.datasets.synthetic import generate
from pipelines.inbetween.config import TrainRequest
from pipelines.io.packing import PackWriter

DATASET, SIZE_PX = "world", 32
KIND = "moving_digits"
START = 16
"""First frame of the clips that are measured: by then the courses have gone apart."""

_SCENE, _RAW_FRAMES = 0, 48

SETTINGS: Mapping[str, Any] = {
    "data": {"dataset": DATASET},
    "train": {"device": "cpu", "log_every": 25, "save_every": 200, "keep": 2},
    "log": {"tensorboard": False},
    "size_px": SIZE_PX,
    "horizontal_flip": 0.0,  # digits are not symmetric
    "network": {
        "encoder_channels": [16, 32, 64],
        "latent_channels": 32,
        "layers_per_group": 2,
        "noise_size": 16,
        "generator_channels": [64, 32, 16],
    },
    "losses": {
        "weight_gan": 0,
        "weight_edges": 0,
    },  # judges sharpen what is there; it must get there first
    "optimizer": {"learning_rate": 2e-3, "beta1": 0.9},
    "last_rate": 0.05,
    "batch_size": 8,
}


def prepare(data_root: Path, *, num_videos: int) -> Path:
    """The prepared world: `num_videos` to train on, 8 and 32 held out."""
    folder = data_root / DATASET / "prepared" / f"{SIZE_PX}px"
    rows: list[dict[str, Any]] = []
    with PackWriter(folder, size_px=SIZE_PX, channels=3) as writer:
        for split, count in {"train": num_videos, "val": 8, "test": 32}.items():
            for _ in range(count):
                rows.append(_pack(writer, split, len(rows) + 1))
        writer.commit({"rows": rows})
        writer.finish(rows, {"dataset": DATASET})
    return folder


def _pack(writer: PackWriter, split: str, number: int) -> dict[str, Any]:
    """A course that no other video takes."""
    clip = generate(
        KIND,
        _SCENE,
        size_px=SIZE_PX,
        num_frames=_RAW_FRAMES,
        future=number,
        speed_range=(0.0, 0.1),
        with_truth=False,
    )
    video_id = f"{KIND}/{split}/{number:05d}"
    row = {
        "id": video_id,
        "source": f"{video_id}.npz",
        "group": video_id,
        "split": split,
        "fps": 10.0,
        "original_size": [SIZE_PX, SIZE_PX],
        "labels": clip.labels,
    }
    return writer.add(row, clip.frames)


def request(root: Path, *, steps: int, threads: int | None = None) -> TrainRequest:
    """A request to train into root/run on root/data."""
    config = {**SETTINGS, "steps": steps, "train": {**SETTINGS["train"], "threads": threads}}
    fields = {"config": config, "data_root": root / "data", "run_dir": root / "run"}
    return TrainRequest.model_validate(fields)
