"""DTDB dynamic textures: fire, vegetation, clouds and waterfalls, as frames of mixed size.

Read from the download, <texture>/{train,eval}/<video>/frame<i>.{jpg,png}, with or without a folder
around it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pipelines.datasets.base import DatasetSpec, Published, RawVideo, Rejected, Resize
from pipelines.datasets.raw_frames import image_paths
from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.files import natural_key

TEXTURES = ("fire", "vegetation", "clouds", "waterfall")

SPEC = DatasetSpec(
    about="dynamic textures: fire, vegetation, clouds, waterfalls",
    licence="research only; the videos come from stock sites and YouTube",
    published={
        "cinn": Published(
            "the cINN code: the folders eval are for the test",
            resize=(Resize("float"),),
            image_name="frame{n}",
            keeps_images=True,
        )
    },
)

_SPLITS = {"train": "train", "eval": "test"}


def layout(raw: Path) -> Iterable[RawVideo | Rejected]:
    """The videos of each texture in natural order, training first.

    Raises UserError (exit code 4) when there is no folder of frames.
    """
    root = _root(raw)
    found = [each for texture in TEXTURES for each in _videos(root, texture)]
    if not any(isinstance(each, RawVideo) for each in found):
        raise UserError(
            "no DTDB videos",
            {
                "looked in": raw,
                "looked for": "fire/train/<video>/frame0.jpg and the like",
                "run first": "i2v download dtdb",
            },
            EXIT_NO_DATA,
        )
    return found


def _root(raw: Path) -> Path:
    """The folder with the textures: the raw folder, or the only one in it that has some."""
    for folder in (raw, *sorted(path for path in raw.glob("*") if path.is_dir())):
        if any((folder / texture / split).is_dir() for texture in TEXTURES for split in _SPLITS):
            return folder
    return raw


def _videos(root: Path, texture: str) -> Iterator[RawVideo | Rejected]:
    for name, split in _SPLITS.items():
        folders = [path for path in (root / texture / name).glob("*") if path.is_dir()]
        for folder in sorted(folders, key=lambda path: (natural_key(path.name), path.name)):
            video_id = f"{texture}/{name}/{folder.name}"
            if folder.name.startswith(".") or folder.name.endswith(".part"):
                continue
            if not image_paths(folder):
                yield Rejected(video_id, str(folder), "no frames", "the folder has no image")
                continue
            yield RawVideo(
                id=video_id,
                path=folder,
                kind="frames",
                group=f"{texture}/{folder.name}",
                labels={"texture": texture},
                splits={"cinn": split},
            )
