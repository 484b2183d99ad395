"""Peak signal-to-noise ratio between videos and the real videos they should equal."""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.metrics.paired import PairedMean

CAP_DB = 100.0
"""What a frame without any error counts in a mean; its true value is infinite."""


def build() -> PairedMean:
    """Data range 1, one value per frame, then the mean."""
    return PairedMean(
        "psnr",
        frame_psnr,
        unit="dB",
        better="higher",
        settings={"data range": 1, "per": "frame"},
        cap=CAP_DB,
    )


def frame_psnr(real: Tensor, fake: Tensor) -> Tensor:
    """real, fake: N C H W in [0, 1].  Returns N values in dB, infinite for equal frames."""
    return decibels(squared_error(real, fake).mean((1, 2, 3)))


def squared_error(real: Tensor, fake: Tensor) -> Tensor:
    """Squared differences, float64, of the same shape."""
    return (real.double() - fake.double()).square()


def decibels(mean_squared_error: Tensor, *, data_range: float | Tensor = 1.0) -> Tensor:
    """10 log10(data_range^2 / MSE), element by element."""
    peak = torch.as_tensor(data_range, dtype=torch.float64).square()
    return 10.0 * torch.log10(peak / mean_squared_error)
