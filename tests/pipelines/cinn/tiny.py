"""A tiny cinn model and tiny prepared videos: every stage trains in a second or two."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.cinn.config import FamilyConfig, TrainRequest
from pipelines.datasets.base import SPLITS
from pipelines.events import Work
from pipelines.io.packing import PackWriter

SIZE_PX, NUM_FRAMES = 32, 8

CONFIG: dict[str, Any] = {
    "data": {"dataset": "squares"},
    "train": {"device": "cpu", "threads": 1, "log_every": 2, "save_every": 3},
    "perceptual": {"backbone": "efficientnet-lite0"},
    "stage1": {
        "size_px": SIZE_PX,
        "num_frames": NUM_FRAMES,
        "code_size": 8,
        "encoder_channels": [8, 8, 8, 8, 16],
        "decoder_width": 1,
        "decoder_upsample_space": [1, 1],
        "decoder_upsample_time": [1, 1],
        "spade_channels": 4,
        "temporal_channels": [8, 8, 8, 8, 8],
        "temporal_window": 6,
        "patch_width": 4,
        "patch_frames": 4,
        "batch_size": 2,
        "epochs": 4,
        "augment": {"crop_margin_px": 0},
    },
    "ae": {
        "embedding_size": 8,
        "encoder_width": 4,
        "decoder_width": 4,
        "class_hidden": 8,
        "patch_width": 4,
        "warmup_epochs": 1,
        "batch_size": 4,
        "epochs": 8,
    },
    "stage2": {
        "num_flows": 2,
        "hidden_depth": 0,
        "hidden_width": 16,
        "optimizer": {"learning_rate": 1e-3, "amsgrad": True},
        "batch_size": 2,
        "epochs": 4,
    },
}
"""Four training videos and these batch sizes: stage 1 and 2 leave their first epoch after step 2,
the autoencoder after step 1, so six steps see both sides of every switch between epochs."""


def moving_square(number: int, num_frames: int, size_px: int = SIZE_PX) -> np.ndarray:
    """A bright square on a ramp that moves in a direction of its own: uint8 T S S 3."""
    draw = np.random.Generator(np.random.PCG64(number))
    speed, place = _course(draw, size_px)
    grid = np.moveaxis(np.mgrid[:size_px, :size_px], 0, -1)
    frames = np.repeat((grid.sum(-1) * 2)[None, ..., None], num_frames, 0).repeat(3, -1)
    colour = draw.integers(120, 255, 3)
    for t, frame in enumerate(frames):
        frame[(np.abs(grid - place - speed * t) < 5).all(-1)] = colour
    return frames.clip(0, 255).astype(np.uint8)


def square_place(video_id: str, t: int) -> np.ndarray:
    """Column and row of a prepared square's centre in frame t, as fractions of the frame."""
    speed, place = _course(np.random.Generator(np.random.PCG64(_seed(video_id))), SIZE_PX)
    return ((place + speed * t)[::-1] + 0.5) / SIZE_PX


def _course(draw: np.random.Generator, size_px: int) -> tuple[np.ndarray, np.ndarray]:
    """Speed in pixels per frame, and the first place: row and column."""
    return draw.uniform(-2, 2, 2), draw.uniform(8, size_px - 8, 2)


def _seed(video_id: str) -> int:
    return zlib.crc32(video_id.encode())


def prepare_squares(
    data_root: Path,
    *,
    counts: tuple[int, int, int] = (4, 2, 1),
    num_frames: int = 12,
    size_px: int = SIZE_PX,
    channels: int = 3,
    name: str = "squares",
    has_places: bool = False,
) -> Path:
    """A prepared variant of moving squares; counts: videos of train, val, test.

    has_places: with an array that says where the square is, column and row in each frame.
    """
    folder = data_root / name / "prepared" / f"{size_px}px"
    rows = []
    with PackWriter(folder, size_px=size_px, channels=channels) as writer:
        for split, count in zip(SPLITS, counts, strict=True):
            for number in range(count):
                video_id = f"squares/{split}/{number:05d}"
                row = {
                    "id": video_id,
                    "source": f"{video_id}.npz",
                    "group": video_id,
                    "split": split,
                    "fps": 10.0,
                    "original_size": [size_px, size_px],
                    "labels": {},
                }
                frames = moving_square(_seed(video_id), num_frames, size_px)
                places = np.stack([square_place(video_id, t) for t in range(num_frames)])
                extra = {"endeffector_pos": places.astype(np.float32)} if has_places else None
                rows.append(writer.add(row, frames[..., :channels], extra=extra))
        writer.commit({"rows": rows})
        writer.finish(rows, {"dataset": name})
    return folder


def request(root: Path, stage: str, **changes: Any) -> TrainRequest:
    """A request to train a stage in root/runs/<stage> on root/data; changes: other fields."""
    runs = root / "runs"
    fields: dict[str, Any] = {
        "config": CONFIG,
        "stage": stage,
        "data_root": root / "data",
        "run_dir": runs / stage,
    }
    if stage == "2":
        fields |= {"stage1_run": runs / "1", "ae_run": runs / "ae"}
    return TrainRequest.model_validate(fields | changes)


def changed(**sections: dict[str, Any]) -> dict[str, Any]:
    """CONFIG with some settings of some sections replaced."""
    return CONFIG | {name: CONFIG[name] | values for name, values in sections.items()}


def config() -> FamilyConfig:
    """CONFIG, validated."""
    return FamilyConfig.model_validate(CONFIG)


class Heard(Work):
    """A Work that remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[dict[str, Any]] = []

    def _emit(self, event: str, keep: bool = True, **fields: object) -> None:
        self.events.append({"event": event, **fields})

    def of(self, kind: str) -> list[dict[str, Any]]:
        """All events of a kind, oldest first."""
        return [each for each in self.events if each["event"] == kind]
