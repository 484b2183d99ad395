"""A small world that the poke family learns in minutes: generated plants that are poked once.

What is measured are plants that the training has not seen, poked as their simulator was.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml

from pipelines.datasets.synthetic import FIRST_INDEX, generate
from pipelines.events import Work
from pipelines.io.packing import PackWriter, encode_flow
from pipelines.poke.config import TrainRequest
from pipelines.poke.following import Trial, plant_trials
from pipelines.poke.sample import load
from pipelines.poke.train import train

DATASET, SIZE_PX, NUM_FRAMES = "plants-of-the-test", 64, 3
_ROOT = Path(__file__).parents[2]
_PRESET = _ROOT / "conf" / "poke" / "demo.yaml"


class Quiet(Work):
    """A job that nobody listens to."""

    def _emit(self, event: str, keep: bool = True, **fields: object) -> None:
        pass


def prepare(data_root: Path, *, num_videos: int) -> Path:
    """Prepared plants with their true motion over a clip, 16 more of them held out."""
    folder = data_root / DATASET / "prepared" / f"{SIZE_PX}px"
    if (folder / "index.json").is_file():
        return folder
    rows = []
    with PackWriter(folder, size_px=SIZE_PX, channels=3) as writer:
        for split, count in {"train": num_videos, "val": 16}.items():
            for number in range(count):
                rows.append(_pack(writer, split, number))
        writer.commit({"rows": rows})
        writer.finish(rows, {"dataset": DATASET})
    return folder


def _pack(writer: PackWriter, split: str, number: int) -> dict[str, Any]:
    clip = generate("plant", FIRST_INDEX[split] + number, num_frames=NUM_FRAMES + 1)
    video_id = f"plant/{split}/{number:05d}"
    row = {
        "id": video_id,
        "source": f"{video_id}.npz",
        "group": video_id,
        "split": split,
        "fps": 12.0,
        "original_size": [SIZE_PX, SIZE_PX],
        "labels": clip.labels,
    }
    return writer.add(row, clip.frames, flow={NUM_FRAMES: encode_flow(clip.flow[NUM_FRAMES])})


def estimate_flow(data_root: Path) -> None:
    """The same motion as DIS finds it, by the command that a user types."""
    program = shutil.which(_ROOT / ".venv" / "bin" / "i2v") or shutil.which("i2v")
    assert program is not None, "the program i2v is not installed: make setup"
    words = ("estimate-flow", DATASET, "--estimator", "dis", "--lags", str(NUM_FRAMES), "--check")
    variables = {**os.environ, "I2V_DATA": str(data_root)}
    variables.pop("PYTHONPATH", None)  # that of the tests is of another environment
    subprocess.run([program, *words], check=True, env=variables)


def settings(num_videos: int, num_steps: int, **changes: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the preset `demo`, for so many steps. changes: section -> what differs."""
    config: dict[str, Any] = yaml.safe_load(_PRESET.read_text(encoding="utf-8"))
    config["data"] = {"dataset": DATASET}
    config["epochs"] = round(num_steps * config["batch_size"] / num_videos)
    train_settings = {"device": "cpu", "save_every": 500, "log_every": 100, "threads": 2}
    for name, values in {"train": train_settings, **changes}.items():
        config[name] = {**config[name], **values}
    return config


def train_run(
    root: Path, name: str, config: Mapping[str, Any], work: Work, *, max_steps: int | None = None
) -> Path:
    """Train root/<name> on root/data, or go on with what is there; max_steps: not to its end."""
    fields = {"config": config, "data_root": root / "data", "run_dir": root / name}
    train(TrainRequest.model_validate(fields | {"max_steps": max_steps}), work)
    return root / name


def poke_plants(run: Path, *, count: int, length_px: float | None = None) -> list[Trial]:
    """What a trained run answers to pokes of unseen plants."""
    sampler = load(run, torch.device("cpu"), warn=_fail)
    return list(
        plant_trials(
            lambda picture, aims: sampler.answer(picture, aims, NUM_FRAMES),
            count=count,
            lag=NUM_FRAMES,
            frame_step=1,
            length_px=length_px,
        )
    )


def _fail(message: str) -> None:
    raise AssertionError(message)
