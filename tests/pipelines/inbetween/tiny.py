"""A tiny inbetween model and tiny prepared videos: it trains in a second or two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipelines.datasets.base import SPLITS
from pipelines.events import Work
from pipelines.inbetween.config import SampleRequest, TrainRequest
from pipelines.io.images import write_png
from pipelines.io.packing import PackWriter

SIZE_PX, RAW_FRAMES = 32, 20

CONFIG: dict[str, Any] = {
    "data": {"dataset": "squares"},
    "train": {"device": "cpu", "threads": 1, "log_every": 2, "save_every": 3},
    "log": {"tensorboard": False},
    "size_px": SIZE_PX,
    "network": {
        "encoder_channels": [4, 4, 8],
        "latent_channels": 8,
        "layers_per_group": 1,
        "noise_size": 4,
        "generator_channels": [8, 8, 4],
        "discriminator_channels": [4, 4, 4, 8],
    },
    "optimizer": {"learning_rate": 1e-3, "beta1": 0.5},
    "batch_size": 2,
    "steps": 6,
}


def moving_square(number: int, *, channels: int = 3) -> np.ndarray:
    """A bright square that crosses a ramp evenly: uint8 T S S C."""
    draw = np.random.Generator(np.random.PCG64(number))
    first, last = draw.uniform(6, SIZE_PX - 6, (2, 2))
    grid = np.moveaxis(np.mgrid[:SIZE_PX, :SIZE_PX], 0, -1)
    frames = np.repeat((grid.sum(-1) * 2)[None], RAW_FRAMES, 0)
    for t, frame in enumerate(frames):
        place = first + (last - first) * t / (RAW_FRAMES - 1)
        frame[(np.abs(grid - place) < 4).all(-1)] = 230
    return frames[..., None].repeat(channels, -1).astype(np.uint8)


def prepare_squares(data_root: Path, *, channels: int = 3) -> Path:
    """A prepared variant of moving squares: 4 videos to train on, 2 held out, 1 for tests."""
    folder = data_root / "squares" / "prepared" / f"{SIZE_PX}px"
    rows = []
    with PackWriter(folder, size_px=SIZE_PX, channels=channels) as writer:
        for split, count in zip(SPLITS, (4, 2, 1), strict=True):
            for number in range(count):
                video_id = f"squares/{split}/{number:05d}"
                row = {
                    "id": video_id,
                    "source": f"{video_id}.npz",
                    "group": video_id,
                    "split": split,
                    "fps": 10.0,
                    "original_size": [SIZE_PX, SIZE_PX],
                    "labels": {},
                }
                seed = 100 * SPLITS.index(split) + number
                rows.append(writer.add(row, moving_square(seed, channels=channels)))
        writer.commit({"rows": rows})
        writer.finish(rows, {"dataset": "squares"})
    return folder


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


def write_ends(folder: Path, *, channels: int = 3) -> tuple[Path, Path]:
    """First and last frame of a clip, as files."""
    video = moving_square(7, channels=3)
    if channels == 3:
        video[..., 2] //= 2
    paths = folder / "first.png", folder / "last.png"
    for path, frame in zip(paths, video[[0, -1]], strict=True):
        write_png(path, frame)
    return paths


def sample_request(root: Path, ends: tuple[Path, Path], out_dir: Path, **changes: Any):
    """A request to sample from root/run; changes: other fields."""
    fields = {"run_dir": root / "run", "start": ends[0], "end": ends[1], "out_dir": out_dir}
    return SampleRequest.model_validate(fields | {"device": "cpu", "num": 2} | changes)


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
