"""Run folders as the command line sees them: found by name or path, read, listed, removed."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from i2v_cli import locations
from i2v_cli.console import short
from i2v_cli.names import nearest
from i2v_cli.registry import Family
from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError
from pipelines.files import folder_lock, read_json

CONFIG_NAME, RUN_NAME = "config.yaml", "run.json"


@dataclass(frozen=True)
class Run:
    """A run folder. status: running, done, stopped or failed; request: its config.yaml."""

    path: Path
    family: str
    stage: str
    status: str
    request: dict[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        """How the user may call it: its name under the runs folder, else its path."""
        is_in_root = self.path.parent == locations.runs_root()
        return self.path.name if is_in_root else short(self.path)

    @property
    def step(self) -> int | None:
        """The step of its newest checkpoint, None when there is none."""
        steps = [int(path.name.removeprefix("step-")) for path in _checkpoints(self.path)]
        return max(steps, default=None)


def stage_label(stage: str) -> str:
    """A stage as it stands in a run's name: 'stage1', 'ae'."""
    return f"stage{stage}" if stage.isdigit() else stage


def default_name(family: str, stage: str, tag: str) -> str:
    """The name of a run that was given none. tag: its preset or dataset."""
    return f"{family}-{stage_label(stage)}-{tag}"


def read(path: Path) -> Run | None:
    """The run in a folder, None when there is none. UserError when its files are damaged."""
    import yaml  # not at the top: the help of a verb has no use for it

    if not is_run(path):
        return None
    try:
        record = read_json(path / RUN_NAME)
        request = yaml.safe_load((path / CONFIG_NAME).read_text(encoding="utf-8"))
        return Run(path, record["family"], str(record["stage"]), record["status"], dict(request))
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise UserError(
            f"the run '{path.name}' cannot be read",
            {"looked in": short(path), "reason": error, "to fix": f"i2v runs rm {path.name}"},
        ) from error


def list_all() -> list[Run]:
    """All runs under the runs folder, by name; folders that cannot be read are left out."""
    root = locations.runs_root()
    runs = []
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        try:
            run = read(path) if not path.name.startswith(".") else None
        except UserError:
            continue
        if run:
            runs.append(run)
    return runs


def is_run(path: Path) -> bool:
    """Whether a folder is a run's, damaged or not."""
    return (path / RUN_NAME).is_file()


def find(text: str) -> Run:
    """The run of this name or path. UserError with the nearest name when there is none."""
    run = read(locate(text))
    assert run is not None
    return run


def locate(text: str) -> Path:
    """The folder of a run of this name or path, which may be damaged."""
    as_path = Path(text).expanduser().absolute()
    for path in (locations.runs_root() / text, as_path):
        if is_run(path):
            return path
    if as_path.is_dir():
        raise UserError(
            f"'{text}' is not a run folder",
            {"missing": short(as_path / RUN_NAME), "to see all": "i2v runs list"},
            EXIT_NO_DATA,
        )
    guess = nearest(text, (run.path.name for run in list_all()))
    details = {"looked in": short(locations.runs_root())}
    raise UserError(
        f"no run '{text}'",
        details | ({"did you mean": guess} if guess else {}) | {"to see all": "i2v runs list"},
        EXIT_NO_DATA,
    )


def find_of_family(text: str, family: str) -> Run:
    """The run of this name or path, refused when it is of another family."""
    run = find(text)
    if run.family != family:
        raise UserError(
            f"run '{run.name}' is of family '{run.family}', not '{family}'",
            {
                "looked in": short(run.path),
                "to fix": f"i2v {run.family}..., or give a run made by: i2v train {family}",
            },
            EXIT_USAGE,
        )
    return run


def require_checkpoint(run: Run) -> None:
    """Raise UserError when a run has no checkpoint yet."""
    if run.step is None:
        raise UserError(
            f"run '{run.name}' has no checkpoint yet",
            {
                "looked in": short(run.path / "checkpoints"),
                "run first": f"i2v train {run.family} --stage {run.stage} --name {run.path.name}",
            },
            EXIT_NO_DATA,
        )


def require_last_stage(run: Run, family: Family) -> None:
    """Raise UserError when a run holds a stage that later stages are built on, not the model."""
    if run.stage not in (family.stages[-1], *family.whole_stages):
        raise UserError(
            f"run '{run.name}' holds stage {run.stage} of {run.family}, not the whole model",
            {
                "looked in": short(run.path),
                "to fix": f"give a run made by: i2v train {run.family} --stage {family.stages[-1]}",
            },
            EXIT_USAGE,
        )


def is_busy(path: Path) -> bool:
    """Whether a process is training into this folder now."""
    if not path.is_dir():
        return False
    with folder_lock(path) as is_free:
        return not is_free


def refuse_busy(path: Path) -> None:
    """Raise UserError when a process is training into this folder now."""
    if is_busy(path):
        raise UserError(
            f"the run '{path.name}' is being trained by another process",
            {"looked in": short(path), "to fix": "wait for it, stop it, or give another --name"},
            EXIT_USAGE,
        )


def remove(path: Path) -> None:
    """Delete a run folder; it is out of the way at once, even if the deletion is interrupted."""
    doomed = path.with_name(f".{path.name}.{time.time_ns()}.old")
    path.rename(doomed)
    shutil.rmtree(doomed)


@contextmanager
def replacing(path: Path) -> Iterator[None]:
    """Give the block a free place at `path`; what was there is deleted once the new run has a
    checkpoint or the block ends well, and put back when the block fails before that.
    """
    aside = path.with_name(f".{path.name}.{time.time_ns()}.old")
    path.rename(aside)
    try:
        yield
    except BaseException:
        if not _checkpoints(path):
            shutil.rmtree(path, ignore_errors=True)
            aside.rename(path)
            raise
        shutil.rmtree(aside, ignore_errors=True)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _checkpoints(path: Path) -> list[Path]:
    folder = path / "checkpoints"
    if not folder.is_dir():
        return []
    return [each for each in folder.glob("step-*") if each.name.removeprefix("step-").isdigit()]
