"""The stage-1 decoder as a CPU samples from it: the same output up to rounding, in half the time.

Frames are B T H W C throughout, as a CPU convolves them fastest. What does not depend on the input
is done once: spectral norms, mixed and packed weights. Every norm becomes a scale and a shift per
channel, which what follows it takes along.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.cinn.decoder import EPS, SLOPE, AdaIN, DecoderBlock, SpadeMaps, VideoDecoder
from pipelines.nn.full_precision import full_precision
from pipelines.nn.spectral_norm import fold_spectral_norm
from pipelines.nn.time_convolutions import PlannedConv, TapByTapConv


def for_sampling(decoder: VideoDecoder) -> Decoder:
    """The fastest form of a trained decoder where it is; the decoder itself is used up."""
    fold_spectral_norm(decoder)
    is_on_cpu = decoder.to_frames.weight.device.type == "cpu"
    return SamplingDecoder(decoder) if is_on_cpu else decoder


class SamplingDecoder(nn.Module):
    """Does what a VideoDecoder does; can neither be trained nor saved."""

    def __init__(self, decoder: VideoDecoder, *, dtype: torch.dtype | None = None) -> None:
        """decoder: in eval mode, spectral norms folded.

        dtype: of the products in convolutions; as the weights, unless given.
        """
        super().__init__()
        self.num_frames, self.size_px = decoder.num_frames, decoder.size_px
        self.from_code = decoder.from_code
        self._seed_shape = decoder.seed_shape
        num_frames, blocks = 1, []
        for block in decoder.blocks:
            assert isinstance(block, DecoderBlock)
            blocks.append(SamplingBlock(block, num_frames, dtype=dtype))
            num_frames *= block.upsample_time
        self.blocks = nn.ModuleList(blocks)
        self.to_frames = TapByTapConv(decoder.to_frames, dtype=dtype)

    def forward(self, start: Tensor, code: Tensor) -> Tensor:
        """start: B 3 S S in [-1, 1].  code: B Z.  Returns the frames after it, B T 3 S S."""
        return self.render(self.start_maps(start), code)

    def start_maps(self, start: Tensor) -> list[SpadeMaps]:
        """All that the decoder takes from a start frame, one entry per block: B H W C each."""
        start = start.contiguous(memory_format=torch.channels_last)
        maps, map_px = [], self._seed_shape[-1]
        for block in self.blocks:
            map_px *= block.upsample_space
            found = block.spade.maps(start, map_px)
            maps.append(SpadeMaps(*(each.permute(0, 2, 3, 1).contiguous() for each in found)))
        return maps

    def render(self, maps: Sequence[SpadeMaps], code: Tensor) -> Tensor:
        """maps: of B start frames.  code: B Z.  Returns B T 3 S S in (-1, 1)."""
        with full_precision(code.device):
            seed = self.from_code(code).view(-1, *self._seed_shape)
            x = seed.permute(0, 2, 3, 4, 1).contiguous()
            for block, block_maps in zip(self.blocks, maps, strict=True):
                x = block(x, block_maps, code)
            frames = self.to_frames(F.leaky_relu_(x, SLOPE))
            return torch.tanh_(frames).permute(0, 1, 4, 2, 3).contiguous()


class SamplingBlock(nn.Module):
    """A DecoderBlock on B T H W C."""

    def __init__(self, block: DecoderBlock, num_frames: int, *, dtype: torch.dtype | None) -> None:
        """num_frames: of what will come in."""
        super().__init__()
        self.upsample_space, self.upsample_time = block.upsample_space, block.upsample_time
        self.spade, self.adain = block.spade, block.adain
        is_repeated, after = block.upsample_time == 2, num_frames * block.upsample_time
        self.conv1 = PlannedConv(
            block.conv1, num_frames if is_repeated else after, is_repeated=is_repeated, dtype=dtype
        )
        self.conv2 = PlannedConv(block.conv2, after, is_repeated=False, dtype=dtype)
        self.norm, self._shortcut = None, None
        if isinstance(block.shortcut, nn.Sequential):
            self.norm, conv = block.shortcut
            self._shortcut = conv.weight.detach().flatten(1)

    def forward(self, x: Tensor, maps: SpadeMaps, code: Tensor) -> Tensor:
        """x: B T H W C.  maps: at the upsampled size.  code: B Z."""
        standard = _standard(x, self.spade.norm.num_groups)
        main = F.leaky_relu_(_modulated(x, standard, maps, space=self.upsample_space), SLOPE)
        if self.upsample_time > 2:
            main = main.repeat_interleave(self.upsample_time, dim=1)
        main = self.conv1(main)
        _adapted(main, self.adain, code)
        main = self.conv2(main)
        _add_repeated(main, self._on_shortcut(x, standard))
        return main

    def _on_shortcut(self, x: Tensor, standard: Affine) -> Tensor:
        if self.norm is None:
            return x
        # the norm is of the same groups as Spade's; it and the 1x1x1 convolution are one product
        scale = standard.scale * self.norm.weight
        shift = torch.addcmul(self.norm.bias, standard.shift, self.norm.weight)
        made = [
            F.linear(frames, self._shortcut * a, self._shortcut @ b)
            for frames, a, b in zip(x, scale, shift, strict=True)
        ]
        return torch.stack(made)


Decoder: TypeAlias = VideoDecoder | SamplingDecoder


class Affine(NamedTuple):
    """What a norm does to each clip's channels, B C each: x * scale + shift."""

    scale: Tensor
    shift: Tensor


