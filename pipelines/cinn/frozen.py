"""The two earlier stages that a stage 2 is built on, kept inside its run folder.

<run>/frozen/stage1 and <run>/frozen/ae are small run folders of their own. So a trained model is
one folder that can be copied anywhere, whatever becomes of the runs it was built on.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from pipelines.cinn.config import FamilyConfig
from pipelines.events import EXIT_USAGE, UserError
from pipelines.training.run_folder import Run, freeze_weights, load_run, require_checkpoint

FAMILY = "cinn"
INPUT_STAGES = {"stage1": "1", "ae": "ae"}
"""Name in `frozen/`, and the stage it comes from."""

Warn = Callable[[str], None]


def run_config(run: Run) -> FamilyConfig:
    """The settings that a run was trained with."""
    try:
        return FamilyConfig.model_validate(run.request["config"])
    except (ValidationError, KeyError, TypeError) as error:
        raise UserError(
            f"the settings of run '{run.path.name}' do not fit this version",
            {"file": run.path / "config.yaml", "reason": error},
            EXIT_USAGE,
        ) from error


def input_run(run_dir: Path, name: str, source: Path | None) -> Run:
    """The run behind an input of a stage 2: the kept copy, or the source when there is none yet.

    Raises UserError when neither is there, or the source is no run of the right stage.
    """
    stage = INPUT_STAGES[name]
    kept = frozen_dir(run_dir, name)
    if kept.is_dir():
        return load_run(kept, family=FAMILY, stage=stage)
    if source is None:
        raise UserError(
            f"stage 2 needs a trained stage {stage}",
            {
                "run first": f"i2v train {FAMILY} --stage {stage}",
                "then": f"give its name with --{name}-run",
            },
            EXIT_USAGE,
        )
    return load_run(source, family=FAMILY, stage=stage)


def keep_input(run_dir: Path, name: str, run: Run, *, warn: Warn) -> Path:
    """Keep the newest weights of an input run in the run folder, once; returns the checkpoint."""
    target = frozen_dir(run_dir, name)
    if not target.is_dir():
        freeze_weights(run, require_checkpoint(run, warn=warn), target)
    return frozen_checkpoint(run_dir, name, warn=warn)


def frozen_checkpoint(run_dir: Path, name: str, *, warn: Warn) -> Path:
    """The checkpoint of a kept input."""
    run = load_run(frozen_dir(run_dir, name), family=FAMILY, stage=INPUT_STAGES[name])
    return require_checkpoint(run, warn=warn)


def frozen_dir(run_dir: Path, name: str) -> Path:
    """Where a stage 2 keeps an input."""
    return run_dir / "frozen" / name
