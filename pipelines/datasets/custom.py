"""Any folder of videos, folders of images, image strips or arrays, in any depth of sub-folders.

Splits come from lists (train.txt, val.txt, test.txt: one path without suffix per line), else from
folders named train, val and test, else from the split rule. Other files are passed over.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import NoReturn
from urllib.parse import quote

from pipelines.datasets.base import DatasetSpec, RawKind, RawVideo, Rejected
from pipelines.events import EXIT_NO_DATA, UserError
from pipelines.files import natural_key
from pipelines.io.images import IMAGE_SUFFIXES, image_size
from pipelines.io.video import VIDEO_SUFFIXES

SPEC = DatasetSpec(about="any folder of videos, images or arrays", licence="your own")

ARRAY_SUFFIXES = frozenset({".npy", ".npz"})

STRIP_FRAMES = 5
"""An image this many times as wide as high is a strip of frames; no camera frame is that wide."""

_SPLIT_WORDS = {
    **{"train": "train", "training": "train", "test": "test", "testing": "test"},
    **{"val": "val", "valid": "val", "validation": "val", "eval": "val"},
}


def layout(raw: Path) -> Iterable[RawVideo | Rejected]:
    """The videos in a folder (or the one in a file), in natural order of their paths.

    Raises UserError with exit code 4 when the path is missing or nothing in it can be a video, and
    when a list names no video that is there.
    """
    if not raw.exists():
        raise UserError(
            f"no folder '{raw.name}'",
            {"looked for": raw, "to fix": "give the folder or file that holds your videos"},
            EXIT_NO_DATA,
        )
    found = list(_in_file(raw) if raw.is_file() else _in_folder(raw))
    videos = sorted((each for each in found if isinstance(each, RawVideo)), key=_order)
    if not videos:
        raise UserError(
            f"nothing to prepare in '{raw.name}'",
            {
                "looked in": raw,
                "looked for": "videos (mp4 m4v mov mkv webm avi gif), folders of images "
                "(png jpg webp bmp tif), arrays (npy npz)",
                "to fix": "give another folder",
            },
            EXIT_NO_DATA,
        )
    videos = _with_unique_ids(videos)
    lists = _lists(raw) if raw.is_dir() else {}
    chosen = _by_lists(videos, lists) if lists else _by_folders(videos)
    return [*chosen, *(each for each in found if isinstance(each, Rejected))]


def _in_file(path: Path) -> Iterator[RawVideo]:
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        yield _raw_video(path, path.parent, "video")
    elif suffix in ARRAY_SUFFIXES:
        yield _raw_video(path, path.parent, "array")
    elif suffix in IMAGE_SUFFIXES:
        yield _raw_video(path, path.parent, "strip")


def _in_folder(raw: Path) -> Iterator[RawVideo | Rejected]:
    seen: set[tuple[int, int]] = set()
    for folder, names, files in os.walk(raw, followlinks=True, onerror=_not_readable):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:  # a link that leads back
            names.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        names[:] = [name for name in names if not name.startswith((".", "__MACOSX"))]
        yield from _in_one_folder(raw, Path(folder), [name for name in files if name[0] != "."])


def _in_one_folder(raw: Path, folder: Path, names: list[str]) -> Iterator[RawVideo | Rejected]:
    """Videos win over images (which are then previews), images over arrays (then annotations)."""
    videos, images, arrays = (
        [name for name in names if Path(name).suffix.lower() in suffixes]
        for suffixes in (VIDEO_SUFFIXES, IMAGE_SUFFIXES, ARRAY_SUFFIXES)
    )
    if videos:
        yield from (_raw_video(folder / name, raw, "video") for name in videos)
        if images:
            where = folder.relative_to(raw).as_posix()
            detail = f"{len(images)} images lie beside videos"
            yield Rejected(_printable(where), where, "images beside videos", detail)
    elif images:
        first = min(images, key=lambda name: (natural_key(name), name))
        if _is_strip(folder / first):
            yield from (_raw_video(folder / name, raw, "strip") for name in images)
        else:
            yield _raw_video(folder, raw, "frames")
    else:
        yield from (_raw_video(folder / name, raw, "array") for name in arrays)


def _is_strip(path: Path) -> bool:
    try:
        width, height = image_size(path)
    except UserError:
        return False
    return width % height == 0 and width // height >= STRIP_FRAMES


def _raw_video(path: Path, raw: Path, kind: RawKind) -> RawVideo:
    place = PurePosixPath(path.relative_to(raw).as_posix())
    if kind != "frames":
        place = place.with_suffix("")
    name = _printable(str(place) if place.parts else path.resolve().name)
    parent = _printable(str(place.parent))
    return RawVideo(id=name, path=path, kind=kind, group=name if parent == "." else parent)


def _printable(text: str) -> str:
    """The text with line breaks, control characters and undecodable bytes written as %XX."""
    return "".join(
        each if each.isprintable() else quote(each.encode("utf-8", "surrogateescape"), safe="")
        for each in text
    )


def _order(video: RawVideo) -> tuple[object, ...]:
    parts = PurePosixPath(video.id).parts
    return (*(natural_key(part) for part in parts),), str(video.path)


def _with_unique_ids(videos: list[RawVideo]) -> list[RawVideo]:
    """Files that differ only in their suffix keep it in their ids."""
    counts: dict[str, int] = {}
    for video in videos:
        counts[video.id] = counts.get(video.id, 0) + 1
    return [
        replace(video, id=video.id + _printable(video.path.suffix))
        if counts[video.id] > 1 and video.kind != "frames"
        else video
        for video in videos
    ]


def _by_folders(videos: list[RawVideo]) -> Iterator[RawVideo | Rejected]:
    """Folders called train, val, test decide, if one of them is a train folder."""
    splits = [
        next((_SPLIT_WORDS[part] for part in _folders(video) if part in _SPLIT_WORDS), None)
        for video in videos
    ]
    if "train" not in splits:
        yield from videos
        return
    for video, split in zip(videos, splits, strict=True):
        if split is None:
            detail = "it lies in none of the folders train, val, test"
            yield Rejected(video.id, str(video.path), "outside the splits", detail)
        else:
            yield replace(video, split=split)


def _folders(video: RawVideo) -> tuple[str, ...]:
    return PurePosixPath(video.id.lower()).parts[:-1]


def _lists(raw: Path) -> dict[str, list[str]]:
    """Split -> entries of its lists, in order."""
    lists: dict[str, list[str]] = {}
    for word, split in _SPLIT_WORDS.items():
        path = raw / f"{word}.txt"
        if path.is_file():
            text = path.read_text(encoding="utf-8", errors="surrogateescape")
            entries = (line.strip().removeprefix("./").rstrip("/") for line in text.splitlines())
            lists.setdefault(split, []).extend(entry for entry in entries if entry)
    return lists


def _by_lists(videos: list[RawVideo], lists: dict[str, list[str]]) -> Iterator[RawVideo | Rejected]:
    wanted = _wanted(lists)
    known = {video.id: video for video in videos}
    split_of = {}
    for entry, split in wanted.items():
        suffix = Path(entry).suffix
        is_media = suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES | ARRAY_SUFFIXES
        bare = entry.removesuffix(suffix) if is_media else entry
        split_of[next((name for name in (entry, bare) if name in known), entry)] = split
    if not split_of.keys() & known.keys():
        raise UserError(
            "the lists train.txt, val.txt, test.txt name no video that is here",
            {
                "they name": ", ".join(list(wanted)[:3]) + ", ...",
                "here is": ", ".join(list(known)[:3]) + ", ...",
                "to fix": "write paths below the folder, without suffix, one per line",
            },
            EXIT_NO_DATA,
        )
    for video in videos:
        if video.id in split_of:
            yield replace(video, split=split_of[video.id])
        else:
            yield Rejected(video.id, str(video.path), "not listed", "it is in no list")
    for name in split_of.keys() - known.keys():
        yield Rejected(name, name, "missing", f"listed for {split_of[name]} but not there")


def _wanted(lists: dict[str, list[str]]) -> dict[str, str]:
    """Entry -> split; an entry may be repeated in its own list only."""
    wanted: dict[str, str] = {}
    for split, entry in chain.from_iterable(
        ((split, _printable(entry)) for entry in entries) for split, entries in lists.items()
    ):
        if wanted.setdefault(entry, split) != split:
            raise UserError(
                f"'{entry}' is listed for {wanted[entry]} and for {split}",
                {"to fix": "keep it in one of the lists"},
                EXIT_NO_DATA,
            )
    return wanted


def _not_readable(problem: OSError) -> NoReturn:
    raise problem
