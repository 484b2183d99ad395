"""A tiny behaviour model and takes of poses: every stage trains in a second or two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.behavior.config import FamilyConfig, TrainRequest
from tests.learning.behavior_world import NUM_FRAMES, POSES, prepare_poses
from tests.pipelines.cinn.tiny import Heard

__all__ = ["CONFIG", "NUM_FRAMES", "Heard", "changed", "config", "prepare", "request"]

CONFIG: dict[str, Any] = {
    "data": {"dataset": POSES, "variant": "poses"},
    "poses": {"num_frames": 6, "lag": 1},
    "train": {"device": "cpu", "threads": 1, "log_every": 2, "save_every": 3},
    "stage1": {
        "net": {"code_size": 8},
        "mtvae": {"width": 8, "code_size": 4, "num_condition": 3, "num_velocities": 2},
        "auxiliary": {"width": 8},
        "batch_size": 4,
        "epochs": 4,
        "tuning_epochs": 1,
    },
    "stage2": {
        "flow": {"num_flows": 2, "hidden_width": 8, "hidden_depth": 0},
        "batch_size": 4,
        "epochs": 4,
    },
}


def prepare(data_root: Path) -> Path:
    """A few short takes: an epoch of stage 1 ends after its second step, training it after six."""
    return prepare_poses(data_root, {"train": 1, "val": 2, "test": 2}, num_frames=8)


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
        fields |= {"stage1_run": runs / "1"}
    return TrainRequest.model_validate(fields | changes)


def changed(**sections: dict[str, Any]) -> dict[str, Any]:
    """CONFIG with some settings of some sections replaced."""
    return CONFIG | {name: CONFIG[name] | values for name, values in sections.items()}


def config() -> FamilyConfig:
    """CONFIG, validated."""
    return FamilyConfig.model_validate(CONFIG)
