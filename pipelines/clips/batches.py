"""Reading clips: frames, flow and per-frame arrays, batch after batch, ready before it is asked."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol, TypeVar

import numpy as np

from pipelines.clips.rules import Clip
from pipelines.clips.sampler import Plan, Sampler
from pipelines.training.processes import own_shard

Item = TypeVar("Item")

Reader = Callable[[int, int, int], np.ndarray]
"""(row, start, count) -> entries of consecutive frames."""

_FAR = 4
"""From this step on frames are read one by one and not with all that lies between them."""


class FrameSource(Protocol):
    """Where frames come from: pipelines.io.packed.PackedVideos."""

    def frames(self, row: int, start: int, count: int) -> np.ndarray:
        """Frames of one video, uint8 T H W C."""
        ...


class FlowSource(Protocol):
    """Where flow comes from: the true one of PackedVideos, or its `flow_source(name)`."""

    def flow(self, lag: int, row: int, start: int, count: int = 1) -> np.ndarray:
        """Motion from frames start, ... to the frames `lag` later: float32 T 2 H W."""
        ...


class VideoSource(FrameSource, FlowSource, Protocol):
    """Frames, their true motion, and arrays that have one entry per frame: PackedVideos."""

    def extra(self, name: str) -> Reader:
        """A per-frame array."""
        ...


@dataclass(frozen=True)
class Reading:
    """What is read of each clip.

    has_frames: whether the frames are.  extras: names of per-frame arrays.
    flows: lag -> entries; entry k is the motion from the clip's k-th frame to the frame `lag` later
    (in frames of the prepared data, whatever the clip's step).
    A clip of step 0 still has the flow and the arrays of its start frame.
    """

    has_frames: bool = True
    extras: Sequence[str] = ()
    flows: Mapping[int, int] = field(default_factory=dict)


FRAMES = Reading()


@dataclass(frozen=True)
class ClipBatch:
    """Clips of one length. B clips of T frames.

    clips: where they lie.  frames: uint8 B T H W C, if asked for.  extras: name -> B T ...
    flows: lag -> float32 B N 2 H W, pixels (x, y), nan where unknown.
    """

    clips: list[Clip]
    frames: np.ndarray | None
    extras: dict[str, np.ndarray]
    flows: dict[int, np.ndarray]

    @property
    def is_still(self) -> np.ndarray:
        """Which clips are their start frame all the time: bool B."""
        return np.asarray([clip.step == 0 for clip in self.clips])


def load_clips(videos: FrameSource, clips: Sequence[Clip], num_frames: int) -> np.ndarray:
    """The frames of several clips: uint8 B T H W C."""
    return _stacked(videos.frames, clips, num_frames)


def load_batch(
    videos: VideoSource,
    plan: Plan,
    *,
    reading: Reading = FRAMES,
    flow_source: FlowSource | None = None,
) -> ClipBatch:
    """All that a reading asks for. flow_source: None: the true flow that the videos come with.

    Raises KeyError for an array or a lag that is not there, IndexError where a video lacks it.
    """
    clips, num_frames = plan
    frames = _stacked(videos.frames, clips, num_frames) if reading.has_frames else None
    extras = {name: _stacked(videos.extra(name), clips, num_frames) for name in reading.extras}
    flows = {
        lag: _stacked(_flow_reader(flow_source or videos, lag), clips, entries)
        for lag, entries in reading.flows.items()
    }
    return ClipBatch(clips, frames, extras, flows)


def clip_batches(
    videos: VideoSource,
    sampler: Sampler,
    *,
    batch_size: int,
    first_batch: int,
    reading: Reading = FRAMES,
    flow_source: FlowSource | None = None,
    shard: tuple[int, int] | None = None,
    workers: int = 1,
) -> Generator[ClipBatch]:
    """Endless batches of clips from a batch on, prepared in the background.

    Batch n holds the clips at positions n * batch_size and following. An epoch may end inside a
    batch, so no clip is left out and a data set smaller than a batch works too.
    shard: (number, of how many): one process's equal part of every batch; together they are it.
    None: that of this process of a training; all of the batch, if it is the only one.
    workers: threads that read; what is read, and in which order, does not depend on it.
    Close the iterator when done with it.
    """
    number, num_shards = own_shard(batch_size) if shard is None else shard
    if batch_size % num_shards or not 0 <= number < num_shards:
        raise ValueError(f"a batch of {batch_size} has no shard {number} of {num_shards}")

    def load(batch: int) -> ClipBatch:
        own = _sharded(sampler.plan(batch, batch_size), number, num_shards)
        return load_batch(videos, own, reading=reading, flow_source=flow_source)

    return prefetched(load, first=first_batch, ahead=workers + 1, workers=workers)


def training_batches(
    videos: FrameSource, sampler: Sampler, *, batch_size: int, first_batch: int
) -> Generator[np.ndarray]:
    """The frames alone of `clip_batches`, of this process's shard: uint8 B T H W C."""
    own_shard(batch_size)  # refused here and not in a thread

    def load(batch: int) -> np.ndarray:
        return load_clips(videos, *own_part(sampler.plan(batch, batch_size)))

    return prefetched(load, first=first_batch)


def prefetched(
    load: Callable[[int], Item], *, first: int, ahead: int = 2, workers: int = 1
) -> Generator[Item]:
    """load(first), load(first + 1), ... for ever; threads keep `ahead` of them ready."""
    with ThreadPoolExecutor(workers, thread_name_prefix="clips") as threads:
        waiting = deque(threads.submit(load, first + i) for i in range(ahead))
        try:
            for number in count(first + ahead):
                item = waiting.popleft().result()
                waiting.append(threads.submit(load, number))
                yield item
        finally:
            for each in waiting:
                each.cancel()


def own_part(plan: Plan) -> Plan:
    """The clips of a batch that this process of a training takes: all, if it is the only one.

    Raises UserError when they cannot be divided equally.
    """
    return _sharded(plan, *own_shard(len(plan.clips)))


def _sharded(plan: Plan, number: int, num_shards: int) -> Plan:
    size = len(plan.clips) // num_shards
    return Plan(plan.clips[number * size : (number + 1) * size], plan.num_frames)


def _stacked(read: Reader, clips: Sequence[Clip], num_frames: int) -> np.ndarray:
    """The entries of several clips, B T ..."""
    first = _entries(read, clips[0], num_frames)
    stacked = np.empty((len(clips), *first.shape), first.dtype)
    stacked[0] = first
    for number, clip in enumerate(clips[1:], start=1):
        stacked[number] = _entries(read, clip, num_frames)
    return stacked


def _entries(read: Reader, clip: Clip, num_frames: int) -> np.ndarray:
    row, start, step = clip
    if step == 1:
        return read(row, start, num_frames)
    if step == 0:
        still = read(row, start, 1)
        return np.broadcast_to(still, (num_frames, *still.shape[1:]))
    if step >= _FAR:
        return np.concatenate([read(row, start + step * k, 1) for k in range(num_frames)])
    return read(row, start, step * (num_frames - 1) + 1)[::step]


def _flow_reader(source: FlowSource, lag: int) -> Reader:
    def read(row: int, start: int, count: int) -> np.ndarray:
        return source.flow(lag, row, start, count)

    return read
