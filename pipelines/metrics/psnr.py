"""Peak signal-to-noise ratio between videos and the real videos they should equal."""

from __future__ import annotations

import torch
from torch import Tensor

from pipelines.metrics.config import PairedProtocol
from pipelines.metrics.paired import (
    BatchMean,
    Figure,
    PairedMean,
    frame_by_frame,
    measured_range,
)

CAP_DB = 100.0
"""What a frame without any error counts in a mean; its true value is infinite."""


def build(protocol: PairedProtocol | None = None) -> PairedMean | BatchMean:
    """Without a protocol: data range 1, one value per frame, then the mean."""
    protocol = protocol or PairedProtocol()
    settings: dict[str, str | float | bool] = {
        "data range": 1 if protocol.data_range == "1" else "measured",
        "per": {"frames": "frame", "channels": "frame and channel"}.get(
            protocol.mean_over, f"batch of {protocol.batch_size} videos"
        ),
    }
    figure = Figure("psnr", "dB", "higher", settings, CAP_DB)
    if protocol.mean_over == "batches":
        return BatchMean(figure, batch_psnr, batch_size=protocol.batch_size)
    per_frame = channel_psnr if protocol.mean_over == "channels" else frame_psnr
    return PairedMean(figure, frame_by_frame(per_frame), protocol=protocol)


def frame_psnr(real: Tensor, fake: Tensor) -> Tensor:
    """real, fake: N C H W in [0, 1].  Returns N values in dB, infinite for equal frames."""
    return decibels(squared_error(real, fake).mean((1, 2, 3)))


def channel_psnr(real: Tensor, fake: Tensor) -> Tensor:
    """Like frame_psnr, but the mean of three values in dB, one for each channel."""
    return decibels(squared_error(real, fake).mean((2, 3))).clamp(max=CAP_DB).mean(1)


def batch_psnr(real: Tensor, fake: Tensor) -> Tensor:
    """One value in dB for all images, N C H W; the data range is what they span."""
    error = squared_error(real, fake).mean()
    return decibels(error, data_range=measured_range(real, fake))


def squared_error(real: Tensor, fake: Tensor) -> Tensor:
    """Squared differences, float64, of the same shape."""
    return (real.double() - fake.double()).square()


def decibels(mean_squared_error: Tensor, *, data_range: float | Tensor = 1.0) -> Tensor:
    """10 log10(data_range^2 / MSE), element by element."""
    peak = torch.as_tensor(data_range, dtype=torch.float64).square()
    return 10.0 * torch.log10(peak / mean_squared_error)
