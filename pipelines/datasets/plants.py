"""Poking Plants: houseplants that a hand pokes, filmed at 1024 x 1024.

Read from the download, videos/VID_<object>_<take>.mkv, or from the folders of images that published
code makes of it: [processed/]<video>/frame_<i>.png, where i counts the video's frames from 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipelines.datasets.base import DatasetSpec, Published, RawKind, RawVideo, Rejected, Resize
from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.files import natural_key

SPEC = DatasetSpec(
    about="houseplants that a hand pokes",
    licence="none is stated; use it for research and ask the authors about anything else",
    native_size_px=(1024, 1024),
    published={
        "ii2v": Published(
            "the first four fifths of each video train, the rest tests (II2V)",
            resize=(Resize("opencv", 256), Resize("opencv")),
        )
    },
)

TIME_PARTS = (0.8, 0.0, 0.2)
DROPPED_VIDEO, DROPPED_OBJECT = "VID_0_3_1024x1024", 8
"""What the published code never uses."""

_STEM = re.compile(r"VID_(\d+)(?:_(.+))?")


def layout(raw: Path) -> Iterable[RawVideo | Rejected]:
    """The videos in natural order. Raises UserError (exit code 4) when there is none."""
    found = dict(_found(raw))
    if not found:
        raise UserError(
            "no videos of plants",
            {
                "looked in": raw / "videos",
                "looked for": "VID_<object>_<take>.mkv",
                "run first": "i2v download plants",
            },
            EXIT_NO_DATA,
        )
    stems = sorted(found, key=lambda stem: (natural_key(stem), stem))
    return [_video(stem, *found[stem]) for stem in stems]


def _found(raw: Path) -> Iterator[tuple[str, tuple[Path, RawKind]]]:
    """Name -> where it is, and as what; a video wins over its images."""
    for root in (raw / "processed", raw):
        for folder in sorted(root.glob("VID_*")):
            if _STEM.fullmatch(folder.name) and folder.is_dir():
                yield folder.name, (folder, "frames")
    for root in (raw, raw / "videos"):
        for path in sorted(root.glob("VID_*.mkv")):
            if _STEM.fullmatch(path.stem) and path.is_file():
                yield path.stem, (path, "video")


def _video(stem: str, path: Path, kind: RawKind) -> RawVideo | Rejected:
    match = _STEM.fullmatch(stem)
    assert match, stem
    plant = int(match[1])
    if stem.startswith(DROPPED_VIDEO) or plant == DROPPED_OBJECT:
        return Rejected(stem, str(path), "not used", "the published code leaves it out")
    return RawVideo(
        id=stem,
        path=path,
        kind=kind,
        group=f"plant {plant}",
        labels={"object": plant},
        splits={"ii2v": TIME_PARTS},
    )
