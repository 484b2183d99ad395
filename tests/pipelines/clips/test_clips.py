from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from pipelines.clips.batches import prefetched, training_batches
from pipelines.clips.held_out import fixed_clips
from pipelines.clips.rules import Clip, VideoClips
from pipelines.clips.sampler import ClipSampler

ROWS, LENGTHS = (3, 5, 8, 9), (20, 17, 40, 18)


class NumberedFrames:
    """Frames whose first value is the row and second is the frame number."""

    def frames(self, row: int, start: int, count: int) -> np.ndarray:
        frames = np.zeros((count, 2, 2, 3), np.uint8)
        frames[..., 0] = row
        frames[..., 1] = np.arange(start, start + count)[:, None, None]
        return frames


def sampler(seed: int = 0, repeats: int = 3, num_frames: int = 17) -> ClipSampler:
    return ClipSampler(ROWS, LENGTHS, VideoClips(num_frames, repeats=repeats), seed=seed)


def epoch(number: int, **changes: int) -> list[Clip]:
    clips = sampler(**changes)
    return [clips.clip(number, i) for i in range(clips.clips_per_epoch)]


def test_each_epoch_sees_every_video_equally_often_in_another_order():
    first, second = epoch(0), epoch(1)
    assert Counter(clip.row for clip in first) == dict.fromkeys(ROWS, 3)
    assert Counter(clip.row for clip in second) == dict.fromkeys(ROWS, 3)
    assert [clip.row for clip in first] != [clip.row for clip in second]


def test_a_clip_starts_anywhere_it_fits_and_nowhere_else():
    starts: dict[int, set[int]] = {row: set() for row in ROWS}
    for number in range(60):
        for clip in epoch(number):
            starts[clip.row].add(clip.start)
    for row, length in zip(ROWS, LENGTHS, strict=True):
        assert starts[row] == set(range(length - 17 + 1))


def test_a_clip_depends_on_seed_and_position_alone():
    clips = sampler()
    positions = [30, 2, 13, 12, 2, 0]
    there_and_back = [clips.at(p) for p in positions]
    assert there_and_back == [sampler().at(p) for p in positions]
    assert clips.at(13) == clips.clip(1, 1)
    assert (clips.epoch_at(11), clips.epoch_at(12)) == (0, 1)
    assert [sampler(seed=1).at(p) for p in range(12)] != [clips.at(p) for p in range(12)]


def test_videos_shorter_than_a_clip_are_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="21 frames"):
        sampler(num_frames=21)


def test_batches_hold_the_frames_of_the_clips_and_run_on_over_the_end_of_an_epoch():
    clips = sampler(repeats=1)
    batches = training_batches(NumberedFrames(), clips, batch_size=3, first_batch=0)
    for number, batch in enumerate(islice(batches, 4)):
        assert batch.dtype == np.uint8
        assert batch.shape == (3, 17, 2, 2, 3)
        for i, frames in enumerate(batch):
            row, start, _ = clips.at(3 * number + i)
            assert (frames[..., 0] == row).all()
            assert (frames[:, 0, 0, 1] == np.arange(start, start + 17)).all()
    batches.close()


def test_batches_go_on_where_they_were_left():
    whole = training_batches(NumberedFrames(), sampler(), batch_size=5, first_batch=0)
    rest = training_batches(NumberedFrames(), sampler(), batch_size=5, first_batch=3)
    expected = list(islice(whole, 6))[3:]
    assert all(np.array_equal(*pair) for pair in zip(expected, rest, strict=False))


def test_fixed_clips_are_spread_over_the_videos_and_in_their_middle():
    assert fixed_clips(ROWS, LENGTHS, num_frames=17, limit=2) == [Clip(3, 1), Clip(9, 0)]
    assert fixed_clips(ROWS, LENGTHS, num_frames=17, limit=99) == [
        Clip(3, 1),
        Clip(5, 0),
        Clip(8, 11),
        Clip(9, 0),
    ]


def test_an_error_of_the_thread_reaches_the_training():
    def load(number: int) -> int:
        if number == 3:
            raise OSError("the disk is gone")
        return number

    items = prefetched(load, first=1)
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(OSError, match="the disk is gone"):
        next(items)


def test_prefetching_keeps_the_order():
    assert list(islice(prefetched(lambda n: n * n, first=4), 5)) == [16, 25, 36, 49, 64]
