"""Lists of videos: which are wanted, and how much of a list is here."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.events import UserError

PERMANENT = ("removed", "private", "members only", "copyright")
"""Reasons that another try will not change."""

_VIDEO_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class ListedVideo:
    """A video of the list: its id, the split it belongs to, and how many clips are cut from it."""

    id: str
    split: str
    num_clips: int


def read_table(path: Path, *, id_column: str, split_column: str) -> list[ListedVideo]:
    """The videos of a CSV file, in its order, one row per clip. Raises UserError."""
    clips: Counter[tuple[str, str]] = Counter()
    with path.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            video_id, split = row.get(id_column) or "", row.get(split_column) or ""
            if not _VIDEO_ID.fullmatch(video_id) or not split:
                raise UserError(
                    f"'{path.name}' is not the expected table",
                    {
                        "file": path,
                        "columns wanted": f"{id_column}, {split_column}",
                        "to fix": "move the file away, then run the same command again",
                    },
                )
            clips[video_id, split] += 1
    return [ListedVideo(video_id, split, count) for (video_id, split), count in clips.items()]


def coverage(videos: Sequence[ListedVideo], present: Collection[str]) -> dict[str, dict[str, int]]:
    """Per split, how many of the listed videos and clips are here. present: ids of videos."""
    report: dict[str, dict[str, int]] = {}
    for video in videos:
        row = report.setdefault(
            video.split, {"videos": 0, "videos_here": 0, "clips": 0, "clips_here": 0}
        )
        is_here = video.id in present
        row["videos"] += 1
        row["clips"] += video.num_clips
        row["videos_here"] += is_here
        row["clips_here"] += video.num_clips * is_here
    return report
