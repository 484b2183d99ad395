"""Held-out clips: the same ones whatever else is in the data; and lists of them as files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pipelines.clips.rules import Clip
from pipelines.clips.sampler import Plan
from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError
from pipelines.files import read_json, write_json
from pipelines.io.packed import PackedVideos
from pipelines.training.generators import derived_seed

FORMAT = "i2v-clips"
FORMAT_VERSION = 1
_NAMED = 5
"""Missing videos that an error names."""


def fixed_clips(
    rows: Sequence[int], lengths: Sequence[int], *, num_frames: int, limit: int
) -> list[Clip]:
    """At most `limit` clips, always the same: from the middle of videos spread evenly."""
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(limit, len(rows))).round().astype(int))
    return [Clip(rows[i], (lengths[i] - num_frames) // 2) for i in chosen]


def evaluation_clips(
    videos: PackedVideos,
    rows: Sequence[int],
    *,
    num_frames: int,
    step: int = 1,
    start: Literal["any", "first", "middle"] = "any",
    repeats: int = 1,
    num_clips: int | None = None,
    seed: int = 0,
) -> Plan:
    """The clips of an evaluation, video after video.

    start: where in its video a clip lies. "any" is drawn from the seed and the video's id, so that
    it stays the same when other videos come or go.
    repeats: clips of each video, one beside the other.  num_clips: go through the videos again and
    again until there are so many, instead. Raises ValueError where a video is too short.
    """
    span = (num_frames - 1) * step + 1
    if num_clips is None:
        turns = [(row, turn) for row in rows for turn in range(repeats)]
    else:
        turns = [(rows[i % len(rows)], i // len(rows)) for i in range(num_clips)]
    clips = []
    for row, turn in turns:
        places = int(videos.num_frames[row]) - span + 1
        if places < 1:
            raise ValueError(f"{videos.ids[row]} has fewer than {span} frames")
        drawn = derived_seed(seed, "held-out clip", videos.ids[row], turn) % places
        starts = {"any": drawn, "first": 0, "middle": (places - 1) // 2}
        clips.append(Clip(row, starts[start], step))
    return Plan(clips, num_frames)


def write_clip_list(path: Path, videos: PackedVideos, plan: Plan) -> None:
    """Keep a list of clips for others to measure on: a JSON file that names videos by their id."""
    clips = [[videos.ids[clip.row], clip.start, clip.step] for clip in plan.clips]
    facts = {"format": FORMAT, "version": FORMAT_VERSION, "num_frames": plan.num_frames}
    write_json(path, {**facts, "clips": clips})


def read_clip_list(path: Path, videos: PackedVideos) -> Plan:
    """The clips of such a list, in its order.

    Raises UserError, exit code 2, for a file that is no such list, and 4 where the prepared data
    lacks a video of it or has too few frames of one.
    """
    listed = _read_list(path)
    rows = {video: row for row, video in enumerate(videos.ids)}
    plan = Plan([], listed["num_frames"])
    missing = []
    for video, start, step in listed["clips"]:
        row = rows.get(video)
        last = start + step * (plan.num_frames - 1)
        if row is None or not 0 <= min(start, last) <= max(start, last) < videos.num_frames[row]:
            missing.append(video)
        else:
            plan.clips.append(Clip(row, start, step))
    if missing:
        raise _missing(path, videos, missing, len(listed["clips"]))
    return plan


def _read_list(path: Path) -> dict[str, Any]:
    try:
        listed = read_json(path)
        is_ours = listed["format"] == FORMAT and listed["version"] == FORMAT_VERSION
        is_whole = isinstance(listed["num_frames"], int) and listed["num_frames"] >= 1
        for video, start, step in listed["clips"]:
            is_whole &= isinstance(video, str) and isinstance(start, int) and isinstance(step, int)
    except FileNotFoundError:
        raise UserError(
            "there is no such list of clips", {"looked for": path}, EXIT_NO_DATA
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, ValueError):
        is_ours = is_whole = False
    if not (is_ours and is_whole):
        raise UserError(
            "not a list of clips that this version reads",
            {"file": path, "to fix": "name a file that was written as a list of held-out clips"},
            EXIT_USAGE,
        )
    return dict(listed)


def _missing(path: Path, videos: PackedVideos, missing: Sequence[str], total: int) -> UserError:
    named = list(dict.fromkeys(missing))
    told = ", ".join(named[:_NAMED]) + (", ..." if len(named) > _NAMED else "")
    return UserError(
        f"{len(missing)} of the {total} clips in the list are not in the prepared data",
        {
            "list": path,
            "data": videos.dir,
            "missing": told,
            "to fix": "prepare the whole data set, or a variant with as many frames per second "
            "as the list was made for",
        },
        EXIT_NO_DATA,
    )
