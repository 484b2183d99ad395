"""What a page is made from: a run, and the earlier runs that its model was built on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines import files
from pipelines.events import UserError, read_events
from pipelines.io.sample_folders import SampleFolder, sample_folders
from pipelines.report.curves import Chart, charts, training_seconds
from pipelines.training.checkpoint import list_checkpoints
from pipelines.training.run_folder import Run, load_run

_LINK = "_run"
"""A setting whose name ends so holds the folder of another run."""


@dataclass(frozen=True)
class ReportedRun:
    """A run with everything a page shows of it.

    pictures: grids of folders that hold no videos.  step: of the newest checkpoint.
    evaluations: as in metrics.json.
    """

    run: Run
    charts: list[Chart]
    folders: list[SampleFolder]
    pictures: list[Path]
    evaluations: list[dict[str, Any]]
    warnings: list[str]
    step: int | None
    seconds: float | None

    @property
    def title(self) -> str:
        """Family and stage."""
        return f"{self.run.family} stage {self.run.stage}"


def collect(run_dir: Path) -> list[ReportedRun]:
    """The run itself, then the runs it was built on. Raises UserError when it is no run folder."""
    return [_reported(each) for each in _with_linked(load_run(run_dir), set())]


def _with_linked(run: Run, seen: set[Path]) -> Iterator[Run]:
    """A run that was moved or removed since is passed over."""
    seen.add(run.path.resolve())
    yield run
    for name, value in run.request.items():
        if not name.endswith(_LINK) or not isinstance(value, str):
            continue
        if Path(value).resolve() in seen:
            continue
        try:
            linked = load_run(Path(value))
        except UserError:
            continue
        yield from _with_linked(linked, seen)


def _reported(run: Run) -> ReportedRun:
    events = list(read_events(run.path / "events.jsonl"))
    folders = sample_folders(run.path)
    steps = [_step(each) for each in list_checkpoints(run.path)]
    return ReportedRun(
        run=run,
        charts=charts(events),
        folders=folders,
        pictures=_pictures(run.path, {each.path for each in folders}),
        evaluations=[found for path in _metrics_files(run.path) for found in _evaluations(path)],
        warnings=[str(each["message"]) for each in events if each.get("event") == "warning"],
        step=max(steps, default=None),
        seconds=training_seconds(events),
    )


def _step(checkpoint_dir: Path) -> int:
    return int(checkpoint_dir.name.rpartition("-")[2])


def _pictures(run_dir: Path, with_videos: set[Path]) -> list[Path]:
    grids = sorted((run_dir / "samples").glob("*/grid.png"))
    return [each for each in grids if each.parent not in with_videos]


def _metrics_files(run_dir: Path) -> list[Path]:
    """Numbers of the run, then those of single folders of its videos."""
    return [run_dir / "metrics.json", *sorted((run_dir / "samples").glob("*/metrics.json"))]


def _evaluations(path: Path) -> list[dict[str, Any]]:
    """The evaluations in a metrics.json, none when it is not there or not ours."""
    try:
        document = files.read_json(path)
    except (OSError, json.JSONDecodeError, UnicodeDecodeError):
        return []
    found = document.get("evaluations") if isinstance(document, dict) else None
    if not isinstance(found, list):
        return []
    return [
        each for each in found if isinstance(each, dict) and isinstance(each.get("results"), list)
    ]
