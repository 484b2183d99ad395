"""The one clip sampler of all video families: which videos can be used, which clip is next, and
its frames.

Which clips are seen, in which order, is a pure function of the seed and of a position: an integer
that counts clips from the start of the training. A training that goes on needs to know no more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from pipelines.events import EXIT_NO_DATA, EXIT_USAGE, UserError, Work
from pipelines.io.packed import PackedVideos, find_variant
from pipelines.schema import DataConfig
from pipelines.training.generators import numpy_generator

Item = TypeVar("Item")

MAX_VALIDATION_CLIPS = 64


class Clip(NamedTuple):
    """Frames start, start + 1, ... of the video in a row of the prepared data."""

    row: int
    start: int


class FrameSource(Protocol):
    """Where frames come from: pipelines.io.packed.PackedVideos."""

    def frames(self, row: int, start: int, count: int) -> np.ndarray:
        """Frames of one video, uint8 T H W C."""
        ...


class ClipSampler:
    """Draws clips for training: each epoch sees every video `repeats` times, in a new order.

    A clip starts at any frame of its video that leaves room for num_frames.
    """

    def __init__(
        self,
        rows: Sequence[int],
        lengths: Sequence[int],
        *,
        num_frames: int,
        seed: int,
        repeats: int = 1,
    ) -> None:
        """rows, lengths: row in the prepared data and number of frames of each video."""
        if not rows or min(lengths) < num_frames:
            raise ValueError(f"every video must have {num_frames} frames, and there must be one")
        self.num_frames = num_frames
        self.clips_per_epoch = len(rows) * repeats
        self._rows, self._repeats, self._seed = tuple(rows), repeats, seed
        self._places = np.asarray(lengths) - num_frames + 1
        self._drawn: tuple[int, np.ndarray, np.ndarray] | None = None

    def epoch_at(self, position: int) -> int:
        """The epoch that the clip at a position belongs to."""
        return position // self.clips_per_epoch

    def at(self, position: int) -> Clip:
        """The clip at a position, counted from the start of the training over all epochs."""
        return self.clip(*divmod(position, self.clips_per_epoch))

    def clip(self, epoch: int, index: int) -> Clip:
        """Item `index` of an epoch."""
        if self._drawn is None or self._drawn[0] != epoch:
            self._drawn = (epoch, *self._draw(epoch))
        _, videos, starts = self._drawn
        return Clip(self._rows[videos[index]], int(starts[index]))

    def _draw(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """All videos and starts of an epoch, in order."""
        videos = np.repeat(np.arange(len(self._rows)), self._repeats)
        videos = numpy_generator(self._seed, "clip order", epoch).permutation(videos)
        starts = numpy_generator(self._seed, "clip starts", epoch).integers(0, self._places[videos])
        return videos, starts


def fixed_clips(
    rows: Sequence[int], lengths: Sequence[int], *, num_frames: int, limit: int
) -> list[Clip]:
    """At most `limit` clips, always the same: from the middle of videos spread evenly."""
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(limit, len(rows))).round().astype(int))
    return [Clip(rows[i], (lengths[i] - num_frames) // 2) for i in chosen]


def load_clips(videos: FrameSource, clips: Sequence[Clip], num_frames: int) -> np.ndarray:
    """The frames of several clips: uint8 B T H W C."""
    return np.stack([videos.frames(clip.row, clip.start, num_frames) for clip in clips])


def training_batches(
    videos: FrameSource, sampler: ClipSampler, *, batch_size: int, first_batch: int
) -> Generator[np.ndarray]:
    """Endless batches of clips from a batch on, prepared in the background: uint8 B T H W C.

    Batch n holds the clips at positions n * batch_size and following. An epoch may end inside a
    batch, so no clip is left out and a data set smaller than a batch works too.
    Close the iterator when done with it.
    """

    def load(batch: int) -> np.ndarray:
        positions = range(batch * batch_size, (batch + 1) * batch_size)
        return load_clips(videos, [sampler.at(p) for p in positions], sampler.num_frames)

    return prefetched(load, first=first_batch)


def prefetched(load: Callable[[int], Item], *, first: int, ahead: int = 2) -> Generator[Item]:
    """load(first), load(first + 1), ... for ever; a thread keeps `ahead` of them ready."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="clips") as thread:
        waiting = deque(thread.submit(load, first + i) for i in range(ahead))
        for number in count(first + ahead):
            item = waiting.popleft().result()
            waiting.append(thread.submit(load, number))
            yield item


