"""I3D (Carreira & Zisserman, CVPR 2017): Inception-v1 inflated to videos, for FVD and DTFVD.

For inference only: each batch norm is folded into its convolution when weights are read
(i3d_checkpoint.py), and the 1x1 convolutions that a block's branches start with are one. On a CPU
`pack` makes it more than twice as fast. All padding is TensorFlow's SAME: as much as the output
size needs, the odd one behind.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.features import tiled_convolution
from pipelines.features.folded_convolution import FoldedConvolution
from pipelines.features.short_convolution import ShortConvolution
from pipelines.features.side_by_side import side_by_side
from pipelines.features.tiled_convolution import TiledConvolution
from pipelines.nn.packed_convolution import PackedConvolution, can_pack

FEATURE_SIZE = 1024
"""Channels after the final pool."""

_MIN_SHORT = 64  # with fewer channels fewer multiplications save nothing
_POOL_PX = 7
_TIME_STRIDE = 8

Axes = tuple[int, int, int]
"""One number each for time, height and width."""

Way = Callable[[Tensor], Tensor]
"""Of convolving: B C T H W -> B C' T' H' W', with padding and ReLU."""


class MixedWidths(NamedTuple):
    """Channels inside a block of four branches.

    reduce1 and reduce2 are the 1x1 convolutions before the 3x3x3 ones of branches 1 and 2.
    """

    branch0: int
    reduce1: int
    branch1: int
    reduce2: int
    branch2: int
    branch3: int

    @property
    def total(self) -> int:
        """Channels of the block's result."""
        return self.branch0 + self.branch1 + self.branch2 + self.branch3


MIXED = {
    "mixed_3b": MixedWidths(64, 96, 128, 16, 32, 32),
    "mixed_3c": MixedWidths(128, 128, 192, 32, 96, 64),
    "mixed_4b": MixedWidths(192, 96, 208, 16, 48, 64),
    "mixed_4c": MixedWidths(160, 112, 224, 24, 64, 64),
    "mixed_4d": MixedWidths(128, 128, 256, 24, 64, 64),
    "mixed_4e": MixedWidths(112, 144, 288, 32, 64, 64),
    "mixed_4f": MixedWidths(256, 160, 320, 32, 128, 128),
    "mixed_5b": MixedWidths(256, 160, 320, 32, 128, 128),
    "mixed_5c": MixedWidths(384, 192, 384, 48, 128, 128),
}
"""The blocks of four branches, in order."""

_POOLS: dict[str, tuple[Axes, Axes]] = {  # before a block: kernel and stride
    "mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "mixed_5b": ((2, 2, 2), (2, 2, 2)),
}


class I3dResult(NamedTuple):
    """What I3D makes of clips.

    pooled: B 1024 T' 1 1 for frames of 224 x 224, after the final average pool.
    step_logits: B K T', for each of its steps.  logits: B K, their mean: the embedding of FVD.
    """

    pooled: Tensor
    step_logits: Tensor
    logits: Tensor


