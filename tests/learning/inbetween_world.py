"""A small world that the inbetween family learns in minutes: pulled robot arms, slow digits.

What lies between two frames can be known in it. Arms are pulled once, from where they rest, to a
place that the last frame shows. Digits, always the same two, go straight and slowly, and bounce.
Where to is chance; what is measured are courses that no training has seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.datasets.generate.scene import Clip
from pipelines.datasets.synthetic import generate, simulate
from pipelines.inbetween.config import NUM_FRAMES, TrainRequest
from pipelines.io.packing import PackWriter

DATASET, SIZE_PX = "world", 32
KINDS = ("arm", "moving_digits")
NUM_HELD_OUT = 32
_WORKPLACES, _DIGITS = 4, 0  # the scenes that there are; futures of them differ
_REACH = 0.45
"""Farthest that an arm is pulled, a fraction of the frame."""

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
        "mixes_ends": True,
    },
    "losses": {"weight_gan": 0, "weight_edges": 0},  # they sharpen what is there already
    "optimizer": {"learning_rate": 2e-3, "beta1": 0.9},
    "last_rate": 0.05,
    "batch_size": 8,
}


def prepare(data_root: Path, *, num_videos: int) -> Path:
    """The prepared world: `num_videos` of each kind to train on, 4 and NUM_HELD_OUT held out."""
    folder = data_root / DATASET / "prepared" / f"{SIZE_PX}px"
    counts = {"train": num_videos, "val": 4, "test": NUM_HELD_OUT}
    rows: list[dict[str, Any]] = []
    with PackWriter(folder, size_px=SIZE_PX, channels=3) as writer:
        for kind, made in (("arm", pulled_arm), ("moving_digits", slow_digits)):
            number = 0
            for split, count in counts.items():
                for _ in range(count):
                    number += 1
                    rows.append(_pack(writer, f"{kind}/{split}/{number:05d}", split, made(number)))
        writer.commit({"rows": rows})
        writer.finish(rows, {"dataset": DATASET})
    return folder


def pulled_arm(number: int) -> Clip:
    """An arm that rests at first and is pulled to one place."""
    scene = number % _WORKPLACES
    rest = generate("arm", scene, size_px=SIZE_PX, num_frames=2).tracks["endeffector_pos"][0, :2]
    draw = np.random.default_rng([7, number])
    pull = draw.uniform(-_REACH, _REACH, 2)
    poke = tuple(float(value) for value in np.concatenate([rest, pull]) * SIZE_PX)
    return simulate(
        "arm",
        scene,
        poke=(poke[0], poke[1], poke[2], poke[3]),
        lag=NUM_FRAMES - 1,
        size_px=SIZE_PX,
        num_frames=NUM_FRAMES,
        with_truth=False,
    )


def slow_digits(number: int) -> Clip:
    """Two digits somewhere on their way, long after the place where all of them begin."""
    clip = generate(
        "moving_digits",
        _DIGITS,
        size_px=SIZE_PX,
        num_frames=3 * NUM_FRAMES,
        future=number,
        speed_range=(0.0, 0.1),
        with_truth=False,
    )
    return Clip(clip.frames[NUM_FRAMES:], clip.labels)


def _pack(writer: PackWriter, video_id: str, split: str, clip: Clip) -> dict[str, Any]:
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


def request(root: Path, kind: str, *, steps: int, mixes_ends: bool = True) -> TrainRequest:
    """A request to train into run_dir(root, kind) on root/data."""
    config = {
        **SETTINGS,
        "data": {"dataset": DATASET, "include": [f"{kind}/*"]},
        "steps": steps,
        "network": {**SETTINGS["network"], "mixes_ends": mixes_ends},
    }
    folder = run_dir(root, kind, mixes_ends=mixes_ends)
    return TrainRequest.model_validate(
        {"config": config, "data_root": root / "data", "run_dir": folder}
    )


def run_dir(root: Path, kind: str, *, mixes_ends: bool = True) -> Path:
    """Where the model of a kind of videos is trained."""
    return root / (kind if mixes_ends else f"{kind}-plain")
