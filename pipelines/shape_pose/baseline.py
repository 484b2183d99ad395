"""The original VUNet: codes of unit variance, and a prior that looks at the posture (2.6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipelines.shape_pose.blocks import (
    Convolution,
    PyramidEncoder,
    ResidualBlock,
    convolution,
    depth_to_space,
    space_to_depth,
    upsamplings,
)
from pipelines.shape_pose.config import NUM_LATENT_SCALES, NetworkConfig
from pipelines.shape_pose.networks import Appearance, AppearanceEncoder

NUM_GROUPS = 4
"""Each code is drawn in four parts: the pixels of each 2 x 2 block in turn."""


@dataclass(frozen=True)
class Rendered:
    """image: B 3 H W.  prior_means: coarse first, shaped as the codes."""

    image: Tensor
    prior_means: list[Tensor]


class AutoregressivePrior(nn.Module):
    """What the posture says of the appearance code, part after part."""

    def __init__(self, width: int, *, convolution: Convolution) -> None:
        super().__init__()
        deep = 4 * width
        self.first = ResidualBlock(width)
        self.rest = nn.ModuleList(ResidualBlock(deep, width) for _ in range(NUM_GROUPS - 1))
        self.means = nn.ModuleList(
            convolution(deep, width, 3, padding=1) for _ in range(NUM_GROUPS)
        )

    def forward(
        self, x: Tensor, noise: Sequence[Tensor], posterior: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """x: B C H W.  noise: one per part, B C H/2 W/2.  posterior: the code, where it is known.

        Returns the prior's mean and a code drawn from it, B C H W.
        """
        given = None if posterior is None else space_to_depth(posterior).chunk(NUM_GROUPS, dim=1)
        features = space_to_depth(self.first(x))
        means, drawn = [], []
        for i, head in enumerate(self.means):
            means.append(head(features))
            drawn.append(means[-1] + noise[i])
            if i < NUM_GROUPS - 1:
                seen = drawn[-1] if given is None else given[i]
                features = self.rest[i](features, seen)
        return depth_to_space(torch.cat(means, dim=1)), depth_to_space(torch.cat(drawn, dim=1))


class BaselineDecoder(nn.Module):
    """From maps of the stick figure to an image, with or without codes of an appearance."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        make, width = convolution(config), config.max_width
        widths = [min(width, config.width * 2**i) for i in reversed(range(config.num_scales))]
        self.input = make(widths[0], widths[0], 1)
        self.blocks = nn.ModuleList(
            ResidualBlock(each, each, convolution=make) for each in widths for _ in range(2)
        )
        self.priors = nn.ModuleList(
            AutoregressivePrior(width, convolution=make) for _ in range(NUM_LATENT_SCALES)
        )
        self.code_inputs = nn.ModuleList(
            make(2 * width, width, 1) for _ in range(NUM_LATENT_SCALES)
        )
        self.ups = upsamplings(config, widths)
        self.output = make(widths[-1], 3, 3, padding=1)

    def forward(
        self, maps: Sequence[Tensor], noise: Sequence[Tensor], codes: Sequence[Tensor] | None
    ) -> Rendered:
        """noise: four of the coarse scale, then four of the fine.  codes: None: from the prior."""
        rest, prior_means = list(maps), []
        x = self.input(rest[-1])
        for i in range(len(self.ups) + 1):
            x = self.blocks[2 * i](x, rest.pop())
            if i < NUM_LATENT_SCALES:
                code = None if codes is None else codes[i]
                mean, drawn = self.priors[i](x, noise[NUM_GROUPS * i :][:NUM_GROUPS], code)
                prior_means.append(mean)
                seen = drawn if code is None else code
                x = self.code_inputs[i](torch.cat([x, seen], dim=1))
            x = self.blocks[2 * i + 1](x, rest.pop())
            if i < len(self.ups):
                x = self.ups[i](x)
        return Rendered(self.output(x), prior_means)


class BaselineVunet(nn.Module):
    """The whole of it."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.appearance_maps = PyramidEncoder(
            config,
            channels_in=config.appearance_channels,
            num_scales=config.num_appearance_scales,
        )
        self.figure_maps = PyramidEncoder(config, channels_in=3, num_scales=config.num_scales)
        self.encoder = AppearanceEncoder(config, has_log_std=False)
        self.decoder = BaselineDecoder(config)

    def encode(self, appearance: Tensor, noise: Sequence[Tensor]) -> Appearance:
        """appearance: B C H W in [-1, 1].  noise: coarse and fine."""
        return self.encoder(self.appearance_maps(appearance), noise)

    def render(
        self, figure: Tensor, noise: Sequence[Tensor], codes: Sequence[Tensor] | None = None
    ) -> Rendered:
        """figure: B 3 H W in [-1, 1].  noise: eight, of the prior.  codes: of an appearance."""
        return self.decoder(self.figure_maps(figure), noise, codes)
