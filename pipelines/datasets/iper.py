"""iPER: 30 actors in 103 outfits turn in a pose (type 1) and move freely (type 2), 30 fps.

Read from the download, iPER_{1024,256}_video_release/AAA_O_T.mp4 (actor, outfit, type), or from
folders of images AAA_O_T/frame_<i>.png that published code makes of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipelines.datasets.base import DatasetSpec, Published, RawKind, RawVideo, Rejected, Resize
from pipelines.events import EXIT_NO_DATA, UserError

FPS = 30.0
SPEC = DatasetSpec(
    about="people who turn in a pose and move freely before a fixed camera",
    licence="non-commercial research only; no redistribution",
    native_size_px=(1024, 1024),
    fps=FPS,
    published={
        "cinn": Published(
            "the cINN code: its own validation part of the official training list",
            resize=(Resize("opencv", 256), Resize("float")),
        ),
        "official": Published(
            "the publishers' lists; their validation is for the test",
            resize=(Resize("opencv", 256), Resize("opencv")),
        ),
        "ii2v": Published(
            "the first four fifths of each video train, the rest tests (II2V)",
            resize=(Resize("opencv", 256), Resize("opencv")),
        ),
    },
)

# Actor/outfit in the published order; each stands for its types 1 and 2.
_TRAIN = """
    006/1 001/5 001/6 001/29 001/21 009/7 019/1 028/1 015/3 018/1 001/16 019/3 024/2 021/1 004/2
    015/2 001/4 001/14 012/1 001/2 009/4 001/32 014/1 005/1 026/3 016/1 009/6 009/8 001/20 001/7
    008/3 001/28 023/1 022/1 007/3 024/1 001/17 024/6 009/1 024/5 001/24 003/1 026/2 009/3 012/3
    013/1 001/33 001/12 001/1 001/10 001/15 025/2 007/2 012/4 028/2 027/2 001/30 009/2 020/1 002/1
    023/2 026/4 001/25 024/3 001/22 027/3 024/9 025/3 001/8"""
_VAL = """
    008/1 022/2 015/1 001/26 006/2 027/1 001/27 001/3 001/23 001/13 030/1 024/4 008/2"""
_TEST = """
    019/2 017/1 024/8 026/1 001/11 010/3 010/2 025/1 001/31 007/1 029/1 023/3 001/18 001/9 012/2
    011/1 024/7 009/5 010/1 001/19 004/1"""

_STEM = re.compile(r"(\d{3})_(\d+)_([12])")


def published_list(split: str) -> list[str]:
    """The lines of the cINN code's list for train, val or test, such as '006/1/1'."""
    text = {"train": _TRAIN, "val": _VAL, "test": _TEST}[split]
    return [f"{each}/{kind}" for each in text.split() for kind in (1, 2)]


def layout(raw: Path) -> Iterable[RawVideo | Rejected]:
    """The listed videos in the order of the lists; others after them, without a list's split.

    Raises UserError (exit code 4) when there is no video.
    """
    found = dict(_found(raw))
    if not found:
        raise UserError(
            "no iPER videos",
            {
                "looked in": raw,
                "looked for": "iPER_1024_video_release/001_1_1.mp4 and the like",
                "run first": "i2v download iper",
            },
            EXIT_NO_DATA,
        )
    result: list[RawVideo | Rejected] = []
    for split in ("train", "val", "test"):
        for line in published_list(split):
            stem = line.replace("/", "_")
            if stem in found:
                result.append(_video(stem, *found.pop(stem), split))
            else:
                detail = f"listed for {split} but not there"
                result.append(Rejected(stem, f"{stem}.mp4", "missing", detail))
    for stem, (path, kind) in sorted(found.items()):
        result.append(_video(stem, path, kind, None))
    return result


def _found(raw: Path) -> Iterator[tuple[str, tuple[Path, RawKind]]]:
    """Stem -> where it is, and as what; of several the last: 1024 px before 256 before images."""
    roots = [raw, raw / "processed"]
    for folder in (path for root in roots for path in sorted(root.glob("[0-9][0-9][0-9]_*_[12]"))):
        if _STEM.fullmatch(folder.name) and folder.is_dir():
            yield folder.name, (folder, "frames")
    releases = [raw / f"iPER_{size}_video_release" for size in (256, 1024)]
    for root in (raw, raw / "videos", *releases):
        for path in sorted(root.glob("*.mp4")):
            if _STEM.fullmatch(path.stem) and path.is_file():
                yield path.stem, (path, "video")


def _video(stem: str, path: Path, kind: RawKind, split: str | None) -> RawVideo:
    actor, outfit, motion = (int(part) for part in stem.split("_"))
    splits: dict[str, str | tuple[float, float, float] | None] = {"ii2v": (0.8, 0.0, 0.2)}
    if split is not None:
        splits |= {"cinn": split, "official": "test" if split == "test" else "train"}
    return RawVideo(
        id=stem,
        path=path,
        kind=kind,
        group=f"actor {actor:03d}",
        labels={
            "actor": actor,
            "outfit": outfit,
            "action": motion,
            "object": 100 * actor + outfit,
        },
        fps=FPS,
        splits=splits,
    )
