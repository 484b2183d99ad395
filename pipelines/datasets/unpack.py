"""From downloaded archives to the files in them: what goes where, and only once."""

from __future__ import annotations

import filecmp
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipelines.datasets.fetch_config import UnpackRule
from pipelines.events import UserError
from pipelines.files import fingerprint
from pipelines.io.archives import Report, extract, is_archive, parts_of
from pipelines.io.manifest import Manifest, UnpackedRow

_STAGING = ".unpacked"
_JUNK = ("__MACOSX", ".DS_Store")


def unpack_all(
    manifest: Manifest,
    rules: Sequence[UnpackRule],
    *,
    keep_archives: bool,
    report: Callable[[str], Report],
) -> list[dict[str, Any]]:
    """Unpack every archive that is whole and has a rule, unless that was done before.

    Returns what was unpacked now. Raises UserError; archives unpacked before that stay unpacked.
    """
    done = []
    for name in sorted(manifest.files):
        rule = rule_for(name, rules)
        path = manifest.folder / name
        if rule is None or not path.is_file() or not is_archive(path):
            continue
        parts = [part.relative_to(manifest.folder).as_posix() for part in parts_of(path)]
        mark = fingerprint([manifest.files[part].sha256 for part in parts])
        before = manifest.unpacked.get(name)
        if before and before.fingerprint == mark and manifest.has_all(before.names):
            continue
        row = _unpack(manifest.folder, path, rule, parts=parts, mark=mark, report=report(name))
        manifest.unpacked[name] = row
        manifest.save()
        if not keep_archives:
            _remove(manifest, parts)
        done.append({"archive": name, "files": row.num_files, "bytes": row.num_bytes})
    return done


def rule_for(name: str, rules: Sequence[UnpackRule]) -> UnpackRule | None:
    """The first rule that a file's name fits."""
    return next((rule for rule in rules if re.fullmatch(rule.match, name)), None)


def growth_of(name: str, rules: Sequence[UnpackRule]) -> float:
    """Unpacked over packed size of a file, about; 0 for what is not unpacked."""
    rule = rule_for(name, rules)
    return rule.growth if rule else 0.0


def _unpack(
    folder: Path, path: Path, rule: UnpackRule, *, parts: list[str], mark: str, report: Report
) -> UnpackedRow:
    staging = folder / _STAGING
    shutil.rmtree(staging, ignore_errors=True)
    extracted = extract(path, staging, report=report)
    name = path.relative_to(folder).as_posix()
    match = re.fullmatch(rule.match, name)
    assert match is not None
    target = folder / rule.into.format(match[0], *match.groups())
    root = without_shared_folders(staging, keep=rule.keep)
    if target == folder:
        placed = [place(child, folder / child.name) for child in _children(root)]
    else:
        placed = [place(root, target)]
    shutil.rmtree(staging, ignore_errors=True)
    names = [each.relative_to(folder).as_posix() for each in placed]
    return UnpackedRow(parts, mark, names, extracted.num_files, extracted.num_bytes)


def without_shared_folders(root: Path, *, keep: Sequence[str] = ()) -> Path:
    """Below the folders that everything in `root` lies in, except those named in `keep`."""
    while True:
        children = _children(root)
        if len(children) != 1 or not children[0].is_dir() or children[0].name in keep:
            return root
        root = children[0]


def _children(folder: Path) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.name not in _JUNK)


def place(source: Path, target: Path) -> Path:
    """Move a file or folder to where it belongs; what is there already must be the same.

    Folders are merged, so that an interrupted move is finished by doing it again.
    Raises UserError for a file that is there with other content. Returns target.
    """
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, target)
    elif source.is_dir() and target.is_dir():
        for child in _children(source):
            place(child, target / child.name)
    elif not (source.is_file() and target.is_file() and filecmp.cmp(source, target, shallow=False)):
        raise UserError(
            f"'{target.name}' is there already with other content",
            {"path": target, "to fix": "move it away, then run the same command again"},
        )
    return target


def _remove(manifest: Manifest, names: list[str]) -> None:
    for name in names:
        manifest.files[name].is_removed = True
    manifest.save()
    for name in names:
        (manifest.folder / name).unlink(missing_ok=True)
