"""Stage-1 decoder: from a start frame and a motion code to the frames that follow."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.nn.norms import group_norm
from pipelines.nn.spectral_norm import SpectralConv3d, effective_weight
from pipelines.nn.time_convolutions import pays_in_training, planned_conv, training_form

EPS = 1e-5
SLOPE = 0.2
# input and output channels of the six blocks, as multiples of the decoder's width
_WIDTHS = ((16, 16), (16, 16), (16, 8), (8, 4), (4, 2), (2, 1))
_DOUBLINGS = 3  # blocks after the first that always double time and space


class SpadeMaps(NamedTuple):
    """What a start frame does to one block: 1 + gamma and beta, B C H W each."""

    gain: Tensor
    shift: Tensor


class VideoDecoder(nn.Module):
    """A 3D convolutional generator (spec: cinn, 2.2).

    The start frame enters through SPADE, the motion code as the seed and through AdaIN.
    """

    def __init__(
        self,
        *,
        size_px: int = 64,
        code_size: int = 64,
        width: int = 64,
        upsample_space: Sequence[int] = (2, 1),
        upsample_time: Sequence[int] = (2, 1),
        spade_channels: int = 128,
        spectral: bool = True,
    ) -> None:
        """width: channels of the last block.  upsample_*: factors before the last two blocks."""
        super().__init__()
        space = (1, *[2] * _DOUBLINGS, *upsample_space)
        time = (1, *[2] * _DOUBLINGS, *upsample_time)
        self.num_frames = prod(time)
        self.size_px = size_px
        self.seed_shape = (16 * width, 1, size_px // prod(space), size_px // prod(space))
        self.from_code = nn.Linear(code_size, prod(self.seed_shape))
        self.blocks = nn.ModuleList(
            DecoderBlock(
                width_in * width,
                width_out * width,
                code_size=code_size,
                spade_channels=spade_channels,
                upsample_space=space[i],
                upsample_time=time[i],
                spectral=spectral,
            )
            for i, (width_in, width_out) in enumerate(_WIDTHS)
        )
        self.to_frames = nn.Conv3d(width, 3, 3, padding=1)

    def forward(self, start: Tensor, code: Tensor) -> Tensor:
        """start: B 3 S S in [-1, 1].  code: B Z.  Returns the frames after it, B T 3 S S."""
        return self.render(self.start_maps(start), code)

    def start_maps(self, start: Tensor) -> list[SpadeMaps]:
        """All that the decoder takes from a start frame, one entry per block.

        Depends on the start frame alone: for many motions of one frame compute it once.
        """
        maps, map_px = [], self.seed_shape[-1]
        for block in self.blocks:
            map_px *= block.upsample_space
            maps.append(block.spade.maps(start, map_px))
        return maps

    def render(self, maps: Sequence[SpadeMaps], code: Tensor) -> Tensor:
        """maps: of B start frames.  code: B Z.  Returns B T 3 S S in (-1, 1)."""
        x = self.from_code(code).view(-1, *self.seed_shape)
        for block, block_maps in zip(self.blocks, maps, strict=True):
            x = block(x, block_maps, code)
        x = self.to_frames(F.leaky_relu(x, SLOPE))
        return torch.tanh(x).transpose(1, 2)


class DecoderBlock(nn.Module):
    """Upsample (nearest), then a residual block: Spade, convolution, AdaIN, convolution.

    What commutes with repeating values is done before they are repeated: both group norms, the
    shortcut's 1x1x1 convolution, and in time also SPADE, whose maps are the same for all frames.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        code_size: int,
        spade_channels: int,
        upsample_space: int,
        upsample_time: int,
        spectral: bool,
    ) -> None:
        super().__init__()
        middle = min(channels_in, channels_out)
        self.upsample_space, self.upsample_time = upsample_space, upsample_time
        self.spade = Spade(channels_in, hidden=spade_channels)
        self.conv1: nn.Module = _conv(channels_in, middle, spectral=spectral)
        self.adain = AdaIN(middle, code_size=code_size)
        self.conv2: nn.Module = _conv(middle, channels_out, spectral=spectral)
        self.shortcut: nn.Module = nn.Identity()
        if channels_in != channels_out:
            self.shortcut = nn.Sequential(
                group_norm(channels_in),
                _conv(channels_in, channels_out, kernel=1, spectral=spectral),
            )

    def forward(self, x: Tensor, maps: SpadeMaps, code: Tensor) -> Tensor:
        """x: B C T H W.  maps: at the upsampled size.  code: B Z."""
        space, time = self.upsample_space, self.upsample_time
        main = _repeat(self.spade.norm(x), time=1, space=space)
        main = F.leaky_relu(self.spade.modulate(main, maps), SLOPE, inplace=True)
        if time > 2:
            main = _repeat(main, time=time, space=1)
        main = _convolved(main, self.conv1, is_repeated=time == 2)
        main = F.leaky_relu(self.adain(main, code), SLOPE, inplace=True)
        main = _convolved(main, self.conv2)
        return main + _repeat(self.shortcut(x), time=time, space=space)


