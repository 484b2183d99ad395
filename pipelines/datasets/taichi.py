"""TaiChi-HD: clips of tai-chi cut from YouTube videos by a table of times and boxes.

Read from the download, taichi-metadata.csv and videos/<id>.mp4, or from the clips that published
code makes of it, {train,test}/<id>#<start>#<end>.mp4 or folders of images of that name.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipelines.datasets.base import (
    Crop,
    DatasetSpec,
    Published,
    RawKind,
    RawVideo,
    Rejected,
    Resize,
)
from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.files import natural_key

TABLE, MISSING = "taichi-metadata.csv", "missing.json"
SPLITS = ("train", "test")

SPEC = DatasetSpec(
    about="tai-chi clips cut from YouTube videos",
    licence="the videos are under YouTube's terms and their owners' rights; the table is MIT",
    published={
        "fomm": Published("the table's parts (first order motion model)", image_name="{n:07d}.png"),
        "ii2v": Published(
            "the same parts, resized as II2V does",
            resize=(Resize("opencv", 256), Resize("opencv")),
        ),
    },
)

_COLUMNS = ("video_id", "start", "end", "bbox", "fps", "width", "height", "partition")
_CLIP = re.compile(r"(.+)#(\d{6})#(\d{6})")


@dataclass(frozen=True)
class TableRow:
    """A clip: frames start to end - 1 of a video at `fps`, the part in `crop`."""

    video_id: str
    start: int
    end: int
    fps: float
    crop: Crop
    split: str

    @property
    def name(self) -> str:
        """What the published code calls the clip."""
        parts = [*reversed(self.video_id.split("#")), f"{self.start:06d}", f"{self.end:06d}"]
        return "#".join(parts)


def layout(raw: Path) -> Iterable[RawVideo | Rejected]:
    """The clips in the order of the table, or those that published code has cut, by name.

    Raises UserError (exit code 4) when there is no video, or the table is missing or damaged.
    """
    cut = list(_cut_clips(raw))
    if cut:
        return cut
    videos = {path.stem: path for path in sorted((raw / "videos").glob("*.mp4"))}
    if not videos:
        raise UserError(
            "no tai-chi videos",
            {
                "looked in": raw,
                "looked for": "videos/<id>.mp4, or train/<id>#<start>#<end>.mp4",
                "run first": "i2v download taichi",
            },
            EXIT_NO_DATA,
        )
    reasons = _missing(raw / MISSING)
    result: list[RawVideo | Rejected] = []
    for row in read_table(raw / TABLE):
        video_id = f"{row.split}/{row.name}"
        path = videos.get(row.video_id)
        if path is None:
            detail = reasons.get(row.video_id, "listed but not there")
            result.append(Rejected(video_id, f"videos/{row.video_id}.mp4", "missing", detail))
        else:
            result.append(_listed(row, video_id, path))
    return result


def read_table(path: Path) -> list[TableRow]:
    """The clips of taichi-metadata.csv in order.

    Raises UserError (exit code 4) where it is missing, lacks a column, or a line makes no sense.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file, restval=""))
    except FileNotFoundError:
        raise UserError(
            f"the table '{TABLE}' is missing",
            {"looked for": path, "run first": f"i2v download taichi --only {TABLE}"},
            EXIT_NO_DATA,
        ) from None
    rows = []
    for number, line in enumerate(lines, 2):
        try:
            rows.append(_row({name: line[name] for name in _COLUMNS}))
        except (KeyError, ValueError, TypeError) as problem:
            raise UserError(
                f"line {number} of '{path.name}' is not a clip",
                {
                    "path": path,
                    "reason": problem,
                    "to fix": f"delete it, then i2v download taichi --only {TABLE}",
                },
                EXIT_NO_DATA,
            ) from problem
    return rows


def _row(line: dict[str, str]) -> TableRow:
    left, top, right, bottom = (int(edge) for edge in line["bbox"].split("-"))
    start, end = int(line["start"]), int(line["end"])
    width, height, fps = int(line["width"]), int(line["height"]), float(line["fps"])
    if not (0 <= start < end and right > left and bottom > top and min(width, height, fps) > 0):
        raise ValueError("its numbers do not fit together")
    if line["partition"] not in SPLITS:
        raise ValueError(f"partition '{line['partition']}'")
    crop = Crop(left, top, right, bottom, width, height)
    return TableRow(line["video_id"], start, end, fps, crop, line["partition"])


def _listed(row: TableRow, video_id: str, path: Path) -> RawVideo:
    return RawVideo(
        id=video_id,
        path=path,
        kind="video",
        group=row.video_id,
        labels={"video": row.video_id, "start": row.start, "end": row.end},
        splits=dict.fromkeys(SPEC.published, row.split),
        first_frame=row.start,
        num_frames=row.end - row.start,
        clock_fps=row.fps,
        crop=row.crop,
    )


def _missing(path: Path) -> dict[str, str]:
    """Video -> why it could not be had, where the download has noted it."""
    if not path.is_file():
        return {}
    try:
        videos = json.loads(path.read_text(encoding="utf-8")).get("videos", {})
    except (ValueError, AttributeError):
        return {}
    return {Path(name).stem: str(reason) for name, reason in videos.items()}


def _cut_clips(raw: Path) -> Iterator[RawVideo]:
    for split in SPLITS:
        entries = [path for path in (raw / split).glob("*#*#*") if _kind(path)]
        for path in sorted(entries, key=lambda each: (natural_key(each.name), each.name)):
            name = path.name.removesuffix(".mp4")
            match, kind = _CLIP.fullmatch(name), _kind(path)
            if match and kind:
                yield RawVideo(
                    id=f"{split}/{name}",
                    path=path,
                    kind=kind,
                    group=match[1],
                    labels={"video": match[1], "start": int(match[2]), "end": int(match[3])},
                    splits=dict.fromkeys(SPEC.published, split),
                )


def _kind(path: Path) -> RawKind | None:
    if path.is_dir():
        return None if path.name.endswith(".part") else "frames"
    return "video" if path.suffix == ".mp4" else None
