"""A tiny poke model and tiny prepared videos with flow: it trains in a second or two."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.datasets.base import SPLITS
from pipelines.events import Work
from pipelines.io.packing import PackWriter, encode_flow
from pipelines.poke.config import FamilyConfig, SampleRequest, TrainRequest

SIZE_PX, NUM_FRAMES = 32, 4

CONFIG: dict[str, Any] = {
    "data": {"dataset": "squares"},
    "train": {"device": "cpu", "threads": 1, "log_every": 2, "save_every": 3},
    "clips": {"num_frames": NUM_FRAMES, "start": "any"},
    "model": {"size_px": SIZE_PX, "widths": [8, 8], "deep": 8},
    "patch": {"start_step": 2, "width": 4, "num_layers": 2, "num_frames": 4},
    "temporal": {"start_step": 1, "width": 16},
    "perceptual": {"backbone": "efficientnet-lite0"},
    "batch_size": 2,
    "epochs": 4,
    "milestones": [0.25, 0.5],
}
"""Four training videos: six steps see both discriminators join and the learning rate fall."""


def moving_square(
    number: int, num_frames: int, size_px: int = SIZE_PX
) -> tuple[np.ndarray, np.ndarray]:
    """A bright square on a ramp that moves evenly: uint8 T S S 3, and flow over NUM_FRAMES frames.

    The flow, float32 T-NUM_FRAMES 2 S S, is that of the square inside it and 0 elsewhere.
    """
    draw = np.random.Generator(np.random.PCG64(number))
    speed, place = draw.uniform(-1.5, 1.5, 2), draw.uniform(12, size_px - 12, 2)
    grid = np.moveaxis(np.mgrid[:size_px, :size_px], 0, -1)
    frames = np.repeat((grid.sum(-1) * 2)[None, ..., None], num_frames, 0).repeat(3, -1)
    colour = draw.integers(120, 255, 3)
    flow = np.zeros((num_frames - NUM_FRAMES, 2, size_px, size_px), np.float32)
    for t, frame in enumerate(frames):
        inside = (np.abs(grid - place - speed * t) < 5).all(-1)
        frame[inside] = colour
        if t < len(flow):
            flow[t, :, inside] = speed[::-1] * NUM_FRAMES
    return frames.clip(0, 255).astype(np.uint8), flow


def prepare_squares(
    data_root: Path,
    *,
    counts: tuple[int, int, int] = (4, 2, 1),
    num_frames: int = 12,
    size_px: int = SIZE_PX,
    has_flow: bool = True,
    has_masks: bool = False,
    without_flow: int | None = None,
) -> Path:
    """A prepared variant of moving squares; counts: videos of train, val, test.

    without_flow: number of a training video that has it for its first frame only.
    """
    folder = data_root / "squares" / "prepared" / f"{size_px}px"
    rows = []
    with PackWriter(folder, size_px=size_px, channels=3) as writer:
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
                frames, flow = moving_square(zlib.crc32(video_id.encode()), num_frames, size_px)
                if (split, number) == ("train", without_flow):
                    flow = flow[:1]
                motion = {NUM_FRAMES: encode_flow(flow)} if has_flow else None
                mask = (frames[..., 2] > frames[0, 0, 0, 2] + 60).astype(np.uint8)
                extra = {"mask": mask} if has_masks else None
                rows.append(writer.add(row, frames, flow=motion, extra=extra))
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


def sample_request(root: Path, image: Path, **changes: Any) -> SampleRequest:
    """A request to sample from root/run into root/out; changes: other fields."""
    fields = {"run_dir": root / "run", "images": [image], "out_dir": root / "out", "device": "cpu"}
    return SampleRequest.model_validate(fields | changes)


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
