"""Small data sets in the exact form of the published ones, as folders and as the archives.

    python -m tests.pipelines.datasets.published_makers NAME FOLDER

writes what a user would have saved by hand from the publisher's page.
"""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from pipelines.datasets import iper, landscape
from pipelines.datasets.generate.bair_files import write_bair_files
from tests.pipelines.io.archive_makers import honest_tar, split_zip
from tests.pipelines.io.video_makers import encode, levels, moving_square, photo_like

LONG = 24
"""Frames of most videos; a training clip takes 17."""

TABLE_BYTES = 196_418
"""Size of the published taichi-metadata.csv."""


def bair(raw: Path, *, train: tuple[int, ...] = (2, 3), test: int = 2) -> Path:
    """TFRecord files of generated episodes."""
    write_bair_files(raw, train=train, test=test)
    return raw


def kth(
    raw: Path,
    *,
    persons: Iterable[int] = (1, 11, 17, 20, 22),
    action: str = "walking",
    settings: Iterable[int] = (1,),
) -> Path:
    """Grey 160 x 120 .avi files of 60 frames, two sequences each."""
    lines = ["Training:   person11, 12, 13", ""]
    for person in persons:
        for setting in settings:
            stem = f"person{person:02d}_{action}_d{setting}"
            frames = np.repeat(moving_square(60, width=160, height=120, seed=person)[..., :1], 3, 3)
            encode(raw / action / f"{stem}_uncomp.avi", frames)
            lines.append(f"{stem} \t\tframes\t1-25, 31-60")
    (raw / "00sequences.txt").write_text("\n".join(lines) + "\n")
    return raw


def sequences_like_the_published(path: Path) -> None:
    """A list of all 600 videos with as many sequences each as the published one has."""
    three = {
        *("person11_boxing_d4", "person13_handwaving_d3", "person14_handwaving_d3"),
        *("person15_boxing_d4", "person22_boxing_d1"),
    }
    lines = ["Test:       person22, 02, 03, 05, 06, 07, 08, 09, 10", "", ""]
    for person in range(1, 26):
        for action in ("boxing", "handclapping", "handwaving", "jogging", "running", "walking"):
            for setting in (1, 2, 3, 4):
                stem = f"person{person:02d}_{action}_d{setting}"
                ranges = ["1-50", "106-172", "200-265", "292-362"][: 3 if stem in three else 4]
                if stem == "person07_jogging_d4":
                    ranges = ["1-64", "270-332", "194-264", "490-570"]
                text = ", ".join(ranges)
                text = "*missing*" if stem == "person13_handclapping_d3" else f"frames\t{text}"
                lines.append(f"{stem}{' ' * (person % 3)}\t\t{text}")
    path.write_text("\n".join(lines))


def plants(raw: Path, *, stems: Iterable[str] = ("VID_1_1", "VID_10_2", "VID_3_1")) -> Path:
    """.mkv files of odd lengths whose grey level tells the frame's number."""
    for number, stem in enumerate(stems):
        frames = levels(LONG, width=96, height=96)
        encode(raw / "videos" / f"{stem}.mkv", frames[: LONG - number], options=("-qp", "0"))
    return raw


def iper_videos(raw: Path, *, lines: Iterable[str] | None = None, release: int = 1024) -> Path:
    """.mp4 files named by actor, outfit and type; the first of each list when not told which."""
    parts = ("train", "val", "test")
    usual = [line for split in parts for line in iper.published_list(split)[:2]]
    for number, line in enumerate(lines or usual):
        path = raw / f"iPER_{release}_video_release" / f"{line.replace('/', '_')}.mp4"
        encode(path, moving_square(LONG, width=128, height=128, seed=number), fps=30)
    return raw


def landscape_frames(raw: Path, clips: Mapping[str, Iterable[str]] | None = None) -> Path:
    """Folders of .jpg files with gaps in their numbers, two or three of each list."""
    chosen = clips or {
        name: landscape.published_list(name)[:2] for name in ("train", "eval", "test")
    }
    for name, lines in chosen.items():
        for line in lines:
            folder = raw / ("sky_test" if name == "test" else "sky_train") / line.rstrip("/")
            frames = levels(LONG, width=64, height=36)
            images(folder, frames, f"{folder.name}_frames_{{0:07d}}.jpg", first=95, step=3)
    return raw