@dataclass(frozen=True)
class TrainingData:
    """Clips to train on, and held-out ones to validate on: always the same, maybe none."""

    videos: PackedVideos
    sampler: ClipSampler
    validation: list[Clip]


def open_training_data(
    data_root: Path,
    config: DataConfig,
    *,
    sizes_px: Sequence[int],
    num_frames: int,
    repeats: int,
    seed: int,
    work: Work,
) -> TrainingData:
    """Find a prepared variant and choose its videos that are long enough.

    sizes_px: frame sizes that the model can use.  num_frames: per clip, start frame included.
    repeats: times each video occurs in an epoch.
    Raises UserError, naming what to do, when there is no data, none that fits, or of another size.
    """
    folder = find_variant(data_root, config.dataset, config.variant)
    videos = PackedVideos(folder)
    if videos.size_px not in sizes_px:
        raise _other_size(folder, videos.size_px, sizes_px)
    rows = _long_enough(videos, config, "train", num_frames, work)
    sampler = ClipSampler(
        rows,
        [int(videos.num_frames[row]) for row in rows],
        num_frames=num_frames,
        seed=seed,
        repeats=repeats,
    )
    return TrainingData(videos, sampler, _validation(videos, config, num_frames, work))


def _validation(
    videos: PackedVideos, config: DataConfig, num_frames: int, work: Work
) -> list[Clip]:
    rows = videos.select("val", config.include, num_frames)
    if not rows:
        work.warning(
            "no held-out videos (split 'val') are long enough: nothing is validated while training"
        )
        return []
    lengths = [int(videos.num_frames[row]) for row in rows]
    return fixed_clips(rows, lengths, num_frames=num_frames, limit=MAX_VALIDATION_CLIPS)


def _long_enough(
    videos: PackedVideos, config: DataConfig, split: str, num_frames: int, work: Work
) -> list[int]:
    matching = videos.select(split, config.include, 1)
    if not matching:
        raise UserError(
            f"no video of split '{split}' matches data.include",
            {
                "looked in": videos.dir,
                "patterns": " ".join(config.include),
                "to fix": f"see what there is with: i2v data info {config.dataset}",
            },
            EXIT_NO_DATA,
        )
    rows = videos.select(split, config.include, num_frames)
    longest = max(int(videos.num_frames[row]) for row in matching)
    if not rows:
        raise UserError(
            f"all {len(matching)} videos are shorter than a clip of {num_frames} frames",
            {
                "looked in": videos.dir,
                "longest": f"{longest} frames",
                "to fix": "prepare longer videos, or more frames per second: "
                "i2v extract-frames --fps ...",
            },
            EXIT_NO_DATA,
        )
    if len(rows) < len(matching):
        short = len(matching) - len(rows)
        work.log(f"{short} of {len(matching)} videos have fewer than {num_frames} frames: left out")
    return rows


def _other_size(folder: Path, found_px: int, wanted_px: Sequence[int]) -> UserError:
    wanted = " or ".join(f"{size}" for size in sorted(set(wanted_px)))
    return UserError(
        f"the data has frames of {found_px} px, the model takes {wanted} px",
        {
            "data": folder,
            "to fix": f"choose data.variant={wanted_px[0]}px, made with: "
            f"i2v extract-frames ... --size {wanted_px[0]}",
        },
        EXIT_USAGE,
    )
