"""Run folders: what a training leaves behind and everything else starts from.

<run>/config.yaml   the resolved request, enough to run again
<run>/run.json      family, stage, format version, status
<run>/checkpoints/  see checkpoint.py
<run>/frozen/       weights of the runs it was built on
"""

from __future__ import annotations

import fcntl
import fnmatch
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, Interrupted, UserError
from pipelines.files import atomic_folder, folder_lock, read_json, write_json, write_text
from pipelines.training import background, checkpoint, processes

VERSION = 1
CONFIG_NAME, RUN_NAME = "config.yaml", "run.json"


@dataclass(frozen=True)
class Run:
    """A run folder that exists: what it holds and how far it is.

    status: running, done, stopped or failed.  request: the content of config.yaml.
    """

    path: Path
    family: str
    stage: str
    status: str
    request: dict[str, Any]


def load_run(path: Path, *, family: str | None = None, stage: str | None = None) -> Run:
    """Read a run folder; UserError when it is none, or one of another family or stage."""
    if not path.is_dir():
        raise UserError(
            f"no run folder '{path.name}'",
            {"looked in": path, "to fix": "list the runs there are with: i2v runs list"},
            EXIT_NO_DATA,
        )
    try:
        record = read_json(path / RUN_NAME)
        request = yaml.safe_load((path / CONFIG_NAME).read_text(encoding="utf-8"))
        run = Run(path, record["family"], str(record["stage"]), record["status"], request)
        version = record["version"]
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
        raise _no_run(path, error) from error
    if version != VERSION:
        raise UserError(
            f"run folder has format {version}, this program reads format {VERSION}",
            {"run": path, "to fix": "use the version of i2v that made it, or a newer one"},
        )
    _check_kind(run, family, stage)
    return run


def require_checkpoint(run: Run, *, warn: Any) -> Path:
    """The best sound checkpoint of a run, else the newest; UserError when it has none yet."""
    found = checkpoint.find_best_checkpoint(run.path, warn=warn)
    if found is None:
        raise UserError(
            f"run '{run.path.name}' has no checkpoint yet",
            {
                "looked in": checkpoint.checkpoints_dir(run.path),
                "run first": f"i2v train {run.family} --stage {run.stage}",
            },
            EXIT_NO_DATA,
        )
    return found


@contextmanager
def open_run(
    run_dir: Path,
    *,
    family: str,
    stage: str,
    request: Mapping[str, Any],
    fixed: Sequence[str],
    free: Sequence[str] = (),
) -> Iterator[list[str]]:
    """Own a run folder while training into it; a new one is made, an older one is continued.

    request: JSON-able content for config.yaml.  fixed: patterns of its settings (dotted names) that
    a continued run must keep, but for those that also match `free`; changing one is a UserError
    (not before the first checkpoint: until then nothing is lost).
    Yields the other changes, as lines to show. The status becomes running, then done, stopped or
    failed. Checkpoints are written while the training goes on; all are there when the block ends.
    Of several processes of one training the first does all this, the others just go in.
    """
    if not processes.is_first():
        try:
            yield []
        finally:
            processes.leave()
        return
    run_dir.mkdir(parents=True, exist_ok=True)
    with _own(run_dir):
        changes: list[str] = []
        if (run_dir / RUN_NAME).exists():
            older = load_run(run_dir, family=family, stage=stage)
            changes = _allowed_changes(older, request, fixed, free)
        write_text(run_dir / CONFIG_NAME, yaml.safe_dump(dict(request), sort_keys=False))
        record = {"family": family, "stage": stage, "version": VERSION}
        status = "failed"
        write_json(run_dir / RUN_NAME, {**record, "status": "running"})
        try:
            with background.writing(run_dir):
                yield changes
            status = "done"
        except Interrupted:
            status = "stopped"
            raise
        finally:
            processes.leave()
            write_json(run_dir / RUN_NAME, {**record, "status": status})


def freeze_weights(run: Run, checkpoint_dir: Path, target_dir: Path) -> None:
    """Keep a run's weights at target_dir as a small run folder, hard-linked where possible.

    A model built on another run stays whole when that run is trained on or removed. Of several
    processes that ask for it the first to come does it, the others wait and find it done.
    """
    target_dir.parent.mkdir(parents=True, exist_ok=True)
    with (target_dir.parent / f".{target_dir.name}.lock").open("a") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not (processes.num_processes() > 1 and target_dir.is_dir()):
            _freeze(run, checkpoint_dir, target_dir)


def _freeze(run: Run, checkpoint_dir: Path, target_dir: Path) -> None:
    with atomic_folder(target_dir) as building:
        for name in (CONFIG_NAME, RUN_NAME):
            shutil.copy2(run.path / name, building / name)
        kept = checkpoint.checkpoints_dir(building) / checkpoint_dir.name
        kept.mkdir(parents=True)
        for name in (checkpoint.META_NAME, checkpoint.WEIGHTS_NAME):
            _link_or_copy(checkpoint_dir / name, kept / name)


def changed_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Dotted names of the settings in which two requests differ, with both values."""
    before, after = _flat(old), _flat(new)
    return {
        name: (before.get(name), after.get(name))
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    }


@contextmanager
def _own(run_dir: Path) -> Iterator[None]:
    with folder_lock(run_dir) as is_mine:
        if not is_mine:
            raise UserError(
                "another process is training into this run folder",
                {"run": run_dir, "to fix": "wait for it, stop it, or choose another --name"},
                EXIT_USAGE,
            )
        yield


def _allowed_changes(
    run: Run, request: Mapping[str, Any], fixed: Sequence[str], free: Sequence[str]
) -> list[str]:
    changes = changed_settings(run.request, request)
    refused = [name for name in changes if _matches(name, fixed) and not _matches(name, free)]
    if refused and checkpoint.list_checkpoints(run.path):
        details: dict[str, object] = {"run": run.path}
        details |= {name: f"was {changes[name][0]}, now {changes[name][1]}" for name in refused[:5]}
        details["to fix"] = "give the same settings to go on, or another --name to start anew"
        raise UserError("run folder was started with other settings", details, EXIT_USAGE)
    return [f"{name}: was {old}, now {new}" for name, (old, new) in changes.items()]


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _check_kind(run: Run, family: str | None, stage: str | None) -> None:
    if family is not None and run.family != family:
        raise UserError(
            f"run '{run.path.name}' is of family '{run.family}', not '{family}'",
            {"run": run.path, "to fix": f"give a run made by: i2v train {family}"},
            EXIT_USAGE,
        )
    if stage is not None and run.stage != stage:
        raise UserError(
            f"run '{run.path.name}' is stage {run.stage} of {run.family}, not stage {stage}",
            {
                "run": run.path,
                "to fix": f"give a run made by: i2v train {run.family} --stage {stage}",
            },
            EXIT_USAGE,
        )


def _no_run(path: Path, error: Exception) -> UserError:
    return UserError(
        f"'{path.name}' is not a run folder",
        {
            "looked in": path,
            "reason": f"{RUN_NAME} or {CONFIG_NAME} is missing or unreadable ({error})",
            "to fix": "give a folder made by i2v train; list them with: i2v runs list",
        },
        EXIT_NO_DATA,
    )


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{name}.")
        else:
            flat[name] = value
    return flat
