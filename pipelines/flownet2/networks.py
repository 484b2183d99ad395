"""The single networks of FlowNet2: C, S, SD and fusion (spec: flow, 3).

All have one shape: stages of convolutions, each at half the resolution of the one before, and a
refinement that predicts the flow from coarse to fine. Level k is 1 / 2^k of the input's resolution.
Flow inside the networks is in units of 20 pixels at full resolution (fusion: pixels).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipelines.flownet2.correlation import Correlation

COARSEST, FINEST = 6, 2
"""Levels at which C, S and SD predict flow."""

Maps = dict[int, Tensor]
"""Features or flows by level: B C H/2^k W/2^k."""

_SLOPE = 0.1
_DECONV_CHANNELS = {5: 512, 4: 256, 3: 128, 2: 64}


def _conv(channels_in: int, channels: int, kernel: int = 3, *, stride: int = 1) -> nn.Sequential:
    padding = (kernel - 1) // 2
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, kernel, stride=stride, padding=padding),
        nn.LeakyReLU(_SLOPE, inplace=True),
    )


def _doubling(channels_in: int, channels: int, *, bias: bool = True) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(channels_in, channels, 4, stride=2, padding=1, bias=bias)


def _halving(channels_in: int, channels: int, channels_out: int) -> list[nn.Module]:
    """A convolution to half the resolution, and one more."""
    return [_conv(channels_in, channels, stride=2), _conv(channels, channels_out)]


def _stages(convs: Mapping[int, list[nn.Module]]) -> nn.ModuleDict:
    """The convolutions of each level, one after the other."""
    return nn.ModuleDict({str(level): nn.Sequential(*each) for level, each in convs.items()})


def _late_convs() -> dict[int, list[nn.Module]]:
    """Levels 4 to 6, the same in C, S and SD."""
    return {
        4: _halving(256, 512, 512),
        5: _halving(512, 512, 512),
        6: _halving(512, 1024, 1024),
    }


class Refinement(nn.Module):
    """Flow from coarse to fine.

    At each level below the coarsest these are joined: the stage's features, the joined features of
    the coarser level, deconvolved, and its flow, upsampled. The flow is predicted from them, or
    from a convolution of them (`smooth`) that nothing else reads.

    features: channels of the stages' maps by level, the coarsest first.  deconv: channels of the
    deconvolved maps by level.  smooth: channels of those convolutions by level, or none.
    """

    def __init__(
        self,
        features: Mapping[int, int],
        deconv: Mapping[int, int],
        *,
        smooth: Mapping[int, int] | None = None,
        has_upsampling_bias: bool = True,
    ) -> None:
        super().__init__()
        self.levels = tuple(features)
        self.predict, self.deconv = nn.ModuleDict(), nn.ModuleDict()
        self.upsample, self.smooth = nn.ModuleDict(), nn.ModuleDict()
        coarsest, *finer = self.levels
        joined = features[coarsest]
        self.predict[str(coarsest)] = nn.Conv2d(joined, 2, 3, padding=1)
        for level in finer:
            name = str(level)
            activation = nn.LeakyReLU(_SLOPE, inplace=True)
            self.deconv[name] = nn.Sequential(_doubling(joined, deconv[level]), activation)
            self.upsample[name] = _doubling(2, 2, bias=has_upsampling_bias)
            joined = features[level] + deconv[level] + 2
            read = joined
            if smooth is not None:
                read = smooth[level]
                self.smooth[name] = nn.Conv2d(joined, read, 3, padding=1)
            self.predict[name] = nn.Conv2d(read, 2, 3, padding=1)

    def forward(self, features: Maps) -> Maps:
        """features: the stages' maps.  Returns the flow of every level, B 2 H/2^k W/2^k."""
        coarsest, *finer = self.levels
        joined = features[coarsest]
        flow = self.predict[str(coarsest)](joined)
        flows = {coarsest: flow}
        for level in finer:
            name = str(level)
            joined = torch.cat(
                (features[level], self.deconv[name](joined), self.upsample[name](flow)), dim=1
            )
            read = self.smooth[name](joined) if self.smooth else joined
            flow = flows[level] = self.predict[name](read)
        return flows


class FrameFeatures(NamedTuple):
    """What FlowNetC sees in one frame, before it looks at another.

    level2: B 128 H/4 W/4.  level3: B 256 H/8 W/8.
    """

    level2: Tensor
    level3: Tensor