class I3d(nn.Module):
    """The network.

    num_classes: 400 for Kinetics, 18 for the dynamic textures of DTDB.
    pool_frames: length of the final average pool in time, in steps of 8 frames.
    """

    def __init__(self, *, num_classes: int = 400, pool_frames: int = 2) -> None:
        super().__init__()
        self.conv_1a = Conv(3, 64, (7, 7, 7), stride=(2, 2, 2))
        self.conv_2b = Conv(64, 64, (1, 1, 1))
        self.conv_2c = Conv(64, 192, (3, 3, 3))
        channels = 192
        self.blocks = nn.ModuleDict()
        for name, widths in MIXED.items():
            self.blocks[name] = Mixed(channels, widths)
            channels = widths.total
        self.to_logits = nn.Conv3d(FEATURE_SIZE, num_classes, 1)
        self.pool_frames = pool_frames
        self._is_packed = False
        self._seen: set[torch.Size] = set()

    @property
    def min_frames(self) -> int:
        """Shortest clip that reaches the final pool with enough steps."""
        return _TIME_STRIDE * (self.pool_frames - 1) + 1

    def pack(self) -> None:
        """Lay the weights out for the processor; call it when they are final and on the CPU.

        As many clips at a time as torch has threads are then the fastest.
        """
        self._is_packed = True
        for each in self.modules():
            if isinstance(each, Conv):
                each.pack()

    @torch.no_grad()
    def forward(self, clips: Tensor) -> I3dResult:
        """clips: B 3 T H W, RGB in [-1, 1], published for 224 x 224; T at least min_frames."""
        if not self._is_packed:
            return self._features(clips)
        size, found = clips.shape[1:], []
        if size not in self._seen:  # this lays out weights, which threads must not do at once
            found.append(self._features(clips[:1]))
            self._seen.add(size)
        found += side_by_side(self._features, clips[len(found) :])
        return I3dResult(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    def _features(self, clips: Tensor) -> I3dResult:
        x = self.conv_1a(clips)
        x = _max_pool(x, (1, 3, 3), (1, 2, 2))
        x = self.conv_2c(self.conv_2b(x))
        for name, block in self.blocks.items():
            if name in _POOLS:
                x = _max_pool(x, *_POOLS[name])
            x = block(x)
        pooled = F.avg_pool3d(x, (self.pool_frames, _POOL_PX, _POOL_PX), stride=1)
        step_logits = self.to_logits(pooled).mean(dim=(3, 4))
        return I3dResult(pooled, step_logits, step_logits.mean(dim=2))


class Conv(nn.Module):
    """Convolution and ReLU, padded as TensorFlow does."""

    def __init__(
        self, channels_in: int, channels: int, kernel: Axes, *, stride: Axes = (1, 1, 1)
    ) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels_in, channels, kernel, stride=stride)
        self.kernel, self.stride = kernel, stride
        self._is_packed = False
        self._ways: dict[str, Way] = {}

    def pack(self) -> None:
        """See I3d.pack."""
        self._is_packed = can_pack(self.conv.weight) and self.conv.weight.dtype == torch.float32

    def forward(self, x: Tensor) -> Tensor:
        """x: B C T H W, any range.  Returns B C' T' H' W', sizes divided by stride, rounded up."""
        if self._is_packed:
            return self._packed(x)
        if self.kernel == (1, 1, 1):  # a product of matrices; torch's own way is slower
            weight = self.conv.weight.flatten(1)
            return F.relu_(F.linear(x.movedim(1, -1), weight, self.conv.bias)).movedim(-1, 1)
        x, padding = _padded(x, self.kernel, self.stride)
        x = F.conv3d(x, self.conv.weight, self.conv.bias, self.stride, padding)
        return F.relu_(x)

    def _packed(self, x: Tensor) -> Tensor:
        """By the way that is fastest for inputs of this size; its weights are laid out once."""
        make_way = self._fastest(*x.shape[2:])
        name = make_way.__name__
        if name not in self._ways:
            bias = self.conv.bias
            assert bias is not None
            self._ways[name] = make_way(self.conv.weight.detach(), bias.detach())
        return self._ways[name](x)

    def _fastest(self, *sizes: int) -> Callable[[Tensor, Tensor], Way]:
        """sizes: T H W of the input."""
        made = [-(-size // step) for size, step in zip(sizes, self.stride, strict=True)]
        if self.kernel == (7, 7, 7) and tiled_convolution.pays(*made):
            return self._folded
        if self.kernel == (3, 3, 3) and self.conv.in_channels >= _MIN_SHORT:
            if tiled_convolution.pays(*made):
                return TiledConvolution
            if ShortConvolution.pays(sizes[0]):
                return ShortConvolution
        return self._plain

    def _plain(self, weight: Tensor, bias: Tensor) -> Way:
        packed = PackedConvolution(weight, bias, stride=self.stride)

        def convolve(x: Tensor) -> Tensor:
            x, padding = _padded(x, self.kernel, self.stride)
            return packed(x, padding, activation="relu")

        return convolve

    def _folded(self, weight: Tensor, bias: Tensor) -> Way:
        folded = FoldedConvolution(weight, bias)
        return lambda x: folded(x, _margins(x, self.kernel, self.stride))


class Mixed(nn.Module):
    """Four branches joined on channels: 1x1; 1x1 and 3x3x3, twice; max pool and 1x1."""

    def __init__(self, channels_in: int, widths: MixedWidths) -> None:
        super().__init__()
        self.first_widths = (widths.branch0, widths.reduce1, widths.reduce2)
        self.first = Conv(channels_in, sum(self.first_widths), (1, 1, 1))
        self.branch1 = Conv(widths.reduce1, widths.branch1, (3, 3, 3))
        self.branch2 = Conv(widths.reduce2, widths.branch2, (3, 3, 3))
        self.branch3 = Conv(channels_in, widths.branch3, (1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """x: B C T H W, not negative.  Returns B C' T H W."""
        branch0, reduced1, reduced2 = self.first(x).split(self.first_widths, dim=1)
        pooled = _max_pool(x, (3, 3, 3), (1, 1, 1))
        branches = (branch0, self.branch1(reduced1), self.branch2(reduced2), self.branch3(pooled))
        return torch.cat(branches, dim=1)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros in front of and behind an axis, so that its output has size / stride, rounded up."""
    total = max(kernel - (size % stride or stride), 0)
    return total // 2, total - total // 2


def _margins(x: Tensor, kernel: Axes, stride: Axes) -> list[tuple[int, int]]:
    """Zeros in front of and behind each axis."""
    return [same_padding(*axis) for axis in zip(x.shape[2:], kernel, stride, strict=True)]


def _padded(x: Tensor, kernel: Axes, stride: Axes) -> tuple[Tensor, Axes]:
    """The input padded by what the operation itself cannot, and what is left for it to pad."""
    margins = _margins(x, kernel, stride)
    time, height, width = margins
    if all(front == behind for front, behind in margins):
        return x, (time[0], height[0], width[0])
    return F.pad(x, (*width, *height, *time)), (0, 0, 0)


def _max_pool(x: Tensor, kernel: Axes, stride: Axes) -> Tensor:
    """Max pool with zeros around, which change nothing: x is never negative.

    Along one axis after another, which is the same and several times faster on a CPU; torch's own
    pool of images is as fast where it makes them smaller.
    """
    axes = [4, 3, 2]  # first the one that lies together in memory
    if stride[1] > 1:
        x, axes = _frames_pooled(x, kernel[1:], stride[1:]), [2]
    for axis in axes:
        if kernel[axis - 2] > 1:
            x = _max_along(x, axis, kernel[axis - 2], stride[axis - 2])
    return x


def _frames_pooled(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Max pool of each frame. Behind it no zeros are needed: windows that stick out see less."""
    fronts = [same_padding(*axis)[0] for axis in zip(x.shape[3:], kernel, stride, strict=True)]
    frames = x.transpose(1, 2)  # B T C H W
    pooled = F.max_pool2d(frames.flatten(0, 1), kernel, stride, fronts, ceil_mode=True)
    return pooled.unflatten(0, frames.shape[:2]).transpose(1, 2)


def _max_along(x: Tensor, axis: int, kernel: int, stride: int) -> Tensor:
    """The largest of `kernel` neighbours at every `stride`th place of an axis.

    What a window would see beyond the ends is left out: no copy with zeros around is needed.
    """
    size = x.shape[axis]
    front, _ = same_padding(size, kernel, stride)
    count = -(-size // stride)
    everywhere, partly = [], []
    for tap in range(kernel):
        first = max(0, -((tap - front) // stride))
        last = min(count - 1, (size - 1 + front - tap) // stride)
        start = first * stride + tap - front
        places = [slice(None)] * axis
        seen = x[(*places, slice(start, last * stride + tap - front + 1, stride))]
        if last - first + 1 == count:
            everywhere.append(seen)
        elif last >= first:
            partly.append(((*places, slice(first, last + 1)), seen))
    found = everywhere[0].clone(memory_format=torch.channels_last_3d)
    for seen in everywhere[1:]:
        torch.maximum(found, seen, out=found)
    for where, seen in partly:
        torch.maximum(found[where], seen, out=found[where])
    return found
