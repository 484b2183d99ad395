"""A tiny fomm model and tiny prepared videos: it trains in a second or two."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.datasets.base import SPLITS
from pipelines.events import Work
from pipelines.fomm.config import FamilyConfig, TrainRequest, TransferRequest
from pipelines.io.packing import PackWriter

SIZE_PX, NUM_FRAMES = 32, 8

_SMALL = {"block_expansion": 4, "max_features": 8, "num_blocks": 2, "scale_factor": 0.5}

CONFIG: dict[str, Any] = {
    "data": {"dataset": "squares"},
    "train": {"device": "cpu", "threads": 1, "log_every": 2, "save_every": 3},
    "log": {"tensorboard": False},
    "model": {
        "size_px": SIZE_PX,
        "num_keypoints": 3,
        "keypoints": _SMALL,
        "generator": {
            "block_expansion": 4,
            "max_features": 8,
            "num_bottleneck_blocks": 1,
            "dense_motion": _SMALL,
        },
        "discriminator": {"block_expansion": 4, "max_features": 8, "num_blocks": 2},
    },
    "losses": {"scales": [1, 0.5], "generator_gan": 1, "feature_matching": [10, 10]},
    "perceptual": {"backbone": "efficientnet-lite0"},
    "validation_frames": NUM_FRAMES,
    "batch_size": 2,
    "epochs": 4,
    "milestones": [1, 2],
}
"""Four training videos: six steps see the learning rate fall twice."""


def moving_square(number: int, size_px: int = SIZE_PX, num_frames: int = NUM_FRAMES) -> np.ndarray:
    """A bright square on a ramp that moves evenly: uint8 T S S 3."""
    draw = np.random.Generator(np.random.PCG64(number))
    speed, place = draw.uniform(-2, 2, 2), draw.uniform(10, size_px - 10, 2)
    grid = np.moveaxis(np.mgrid[:size_px, :size_px], 0, -1)
    frames = np.repeat((grid.sum(-1) * 2)[None, ..., None], num_frames, 0).repeat(3, -1)
    colour = draw.integers(120, 255, 3)
    for t, frame in enumerate(frames):
        frame[(np.abs(grid - place - speed * t) < 5).all(-1)] = colour
    return frames.clip(0, 255).astype(np.uint8)


def prepare_squares(
    data_root: Path,
    *,
    counts: tuple[int, int, int] = (4, 2, 1),
    size_px: int = SIZE_PX,
    channels: int = 3,
    names: str = "squares/{split}/{number:05d}",
) -> Path:
    """A prepared variant of moving squares; counts: videos of train, val, test."""
    folder = data_root / "squares" / "prepared" / f"{size_px}px"
    rows = []
    with PackWriter(folder, size_px=size_px, channels=channels) as writer:
        for split, count in zip(SPLITS, counts, strict=True):
            for number in range(count):
                video_id = names.format(split=split, number=number)
                row = {
                    "id": video_id,
                    "source": f"{video_id}.npz",
                    "group": video_id,
                    "split": split,
                    "fps": 10.0,
                    "original_size": [size_px, size_px],
                    "labels": {},
                }
                frames = moving_square(zlib.crc32(video_id.encode()), size_px)
                rows.append(writer.add(row, frames[..., :channels]))
        writer.commit({"rows": rows})
        writer.finish(rows, {"dataset": "squares"})
    return folder


def config(**sections: Any) -> FamilyConfig:
    """CONFIG with some settings replaced, validated."""
    return FamilyConfig.model_validate(changed(**sections))


def changed(**sections: Any) -> dict[str, Any]:
    """CONFIG with some settings of some sections replaced."""
    merged = dict(CONFIG)
    for name, values in sections.items():
        is_section = isinstance(values, dict)
        merged[name] = merged.get(name, {}) | values if is_section else values
    return merged


def request(root: Path, **changes: Any) -> TrainRequest:
    """A request to train in root/run on root/data; changes: other fields."""
    fields = {"config": CONFIG, "data_root": root / "data", "run_dir": root / "run"}
    return TrainRequest.model_validate(fields | changes)


def transfer_request(root: Path, **changes: Any) -> TransferRequest:
    """A request to move root/source.png like root/driving.mp4 into root/out; changes: others."""
    fields = {
        "run_dir": root / "run",
        "source": root / "source.png",
        "driving": root / "driving.mp4",
        "out_dir": root / "out",
        "device": "cpu",
    }
    return TransferRequest.model_validate(fields | changes)


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