class FlowNetC(nn.Module):
    """Sees each frame on its own first, then correlates what it found."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = _stages(
            {
                1: [_conv(3, 64, 7, stride=2)],
                2: [_conv(64, 128, 5, stride=2)],
                3: [_conv(128, 256, 5, stride=2)],
                **_late_convs(),
            }
        )
        self.redirect = _conv(256, 32, 1)
        self.correlation = Correlation()
        self.activation = nn.LeakyReLU(_SLOPE)
        self.merge = _conv(32 + self.correlation.channels, 256)
        self.refinement = Refinement(
            {6: 1024, 5: 512, 4: 512, 3: 256, 2: 128}, deconv=_DECONV_CHANNELS
        )

    def features(self, frames: Tensor) -> FrameFeatures:
        """frames: B 3 H W, normalised."""
        level2 = self.stages["2"](self.stages["1"](frames))
        return FrameFeatures(level2, self.stages["3"](level2))

    def match(self, first: FrameFeatures, second: FrameFeatures) -> Maps:
        """The flow from the first frame to the second at every level."""
        volume = self.activation(self.correlation(first.level3, second.level3))
        redirected = self.redirect(first.level3)
        maps = {2: first.level2}
        maps[3] = self.merge(torch.cat((redirected, volume.to(redirected.dtype)), dim=1))
        for level in (4, 5, 6):
            maps[level] = self.stages[str(level)](maps[level - 1])
        return self.refinement(maps)

    def forward(self, pair: Tensor) -> Maps:
        """pair: B 6 H W, two frames, normalised.  Returns the flow of every level."""
        level2, level3 = self.features(torch.cat(pair.chunk(2, dim=1)))
        first, second = map(FrameFeatures, level2.chunk(2), level3.chunk(2))
        return self.match(first, second)


class FlowNetS(nn.Module):
    """Sees both frames at once, and in a cascade also what the network before it made of them."""

    def __init__(self, channels_in: int = 6) -> None:
        super().__init__()
        self.stages = _stages(
            {
                1: [_conv(channels_in, 64, 7, stride=2)],
                2: [_conv(64, 128, 5, stride=2)],
                3: [_conv(128, 256, 5, stride=2), _conv(256, 256)],
                **_late_convs(),
            }
        )
        self.refinement = Refinement(
            {6: 1024, 5: 512, 4: 512, 3: 256, 2: 128},
            deconv=_DECONV_CHANNELS,
            has_upsampling_bias=False,
        )

    def forward(self, x: Tensor) -> Maps:
        """x: B 6 H W, two frames, normalised, or B 12 H W.  Returns the flow of every level."""
        return self.refinement(_run(self.stages, x))


class FlowNetSD(nn.Module):
    """FlowNetS for small displacements: small kernels, and full resolution first."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = _stages(
            {
                0: [_conv(6, 64)],
                1: _halving(64, 64, 128),
                2: _halving(128, 128, 128),
                3: _halving(128, 256, 256),
                **_late_convs(),
            }
        )
        self.refinement = Refinement(
            {6: 1024, 5: 512, 4: 512, 3: 256, 2: 128},
            deconv=_DECONV_CHANNELS,
            smooth={5: 512, 4: 256, 3: 128, 2: 64},
        )

    def forward(self, pair: Tensor) -> Maps:
        """pair: B 6 H W, two frames, normalised.  Returns the flow of every level."""
        return self.refinement(_run(self.stages, pair))


class FlowNetFusion(nn.Module):
    """Joins the flow for large and the flow for small displacements, at full resolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = _stages(
            {0: [_conv(11, 64)], 1: _halving(64, 64, 128), 2: _halving(128, 128, 128)}
        )
        self.refinement = Refinement(
            {2: 128, 1: 128, 0: 64}, deconv={1: 32, 0: 16}, smooth={1: 32, 0: 16}
        )

    def forward(self, x: Tensor) -> Tensor:
        """x: B 11 H W, as the cascade joins it.  Returns the flow, B 2 H W, pixels."""
        return self.refinement(_run(self.stages, x))[0]


def _run(stages: nn.ModuleDict, x: Tensor) -> Maps:
    maps = {}
    for level, stage in stages.items():
        x = maps[int(level)] = stage(x)
    return maps
