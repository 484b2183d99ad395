"""A tiny renderer and small pictures of people: it trains in a second or two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.shape_pose.config import FamilyConfig, TrainRequest
from tests.learning.behavior_world import PICTURES, SIZE_PX, prepare_pictures
from tests.pipelines.cinn.tiny import Heard

__all__ = ["CONFIG", "SIZE_PX", "Heard", "changed", "config", "prepare", "request"]

CONFIG: dict[str, Any] = {
    "data": {"dataset": PICTURES},
    "train": {"device": "cpu", "threads": 1, "log_every": 2, "save_every": 3, "keep": 2},
    "network": {"size_px": SIZE_PX, "width": 4, "max_width": 8},
    "perceptual": {"backbone": "efficientnet-lite0"},
    "regressor": {"num_images": 2},
    "kl": {"largest_information": 1.0},
    "steps_without_kl": 2,
    "batch_size": 2,
    "steps": 6,
}


def prepare(data_root: Path) -> Path:
    """A few short takes."""
    return prepare_pictures(data_root, {"train": 3, "val": 2}, num_frames=3)


def request(root: Path, **changes: Any) -> TrainRequest:
    """A request to train in root/runs/1 on root/data; changes: other fields."""
    fields: dict[str, Any] = {
        "config": CONFIG,
        "data_root": root / "data",
        "run_dir": root / "runs" / "1",
    }
    return TrainRequest.model_validate(fields | changes)


def changed(**sections: Any) -> dict[str, Any]:
    """CONFIG with some settings of some sections replaced."""
    return CONFIG | {
        name: CONFIG[name] | value if isinstance(value, dict) and name in CONFIG else value
        for name, value in sections.items()
    }


def config() -> FamilyConfig:
    """CONFIG, validated."""
    return FamilyConfig.model_validate(CONFIG)
