"""The two ends of a training that all families share: where it goes on from, what it reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from pipelines.events import EXIT_USAGE, UserError, Work
from pipelines.schema import Config
from pipelines.training.checkpoint import (
    STATE_NAME,
    WEIGHTS_NAME,
    TrainState,
    checkpoint_meta,
    find_checkpoint,
    list_checkpoints,
    load_weights,
    networks_in,
    restore,
)
from pipelines.training.processes import resumed_with
from pipelines.training.run_folder import Run, load_run, require_checkpoint

Settings = TypeVar("Settings", bound=Config)


def begin_or_resume(
    run_dir: Path, state: TrainState, work: Work, *, family: str, stage: str, init_run: Path | None
) -> None:
    """Go on from the newest sound checkpoint, or begin, maybe with the weights of init_run.

    Networks that init_run lacks begin anew: a published one has only those that were published.
    """
    found = find_checkpoint(run_dir, files=(WEIGHTS_NAME, STATE_NAME), warn=work.warning)
    if found:
        restore(found, state)
        work.log(f"going on from step {state.step}")
        resumed_with(int(checkpoint_meta(found).get("num_processes", 1)), work)
    elif init_run:
        run = load_run(init_run, family=family, stage=stage)
        source = require_checkpoint(run, warn=work.warning)
        there = networks_in(source)
        known = {name: each for name, each in state.modules.items() if name in there}
        load_weights(source, known or state.modules)
        work.log(f"starting from the weights of {run.path}")
        if anew := sorted(state.modules.keys() - known.keys()):
            work.log(f"not in them, so they begin anew: {', '.join(anew)}")


def num_parameters(state: TrainState) -> int:
    """Of all networks of a training together."""
    return sum(p.numel() for module in state.modules.values() for p in module.parameters())


def training_result(run_dir: Path, state: TrainState, *, family: str, stage: str) -> dict[str, Any]:
    """What a training job reports at its end, about its newest checkpoint."""
    newest = list_checkpoints(run_dir)[0]
    return {
        "run": str(run_dir),
        "family": family,
        "stage": stage,
        "step": state.step,
        "checkpoint": str(newest),
        "validation": checkpoint_meta(newest)["validation"],
    }


def settings_of(run: Run, config_class: type[Settings]) -> Settings:
    """The settings a run was trained with; UserError when they do not fit this version."""
    try:
        return config_class.model_validate(run.request["config"])
    except (ValidationError, KeyError, TypeError) as error:
        raise UserError(
            f"the settings of run '{run.path.name}' do not fit this version",
            {"file": run.path / "config.yaml", "reason": error},
            EXIT_USAGE,
        ) from error