class Spade(nn.Module):
    """Normalises, then scales and shifts each place by maps made from the start frame."""

    def __init__(self, channels: int, *, hidden: int) -> None:
        super().__init__()
        self.norm = group_norm(channels, affine=False)
        self.conv = nn.Conv2d(3, hidden, 3, padding=1)
        self.to_gamma = nn.Conv2d(hidden, channels, 3, padding=1)
        self.to_beta = nn.Conv2d(hidden, channels, 3, padding=1)
        for conv in (self.conv, self.to_gamma, self.to_beta):
            nn.init.xavier_uniform_(conv.weight, gain=0.02)
            nn.init.zeros_(conv.bias)

    def maps(self, start: Tensor, map_px: int) -> SpadeMaps:
        """start: B 3 S S.  Returns the maps at map_px x map_px."""
        # the published weights expect aligned corners here
        small = F.interpolate(start, size=(map_px, map_px), mode="bilinear", align_corners=True)
        hidden = F.leaky_relu(self.conv(small), SLOPE, inplace=True)
        # one convolution for both: they read the same map, which is the larger part of the work
        weight = torch.cat((self.to_gamma.weight, self.to_beta.weight))
        bias = torch.cat((self.to_gamma.bias, self.to_beta.bias))
        gamma, beta = F.conv2d(hidden, weight, bias, padding=1).chunk(2, dim=1)
        return SpadeMaps(1 + gamma, beta)

    @staticmethod
    def modulate(normalized: Tensor, maps: SpadeMaps) -> Tensor:
        """normalized: B C T H W.  The maps are the same for every frame."""
        return torch.addcmul(maps.shift.unsqueeze(2), normalized, maps.gain.unsqueeze(2))


class AdaIN(nn.Module):
    """Instance norm over time and space, then scale and shift by the motion code (no 1 + scale)."""

    def __init__(self, channels: int, *, code_size: int) -> None:
        super().__init__()
        self.from_code = nn.Linear(code_size, 2 * channels)

    def forward(self, x: Tensor, code: Tensor) -> Tensor:
        """x: B C T H W.  code: B Z."""
        gamma, beta = self.from_code(code).chunk(2, dim=1)
        # as one batch norm with a channel per clip and channel: scale and shift cost no extra pass
        flat = x.reshape(1, -1, *x.shape[2:])
        flat = F.batch_norm(
            flat, None, None, gamma.flatten(), beta.flatten(), training=True, eps=EPS
        )
        return flat.view(x.shape)


def _conv(channels_in: int, channels_out: int, *, kernel: int = 3, spectral: bool) -> nn.Conv3d:
    padding, bias = kernel // 2, kernel > 1
    if spectral:
        return SpectralConv3d(channels_in, channels_out, kernel, padding=padding, bias=bias)
    return nn.Conv3d(channels_in, channels_out, kernel, padding=padding, bias=bias)


def _repeat(x: Tensor, *, time: int, space: int) -> Tensor:
    """Nearest-neighbour upsampling of B C T H W by whole factors."""
    if time == space == 1:
        return x
    return F.interpolate(x, scale_factor=(time, space, space), mode="nearest")


def _convolved(x: Tensor, conv: nn.Module, *, is_repeated: bool = False) -> Tensor:
    """3 x 3 x 3, padding 1. is_repeated: every frame of x stands for two."""
    assert isinstance(conv, nn.Conv3d)
    weight = effective_weight(conv)
    if pays_in_training(x, len(weight)):
        return planned_conv(x, weight, conv.bias, is_repeated=is_repeated)
    form = training_form(x.shape[2], is_repeated=is_repeated)
    return form.apply(x, form.split(weight), conv.bias)
