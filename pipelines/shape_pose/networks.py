"""The shape-and-posture net (VunetAlter): appearance as a code, posture as a picture (2.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.shape_pose.blocks import (
    PyramidEncoder,
    ResidualBlock,
    Upsample,
    convolution,
    upsamplings,
)
from pipelines.shape_pose.config import NUM_LATENT_SCALES, NetworkConfig


@dataclass(frozen=True)
class Appearance:
    """Two scales, coarse first. codes: drawn; means, log_stds: what they are drawn from."""

    codes: list[Tensor]
    means: list[Tensor]
    log_stds: list[Tensor]


class AppearanceEncoder(nn.Module):
    """From maps of the appearance to codes at the two coarsest scales."""

    def __init__(self, config: NetworkConfig, *, has_log_std: bool = True) -> None:
        super().__init__()
        make, width = convolution(config), config.max_width
        self.input = make(width, width, 1)
        # of one kind in every published model; behind the fine code nothing is read any more
        self.blocks = nn.ModuleList(
            ResidualBlock(width, beside) for beside in (width, 2 * width, width)
        )
        self.means = _heads(config, width)
        self.log_stds = _heads(config, width) if has_log_std else None
        # the coarse scale's; the published network has another one whose output nothing reads
        self.up = Upsample(width, width)

    def forward(self, maps: Sequence[Tensor], noise: Sequence[Tensor]) -> Appearance:
        """maps: of PyramidEncoder.  noise: coarse and fine, standard normal; zeros: no chance.

        The fine scale is told the code that was drawn at the coarse one, not its mean.
        """
        rest = list(maps)
        found = Appearance([], [], [])
        x = self.input(rest[-1])
        for i in range(NUM_LATENT_SCALES):
            x = self.blocks[2 * i](x, rest.pop())
            mean = self.means[i](x)
            log_std = torch.zeros_like(mean)
            if self.log_stds is not None:
                log_std = self.log_stds[i](x).sigmoid()
            code = mean + log_std.exp() * noise[i]
            found.codes.append(code)
            found.means.append(mean)
            found.log_stds.append(log_std)
            if i < NUM_LATENT_SCALES - 1:
                x = self.blocks[2 * i + 1](x, torch.cat([rest.pop(), code], dim=1))
                x = self.up(x)
        return found


class ImageDecoder(nn.Module):
    """From maps of the stick figure and codes of an appearance to an image."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        make = convolution(config)
        num_scales = config.num_scales
        widths = [min(config.max_width, config.width * 2**i) for i in reversed(range(num_scales))]
        self.input = make(widths[0], widths[0], 1)
        self.blocks = nn.ModuleList(
            ResidualBlock(width, width, convolution=make) for width in widths for _ in range(2)
        )
        self.code_blocks = nn.ModuleList(
            ResidualBlock(config.max_width, config.max_width, convolution=make)
            for _ in range(NUM_LATENT_SCALES)
        )
        self.ups = upsamplings(config, widths)
        self.output = make(widths[-1], 3, 3, padding=1)

    def forward(self, maps: Sequence[Tensor], codes: Sequence[Tensor]) -> Tensor:
        """maps: of PyramidEncoder.  codes: coarse first.  Returns B 3 H W, about -1 to 1."""
        rest = list(maps)
        x = self.input(rest[-1])
        for i in range(len(self.ups) + 1):
            x = self.blocks[2 * i](x, rest.pop(), uses_up=True)
            if i < len(codes):
                x = self.code_blocks[i](x, codes[i], uses_up=True)
            x = self.blocks[2 * i + 1](x, rest.pop(), uses_up=True)
            if i < len(self.ups):
                x = self.ups[i](x)
        return self.output(x)


class ShapePoseNet(nn.Module):
    """The whole of it."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.appearance_maps = PyramidEncoder(
            config,
            channels_in=config.appearance_channels,
            num_scales=config.num_appearance_scales,
        )
        self.figure_maps = PyramidEncoder(config, channels_in=3, num_scales=config.num_scales)
        self.encoder = AppearanceEncoder(config)
        self.decoder = ImageDecoder(config)

    def encode(self, appearance: Tensor, noise: Sequence[Tensor]) -> Appearance:
        """appearance: B C H W in [-1, 1].  noise: coarse and fine."""
        return self.encoder(self.appearance_maps(appearance), noise)

    def render(self, figure: Tensor, codes: Sequence[Tensor]) -> Tensor:
        """figure: stick figure, B 3 H W in [-1, 1].  codes: coarse and fine.  Returns B 3 H W."""
        return self.decoder(self.figure_maps(figure), codes)


class KeypointRegressor(nn.Module):
    """Predicts the posture from appearance codes, which should not tell it (2.4)."""

    def __init__(self, *, num_outputs: int, code_sizes_px: Sequence[int], width: int = 128) -> None:
        """code_sizes_px: height and width of the codes, fine first."""
        super().__init__()
        self.embedders = nn.ModuleList(nn.Conv2d(width, width, size) for size in code_sizes_px)
        self.hidden = nn.Linear(width * len(code_sizes_px), width)
        self.output = nn.Linear(width, num_outputs)

    def forward(self, means: Sequence[Tensor]) -> Tensor:
        """means: coarse first.  Returns B num_outputs, x and y of each joint in turn."""
        pairs = zip(self.embedders, reversed(means), strict=True)
        embedded = [F.relu(embedder(mean)).flatten(1) for embedder, mean in pairs]
        return self.output(F.relu(self.hidden(torch.cat(embedded, dim=1))))


def _heads(config: NetworkConfig, width: int) -> nn.ModuleList:
    make = convolution(config)
    return nn.ModuleList(make(width, width, 3, padding=1) for _ in range(NUM_LATENT_SCALES))
