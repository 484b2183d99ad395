"""Structural similarity between videos and the real videos they should equal.

Wang et al., Image Quality Assessment, 2004: Gaussian window 11 x 11 with sigma 1.5, no padding, no
sample covariance, K1 = 0.01, K2 = 0.03. Shapes: N images, C channels, H W height and width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.events import UserError
from pipelines.metrics.config import PairedProtocol
from pipelines.metrics.paired import (
    BatchMean,
    Figure,
    PairedMean,
    frame_by_frame,
    measured_range,
)

WINDOW_PX, _SIGMA = 11, 1.5
_K1, _K2 = 0.01, 0.03


def build(protocol: PairedProtocol | None = None) -> PairedMean | BatchMean:
    """Without a protocol: data range 1, one value per frame (mean over channels and places)."""
    protocol = protocol or PairedProtocol()
    settings: dict[str, str | float | bool] = {
        "data range": 1 if protocol.data_range == "1" else "measured",
        "window": "Gaussian 11 px, sigma 1.5, valid",
    }
    figure = Figure("ssim", "", "higher", settings)
    if protocol.mean_over == "batches":
        settings["per"] = f"batch of {protocol.batch_size} videos"
        return BatchMean(figure, batch_ssim, batch_size=protocol.batch_size)
    return PairedMean(figure, frame_by_frame(frame_ssim), protocol=protocol)


def frame_ssim(real: Tensor, fake: Tensor) -> Tensor:
    """real, fake: N C H W in [0, 1].  Returns N values in [-1, 1], 1 for equal frames."""
    return ssim_map(real, fake).mean((1, 2, 3))


def batch_ssim(real: Tensor, fake: Tensor) -> Tensor:
    """One value for all images, N C H W; the data range is what they span."""
    return ssim_map(real, fake, data_range=measured_range(real, fake)).mean()


def ssim_map(real: Tensor, fake: Tensor, *, data_range: float | Tensor = 1.0) -> Tensor:
    """Similarity at each place where the window fits.

    real, fake: N C H W with values `data_range` apart at most.  Returns N C H-10 W-10, float64.
    Raises UserError when an image is smaller than the window.
    """
    if min(real.shape[-2:]) < WINDOW_PX:
        raise UserError(
            f"frames of {real.shape[-1]} x {real.shape[-2]} px are too small for SSIM",
            {"needs": f"{WINDOW_PX} px or more", "to fix": "leave ssim out"},
        )
    real, fake = real.double(), fake.double()
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    mean_r, mean_f = _blur(real), _blur(fake)
    variance_r = _blur(real * real) - mean_r * mean_r
    variance_f = _blur(fake * fake) - mean_f * mean_f
    covariance = _blur(real * fake) - mean_r * mean_f
    similarity = (2 * mean_r * mean_f + c1) * (2 * covariance + c2)
    return similarity / ((mean_r**2 + mean_f**2 + c1) * (variance_r + variance_f + c2))


def _blur(images: Tensor) -> Tensor:
    """Gaussian window along one axis, then the other."""
    offsets = torch.arange(WINDOW_PX, dtype=images.dtype, device=images.device) - WINDOW_PX // 2
    window = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    window = (window / window.sum()).expand(images.shape[1], 1, 1, WINDOW_PX)
    across = F.conv2d(images, window, groups=images.shape[1])
    return F.conv2d(across, window.transpose(2, 3), groups=images.shape[1])
