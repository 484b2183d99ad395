"""What is read of each clip, and that it does not depend on how the reading is divided."""

from __future__ import annotations

from contextlib import closing
from itertools import islice

import numpy as np
import pytest

from pipelines.clips.batches import (
    ClipBatch,
    Reading,
    clip_batches,
    load_batch,
    load_clips,
    training_batches,
)
from pipelines.clips.rules import Clip, ClipRule, FrameClips, FramePairs, PoseClips, VideoClips
from pipelines.clips.sampler import ClipSampler, Plan
from pipelines.clips.training_data import sampler_of
from pipelines.io.packed import PackedVideos
from tests.pipelines.clips.prepared import LAG, flow_of, frames_of, joints_of

EVERYTHING = Reading(extras=["joints"], flows={LAG: 2})

RULES: dict[str, ClipRule] = {
    "consecutive": VideoClips(7),
    "every second": FrameClips(5, 2),
    "far apart": VideoClips(3, 5),
    "poses": PoseClips(6, 2),
    "pairs": FramePairs(3),
}


def sampler(videos: PackedVideos, rule: ClipRule | None = None, still: float = 0) -> ClipSampler:
    rows = videos.select("train")
    lengths = videos.num_frames[rows] - 6  # so that there is flow at a clip's second frame
    return ClipSampler(rows, lengths, rule or VideoClips(7), seed=0, still_share=still)


def several(batches, count: int) -> list[ClipBatch]:
    with closing(batches):
        return list(islice(batches, count))


@pytest.mark.parametrize("still", [0.0, 0.5], ids=["moving", "some still"])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_a_clip_comes_with_its_own_frames_flow_and_arrays(videos, rule, still) -> None:
    source = sampler(videos, rule, still)
    batches = clip_batches(videos, source, batch_size=6, first_batch=0, reading=EVERYTHING)
    for number, batch in enumerate(several(batches, 4)):
        assert batch.clips == source.plan(number, 6).clips
        for i, (row, start, step) in enumerate(batch.clips):
            frames = [start + step * k for k in range(rule.num_frames)]
            assert np.array_equal(batch.frames[i], frames_of(row, frames))
            assert np.array_equal(batch.extras["joints"][i], joints_of(row, frames))
            expected = flow_of(row, frames[:2])
            assert np.array_equal(batch.flows[LAG][i], expected, equal_nan=True)
        assert batch.frames.dtype == np.uint8
        assert batch.flows[LAG].dtype == np.float32
        assert batch.is_still.tolist() == [clip.step == 0 for clip in batch.clips]


def test_poses_are_read_without_frames(videos) -> None:
    plan = sampler(videos, PoseClips(6, 2)).plan(0, 5)
    batch = load_batch(videos, plan, reading=Reading(has_frames=False, extras=["joints"]))
    assert batch.frames is None
    assert batch.extras["joints"].shape == (5, 6, 5, 2)


def test_flow_may_come_from_elsewhere(videos) -> None:
    class Estimated:
        def flow(self, lag: int, row: int, start: int, count: int = 1) -> np.ndarray:
            return np.full((count, 2, 2, 2), lag * 100 + row * 10 + start, np.float32)

    plan = Plan([Clip(2, 4), Clip(3, 1)], 5)
    batch = load_batch(videos, plan, reading=Reading(flows={10: 1}), flow_source=Estimated())
    assert batch.flows[10][:, 0, 0, 0, 0].tolist() == [1024, 1031]


def test_what_is_not_there_is_an_error_and_not_a_guess(videos) -> None:
    plan = Plan([Clip(0, 0)], 5)
    with pytest.raises(KeyError):
        load_batch(videos, plan, reading=Reading(extras=["masks"]))
    with pytest.raises(KeyError):
        load_batch(videos, plan, reading=Reading(flows={LAG + 1: 1}))
    with pytest.raises(IndexError):
        load_batch(videos, Plan([Clip(0, 18)], 1), reading=Reading(flows={LAG: 1}))
    with pytest.raises(IndexError):
        load_clips(videos, [Clip(0, 10)], 11)


@pytest.mark.parametrize("num_shards", [2, 3, 6])
def test_the_shards_of_a_batch_together_are_the_batch(videos, num_shards) -> None:
    options = {"batch_size": 6, "first_batch": 2, "reading": EVERYTHING}
    source = sampler(videos, FrameClips(5, 2))
    whole = several(clip_batches(videos, source, **options), 3)
    shards = [
        several(clip_batches(videos, source, **options, shard=(number, num_shards)), 3)
        for number in range(num_shards)
    ]
    for number, batch in enumerate(whole):
        parts = [shard[number] for shard in shards]
        assert [clip for part in parts for clip in part.clips] == batch.clips
        assert np.array_equal(np.concatenate([part.frames for part in parts]), batch.frames)
        flows = np.concatenate([part.flows[LAG] for part in parts])
        assert np.array_equal(flows, batch.flows[LAG], equal_nan=True)


def test_a_batch_that_cannot_be_divided_equally_is_refused(videos) -> None:
    with pytest.raises(ValueError, match="no shard 1 of 4"):
        clip_batches(videos, sampler(videos), batch_size=6, first_batch=0, shard=(1, 4))


@pytest.mark.parametrize("workers", [2, 5])
def test_more_workers_read_the_same_in_the_same_order(videos, workers) -> None:
    source = sampler(videos, FrameClips(5, 2), still=0.2)
    options = {"batch_size": 4, "first_batch": 0, "reading": EVERYTHING}
    alone = several(clip_batches(videos, source, **options), 40)
    shared = several(clip_batches(videos, source, **options, workers=workers), 40)
    for one, other in zip(alone, shared, strict=True):
        assert one.clips == other.clips
        assert np.array_equal(one.frames, other.frames)
        assert np.array_equal(one.extras["joints"], other.extras["joints"])


def test_reading_goes_on_where_it_was_left(videos) -> None:
    source = sampler(videos, PoseClips(6, 2))
    whole = several(clip_batches(videos, source, batch_size=5, first_batch=0), 12)
    rest = several(clip_batches(videos, source, batch_size=5, first_batch=9), 3)
    for one, other in zip(whole[9:], rest, strict=True):
        assert one.clips == other.clips
        assert np.array_equal(one.frames, other.frames)


def test_frames_alone_are_those_of_the_whole_batch(videos) -> None:
    source = sampler_of(videos, videos.select("train"), VideoClips(7, repeats=2), seed=3)
    alone = several(training_batches(videos, source, batch_size=3, first_batch=1), 5)
    whole = several(clip_batches(videos, source, batch_size=3, first_batch=1), 5)
    assert all(np.array_equal(a, b.frames) for a, b in zip(alone, whole, strict=True))
