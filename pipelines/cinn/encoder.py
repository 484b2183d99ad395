"""Stage-1 encoder: from the frames that follow a start frame to a Gaussian over one motion code."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.nn.norms import group_norm
from pipelines.nn.resnet3d import ResidualBlock3d


class VideoEncoder(nn.Module):
    """A 3D ResNet-18 that sums a whole clip up in `code_size` numbers (spec: cinn, 2.1)."""

    def __init__(
        self,
        *,
        size_px: int = 64,
        code_size: int = 64,
        channels: Sequence[int] = (64, 128, 256, 512, 512),
        stride_space: Sequence[int] = (1, 2, 2, 2),
        stride_time: Sequence[int] = (1, 2, 2, 2),
    ) -> None:
        """channels: of the first convolution and the four groups; strides: of the four groups."""
        super().__init__()
        self.max_frames = 2 * prod(stride_time)
        self.conv = nn.Conv3d(3, channels[0], (3, 7, 7), stride=2, padding=(1, 3, 3), bias=False)
        self.norm = group_norm(channels[0])
        self.groups = nn.ModuleList()
        widths = zip(channels, channels[1:], stride_time, stride_space, strict=False)
        map_px = _halved(size_px, 2)
        for width_in, width_out, time, space in widths:
            first = ResidualBlock3d(width_in, width_out, stride=(time, space, space), planned=True)
            second = ResidualBlock3d(width_out, width_out, stride=(1, 1, 1), planned=True)
            self.groups.append(nn.Sequential(first, second))
            map_px = _halved(map_px, space)
        self.to_mean = nn.Conv2d(channels[-1], code_size, map_px)
        self.to_log_variance = nn.Conv2d(channels[-1], code_size, map_px)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, video: Tensor) -> tuple[Tensor, Tensor]:
        """The posterior of a clip's motion code.

        video: B T 3 S S in [-1, 1], the frames after the start frame, at most `max_frames` of them.
        Returns mean and log-variance, B Z each.
        """
        if video.shape[1] > self.max_frames:
            raise ValueError(f"{video.shape[1]} frames, the encoder takes {self.max_frames}")
        x = video.transpose(1, 2)
        x = F.relu(self.norm(self.conv(x)), inplace=True)
        for group in self.groups:
            x = group(x)
        x = x.squeeze(2)
        return self.to_mean(x).flatten(1), self.to_log_variance(x).flatten(1)


def sample_code(mean: Tensor, log_variance: Tensor, noise: Tensor) -> Tensor:
    """A motion code from its posterior. All B Z; noise: standard normal."""
    return mean + torch.exp(0.5 * log_variance) * noise


def _halved(size_px: int, stride: int) -> int:
    """Size of a map after a convolution with 'same' padding and a stride."""
    return (size_px + stride - 1) // stride
