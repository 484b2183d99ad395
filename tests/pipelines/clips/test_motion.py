"""Clips that start where something moves, and last as long as it moves far."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.clips.motion import largest_motion, length_classes
from pipelines.clips.sampler import ClipSampler, SeveralLengths
from tests.pipelines.clips.prepared import LAG

MOTIONS = [np.array([0.0, 2.0, 8.0, 1.0] * 5), np.array([4.0] * 20), np.array([0.3] * 20)]


def test_the_largest_motion_is_read_frame_by_frame_and_skips_what_is_unknown(videos) -> None:
    found = largest_motion(videos, 2, lag=LAG, num_flows=37)
    expected = np.hypot(np.arange(37), 2)
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_all_unknown_is_no_motion() -> None:
    class Unknown:
        def flow(self, lag: int, row: int, start: int, count: int = 1) -> np.ndarray:
            return np.full((count, 2, 4, 4), np.nan, np.float32)

    assert largest_motion(Unknown(), 0, lag=1, num_flows=70).tolist() == [0.0] * 70


def test_a_longer_clip_starts_only_where_more_moves() -> None:
    classes = length_classes(MOTIONS, min_frames=5, max_frames=9, cutoff=0.9)
    assert [each.rule.num_frames for each in classes] == [6, 7, 8, 9, 10]
    assert [each.above for each in classes] == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    assert [each.below for each in classes[:-1]] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert classes[-1].below is None
    for each in classes:
        for motion, starts in zip(MOTIONS, each.rule.starts, strict=True):
            assert starts.tolist() == [i for i, m in enumerate(motion) if m > each.above * 8]
    assert [len(each.rule.starts[2]) for each in classes] == [20, 0, 0, 0, 0]


def test_batches_of_each_length_start_among_the_frames_that_move_enough() -> None:
    classes = length_classes(MOTIONS, min_frames=5, max_frames=9, cutoff=0.9)
    samplers = [ClipSampler([0, 1, 2], [25] * 3, each.rule, seed=0) for each in classes]
    weights = [1.0] * 4 + [20.0]
    chosen = SeveralLengths(samplers, weights, seed=0)
    plans = [chosen.plan(batch, 4) for batch in range(400)]
    for plan in plans:
        threshold = classes[plan.num_frames - 6].above * 8
        assert all(MOTIONS[clip.row][clip.start] > threshold for clip in plan.clips)
    longest = sum(plan.num_frames == 10 for plan in plans) / 400
    assert longest == pytest.approx(20 / 24, abs=0.05)


def test_data_in_which_nothing_moves_has_no_such_clips() -> None:
    with pytest.raises(ValueError, match="nothing moves"):
        length_classes([np.zeros(5)], min_frames=5, max_frames=9, cutoff=0.5)
