"""Preparing a raw folder in a test, and a look at what came out."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from pipelines.datasets import prepare
from pipelines.datasets.config import ExtractRequest
from pipelines.events import Work
from pipelines.io.packed import PackedVideos


def request_for(data_root: Path, kind: str, raw: Path, **options: Any) -> ExtractRequest:
    """A request for small frames in one process."""
    usual = {"name": kind, "size_px": 16, "jobs": 1}
    return ExtractRequest(data_root=data_root, kind=kind, source=raw, **{**usual, **options})


def prepared(data_root: Path, kind: str, raw: Path, **options: Any) -> PackedVideos:
    """The variant made from a raw folder."""
    request = request_for(data_root, kind, raw, **options)
    return PackedVideos(Path(prepare.extract_frames(request, Work())["variant_dir"]))


def with_images(data_root: Path, kind: str, raw: Path, **options: Any) -> Path:
    """The folder of images written beside the variant."""
    request = request_for(data_root, kind, raw, write_images=True, **options)
    return Path(prepare.extract_frames(request, Work())["images_dir"])


def splits(packed: PackedVideos) -> dict[str, str]:
    """Video -> split."""
    return {row.id: row.split for row in packed.rows}


def rejected(packed: PackedVideos) -> dict[str, tuple[str, str]]:
    """Video -> reason and detail, of those left out."""
    text = (packed.dir / "rejected.jsonl").read_text()
    rows = [json.loads(line) for line in text.splitlines()]
    return {row["id"]: (row["reason"], row["detail"]) for row in rows}


def reasons(packed: PackedVideos) -> dict[str, int]:
    """Why how many were left out."""
    return dict(Counter(reason for reason, _ in rejected(packed).values()))


def litter(raw: Path) -> None:
    """What a download leaves beside the data."""
    for folder in (raw, *(path for path in raw.rglob("*") if path.is_dir())):
        for name in (
            "download.json",
            "missing.json",
            ".lock",
            "a.mp4.part",
            "x.part2",
            "b.rejected",
        ):
            (folder / name).write_text("{}")
        (folder / ".unpacked").mkdir(exist_ok=True)
