"""The flow of one video and one lag, from its frames (or files) to its place in the pack.

Runs in a process per worker, which keeps its estimator from video to video. While one batch is
estimated, a thread reads and resizes the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from pipelines.datasets.processes import Progress
from pipelines.flow.checks import FlowError, agreement, flow_error, total
from pipelines.flow.config import EstimateRequest
from pipelines.flow.estimators import Estimator, open_estimator
from pipelines.flow.exchange import find_folder, read_pair
from pipelines.flow.resizing import resize_flow, resize_mask
from pipelines.io.flow_packing import Place, VideoWriter
from pipelines.io.images import fit_image
from pipelines.io.packed import PackedVideos

_BATCH_PIXELS = 2**19
_MAX_BATCH = 16
_READ_AHEAD = 2


@dataclass(frozen=True)
class Task:
    """A video and a lag. frames_dir, frames_row: where its frames are read.

    place, pair_bytes: where its flow goes, below `building`.  has_truth: compare with the variant.
    """

    row: int
    lag: int
    request: EstimateRequest
    variant_dir: Path
    frames_dir: Path
    frames_row: int
    building: Path
    place: Place
    pair_bytes: dict[str, int]
    input_size_px: int
    flow_size_px: int
    has_truth: bool


@dataclass(frozen=True)
class Worker:
    """Where a process computes: a device and its share of the processor."""

    device: str
    num_threads: int

    def __call__(self, task: Task, progress: Progress) -> None:
        """Write a task's flow and report.

        Raises UserError where frames, files or weights are not as they should be.
        """
        request = task.request
        if request.estimator == "files":
            batches = _from_files(task)
        else:
            batches = _from_frames(task, _estimator(request, self.device, self.num_threads))
        truth = _Truth(task)
        errors: list[dict[str, float | int]] = []
        num_missing = done = 0
        with VideoWriter(task.building, task.row, task.place, task.pair_bytes) as writer:
            for batch in batches:
                writer.add(batch.flow, reliable=batch.reliable, is_valid=batch.is_valid)
                errors += [each.as_values() for each in truth.errors(done, batch.flow)]
                num_missing += int((~batch.is_there).sum())
                done += len(batch.flow)
                progress(done / task.place.count)
            notes: dict[str, object] = {"num_missing": num_missing}
            if errors:
                notes["error"] = total(errors).as_values()
            writer.finish(notes)


class _Batch(NamedTuple):
    """flow: float32 [n 2 S S], pixels.  reliable: bool [n S S] or None.  is_valid: bool [n].

    is_there: bool [n], false where a file is missing.
    """

    flow: np.ndarray
    reliable: np.ndarray | None
    is_valid: np.ndarray
    is_there: np.ndarray


@lru_cache(maxsize=1)
def _estimator(request: EstimateRequest, device: str, num_threads: int) -> Estimator:
    if request.estimator != "dis":
        import torch

        torch.set_num_threads(num_threads)
    return open_estimator(request, device)


@lru_cache(maxsize=2)
def _packed(folder: Path) -> PackedVideos:
    return PackedVideos(folder)


def _from_frames(task: Task, estimator: Estimator) -> Iterator[_Batch]:
    for window in _windows(task):
        first, second = window.pairs(task.lag)
        reliable = None
        valid = np.ones(len(first), bool)
        if task.request.check:
            flow, backward = estimator.flow_both_ways(first, second)
            agrees = agreement(flow, backward)
            reliable = resize_mask(agrees, task.flow_size_px)
            valid = agrees.mean(axis=(1, 2)) >= task.request.min_reliable
        elif window.second is None:  # a frame may be in two pairs: it is looked at once
            flow = estimator.flow_along(window.frames, task.lag, batch_size=len(first))
        else:
            flow = estimator.flow(first, second)
        stored = resize_flow(flow, task.flow_size_px, task.flow_size_px)
        yield _Batch(stored, reliable, valid, np.ones(len(first), bool))


class _Window(NamedTuple):
    """Frames of a batch of pairs, uint8 [n H W 3], at the input size.

    second: the pairs' second frames, where `frames` holds the first ones alone; None where it holds
    all from the first pair's first to the last pair's second.
    """

    frames: np.ndarray
    second: np.ndarray | None

    def pairs(self, lag: int) -> tuple[np.ndarray, np.ndarray]:
        """First frames and second frames, one of each for every pair."""
        if self.second is not None:
            return self.frames, self.second
        return self.frames[:-lag], self.frames[lag:]


def _windows(task: Task) -> Iterator[_Window]:
    """Batch by batch, read ahead."""
    size = batch_size(task.request, task.input_size_px)
    starts = range(0, task.place.count, size)
    ahead: deque[Future[_Window]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="read-frames") as reader:
        for start in starts:
            count = min(size, task.place.count - start)
            ahead.append(reader.submit(_read_window, task, start, count))
            if len(ahead) > _READ_AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def batch_size(request: EstimateRequest, input_size_px: int) -> int:
    """Pairs that are estimated at once; the same for every video, since it shows in the numbers."""
    fitting = _BATCH_PIXELS // input_size_px**2
    return request.batch_size or max(1, min(_MAX_BATCH, fitting))


def _read_window(task: Task, start: int, count: int) -> _Window:
    packed = _packed(task.frames_dir)
    if task.lag >= count:  # no frame is in two of these pairs
        first, second = (
            _sized(packed.frames(task.frames_row, begin, count), task.input_size_px)
            for begin in (start, start + task.lag)
        )
        return _Window(first, second)
    frames = packed.frames(task.frames_row, start, count + task.lag)
    return _Window(_sized(frames, task.input_size_px), None)


def _sized(frames: np.ndarray, size_px: int) -> np.ndarray:
    """uint8 [n H W C] -> [n size size 3], by the filter that frames are prepared with."""
    coloured = np.repeat(frames, 3, axis=-1) if frames.shape[-1] == 1 else frames
    if coloured.shape[1] == size_px:
        return coloured
    images = (Image.fromarray(frame) for frame in coloured)
    return np.stack([np.asarray(fit_image(each, size_px, fit="squash")) for each in images])


def _from_files(task: Task) -> Iterator[_Batch]:
    """Pair by pair; where there is no file, the flow is not known and the pair not valid."""
    packed = _packed(task.variant_dir)
    stride, size = int(packed.index.get("stride", 1)), task.flow_size_px
    assert task.request.files_dir is not None
    folder = find_folder(task.request.files_dir, packed.ids[task.row])
    for start in range(task.place.count):
        first, second = start * stride, (start + task.lag) * stride
        found = read_pair(folder, first, second) if folder else None
        if found is None:
            flow = np.full((1, 2, size, size), np.nan, np.float32)
        else:
            flow = resize_flow(found[None], size, size)
        is_there = np.array([found is not None])
        yield _Batch(flow, None, is_there, is_there)


class _Truth:
    """Compares batches with the true motion where the variant has it."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._count = 0
        if task.has_truth:
            place = _packed(task.variant_dir).rows[task.row].flow.get(task.lag)
            self._count = place[2] if place else 0

    def errors(self, start: int, flow: np.ndarray) -> Iterator[FlowError]:
        """The error of the pairs from frame `start` on, where their true motion is known."""
        count = min(len(flow), self._count - start)
        if count > 0:
            packed = _packed(self._task.variant_dir)
            known = packed.flow(self._task.lag, self._task.row, start, count)
            yield flow_error(resize_flow(flow[:count], *known.shape[2:]), known)
