"""The two discriminators of stage 1; the image autoencoder uses the patch discriminator too."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.nn.norms import ActNorm, group_norm
from pipelines.nn.resnet3d import ResidualBlock3d
from pipelines.nn.spectral_norm import SpectralConv2d, SpectralConv3d


class TemporalDiscriminator(nn.Module):
    """A 3D ResNet-18 that judges a window of consecutive frames (spec: cinn, 2.3).

    Spectral norm is on the first block of each group only, as in the published weights.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int] = (64, 64, 128, 256, 512),
        stride_space: Sequence[int] = (1, 1, 2, 2),
        stride_time: Sequence[int] = (2, 2, 2, 2),
        has_max_pool: bool = True,
        spectral: bool = True,
    ) -> None:
        """channels: of the first convolution and the four groups; strides: of the four groups."""
        super().__init__()
        self.conv = nn.Conv3d(
            3, channels[0], (3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=False
        )
        self.norm = group_norm(channels[0])
        self.pool: nn.Module = nn.Identity()
        if has_max_pool:
            self.pool = nn.MaxPool3d(3, stride=(1, 2, 2), padding=1)
        self.groups = nn.ModuleList()
        widths = zip(channels, channels[1:], stride_time, stride_space, strict=False)
        for width_in, width_out, time, space in widths:
            stride = (time, space, space)
            first = ResidualBlock3d(width_in, width_out, stride=stride, spectral=spectral)
            second = ResidualBlock3d(width_out, width_out, stride=(1, 1, 1))
            self.groups.append(nn.Sequential(first, second))
        self.to_logit = nn.Linear(channels[-1], 1, bias=False)
        self._initialize()

    def forward(self, frames: Tensor) -> tuple[Tensor, list[Tensor]]:
        """frames: B T 3 S S in [-1, 1].  Returns logits B 1, and the groups' outputs, B C T H W."""
        x = frames.transpose(1, 2)
        x = self.pool(F.relu(self.norm(self.conv(x)), inplace=True))
        features = []
        for group in self.groups:
            x = group(x)
            features.append(x)
        return self.to_logit(x.mean(dim=(2, 3, 4))), features

    @torch.no_grad()
    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.orthogonal_(module.weight)
            if isinstance(module, SpectralConv3d):
                module.norm.iterate(module.weight)


class PatchDiscriminator(nn.Module):
    """Judges overlapping patches of single images (spec: cinn, 2.4)."""

    def __init__(self, *, width: int = 64, num_layers: int = 3, channels_in: int = 3) -> None:
        """width: channels of the first layer.  num_layers: layers that halve the image."""
        super().__init__()
        widths = [width * min(2**i, 8) for i in range(num_layers + 1)]
        strides = [2] * num_layers + [1]
        self.convs = nn.ModuleList(
            SpectralConv2d(before, after, 4, stride=stride, padding=1)
            for before, after, stride in zip([channels_in, *widths], widths, strides, strict=False)
        )
        self.norms = nn.ModuleList(ActNorm(after) for after in widths[1:])
        self.to_logits = SpectralConv2d(widths[-1], 1, 4, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """images: B 3 S S in [-1, 1].  Returns logits, B 1 h w with h = w = S / 8 - 2."""
        x = F.leaky_relu(self.convs[0](images), 0.2, inplace=True)
        for conv, norm in zip(self.convs[1:], self.norms, strict=True):
            x = F.leaky_relu(norm(conv(x)), 0.2, inplace=True)
        return self.to_logits(x)
