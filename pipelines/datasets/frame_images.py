"""Prepared frames as folders of PNG files, one per video, for tools that read those."""

from __future__ import annotations

import functools
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from PIL import Image

from pipelines.datasets.processes import Progress, run
from pipelines.events import UserError, Work
from pipelines.files import folder_lock, read_json, write_json
from pipelines.io.packed import PackedVideos

TASK = "write images"
ROWS_AT_ONCE = 16


@dataclass(frozen=True)
class Batch:
    """Rows of a variant and the folders their frames go to."""

    variant_dir: Path
    rows: tuple[int, ...]
    folders: tuple[Path, ...]


def write_frame_images(variant_dir: Path, images_dir: Path, *, jobs: int, work: Work) -> None:
    """Write images_dir/<video id>/frame_00000.png ... of every video of a variant.

    Does nothing when that was done for these very frames, and goes on where it was interrupted; the
    folder gets its name when it is complete.
    """
    packed = PackedVideos(variant_dir)
    made_from = {"variant": variant_dir.name, "files": packed.index["files"]}
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
        _write_all(packed, building, jobs, work)
        os.replace(building / "plan.json", building / "done.json")
        shutil.rmtree(images_dir, ignore_errors=True)
        os.replace(building, images_dir)
    work.artifact(images_dir, "images")


def _write_all(packed: PackedVideos, building: Path, jobs: int, work: Work) -> None:
    folders = [building / name for name in folder_names(packed.ids)]
    batches = []
    for first in range(0, len(packed), ROWS_AT_ONCE):
        rows = range(first, min(first + ROWS_AT_ONCE, len(packed)))
        batches.append(Batch(packed.dir, tuple(rows), tuple(folders[row] for row in rows)))
    done, total = 0, len(packed)

    def show(batch: Batch, part: float) -> None:
        work.progress(TASK, done + round(part * len(batch.rows)), total, "videos")

    with closing(
        run(_write_batch, batches, jobs=min(jobs, len(batches)), on_progress=show)
    ) as all_:
        for news in all_:
            if news.crash:
                raise RuntimeError(news.crash)
            done += len(news.task.rows)
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
    for done, (row, folder) in enumerate(zip(batch.rows, batch.folders, strict=True)):
        if folder.exists():
            continue
        half = folder.with_name(f"{folder.name}.part")
        half.mkdir(parents=True, exist_ok=True)
        for number, frame in enumerate(packed.frames(row, 0, int(packed.num_frames[row]))):
            picture = Image.fromarray(frame if packed.channels == 3 else frame[..., 0])
            picture.save(half / f"frame_{number:05d}.png")
        os.replace(half, folder)
        progress(done / len(batch.rows))


def _read(path: Path) -> object:
    return read_json(path) if path.exists() else None
