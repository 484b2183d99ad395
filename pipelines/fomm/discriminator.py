"""Patch discriminators over an image pyramid (spec: completion, B.5)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.fomm.blocks import AntiAliasDownsample
from pipelines.fomm.config import DiscriminatorConfig
from pipelines.fomm.keypoints import Keypoints, gaussian_maps
from pipelines.nn.instance_norm import InstanceNorm2d
from pipelines.nn.spectral_norm import SpectralConv2d


class ImagePyramid(nn.Module):
    """An image at several sizes."""

    def __init__(self, scales: tuple[float, ...]) -> None:
        super().__init__()
        self.scales = scales
        self.downsamples = nn.ModuleList(AntiAliasDownsample(scale) for scale in scales)

    def forward(self, image: Tensor) -> dict[float, Tensor]:
        """image: B C H W; returns it by scale."""
        pairs = zip(self.scales, self.downsamples, strict=True)
        return {scale: downsample(image) for scale, downsample in pairs}


class PatchDiscriminator(nn.Module):
    """Judges patches of one image, and tells what it saw in them."""

    def __init__(self, config: DiscriminatorConfig, *, channels_in: int) -> None:
        super().__init__()
        make = SpectralConv2d if config.has_spectral_norm else nn.Conv2d
        widths = [channels_in] + [
            min(config.max_features, config.block_expansion * 2 ** (i + 1))
            for i in range(config.num_blocks)
        ]
        pairs = itertools.pairwise(widths)
        self.convs = nn.ModuleList(make(a, b, 4) for a, b in pairs)
        # the first block has no norm
        self.norms = nn.ModuleList(
            InstanceNorm2d(width, affine=True) if i > 0 else nn.Identity()
            for i, width in enumerate(widths[1:])
        )
        self.final = make(widths[-1], 1, 1)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """x: B C H W; returns the maps after each block, and the scores B 1 h w."""
        maps = []
        for i, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = F.leaky_relu(norm(conv(x)), 0.2)
            if i < len(self.convs) - 1:
                x = F.avg_pool2d(x, 2)
            maps.append(x)
        return maps, self.final(x)


class MultiScaleDiscriminator(nn.Module):
    """One patch discriminator per scale."""

    def __init__(
        self, config: DiscriminatorConfig, *, num_keypoints: int, num_channels: int
    ) -> None:
        super().__init__()
        self.scales, self.sees_keypoints = config.scales, config.sees_keypoints
        channels = num_channels + (num_keypoints if config.sees_keypoints else 0)
        self.by_scale = nn.ModuleList(
            PatchDiscriminator(config, channels_in=channels) for _ in config.scales
        )

    def forward(
        self, pyramid: Mapping[float, Tensor], keypoints: Keypoints | None = None
    ) -> dict[float, tuple[list[Tensor], Tensor]]:
        """pyramid: images by scale.  keypoints: of the driving image, where they are seen.

        Returns by scale the feature maps and the scores of PatchDiscriminator.
        """
        judged = {}
        for scale, discriminator in zip(self.scales, self.by_scale, strict=True):
            image = pyramid[scale].contiguous()
            if self.sees_keypoints:
                assert keypoints is not None
                heat = gaussian_maps(keypoints.value, *image.shape[2:])
                image = torch.cat([image, heat], dim=1)
            judged[scale] = discriminator(image)
        return judged
