"""A wheel whose four coloured discs go round: curved motion whose keypoints are known.

Between the ends of a clip it turns by a third of a turn or a little more or less, always the same
way round; straight lines from end to end cut through the wheel.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.fomm.config import TrainRequest as FommRequest
from pipelines.io.packing import PackWriter
from pipelines.motion.config import TrainRequest
from pipelines.motion.keypoints import KeypointClips, write_keypoints

DATASET, SIZE_PX, NUM_FRAMES = "wheel", 32, 16
COUNTS = {"train": 128, "val": 16, "test": 32}
_RAW_FRAMES = NUM_FRAMES + 4
_RADII = np.array([0.35, 0.5, 0.62, 0.55])
_PHASES = np.array([0.0, 1.6, 3.1, 4.7])
_COLOURS = np.array([[220, 40, 40], [40, 200, 60], [60, 80, 230], [230, 210, 50]])
_TURN_PER_FRAME = (0.12, 0.16)  # rad
_DISC = 0.2  # radius; the frame is 2 wide, as keypoints are

_HOURGLASS = {"block_expansion": 8, "max_features": 32, "num_blocks": 3, "scale_factor": 0.5}
FOMM: Mapping[str, Any] = {
    "data": {"dataset": DATASET},
    "train": {"device": "cpu", "log_every": 25, "save_every": 500, "keep": 1},
    "log": {"tensorboard": False},
    "perceptual": {"backbone": "efficientnet-lite0"},
    "model": {
        "size_px": SIZE_PX,
        "num_keypoints": 4,
        "keypoints": _HOURGLASS,
        "generator": {
            "block_expansion": 16,
            "max_features": 64,
            "num_bottleneck_blocks": 2,
            "dense_motion": _HOURGLASS,
        },
    },
    "losses": {"scales": [1, 0.5]},
    "augment": {"brightness": 0, "contrast": 0, "saturation": 0, "hue": 0, "horizontal_flip": 0},
    "optimizer": {"learning_rate": 1e-3, "beta1": 0.5},
    "milestones": [],
    "batch_size": 8,
    "epochs": 1000,
}
SETTINGS: Mapping[str, Any] = {
    "data": {"dataset": DATASET},
    "train": {"device": "cpu", "log_every": 50, "save_every": 1000, "keep": 1},
    "log": {"tensorboard": False},
    "num_frames": NUM_FRAMES,
    "wgan": {"hidden_size": 64, "critic_steps": 2, "weight_reconstruction": 50},
    "autoregressive": {"hidden_size": 64},
    "batch_size": 16,
}
RATES: Mapping[str, Any] = {
    "wgan": {"learning_rate": 1e-3, "beta1": 0.0, "beta2": 0.9},
    "autoregressive": {"learning_rate": 3e-3},
    "linear": {"learning_rate": 1e-3},
}


def course(split: str, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Places, T 4 2 as (x, y) in [-1, 1], and turns of the surroundings, T 4 2 2."""
    draw = np.random.default_rng([list(COUNTS).index(split), number])
    angle = draw.uniform(0, 2 * np.pi) + draw.uniform(*_TURN_PER_FRAME) * np.arange(_RAW_FRAMES)
    angles = angle[:, None] + _PHASES
    places = _RADII[:, None] * np.stack([np.cos(angles), np.sin(angles)], -1)
    cos, sin = np.cos(angle), np.sin(angle)
    turns = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    return places, np.repeat(turns[:, None], 4, axis=1)


def prepare(data_root: Path) -> Path:
    """The prepared videos."""
    folder = data_root / DATASET / "prepared" / f"{SIZE_PX}px"
    rows = []
    with PackWriter(folder, size_px=SIZE_PX, channels=3) as writer:
        for split, count in COUNTS.items():
            for number in range(count):
                video_id = f"wheel/{split}/{number:05d}"
                row = {
                    "id": video_id,
                    "source": f"{video_id}.npz",
                    "group": video_id,
                    "split": split,
                    "fps": 10.0,
                    "original_size": [SIZE_PX, SIZE_PX],
                    "labels": {},
                }
                rows.append(writer.add(row, drawn(course(split, number)[0])))
        writer.commit({"rows": rows})
        writer.finish(rows, {"dataset": DATASET})
    return folder


def drawn(places: np.ndarray) -> np.ndarray:
    """The discs on a grey ramp, with soft edges: uint8 T S S 3."""
    axis = (np.arange(SIZE_PX) + 0.5) / SIZE_PX * 2 - 1
    grid = np.stack(np.meshgrid(axis, axis), -1)
    frames = np.repeat((90 + 30 * grid.sum(-1))[None, ..., None], len(places), 0).repeat(3, -1)
    for disc, colour in enumerate(_COLOURS):
        apart = np.linalg.norm(grid - places[:, disc][:, None, None], axis=-1)
        cover = np.clip((_DISC - apart) * SIZE_PX / 2 + 0.5, 0, 1)[..., None]
        frames = frames * (1 - cover) + colour * cover
    return frames.round().astype(np.uint8)


def write_known_keypoints(folder: Path, fomm: str) -> Path:
    """The true courses as if a fomm had found them; returns the folder. fomm: its hash."""
    for split in ("train", "val"):
        courses = [course(split, number) for number in range(COUNTS[split])]
        clips = KeypointClips(
            np.concatenate([places for places, _ in courses]),
            np.concatenate([turns for _, turns in courses]),
            np.arange(len(courses) + 1) * _RAW_FRAMES,
            tuple(f"wheel/{split}/{number:05d}" for number in range(len(courses))),
            fomm,
        )
        write_keypoints(folder / f"{split}.npz", clips)
    return folder


def fomm_request(root: Path, *, steps: int) -> FommRequest:
    """A request to train root/fomm on root/data."""
    fields = {"config": FOMM, "data_root": root / "data", "run_dir": root / "fomm"}
    return FommRequest.model_validate(fields | {"max_steps": steps})


def request(root: Path, kind: str, name: str, *, steps: int, **changes: Any) -> TrainRequest:
    """A request to train root/<name> on root/data with root/fomm; changes: other fields."""
    config = {**SETTINGS, "kind": kind, "optimizer": RATES[kind], "steps": steps}
    fields = {"config": config, "data_root": root / "data", "run_dir": root / name}
    return TrainRequest.model_validate(fields | {"fomm_run": root / "fomm"} | changes)
