"""Tiny motion models over the keypoints of a tiny fomm: they train in a second or two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.fomm.config import TrainRequest as FommRequest
from pipelines.fomm.train import train as train_fomm
from pipelines.io.images import write_png
from pipelines.motion.config import SampleRequest, TrainRequest
from tests.pipelines.fomm import tiny as fomm
from tests.pipelines.fomm.tiny import Heard

__all__ = ["Heard"]

KINDS = ("wgan", "autoregressive", "linear")

CONFIG: dict[str, Any] = {
    "data": {"dataset": "squares"},
    "train": {"device": "cpu", "threads": 1, "log_every": 2, "save_every": 3},
    "log": {"tensorboard": False},
    "num_frames": 6,
    "wgan": {"noise_size": 4, "encoded_size": 4, "hidden_size": 8, "critic_steps": 2},
    "autoregressive": {"hidden_size": 8},
    "optimizer": {"learning_rate": 1e-3, "beta1": 0.0, "beta2": 0.9},
    "batch_size": 2,
    "steps": 6,
}


def prepare(root: Path) -> None:
    """root/data with moving squares and root/fomm, a fomm that has seen them for two steps."""
    fomm.prepare_squares(root / "data")
    train_fomm(fomm_request(root), Heard())


def fomm_request(root: Path) -> FommRequest:
    """A request to train root/fomm on root/data."""
    return fomm.request(root, run_dir=root / "fomm", max_steps=2)


def changed(**sections: Any) -> dict[str, Any]:
    """CONFIG with some settings of some sections replaced."""
    merged = dict(CONFIG)
    for name, values in sections.items():
        is_section = isinstance(values, dict)
        merged[name] = merged.get(name, {}) | values if is_section else values
    return merged


def request(root: Path, kind: str = "wgan", **changes: Any) -> TrainRequest:
    """A request to train in root/<kind> on root/data, with root/fomm; changes: other fields."""
    fields = {
        "config": changed(kind=kind),
        "data_root": root / "data",
        "run_dir": root / kind,
        "fomm_run": root / "fomm",
    }
    return TrainRequest.model_validate(fields | changes)


def write_ends(folder: Path, size_px: int = fomm.SIZE_PX) -> tuple[Path, Path]:
    """First and last frame of a clip, as files."""
    video = fomm.moving_square(5, size_px)
    paths = folder / "first.png", folder / "last.png"
    for path, frame in zip(paths, video[[0, -1]], strict=True):
        write_png(path, frame)
    return paths


def sample_request(run_dir: Path, ends: tuple[Path, Path], out_dir: Path, **changes: Any):
    """A request to sample from a run; changes: other fields."""
    fields = {"run_dir": run_dir, "start": ends[0], "end": ends[1], "out_dir": out_dir}
    return SampleRequest.model_validate(fields | {"device": "cpu", "num": 2} | changes)
