"""PSNR and SSIM as training logs have them, beside their definitions."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from pipelines.nn.image_quality import psnr, ssim


def direct_ssim(real, fake) -> float:
    """Window by window, as the formula is written."""
    offsets = torch.arange(11) - 5.0
    window = torch.exp(-(offsets**2) / (2 * 1.5**2))
    window = (window[:, None] * window) / (window.sum() ** 2)
    data_range = max(real.max() - real.min(), fake.max() - fake.min())
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    values = []
    patches = zip(real.flatten(0, 1), fake.flatten(0, 1), strict=True)
    for a, b in patches:
        for row in range(a.shape[0] - 10):
            for column in range(a.shape[1] - 10):
                x, y = (each[row : row + 11, column : column + 11] for each in (a, b))
                mean_x, mean_y = (window * x).sum(), (window * y).sum()
                variance_x = (window * (x - mean_x) ** 2).sum()
                variance_y = (window * (y - mean_y) ** 2).sum()
                covariance = (window * (x - mean_x) * (y - mean_y)).sum()
                above = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
                below = (mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2)
                values.append(above / below)
    return float(torch.stack(values).mean())


def test_ssim_is_its_formula_at_every_window_inside_the_image() -> None:
    real = F.avg_pool2d(torch.rand(2, 3, 30, 26), 2)
    fake = (real + 0.1 * torch.randn_like(real)).clamp(0, 1)
    assert ssim(real, fake).item() == pytest.approx(direct_ssim(real, fake), abs=1e-4)


def test_ssim_does_not_depend_on_the_side_or_on_the_unit() -> None:
    real, fake = torch.rand(2, 1, 3, 20, 20)
    assert ssim(real, fake).item() == pytest.approx(ssim(fake, real).item(), abs=1e-6)
    assert ssim(real * 255, fake * 255).item() == pytest.approx(ssim(real, fake).item(), abs=1e-4)


def test_psnr_is_in_decibels_over_the_range_of_the_second() -> None:
    fake = torch.rand(2, 3, 8, 8) * 4
    real = fake + 0.2
    data_range = (fake.max() - fake.min()).item()
    expected = 10 * math.log10(data_range**2 / 0.04)
    assert psnr(real, fake).item() == pytest.approx(expected, abs=1e-3)
    assert psnr(fake + 0.1, fake) > psnr(real, fake)
