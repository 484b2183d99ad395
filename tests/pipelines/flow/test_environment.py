"""The environment `flow` can do what flow estimation needs of it."""

from __future__ import annotations

import cv2
import imageio_ffmpeg
import numpy as np
import pytest
import torch
from torchvision.models.optical_flow import raft_small


@pytest.fixture
def texture() -> np.ndarray:
    """H W uint8: smooth noise, which has one best match everywhere."""
    noise = np.random.default_rng(0).random((160, 192), dtype=np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


@pytest.mark.parametrize(("right", "down"), [(5, 0), (0, -3), (4, 2)])
def test_dis_flow_of_a_shifted_image_is_the_shift(
    texture: np.ndarray, right: int, down: int
) -> None:
    shifted = np.roll(texture, (down, right), axis=(0, 1))
    estimator = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = estimator.calc(texture, shifted, None)
    # What rolls over the border has no match near it.
    inside = flow[24:-24, 24:-24].reshape(-1, 2)
    assert np.median(inside, axis=0) == pytest.approx((right, down), abs=0.1)
    assert np.abs(inside - (right, down)).mean() < 0.25


def test_raft_gives_one_flow_field_of_the_image_size_for_each_update() -> None:
    torch.manual_seed(0)
    network = raft_small(weights=None).eval()
    images = torch.rand(2, 3, 128, 136) * 2 - 1
    with torch.inference_mode():
        flows = network(images[:1], images[1:], num_flow_updates=2)
    assert [tuple(flow.shape) for flow in flows] == [(1, 2, 128, 136)] * 2
    assert all(torch.isfinite(flow).all() for flow in flows)


def test_the_ffmpeg_program_is_in_the_environment() -> None:
    assert imageio_ffmpeg.get_ffmpeg_exe().startswith(imageio_ffmpeg.__path__[0])
