"""A small world that the cinn family learns in minutes: a robot's workplace and some skies.

The arm is always the same one at the same table, as in BAIR; where it is pulled is chance, and
known. Each sky drifts to the left or to the right. What is measured are courses that no stage has
seen (other futures of these scenes).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.cinn.config import TrainRequest
from pipelines.cinn.train import train
from pipelines.datasets.generate.scene import Clip
from pipelines.datasets.synthetic import generate, simulate
from pipelines.events import Work
from pipelines.io.packing import PackWriter

DATASET, SIZE_PX, NUM_FRAMES = "world", 32, 8
NUM_SKIES = 8
_STRIDE = 2
_ARM_FRAMES, _SKY_FRAMES = _STRIDE * NUM_FRAMES + 1, 33
_PLACES: tuple[str, ...] = ("endeffector_pos", "joint_angles")
_GOALS = np.array([[0.15, 0.38], [0.85, 0.76]])
"""Corner by corner, where the arm is pulled: fractions of the frame."""

SETTINGS: Mapping[str, Any] = {
    "data": {"dataset": DATASET},
    "train": {"device": "cpu", "log_every": 25, "save_every": 250, "keep": 2},
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
        "weight_perceptual": 20,
        "weight_reconstruction": 130,
        "weight_kl": 1e-3,
        "warmup_epochs": 1000,  # no critics: they sharpen what is there, and it must get there
        "optimizer": {"learning_rate": 3e-3, "beta1": 0.5, "beta2": 0.9},
        "learning_rate_decay": 0.9,
        "batch_size": 4,
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
        "decay_every_epochs": 20,
        "batch_size": 32,
        "epochs": 1000,
        "augment": {"brightness": 0, "contrast": 0, "saturation": 0, "horizontal_flip": 0},
        "allow_other_data": True,  # the image autoencoder sees both kinds
    },
}


@dataclass(frozen=True)
class Flow:
    """A stage 2: the videos it is trained on, and whether it is told where they end."""

    kind: str
    is_controlled: bool


FLOWS: Mapping[str, Flow] = {
    "clouds": Flow("clouds", False),
    "arm": Flow("arm", False),
    "arm-control": Flow("arm", True),
}
"""Stage-2 runs."""


@dataclass(frozen=True)
class Steps:
    """How long each stage is trained. stage1: of each kind of videos; flow: of FLOWS."""

    stage1: Mapping[str, int]
    ae: int
    flow: Mapping[str, int]


def prepare(data_root: Path, *, num_videos: int) -> Path:
    """The prepared world: `num_videos` to train on of each kind, a sixteenth more to validate."""
    folder = data_root / DATASET / "prepared" / f"{SIZE_PX}px"
    if (folder / "index.json").exists():
        return folder
    counts = {"train": num_videos, "val": num_videos // 16, "test": 64}
    rows = []
    with PackWriter(folder, size_px=SIZE_PX, channels=3) as writer:
        for kind, film in (("arm", _pulled_arm), ("clouds", _sky)):
            future = 0
            for split, count in counts.items():
                for number in range(count):
                    future += 1
                    rows.append(_pack(writer, f"{kind}/{split}/{number:05d}", split, film(future)))
        writer.commit({"rows": rows})
        writer.finish(rows, {"dataset": DATASET})
    return folder


def _pulled_arm(future: int) -> Clip:
    """The arm of scene 0, pulled from its first place to a goal that depends on `future`."""
    options: dict[str, Any] = {"size_px": SIZE_PX, "num_frames": _ARM_FRAMES}
    start = generate("arm", 0, **options).tracks["endeffector_pos"][0, :2]
    goal = np.random.default_rng(future).uniform(*_GOALS)
    column, row = np.floor(start * SIZE_PX)
    across, down = (goal - start) * SIZE_PX
    poke = (float(column), float(row), float(across), float(down))
    return simulate("arm", 0, poke=poke, lag=_ARM_FRAMES - 1, **options)


def _sky(future: int) -> Clip:
    options: dict[str, Any] = {"size_px": SIZE_PX, "num_frames": _SKY_FRAMES}
    return generate("clouds", future % NUM_SKIES, future=future, with_truth=False, **options)


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
    places = {name: clip.tracks[name][::_STRIDE] for name in _PLACES if name in clip.tracks}
    return writer.add(row, clip.frames[::_STRIDE], extra=places)


def train_all(root: Path, steps: Steps, work: Work, *, threads: int | None = None) -> None:
    """Train every stage into root/runs on root/data, or go on with what is there.

    Runs: 1-<kind> for each kind of videos, ae, and names of FLOWS.
    """
    trained = _Trained(root, work, threads)
    for kind, num_steps in steps.stage1.items():
        trained.stage("1", f"1-{kind}", num_steps, include=(kind,))
    trained.stage("ae", "ae", steps.ae, include=tuple(steps.stage1))
    for name, num_steps in steps.flow.items():
        flow = FLOWS[name]
        control = {"is_controlled": flow.is_controlled, "endpoint_in_image": flow.is_controlled}
        trained.stage("2", name, num_steps, include=(flow.kind,), stage2=control)


@dataclass(frozen=True)
class _Trained:
    root: Path
    work: Work
    threads: int | None

    def stage(
        self,
        stage: str,
        name: str,
        max_steps: int,
        *,
        include: tuple[str, ...],
        stage2: Mapping[str, bool] | None = None,
    ) -> None:
        """Train one stage into runs/<name>. include: kinds of videos."""
        runs = self.root / "runs"
        config = {
            **SETTINGS,
            "data": {**SETTINGS["data"], "include": [f"{kind}/*" for kind in include]},
            "train": {**SETTINGS["train"], "threads": self.threads},
            "stage2": {**SETTINGS["stage2"], **(stage2 or {})},
        }
        inputs = {"stage1_run": runs / f"1-{include[0]}", "ae_run": runs / "ae"}
        fields: dict[str, Any] = {
            "stage": stage,
            "data_root": self.root / "data",
            "run_dir": runs / name,
            "max_steps": max_steps,
            **(inputs if stage == "2" else {}),
        }
        train(TrainRequest.model_validate(fields | {"config": config}), self.work)
