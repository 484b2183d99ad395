"""What is known about a dataset as it was downloaded, before or beside its prepared frames."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.datasets.base import RawVideo
from pipelines.datasets.config import ExtractRequest, InspectRequest
from pipelines.datasets.protocols import dataset_module
from pipelines.datasets.raw_frames import open_video
from pipelines.events import EXIT_NO_DATA, UserError, Work
from pipelines.files import read_json
from pipelines.io.images import contact_sheet
from pipelines.io.manifest import NAME, Manifest

MISSING = "missing.json"
_PREVIEW_PX = 96
_MOST_FRAMES = 240
"""How far into a video a preview looks: decoding an hour for eight pictures is not worth it."""


def downloaded(request: InspectRequest) -> Manifest | None:
    """The record of a dataset's download; None where there is none, as with generated clips.

    Raises UserError when it cannot be read.
    """
    raw = request.data_root / str(request.name) / "raw"
    path = raw / NAME
    if not path.is_file():
        return None
    with contextlib.suppress(ValueError):
        if "files" not in read_json(path):
            return None
    found = Manifest(raw, dataset=str(request.name))
    return found if found.files or found.contents else None


def is_unfinished(raw: Path) -> bool:
    """Whether something of a download is here that has not arrived whole."""
    return next(raw.rglob("*.part"), None) is not None


def facts(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """What was downloaded, from where, and how sure it is, as rows of a table."""
    files = manifest.files.values()
    total = sum(row.size for row in files)
    removed = sum(row.is_removed for row in files)
    yield "raw folder", str(manifest.folder)
    yield "downloaded", f"{len(files):,} files, {size_text(total)}"
    if removed:
        yield "archives", f"{removed:,} removed after unpacking"
    known = sum(row.checked is not None for row in files)
    yield (
        "checksums",
        f"{known:,} as published, {len(files) - known:,} learned from the first download",
    )
    if hand := sorted({row.adopted_from for row in files if row.adopted_from}):
        yield "got by hand", ", ".join(hand)
    for name, content in manifest.contents.items():
        yield "taken over", f"{content.num_files:,} files, {size_text(content.num_bytes)} ({name})"
    if manifest.unpacked:
        rows = manifest.unpacked.values()
        count, num_bytes = sum(row.num_files for row in rows), sum(row.num_bytes for row in rows)
        yield "unpacked", f"{len(rows)} archives: {count:,} files, {size_text(num_bytes)}"
    if files:
        yield "last change", max(row.date for row in files)
    if manifest.terms_accepted:
        yield "terms accepted", manifest.terms_accepted
    yield from _coverage(manifest.folder / MISSING)
    if is_unfinished(manifest.folder):
        yield "unfinished", "yes: the same download command goes on"


def _coverage(path: Path) -> Iterator[tuple[str, str]]:
    """How much of a list of videos could be had, and why not the rest."""
    if not path.is_file():
        return
    report = read_json(path)
    for split, row in report["coverage"].items():
        yield (
            f"listed for {split}",
            f"{row['videos_here']:,} of {row['videos']:,} videos,"
            f" {row['clips_here']:,} of {row['clips']:,} clips",
        )
    if reasons := Counter(report["reasons"]).most_common():
        yield "cannot be had", ", ".join(f"{count:,} {reason}" for reason, count in reasons)


def verify(manifest: Manifest, work: Work) -> dict[str, Any]:
    """Read every downloaded file again. Raises UserError that names what is not as it was."""
    total = sum(row.size for row in manifest.files.values())
    problems, done = [], 0
    for name, row in sorted(manifest.files.items()):
        if (problem := manifest.verify(name)) is not None:
            problems.append(f"{name} is {problem}" if problem == "missing" else f"{name} {problem}")
        done += row.size
        work.progress("verify", done, total, "B")
    left = [row.names for row in manifest.unpacked.values()]
    left += [content.names for content in manifest.contents.values()]
    lost = sorted(name for names in left for name in names if not (manifest.folder / name).exists())
    problems += [f"{name} is missing (it was unpacked or taken over)" for name in lost]
    if problems:
        raise UserError(
            f"the download of '{manifest.dataset}' is damaged",
            {
                "folder": manifest.folder,
                **{f"problem {number}": text for number, text in enumerate(problems[:5], 1)},
                **({"and": f"{len(problems) - 5} more"} if len(problems) > 5 else {}),
                "to fix": f"i2v download {manifest.dataset}",
            },
        )
    return {
        "path": str(manifest.folder),
        "lines": [
            f"{len(manifest.files)} downloaded files, {size_text(total)}:"
            " all as they were; nothing is prepared yet"
        ],
    }


def contact_sheet_of(request: InspectRequest, manifest: Manifest) -> np.ndarray:
    """Frames of the downloaded videos, a row per video: uint8 H W 3.

    Raises UserError when the dataset cannot be read as it is, or nothing of it can be shown.
    """
    name = str(request.name)
    shown = ExtractRequest(
        data_root=request.data_root, name=name, kind=name, size_px=_PREVIEW_PX, fit="pad", jobs=1
    )
    videos = [
        each
        for each in dataset_module(name).layout(manifest.folder)
        if isinstance(each, RawVideo) and each.kind != "tracks"
    ]
    rows, labels = [], []
    places = np.linspace(0, len(videos) - 1, min(request.num_videos, len(videos))).round()
    for place in sorted({int(number) for number in places}):
        try:
            rows.append(_frames(videos[place], shown, request.num_frames))
            labels.append(videos[place].id[-40:])
        except UserError:
            continue  # `extract-frames` reports what cannot be read
    if not rows:
        raise UserError(
            f"nothing of '{name}' can be shown",
            {"looked in": manifest.folder, "run first": f"i2v extract-frames {name}"},
            EXIT_NO_DATA,
        )
    return contact_sheet(rows, labels)


def _frames(video: RawVideo, shown: ExtractRequest, count: int) -> list[np.ndarray]:
    """At most `count` frames from the beginning of a video, evenly spaced."""
    with contextlib.closing(open_video(video, shown, lambda part: None).frames) as frames:
        found = list(islice(frames, _MOST_FRAMES))
    if not found:
        raise UserError(f"'{video.id}' has no frames")
    numbers = np.linspace(0, len(found) - 1, min(count, len(found))).round()
    return [found[number] for number in sorted({int(each) for each in numbers})]


def size_text(num_bytes: float) -> str:
    """Bytes for people."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= factor:
            return f"{num_bytes / factor:.1f} {unit}"
    return f"{num_bytes:.0f} bytes"
