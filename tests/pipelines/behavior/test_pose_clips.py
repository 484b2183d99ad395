from __future__ import annotations

import numpy as np
import pytest

from pipelines.behavior.pose_clips import PoseScale, clip_frames


@pytest.mark.parametrize("start", range(0, 141, 7))
@pytest.mark.parametrize("last_frame", [50, 60, 99, 100, 101, 140])
def test_a_clip_stays_inside_its_video_whatever_is_asked_for(start: int, last_frame: int) -> None:
    clip = clip_frames(min(start, last_frame), 50, lag=2, first_frame=0, last_frame=last_frame)
    assert len(clip) == 51
    assert clip[0] >= 0 and clip[-1] <= last_frame
    assert len(set(np.diff(clip))) == 1


def test_a_clip_with_room_starts_where_it_was_asked_to() -> None:
    assert clip_frames(7, 3, lag=4, first_frame=0, last_frame=100).tolist() == [7, 11, 15, 19]


def test_a_short_video_gets_a_smaller_lag() -> None:
    clip = clip_frames(3, 10, lag=5, first_frame=0, last_frame=24)
    assert clip.tolist() == list(range(4, 25, 2))


def test_a_video_without_enough_frames_is_refused() -> None:
    assert clip_frames(9, 10, lag=5, first_frame=3, last_frame=13)[-1] == 13
    with pytest.raises(ValueError, match="hold no clip of 10 steps"):
        clip_frames(9, 10, lag=5, first_frame=3, last_frame=12)


def test_poses_come_back_from_the_scale_they_are_learned_in() -> None:
    poses = np.random.default_rng(0).normal(3, 2, (40, 7, 5))
    poses[..., 2] = 4.0
    scale = PoseScale.of(poses.reshape(-1, 5))
    normalized = scale.normalize(poses)
    assert normalized.shape == (40, 7, 4)
    assert np.allclose(normalized.mean(axis=(0, 1)), 0) and np.allclose(normalized.std((0, 1)), 1)
    assert np.allclose(scale.restore(normalized), poses)