def _standard(x: Tensor, num_groups: int) -> Affine:
    """Group norm without parameters, over time and space of B T H W C."""
    mean, variance = _moments(x)
    means, spreads = (each.unflatten(1, (num_groups, -1)) for each in (mean, variance))
    mean = means.mean(dim=2, keepdim=True)
    # within the channels, and of the channels' means around the group's
    variance = (spreads + (means - mean).square()).mean(dim=2, keepdim=True)
    scale = (variance + EPS).rsqrt()
    return Affine(
        scale.expand_as(means).flatten(1),
        (-mean * scale).expand_as(means).flatten(1),
    )


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of each clip's channels, B C each; x: B T H W C.

    Frame by frame, which stay near the processor.
    """
    mean = x.flatten(1, 3).mean(dim=1)
    squares = torch.zeros_like(mean)
    room = torch.empty_like(x[0, 0]).flatten(0, 1)
    for clip, clip_mean, total in zip(x.flatten(2, 3), mean, squares, strict=True):
        for frame in clip:
            torch.sub(frame, clip_mean, out=room)
            total += room.square_().sum(dim=0)
    return mean, squares / (x[0, ..., 0].numel())


def _modulated(x: Tensor, standard: Affine, maps: SpadeMaps, *, space: int) -> Tensor:
    """Group norm, nearest upsampling in space, and Spade's scale and shift, all in one pass."""
    batch, num_frames, height, width, channels = x.shape
    scale, shift = (each[:, None, None] for each in standard)
    gain = maps.gain * scale
    offset = torch.addcmul(maps.shift, maps.gain, shift)
    # every pixel of x beside the `space` x `space` pixels of the maps that it becomes
    places = (batch, 1, height, space, width, space, channels)
    repeated = x.view(batch, num_frames, height, 1, width, 1, channels)
    made = torch.addcmul(offset.view(places), repeated, gain.view(places))
    return made.view(batch, num_frames, height * space, width * space, channels)


def _adapted(x: Tensor, adain: AdaIN, code: Tensor) -> None:
    """AdaIN and leaky ReLU, in place. x: B T H W C.  code: B Z."""
    mean, variance = _moments(x)
    gamma, beta = adain.from_code(code).chunk(2, dim=1)
    scale = gamma * (variance + EPS).rsqrt()
    shift = beta - mean * scale
    for clip, a, b in zip(x, scale, shift, strict=True):
        for frame in clip:
            F.leaky_relu_(torch.addcmul(b, frame, a, out=frame), SLOPE)


def _add_repeated(main: Tensor, shortcut: Tensor) -> None:
    """Add the shortcut, B T H W C, in place; it has so many times fewer frames and pixels."""
    batch, num_frames, height, width, channels = shortcut.shape
    time, space = main.shape[1] // num_frames, main.shape[2] // height
    main.view(batch, num_frames, time, height, space, width, space, channels).add_(
        shortcut.view(batch, num_frames, 1, height, 1, width, 1, channels)
    )
