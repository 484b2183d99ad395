"""The settings that a run of the poke family was trained with."""

from __future__ import annotations

from pipelines.poke.config import FamilyConfig
from pipelines.training.beginning import settings_of
from pipelines.training.run_folder import Run

FAMILY = "poke"


def run_config(run: Run) -> FamilyConfig:
    """UserError when they do not fit this version."""
    return settings_of(run, FamilyConfig)
