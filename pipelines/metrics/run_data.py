"""Prepared data that a run is measured on: what the request names as real, else its own."""

from __future__ import annotations

from pathlib import Path

from pipelines.io.packed import find_variant
from pipelines.metrics.config import EvalRequest
from pipelines.schema import DataConfig


def named_frames(request: EvalRequest) -> Path | None:
    """The folder of prepared frames among what the request names as real."""
    real = request.real
    return real if real is not None and (real / "index.json").is_file() else None


def own_frames(trained_on: DataConfig, data_root: Path) -> Path:
    """The folder of prepared frames that a run was trained on; UserError where there is none."""
    return find_variant(
        data_root, trained_on.dataset, trained_on.variant, to_choose="--real {path}"
    )


def measured_data(
    request: EvalRequest, trained_on: DataConfig, data_root: Path
) -> tuple[Path, DataConfig]:
    """Data root and settings of the data to measure on. Of other data all videos are used."""
    named = named_frames(request)
    folder = named or own_frames(trained_on, data_root)
    found = {"dataset": folder.parents[1].name, "variant": folder.name}
    others = {} if named is None else {"include": ("*",)}
    return folder.parents[2], trained_on.model_copy(update=found | others)
