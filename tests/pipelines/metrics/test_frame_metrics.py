from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pipelines.events import UserError
from pipelines.metrics.l1 import frame_l1
from pipelines.metrics.motion_energy import energy
from pipelines.metrics.psnr import decibels, frame_psnr
from pipelines.metrics.ssim import frame_ssim, ssim_map


def images(num: int, seed: int, size: tuple[int, int] = (20, 24)) -> torch.Tensor:
    return torch.rand(num, 3, *size, generator=torch.Generator().manual_seed(seed))


def test_psnr_of_a_known_error():
    real = torch.full((1, 3, 8, 8), 0.5)
    assert float(frame_psnr(real, real + 0.1)) == pytest.approx(20.0, abs=1e-5)
    assert float(frame_psnr(real, real - 0.01)) == pytest.approx(40.0, abs=1e-3)


def test_l1_is_the_mean_absolute_difference_of_each_frame():
    real = torch.full((2, 3, 8, 8), 0.5)
    fake = real.clone()
    fake[0] += 0.1
    fake[1, 0] -= 0.3
    torch.testing.assert_close(frame_l1(real, fake).float(), torch.tensor([0.1, 0.1]))


def test_psnr_of_equal_frames_is_infinite():
    assert torch.isinf(frame_psnr(images(2, 0), images(2, 0))).all()


def test_twice_the_data_range_adds_six_decibels():
    error = torch.tensor(0.01, dtype=torch.float64)
    gain = decibels(error, data_range=2.0) - decibels(error)
    assert float(gain) == pytest.approx(20 * math.log10(2))


def ssim_by_definition(real: np.ndarray, fake: np.ndarray) -> float:
    """One channel, place by place, straight from the paper."""
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for y in range(real.shape[0] - 10):
        for x in range(real.shape[1] - 10):
            a, b = real[y : y + 11, x : x + 11], fake[y : y + 11, x : x + 11]
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
            covariance = (window * (a - mean_a) * (b - mean_b)).sum()
            values.append(
                (2 * mean_a * mean_b + 0.01**2) * (2 * covariance + 0.03**2)
                / ((mean_a**2 + mean_b**2 + 0.01**2) * (var_a + var_b + 0.03**2))
            )  # fmt: skip
    return float(np.mean(values))


def test_ssim_is_what_the_definition_gives_place_by_place():
    real, fake = images(2, 1), 0.7 * images(2, 1) + 0.3 * images(2, 2)
    planes = [each.double().numpy().reshape(2, 3, 20, 24) for each in (real, fake)]
    expected = [
        np.mean([ssim_by_definition(planes[0][i, c], planes[1][i, c]) for c in range(3)])
        for i in range(2)
    ]
    assert frame_ssim(real, fake).tolist() == pytest.approx(expected, abs=1e-9)


def test_ssim_of_equal_frames_is_one():
    assert frame_ssim(images(2, 3), images(2, 3)).tolist() == pytest.approx([1.0, 1.0])


def test_ssim_has_a_value_wherever_the_window_fits():
    assert ssim_map(images(1, 4), images(1, 5)).shape == (1, 3, 10, 14)


def test_ssim_does_not_depend_on_the_unit_when_the_data_range_is_given():
    real, fake = images(1, 6), images(1, 7)
    scaled = ssim_map(255 * real, 255 * fake, data_range=255.0)
    torch.testing.assert_close(scaled, ssim_map(real, fake), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("measure", [frame_psnr, frame_ssim])
def test_more_noise_is_worse(measure):
    real, noise = images(1, 8), images(1, 9) - 0.5
    values = [float(measure(real, real + amount * noise)) for amount in (0.05, 0.2, 0.5)]
    assert values[0] > values[1] > values[2]


def test_frames_smaller_than_the_window_are_refused():
    with pytest.raises(UserError, match="too small for SSIM"):
        frame_ssim(images(1, 0, (10, 40)), images(1, 0, (10, 40)))


def test_motion_energy_is_the_mean_change_from_frame_to_frame():
    frames = np.zeros((4, 8, 8, 3), np.uint8)
    frames[1], frames[2], frames[3] = 51, 0, 255  # changes of 0.2, 0.2 and 1
    assert energy(frames) == pytest.approx((0.2 + 0.2 + 1.0) / 3)


def test_a_still_video_has_no_motion_energy():
    assert energy(np.full((5, 8, 8, 3), 200, np.uint8)) == 0
