"""Prepared frames as folders of image files, for tools that read those.

Where a published code base has a layout of its own (base.Published), it is that layout: its names,
its tables, all parts of a video in one folder under the numbers of its raw frames.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
from PIL import Image

from pipelines.datasets.base import Published
from pipelines.datasets.processes import Progress, run
from pipelines.datasets.raw_frames import image_paths
from pipelines.events import UserError, Work
from pipelines.files import folder_lock, read_json, write_json
from pipelines.io.packed import PackedVideos

TASK = "write images"
ROWS_AT_ONCE = 16

FIRST_FRAME = "first_frame"
"""Label of a part of a longer video: the number of its first frame there."""


@dataclass(frozen=True)
class Naming:
    """How images are called.

    rule: of the published layout; None numbers the frames of every prepared video from 0.
    raw: the raw folder, for layouts that keep the raw images.
    """

    rule: Published | None
    raw: Path

    def image(self, number: int, size_px: int) -> str:
        """File name of a frame, by its number in the video."""
        if self.rule is None:
            return f"frame_{number:05d}.png"
        return self.rule.image_name.format(n=number, n1=number + 1, size=size_px)

    def place(self, packed: PackedVideos, row: int) -> tuple[str, int]:
        """Folder of a row, and the number of its first frame there."""
        video_id = packed.ids[row]
        if self.rule is None:
            return video_id, 0
        first = int(str(packed.rows[row].labels.get(FIRST_FRAME, 0)))
        return video_id.partition("~")[0], first

    @property
    def plan(self) -> dict[str, object]:
        """What decides the names, as JSON values."""
        if self.rule is None:
            return {}
        return {"image_name": self.rule.image_name, "keeps_images": self.rule.keeps_images}


@dataclass(frozen=True)
class Batch:
    """Folders to write: each with its rows and the number of their first frames."""

    variant_dir: Path
    naming: Naming
    folders: tuple[tuple[Path, tuple[tuple[int, int], ...]], ...]


def write_frame_images(
    variant_dir: Path, images_dir: Path, naming: Naming, *, jobs: int, work: Work
) -> None:
    """Write images_dir/<video>/<image> of every frame of a variant.

    Does nothing when that was done for these very frames, and goes on where it was interrupted; the
    folder gets its name when it is complete.
    """
    packed = PackedVideos(variant_dir)
    made_from = {
        "variant": variant_dir.name,
        "files": packed.index["files"],
        **naming.plan,
    }
    if _read(images_dir / "done.json") == made_from:
        work.log(f"images are already there: {images_dir}")
        return
    building = images_dir.with_name(f"{images_dir.name}.tmp")
    building.mkdir(parents=True, exist_ok=True)
    with folder_lock(building) as is_ours:
        if not is_ours:
            raise UserError("these images are being written by another process")
        if _read(building / "plan.json") != made_from:
            shutil.rmtree(building)
            building.mkdir()
            write_json(building / "plan.json", made_from)
        _write_all(packed, building, naming, jobs, work)
        os.replace(building / "plan.json", building / "done.json")
        shutil.rmtree(images_dir, ignore_errors=True)
        os.replace(building, images_dir)
    work.artifact(images_dir, "images")


def _write_all(packed: PackedVideos, building: Path, naming: Naming, jobs: int, work: Work) -> None:
    rows_of: dict[str, list[tuple[int, int]]] = {}
    for row in range(len(packed)):
        folder, first = naming.place(packed, row)
        rows_of.setdefault(folder, []).append((row, first))
    names = folder_names(list(rows_of))
    every = [
        (building / name, tuple(rows)) for name, rows in zip(names, rows_of.values(), strict=True)
    ]
    batches = [
        Batch(packed.dir, naming, tuple(every[first : first + ROWS_AT_ONCE]))
        for first in range(0, len(every), ROWS_AT_ONCE)
    ]
    done, total = 0, len(every)

    def show(batch: Batch, part: float) -> None:
        work.progress(TASK, done + round(part * len(batch.folders)), total, "videos")

    with closing(
        run(_write_batch, batches, jobs=min(jobs, len(batches)), on_progress=show)
    ) as all_:
        for news in all_:
            if news.crash:
                raise RuntimeError(news.crash)
            done += len(news.task.folders)
            work.progress(TASK, done, total, "videos")


def folder_names(ids: Sequence[str]) -> list[str]:
    """A relative folder for each video id that every file system takes, no two alike."""
    taken: dict[str, int] = {}
    names = []
    for video_id in ids:
        parts = [_safe(part) for part in video_id.split("/") if part]
        name = "/".join(parts)
        count = taken[name.casefold()] = taken.get(name.casefold(), 0) + 1
        names.append(name if count == 1 else f"{name}~{count}")
    return names


def _safe(part: str) -> str:
    text = re.sub(r'[<>:"\\|?*]', lambda found: quote(found[0], safe=""), part)
    # Names such as '..' or 'x.' mean something else, or nothing, to some systems.
    return text[:-1] + quote(text[-1]).replace(".", "%2E") if text[-1] in ". " else text


@functools.cache
def _opened(variant_dir: Path) -> PackedVideos:
    return PackedVideos(variant_dir)


def _write_batch(batch: Batch, progress: Progress) -> None:
    packed = _opened(batch.variant_dir)
    for done, (folder, rows) in enumerate(batch.folders):
        if folder.exists():
            continue
        half = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(parents=True)
        rule = batch.naming.rule
        if rule is not None and rule.keeps_images:
            _keep_images(half, packed, rows[0][0], batch.naming)
        else:
            _write_frames(half, packed, rows, batch.naming)
            _write_tables(half, packed, rows, batch.naming)
        os.replace(half, folder)
        progress(done / len(batch.folders))


def _write_frames(
    folder: Path, packed: PackedVideos, rows: Sequence[tuple[int, int]], naming: Naming
) -> None:
    stride = int(packed.index["stride"])
    for row, first in rows:
        for number, frame in enumerate(_frames(packed, row)):
            name = naming.image(first + number * stride, packed.size_px)
            picture = Image.fromarray(frame if packed.channels == 3 else frame[..., 0])
            picture.save(folder / name)


def _frames(packed: PackedVideos, row: int) -> Iterator[np.ndarray]:
    """The frames of a row; some at a time, since a video may be long."""
    total = int(packed.num_frames[row])
    for start in range(0, total, 256):
        yield from packed.frames(row, start, min(256, total - start))


def _write_tables(
    folder: Path, packed: PackedVideos, rows: Sequence[tuple[int, int]], naming: Naming
) -> None:
    for file_name, array_name in (naming.rule.tables if naming.rule else {}).items():
        if array_name not in packed.extra_names:
            continue
        entries = packed.extra(array_name)
        values = np.concatenate([entries(row, 0, int(packed.num_frames[row])) for row, _ in rows])
        # Nine digits tell any two float32 apart.
        np.savetxt(folder / file_name, values, fmt="%.9g", delimiter=",")


def _keep_images(folder: Path, packed: PackedVideos, row: int, naming: Naming) -> None:
    """The raw images of a video under their published names, without a second copy if possible."""
    source = naming.raw / packed.rows[row].source
    for number, path in enumerate(image_paths(source)):
        target = folder / (naming.image(number, packed.size_px) + path.suffix.lower())
        try:
            os.link(path.resolve(), target)
        except OSError:
            shutil.copyfile(path, target)


def _read(path: Path) -> object:
    return read_json(path) if path.exists() else None
