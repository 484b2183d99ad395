"""metrics.json: the evaluations of a run or of a folder of videos, each under its label."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines import files
from pipelines.events import UserError
from pipelines.metrics.result import MetricResult

COLUMNS = ("metric", "value", "95 % interval", "reference", "unit", "protocol")


def evaluation(
    label: str,
    results: Sequence[MetricResult],
    *,
    source: Path,
    real: Path | None = None,
    seed: int | None = None,
) -> dict[str, Any]:
    """What metrics.json says of a measurement: where the videos are, when, and the numbers."""
    return {
        "label": label,
        "source": str(source),
        "real": str(real) if real else None,
        "seed": seed,
        "measured": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "results": [each.to_json() for each in results],
    }


def save(path: Path, found: Mapping[str, Any]) -> None:
    """Add an evaluation to a metrics.json, in the place of an older one of the same label.

    Raises UserError when the file that is there is something else; it is then left as it is.
    """
    older = _evaluations(path) if path.exists() else []
    kept = [each for each in older if each.get("label") != found["label"]]
    files.write_json(path, {"version": 1, "evaluations": [*kept, found]})


def table(results: Sequence[MetricResult]) -> dict[str, Any]:
    """The numbers as a table of texts."""
    return {"columns": list(COLUMNS), "rows": [each.row() for each in results]}


def _evaluations(path: Path) -> list[dict[str, Any]]:
    try:
        evaluations: list[dict[str, Any]] = files.read_json(path)["evaluations"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            "the metrics file that is there already cannot be read",
            {"file": path, "reason": error, "to fix": "move it away, or name another"},
        ) from error
    return evaluations
