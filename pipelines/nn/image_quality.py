"""PSNR and SSIM as the published training logs have them (those of pytorch-lightning 1.2.7).

Unlike the metrics in `pipelines.metrics`, the data range is taken from the batch, which makes them
good for watching one run and not for comparing models.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_WINDOW_PX, _SIGMA = 11, 1.5
_K1, _K2 = 0.01, 0.03


def psnr(real: Tensor, fake: Tensor) -> Tensor:
    """Decibels, one squared error for the whole batch; the data range is that of `fake`."""
    data_range = fake.max() - fake.min()
    return 10 * torch.log10(data_range.square() / F.mse_loss(fake, real))


def ssim(real: Tensor, fake: Tensor) -> Tensor:
    """Mean structural similarity; the data range is the larger one of the two batches.

    real, fake: N C H W.  The window stays inside the image, which must be 11 pixels or larger.
    """
    data_range = torch.maximum(real.max() - real.min(), fake.max() - fake.min())
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    moments = _blur(torch.cat((real, fake, real * real, fake * fake, real * fake)))
    mean_r, mean_f, square_r, square_f, product = moments.chunk(5)
    mean_product = mean_r * mean_f
    mean_squares = mean_r.square() + mean_f.square()
    covariance = product - mean_product
    variances = square_r + square_f - mean_squares
    similarity = (2 * mean_product + c1) * (2 * covariance + c2)
    return (similarity / ((mean_squares + c1) * (variances + c2))).mean()


def _blur(images: Tensor) -> Tensor:
    """Gaussian window along both axes, without padding, as two matrix products."""
    height, width = images.shape[-2:]
    return _window_matrix(height, images) @ images @ _window_matrix(width, images).t()


def _window_matrix(size_px: int, like: Tensor) -> Tensor:
    """The window at every place where it fits along one axis: size - 10, size."""
    offsets = torch.arange(_WINDOW_PX, device=like.device)
    places = torch.arange(size_px - _WINDOW_PX + 1, device=like.device)
    window = torch.exp(-(offsets - _WINDOW_PX // 2).square() / (2 * _SIGMA**2)).to(like.dtype)
    matrix = like.new_zeros(len(places), size_px)
    values = (window / window.sum()).expand(len(places), -1)
    return matrix.scatter_(1, places[:, None] + offsets, values)
