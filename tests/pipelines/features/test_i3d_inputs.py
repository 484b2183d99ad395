"""What each published distance gives to I3D."""

from __future__ import annotations

import pytest
import torch

from pipelines.events import UserError
from pipelines.features.i3d_inputs import (
    dynamic_texture_clips,
    fvd_clips,
    logging_fvd_clips,
    resize_as_tensorflow1,
)


def test_a_pixel_comes_from_its_index_over_the_ratio() -> None:
    ramp = torch.arange(56.0).expand(1, 1, 56, 56)  # each value is its column
    resized = resize_as_tensorflow1(ramp)
    wanted = (torch.arange(224.0) / 4).clamp(max=55)
    torch.testing.assert_close(resized[0, 0, 100], wanted)
    torch.testing.assert_close(resize_as_tensorflow1(ramp.mT)[0, 0, :, 100], wanted)


def test_frames_of_the_right_size_are_left_as_they_are() -> None:
    frames = torch.rand(2, 3, 224, 224)
    assert torch.equal(resize_as_tensorflow1(frames), frames)


def test_bytes_become_minus_one_to_one() -> None:
    videos = torch.zeros(1, 2, 3, 8, 8, dtype=torch.uint8)
    videos[:, 1] = 255
    clips = fvd_clips(videos)
    assert clips.shape == (1, 3, 2, 224, 224)
    assert (clips[:, :, 0] == -1).all()
    assert (clips[:, :, 1] == 1).all()


def test_logging_maps_to_zero_to_one_unless_nothing_is_negative() -> None:
    videos = torch.rand(1, 2, 3, 8, 8)
    torch.testing.assert_close(logging_fvd_clips(2 * videos - 1), logging_fvd_clips(videos))


@pytest.mark.parametrize(("num_frames", "last"), [(10, 5), (16, 15), (20, 15)])
def test_short_clips_loop_and_long_ones_are_cut(num_frames: int, last: int) -> None:
    videos = torch.linspace(-1, 1, num_frames).view(1, -1, 1, 1, 1).expand(1, num_frames, 3, 4, 4)
    clips = dynamic_texture_clips(videos)
    assert clips.shape == (1, 3, 16, 224, 224)
    torch.testing.assert_close(clips[0, 0, -1, 0, 0], videos[0, last, 0, 0, 0])


def test_too_few_frames_are_refused_with_the_number_needed() -> None:
    with pytest.raises(UserError, match=r"32-frame network .* clips of 20 frames"):
        dynamic_texture_clips(torch.zeros(1, 20, 3, 4, 4), length=32)
    with pytest.raises(UserError, match="clips of 5 frames"):
        dynamic_texture_clips(torch.zeros(1, 5, 3, 4, 4))


def test_clips_whose_spread_is_measured_are_not_repeated() -> None:
    videos = torch.rand(1, 20, 3, 4, 4)
    assert dynamic_texture_clips(videos[:, :10], loops=False).shape[2] == 10
    assert dynamic_texture_clips(videos, loops=False).shape[2] == 16
    with pytest.raises(UserError, match="cannot take clips of 20 frames"):
        dynamic_texture_clips(videos, length=32, loops=False)
