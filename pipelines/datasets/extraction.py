"""One raw video, from file to prepared frames in a folder of its own (a part).

Parts are made by several processes in any order; pipelines.datasets.prepare packs them in the order
of the dataset. A part is complete when its part.json is there.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.datasets.base import SPLITS, RawVideo, TimeParts
from pipelines.datasets.config import ExtractRequest
from pipelines.datasets.processes import Progress
from pipelines.datasets.raw_frames import OpenVideo, open_video
from pipelines.events import UserError
from pipelines.files import read_json
from pipelines.io.jpeg_frames import JpegFrames, encode
from pipelines.io.tfrecords import DamagedRecord
from pipelines.io.video import DamagedVideo

CUT_RATIO = 2.0
"""A cut differs this many times more than the frames around it, which tells it from fast motion."""


@dataclass(frozen=True)
class Task:
    """A video to extract. number: its place in the dataset.  part_dir: folder to make."""

    number: int
    video: RawVideo
    request: ExtractRequest
    part_dir: Path


@dataclass(frozen=True)
class Piece:
    """A stretch of the extracted frames that becomes a row. suffix tells it from its siblings."""

    suffix: str
    first: int
    count: int
    split: str | None = None


class Part:
    """A finished part, opened for packing.

    original_size, fps, labels: of the video.  pieces: what to pack.  rejected: (suffix, reason,
    detail) of what to leave out.
    """

    def __init__(self, folder: Path, request: ExtractRequest) -> None:
        facts = read_json(folder / "part.json")
        self._folder = folder
        self._shape = (request.size_px, request.size_px, request.channels)
        self._storage = request.storage
        self.original_size: list[int] = facts["original_size"]
        self.fps: float | None = facts["fps"]
        self.labels: dict[str, Any] = facts["labels"]
        self.pieces = [Piece(*values) for values in facts["pieces"]]
        self.rejected: list[tuple[str, str, str]] = facts["rejected"]

    def frames(self, piece: Piece) -> np.ndarray | JpegFrames:
        """uint8 [count S S C], mapped, not read; as they are to be stored."""
        if self._storage == "none":
            return np.empty((piece.count, *self._shape), np.uint8)
        if self._storage == "jpeg":
            data = np.memmap(self._folder / "frames.jpegs", np.uint8, "r")
            ends = np.load(self._folder / "frame_ends.npy")
            return JpegFrames(data, ends).part(piece.first, piece.count)
        frames = np.memmap(self._folder / "frames.u8", np.uint8, "r").reshape(-1, *self._shape)
        return frames[piece.first : piece.first + piece.count]

    def flow(self, piece: Piece) -> dict[int, np.ndarray]:
        """lag -> int16 [n 2 S S]; only motion that stays within the piece."""
        flows = {}
        for lag, values in self._arrays("flow"):
            inside = values[piece.first : piece.first + max(0, piece.count - int(lag))]
            if len(inside):
                flows[int(lag)] = inside
        return flows

    def extra(self, piece: Piece) -> dict[str, np.ndarray]:
        """name -> [count ...]."""
        return {
            name: values[piece.first : piece.first + piece.count]
            for name, values in self._arrays("extra")
        }

    def _arrays(self, kind: str) -> Iterator[tuple[str, np.ndarray]]:
        for path in sorted(self._folder.glob(f"{kind}-*.npy")):
            yield path.stem.removeprefix(f"{kind}-"), np.load(path, mmap_mode="r")


def is_complete(part_dir: Path) -> bool:
    """Whether an earlier process has finished this part."""
    return (part_dir / "part.json").exists()


def extract(task: Task, progress: Progress) -> None:
    """Make a part. What cannot be read is noted in it as rejected; only our own mistakes raise."""
    task.part_dir.mkdir(parents=True, exist_ok=True)
    try:
        opened = open_video(task.video, task.request, progress)
        with contextlib.closing(opened.frames) as frames:
            changes = _write_frames(task.part_dir, frames, task.request)
        is_image = task.video.kind == "image"
        pieces = _pieces(changes, task.request, task.video.time_parts)
        facts = _facts(opened, changes, task.request, pieces, is_image=is_image)
        if facts["pieces"]:
            _write_truth(task.part_dir, opened)
    except UserError as problem:
        is_damaged = isinstance(problem, (DamagedVideo, DamagedRecord))
        reason = "damaged" if is_damaged else "unreadable"
        facts = _rejection(reason, _in_one_line(problem))
    _complete(task.part_dir, facts)


def reject(task: Task, reason: str, detail: str) -> None:
    """Make a part that leaves the video out."""
    task.part_dir.mkdir(parents=True, exist_ok=True)
    _complete(task.part_dir, _rejection(reason, detail))


def _complete(part_dir: Path, facts: dict[str, Any]) -> None:
    temporary = part_dir / "part.json.part"
    temporary.write_text(json.dumps(facts), encoding="utf-8")
    os.replace(temporary, part_dir / "part.json")


def _write_frames(
    part_dir: Path, frames: Iterator[np.ndarray], request: ExtractRequest
) -> np.ndarray:
    """Write the frames; returns how much each differs from the one before, in levels (first: 0)."""
    is_compared = request.drop_static is not None or request.scene_cut is not None
    is_jpeg = request.storage == "jpeg"
    changes: list[float] = []
    ends: list[int] = []
    before: np.ndarray | None = None
    with (part_dir / ("frames.jpegs" if is_jpeg else "frames.u8")).open("wb") as file:
        for frame in frames:
            file.write(encode(frame) if is_jpeg else np.ascontiguousarray(frame).data)
            ends.append(file.tell())
            change = 0.0
            if is_compared:
                now = frame.astype(np.int16)
                change = 0.0 if before is None else float(np.abs(now - before).mean())
                before = now
            changes.append(change)
    if is_jpeg:
        np.save(part_dir / "frame_ends.npy", np.array(ends, np.int64))
    return np.array(changes)


def _facts(
    opened: OpenVideo,
    changes: np.ndarray,
    request: ExtractRequest,
    pieces: Iterable[Piece],
    *,
    is_image: bool,
) -> dict[str, Any]:
    kept, rejected = [], []
    shortest = min(request.min_frames, request.clip_frames or request.min_frames)
    for piece in pieces:
        moves = changes[piece.first + 1 : piece.first + piece.count]
        change = float(moves.mean()) if len(moves) else 0.0
        if not is_image and piece.count < shortest:
            detail = f"{piece.count} frames, fewer than {shortest}"
            rejected.append((piece.suffix, "too short", detail))
        elif request.drop_static is not None and change < request.drop_static:
            detail = f"changes by {change:.2f} levels, less than {request.drop_static:g}"
            rejected.append((piece.suffix, "static", detail))
        else:
            kept.append((piece.suffix, piece.first, piece.count, piece.split))
    return {
        "original_size": opened.original_size,
        "fps": opened.fps,
        "labels": dict(opened.labels),
        "pieces": kept,
        "rejected": rejected,
    }


def _rejection(reason: str, detail: str) -> dict[str, Any]:
    empty: dict[str, Any] = {"original_size": [0, 0], "fps": None, "labels": {}, "pieces": []}
    return empty | {"rejected": [("", reason, detail)]}


def _in_one_line(problem: UserError) -> str:
    known = ("path", "looked for", "to fix")
    more = [text for label, text in problem.details.items() if label not in known]
    return ": ".join([problem.message, *more])


def _pieces(
    changes: np.ndarray, request: ExtractRequest, time_parts: TimeParts | None
) -> Iterator[Piece]:
    """Scenes between cuts, each cut again where the time split says, and then into clips."""
    for piece in _stretches(changes, request, time_parts):
        length = request.clip_frames
        if length is None or piece.count < length:
            yield piece
            continue
        for number in range(piece.count // length):
            suffix = f"{piece.suffix}~clip{number:03d}"
            yield Piece(suffix, piece.first + number * length, length, piece.split)


def _stretches(
    changes: np.ndarray, request: ExtractRequest, time_parts: TimeParts | None
) -> Iterator[Piece]:
    total = len(changes)
    cuts = [] if request.scene_cut is None else _cuts(changes, request.scene_cut)
    borders: list[tuple[str, str | None, int, int]] = [("", None, 0, total)]
    parts = request.split if request.split_by == "time" else time_parts
    if parts:
        ends = time_borders(parts, total)
        borders = [
            (f"~{name}", name, start, end)
            for name, (start, end) in zip(SPLITS, pairwise([0, *ends]), strict=True)
            if end > start
        ]
    for number, (first, last) in enumerate(pairwise([0, *cuts, total])):
        scene = f"~scene{number:03d}" if cuts else ""
        for suffix, split, start, end in borders:
            start, end = max(first, start), min(last, end)
            if end > start or total == 0:
                yield Piece(scene + suffix, start, end - start, split)


def time_borders(parts: TimeParts, total: int) -> list[int]:
    """The frames before which train, val and test end; a part of a frame belongs to the next."""
    return [int(sum(parts[: number + 1]) * total + 1e-6) for number in range(3)]


def _cuts(changes: np.ndarray, threshold: float) -> list[int]:
    """Numbers of the frames that begin a new scene."""
    around = np.pad(changes, 1)
    neighbours = np.maximum(around[:-2], around[2:])
    is_cut = (changes > threshold) & (changes > CUT_RATIO * neighbours)
    return [int(number) for number in np.flatnonzero(is_cut)]


def _write_truth(part_dir: Path, opened: OpenVideo) -> None:
    truth = opened.truth()
    arrays: Mapping[str, Mapping[Any, np.ndarray]] = {"flow": truth.flow, "extra": truth.extra}
    for kind, values in arrays.items():
        for name, array in values.items():
            if len(array):
                np.save(part_dir / f"{kind}-{name}.npy", np.ascontiguousarray(array))
