"""The job file: what to run, with which request, where; what it needs on disk and what it makes."""

from __future__ import annotations

import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from i2v_cli import locations
from i2v_cli.console import Outcome, short
from i2v_cli.registry import ENVS, Target
from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.files import write_json
from pipelines.schema import Job

JOB_NAME, RESULT_NAME, LOG_NAME, EVENTS_NAME = "job.json", "result.json", "log.txt", "events.jsonl"
KEPT_JOBS = 50
ABANDONED_AFTER_S = 7 * 24 * 3600.0


@dataclass(frozen=True)
class Input:
    """A file or folder that must be there before a job starts.

    what: words for a message, 'prepared frames for dataset x'.  remedy: further lines of the error.
    is_found: whether it is there, where that takes more than a look at the path.
    """

    what: str
    path: Path
    remedy: Mapping[str, str] = field(default_factory=lambda: {"to fix": "check the path"})
    is_found: bool | None = None

    @property
    def is_there(self) -> bool:
        """Whether the job can start as far as this is concerned."""
        return self.path.exists() if self.is_found is None else self.is_found


@dataclass(frozen=True)
class Plan:
    """A job before it starts.

    title: what the user sees, 'train cinn, stage 1'.  record_dir: None makes a fresh job folder.
    after_stop: what is kept when the job is interrupted, and how to go on.
    """

    verb: str
    title: str
    target: Target
    request: BaseModel
    inputs: tuple[Input, ...] = ()
    outputs: Mapping[str, Path] = field(default_factory=dict)
    record_dir: Path | None = None
    after_stop: Mapping[str, str] = field(default_factory=dict)


def check_inputs(plan: Plan) -> None:
    """Raise UserError for the first input that is not there."""
    for needed in plan.inputs:
        if not needed.is_there:
            raise UserError(
                f"no {needed.what}",
                {"looked in": short(needed.path), **needed.remedy},
                EXIT_NO_DATA,
            )


def write(plan: Plan) -> Path:
    """Write the job file into its folder; returns the file. An older result there is removed."""
    record_dir = plan.record_dir or _fresh_folder(plan.verb)
    record_dir.mkdir(parents=True, exist_ok=True)
    (record_dir / RESULT_NAME).unlink(missing_ok=True)
    job = Job(
        verb=plan.verb,
        target=plan.target.function,
        config_class=plan.target.request,
        config=plan.request.model_dump(mode="json"),
        record_dir=record_dir,
    )
    write_json(record_dir / JOB_NAME, job.model_dump(mode="json"))
    return record_dir / JOB_NAME


def describe(plan: Plan, environment: str) -> Outcome:
    """What --dry-run shows. environment: the state of the plan's environment, in words."""
    request = plan.request.model_dump(mode="json")
    inputs = [
        {"what": needed.what, "path": str(needed.path), "found": needed.is_there}
        for needed in plan.inputs
    ]
    lines = [
        f"# would run: {plan.title}",
        f"# environment: {plan.target.env} ({environment})",
        *(
            f"# {'found' if needed['found'] else 'missing'}: {needed['what']}: "
            f"{short(Path(str(needed['path'])))}"
            for needed in inputs
        ),
        *(f"# writes: {what}: {short(path)}" for what, path in plan.outputs.items()),
        *yaml.safe_dump(request, sort_keys=False, allow_unicode=True).rstrip().split("\n"),
    ]
    result: dict[str, Any] = {
        "dry_run": True,
        "target": plan.target.function,
        "environment": {"name": plan.target.env, "state": environment},
        "request": request,
        "inputs": inputs,
        "outputs": {what: str(path) for what, path in plan.outputs.items()},
    }
    return Outcome(result=result, lines=lines)


def environment_cost(name: str) -> str:
    """What a first creation of an environment takes, in words."""
    row = ENVS[name]
    return f"will be made: about {row.size_gb:g} GB, {row.minutes:g} min"


def _fresh_folder(verb: str) -> Path:
    root = locations.i2v_home() / "jobs"
    root.mkdir(parents=True, exist_ok=True)
    _remove_old(root)
    return root / f"{time.strftime('%Y%m%d-%H%M%S')}-{verb}-{uuid.uuid4().hex[:6]}"


def _remove_old(root: Path) -> None:
    """Keep the newest KEPT_JOBS - 1 folders, and any that may still be at work."""
    folders = sorted((path for path in root.iterdir() if path.is_dir()), reverse=True)
    for folder in folders[KEPT_JOBS - 1 :]:
        has_ended = (folder / RESULT_NAME).exists()
        if has_ended or folder.stat().st_mtime < time.time() - ABANDONED_AFTER_S:
            shutil.rmtree(folder, ignore_errors=True)
