"""A small world that the cinn family learns in minutes: one robot's workplace and some skies.

The arm is always the same one at the same table, as in BAIR, and starts anywhere; where it goes is
chance. Each sky drifts to the left or to the right. What is measured are courses that no stage has
seen (other futures of these scenes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.cinn.config import TrainRequest
from pipelines.cinn.train import train
from pipelines.datasets.synthetic import generate
from pipelines.events import Work
from pipelines.io.packing import PackWriter

DATASET, SIZE_PX, NUM_FRAMES = "world", 32, 8
NUM_SKIES = 8
_RAW_FRAMES, _STRIDE = 33, 2

SETTINGS: Mapping[str, Any] = {
    "data": {"dataset": DATASET},
    "train": {"device": "cpu", "log_every": 25, "save_every": 500, "keep": 2},
    "perceptual": {"backbone": "efficientnet-lite0"},
    "stage1": {
        "size_px": SIZE_PX,
        "num_frames": NUM_FRAMES,
        "code_size": 16,
        "encoder_channels": [16, 16, 32, 64, 128],
        "decoder_width": 8,
        "decoder_upsample_space": [1, 2],
        "decoder_upsample_time": [1, 1],
        "spade_channels": 16,
        "temporal_channels": [8, 8, 8, 8, 8],
        "temporal_window": 2,
        "patch_width": 4,
        "patch_frames": 1,
        "perceptual_frames": 8,
        "weight_perceptual": 60,
        "weight_reconstruction": 130,
        "weight_kl": 1e-3,
        "warmup_epochs": 1000,  # no critics: they sharpen what is there, and it must get there
        "optimizer": {"learning_rate": 2e-3, "beta1": 0.5, "beta2": 0.9},
        "learning_rate_decay": 0.93,
        "batch_size": 8,
        "clips_per_video": 2,
        "epochs": 100,
        "augment": {"brightness": 0, "contrast": 0, "saturation": 0, "horizontal_flip": 0},
    },
    "ae": {
        "embedding_size": 16,
        "encoder_width": 8,
        "decoder_width": 8,
        "class_hidden": 16,
        "patch_width": 4,
        "warmup_epochs": 1000,
        "optimizer": {"learning_rate": 1e-3},
        "batch_size": 16,
        "epochs": 100,
        "augment": {
            "brightness": 0,
            "contrast": 0,
            "saturation": 0,
            "hue": 0,
            "horizontal_flip": 0,
        },
    },
    "stage2": {
        "num_flows": 8,
        "hidden_width": 128,
        "optimizer": {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.99, "amsgrad": True},
        "decay_every_epochs": 1000,
        "batch_size": 32,
        "epochs": 1000,
        "augment": {"brightness": 0, "contrast": 0, "saturation": 0, "horizontal_flip": 0},
        "allow_other_data": True,  # the stages before see both kinds
    },
}


@dataclass(frozen=True)
class Steps:
    """How long each stage is trained."""

    stage1: int
    ae: int
    flow: int


FLOWS: Mapping[str, tuple[str, bool]] = {
    "clouds": ("clouds/*", False),
    "arm": ("arm/*", False),
    "arm-control": ("arm/*", True),
}
"""Name of a stage-2 run -> the videos it is trained on, and whether it is told the endpoint."""


def prepare(data_root: Path, *, num_videos: int) -> Path:
    """The prepared world: `num_videos` to train on of each kind, an eighth more each held out."""
    folder = data_root / DATASET / "prepared" / f"{SIZE_PX}px"
    counts = {"train": num_videos, "val": num_videos // 16, "test": 64}
    rows = []
    with PackWriter(folder, size_px=SIZE_PX, channels=3) as writer:
        for kind in ("arm", "clouds"):
            future = 0
            for split, count in counts.items():
                for number in range(count):
                    future += 1
                    rows.append(_pack(writer, kind, split, number, future))
        writer.commit({"rows": rows})
        writer.finish(rows, {"dataset": DATASET})
    return folder


def _pack(writer: PackWriter, kind: str, split: str, number: int, future: int) -> dict[str, Any]:
    scene = 0 if kind == "arm" else number % NUM_SKIES
    clip = generate(
        kind,
        scene,
        size_px=SIZE_PX,
        num_frames=_RAW_FRAMES,
        future=future,
        with_truth=kind == "arm",
    )
    video_id = f"{kind}/{split}/{number:05d}"
    row = {
        "id": video_id,
        "source": f"{video_id}.npz",
        "group": f"{kind}/{scene}",
        "split": split,
        "fps": 10.0,
        "original_size": [SIZE_PX, SIZE_PX],
        "labels": clip.labels,
    }
    places = {"endeffector_pos": clip.tracks["endeffector_pos"][::_STRIDE]} if clip.tracks else {}
    return writer.add(row, clip.frames[::_STRIDE], extra=places)


def train_all(root: Path, steps: Steps, work: Work, *, threads: int | None = None) -> None:
    """Train every stage into root/runs/{1,ae,<FLOWS>} on root/data, or go on with what is there."""
    train_stage(root, "1", "1", max_steps=steps.stage1, work=work, threads=threads)
    train_stage(root, "ae", "ae", max_steps=steps.ae, work=work, threads=threads)
    for name in FLOWS:
        train_stage(root, "2", name, max_steps=steps.flow, work=work, threads=threads)


def train_stage(
    root: Path, stage: str, name: str, *, max_steps: int, work: Work, threads: int | None = None
) -> None:
    """Train one stage into root/runs/<name>."""
    runs = root / "runs"
    config = {**SETTINGS, "train": {**SETTINGS["train"], "threads": threads}}
    fields: dict[str, Any] = {
        "stage": stage,
        "data_root": root / "data",
        "run_dir": runs / name,
        "max_steps": max_steps,
    }
    if stage == "2":
        include, is_controlled = FLOWS[name]
        control = {"is_controlled": is_controlled, "endpoint_in_image": is_controlled}
        config["data"] = {**SETTINGS["data"], "include": [include]}
        config["stage2"] = {**SETTINGS["stage2"], **control}
        fields |= {"stage1_run": runs / "1", "ae_run": runs / "ae"}
    train(TrainRequest.model_validate(fields | {"config": config}), work)
