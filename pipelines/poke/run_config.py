"""The settings that a run of the poke family was trained with."""

from __future__ import annotations

from pydantic import ValidationError

from pipelines.events import EXIT_USAGE, UserError
from pipelines.poke.config import FamilyConfig
from pipelines.training.run_folder import Run

FAMILY = "poke"


def run_config(run: Run) -> FamilyConfig:
    """UserError when they do not fit this version."""
    try:
        return FamilyConfig.model_validate(run.request["config"])
    except (ValidationError, KeyError, TypeError) as error:
        raise UserError(
            f"the settings of run '{run.path.name}' do not fit this version",
            {"file": run.path / "config.yaml", "reason": error},
            EXIT_USAGE,
        ) from error