def dtdb(raw: Path) -> Path:
    """Folders of frames of mixed sizes: clouds as .png, the others as .jpg."""
    sizes = {"fire": (40, 30), "vegetation": (29, 20), "clouds": (64, 36), "waterfall": (33, 47)}
    for texture, (width, height) in sizes.items():
        suffix = "png" if texture == "clouds" else "jpg"
        for part in ("train", "eval"):
            frames = moving_square(LONG, width=width, height=height, seed=len(part))
            images(raw / texture / part / f"{texture}_1", frames, f"frame{{0}}.{suffix}")
    return raw


def taichi(raw: Path) -> Path:
    """Videos and the table of clips in them; one video of the table is not there."""
    header = "video_id,start,end,bbox,fps,width,height,partition"
    rows = [
        "u6rJiF-gPx8,4,26,16-8-80-72,30.0,128,96,train",
        "u6rJiF-gPx8,30,50,0-0-96-96,30.0,128,96,train",
        "-Q2ab_cdEFG,0,20,32-0-128-96,30.0,128,96,test",
        "gone_away__,10,40,0-0-96-96,30.0,128,96,train",
    ]
    raw.mkdir(parents=True, exist_ok=True)
    (raw / "taichi-metadata.csv").write_text("\n".join([header, *rows]) + "\n")
    frames = photo_like(56, width=128, height=96)
    for name in ("u6rJiF-gPx8", "-Q2ab_cdEFG"):
        encode(raw / "videos" / f"{name}.mp4", frames, fps=30)
    return raw


def images(folder: Path, frames: np.ndarray, name: str, *, first: int = 0, step: int = 1) -> None:
    """Frames as image files called name.format(number)."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / name.format(first + step * number), quality=95)


def by_hand(name: str, folder: Path, work_dir: Path) -> None:
    """What a user has saved from the publisher's page: archives, and lists in a folder beside."""
    raw = _MAKERS[name](work_dir / name)
    folder.mkdir(parents=True, exist_ok=True)
    if name == "bair":
        content = {each.relative_to(raw).as_posix(): each.read_bytes() for each in _files(raw)}
        (folder / "bair_robot_pushing.tar").write_bytes(honest_tar(content))
    elif name == "kth":
        _zip(folder / "my walking videos.zip", raw, "walking")
        beside = folder.with_name(f"{folder.name} of lists")
        beside.mkdir()
        (beside / "00sequences.txt").write_bytes((raw / "00sequences.txt").read_bytes())
    elif name == "plants":
        files = {each.name: each.read_bytes() for each in _files(raw / "videos")}
        # in two, as published, however many bytes the encoder needed here
        part_bytes = 3 * sum(map(len, files.values())) // 4
        split_zip(files, folder / "poking_plants.zip", part_bytes=part_bytes, method=0)
    elif name == "iper":
        _zip(folder / "iPER_1024_video_release.zip", raw, "")
    elif name == "taichi":
        for each in _files(raw):
            # The published table has a known size; blank lines mean nothing in it.
            room = TABLE_BYTES - each.stat().st_size if each.suffix == ".csv" else 0
            (folder / each.name).write_bytes(each.read_bytes() + b"\n" * room)
    else:
        _zip(folder / f"{name} from drive.zip", raw, "")


def _zip(path: Path, raw: Path, below: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for each in _files(raw / below):
            archive.write(each, each.relative_to(raw).as_posix())


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


_MAKERS: dict[str, Callable[[Path], Path]] = {
    "bair": bair,
    "kth": kth,
    "plants": plants,
    "iper": iper_videos,
    "landscape": landscape_frames,
    "dtdb": dtdb,
    "taichi": taichi,
}

if __name__ == "__main__":
    by_hand(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
