"""The stage 1 that a flow is built on, kept inside its run folder, and the scale of poses.

<run>/frozen/stage1 is a small run folder of its own, so that a trained model is one folder.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from pipelines.behavior.config import FamilyConfig, TrainRequest
from pipelines.behavior.poses import PoseScale
from pipelines.events import EXIT_USAGE, UserError, Work
from pipelines.training.beginning import settings_of
from pipelines.training.checkpoint import (
    WEIGHTS_NAME,
    find_checkpoint,
    load_weights,
    networks_in,
)
from pipelines.training.run_folder import Run, freeze_weights, load_run, require_checkpoint

FAMILY = "behavior"
SCALE = "scale"
"""Name of the scale among the networks of a checkpoint."""

Warn = Callable[[str], None]


class StoredScale(nn.Module):
    """Mean and spread of each number of a pose, kept with the weights that rely on them."""

    def __init__(self, scale: PoseScale | None = None, *, size: int = 0) -> None:
        """scale: None: one of this size, to be loaded."""
        super().__init__()
        zeros = torch.zeros(size, dtype=torch.float64)
        mean = zeros if scale is None else torch.from_numpy(scale.mean)
        std = zeros if scale is None else torch.from_numpy(scale.std)
        self.register_buffer("mean", mean.clone())
        self.register_buffer("std", std.clone())

    def scale(self) -> PoseScale:
        """As numpy arrays."""
        buffers = dict(self.named_buffers())
        return PoseScale.stored(buffers["mean"].cpu().numpy(), buffers["std"].cpu().numpy())


def run_config(run: Run) -> FamilyConfig:
    """The settings that a run was trained with."""
    return settings_of(run, FamilyConfig)


def stored_scale(checkpoint_dir: Path, config: FamilyConfig) -> PoseScale | None:
    """The scale in a checkpoint; None in one that was published without."""
    if SCALE not in networks_in(checkpoint_dir):
        return None
    holder = StoredScale(size=config.stage1.net.pose_size)
    load_weights(checkpoint_dir, {SCALE: holder})
    return holder.scale()


def earlier_scale(request: TrainRequest) -> PoseScale | None:
    """The scale that a stage 1 learned, or is to begin, with; None where it is that of the data."""
    source = find_checkpoint(request.run_dir, files=(WEIGHTS_NAME,), warn=_unheard)
    if source is None and request.init_run is not None:
        run = load_run(request.init_run, family=FAMILY, stage=request.stage)
        source = require_checkpoint(run, warn=_unheard)
    return None if source is None else stored_scale(source, request.config)


def _unheard(warning: str) -> None:
    """It is given once more when the weights themselves are read."""


def with_earlier_settings(request: TrainRequest) -> TrainRequest:
    """With poses and stage 1 as that one was trained; stage 2 takes them as they are."""
    if request.stage != "2":
        return request
    first = run_config(input_run(request.run_dir, request.stage1_run))
    if first.stage1.kind != "behavior-net":
        raise UserError(
            "stage 2 is a flow over the codes of a behavior net, this stage 1 is an MT-VAE",
            {
                "stage 1": request.stage1_run,
                "to fix": "give a run of another preset with --stage1-run",
            },
            EXIT_USAGE,
        )
    config = request.config.model_copy(update={"stage1": first.stage1, "poses": first.poses})
    return request.model_copy(update={"config": config})


def input_run(run_dir: Path, source: Path | None) -> Run:
    """The stage 1 behind a stage 2: the kept copy, or the source when there is none yet.

    Raises UserError when neither is there, or the source is no run of the right stage.
    """
    kept = frozen_dir(run_dir)
    if kept.is_dir():
        return load_run(kept, family=FAMILY, stage="1")
    if source is None:
        raise UserError(
            "stage 2 needs a trained stage 1",
            {
                "run first": f"i2v train {FAMILY} --stage 1",
                "then": "give its name with --stage1-run",
            },
            EXIT_USAGE,
        )
    return load_run(source, family=FAMILY, stage="1")


def keep_input(request: TrainRequest, work: Work) -> Path:
    """The checkpoint of stage 1, copied into the run folder when that is new."""
    target = frozen_dir(request.run_dir)
    if not target.is_dir():
        run = input_run(request.run_dir, request.stage1_run)
        freeze_weights(run, require_checkpoint(run, warn=work.warning), target)
    kept = frozen_checkpoint(request.run_dir, warn=work.warning)
    work.log(f"built on {kept.relative_to(request.run_dir)}")
    return kept


def frozen_checkpoint(run_dir: Path, *, warn: Warn) -> Path:
    """The checkpoint of the kept stage 1."""
    return require_checkpoint(load_run(frozen_dir(run_dir), family=FAMILY, stage="1"), warn=warn)


def frozen_dir(run_dir: Path) -> Path:
    """Where a stage 2 keeps its stage 1."""
    return run_dir / "frozen" / "stage1"
