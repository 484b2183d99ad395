"""Convolutions for sampling alone, as a CPU does them fastest: channels last, weights in order.

Everything here takes and gives B C H W whose channels lie last in memory (torch.channels_last), and
learns nothing. On other devices the same is done by torch's own calls.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.nn.packed_convolution import PackedConv, can_pack
from pipelines.nn.packed_layers import MixedConv

_CORNERS = ((0, 0), (0, 1), (1, 0), (1, 1))
_FEW_PLACES = 16
"""Of a small image, up to which all that counts is how many weights are read."""

_LEAST_CHANNELS, _LEAST_PLACES = 128, 512
"""From here on half the products outweigh the mixing."""


class SamplingConv(nn.Module):
    """A 3 x 3 convolution (padding 1), then ReLU if asked for, by mixtures where that pays."""

    def __init__(self, conv: nn.Conv2d, *, has_relu: bool = False) -> None:
        super().__init__()
        self._conv: nn.Conv2d | None = conv
        self._chosen: nn.Module | None = None
        self._has_relu = has_relu

    def forward(self, x: Tensor) -> Tensor:
        """x: B C H W.  Returns B C' H W."""
        if self._conv is not None:
            self._chosen = self._choose(self._conv, x)
            self._conv = None
        assert self._chosen is not None
        made: Tensor = self._chosen(x)
        return made.relu_() if self._has_relu and isinstance(self._chosen, MixedConv) else made

    def _choose(self, conv: nn.Conv2d, x: Tensor) -> nn.Module:
        """For images like the first ones."""
        weight, bias = conv.weight, conv.bias
        if pays_by_mixtures(weight, x):
            return MixedConv(weight, bias)
        return PackedConv(weight, bias, has_relu=self._has_relu)


class DoublingConv(nn.Module):
    """Each pixel twice, then a 3 x 3 convolution and ReLU, in one go: four products for nine.

    Together they are a transposed convolution; small maps, whose weights are what takes time, go by
    four 2 x 2 convolutions, one for each corner of a doubled pixel, and the smallest are doubled,
    since the four together have nearly twice the weights.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """weight: C' C 3 3.  bias: C'."""
        super().__init__()
        self._weight: Tensor | None = weight.detach()
        self._bias = bias.detach()
        self._kernel: Tensor | None = None
        self._corners = nn.ModuleList()
        self._plain: PackedConv | None = None

    def forward(self, x: Tensor, num_parts: int = 1) -> Tensor:
        """x: B C H W.  Returns B C' 2H 2W. num_parts: makes no difference here."""
        if self._weight is not None:
            self._choose(self._weight, x)
            self._weight = None
        if self._kernel is not None:
            return F.conv_transpose2d(x, self._kernel, self._bias, stride=2, padding=1).relu_()
        if self._plain is not None:
            made: Tensor = self._plain(F.interpolate(x, scale_factor=2, mode="nearest"))
            return made
        return self._by_corners(x)

    def _choose(self, weight: Tensor, x: Tensor) -> None:
        """In which of the three ways, for images like the first ones."""
        batch, channels, height, width = x.shape
        if batch * height * width <= _FEW_PLACES:
            self._plain = PackedConv(weight, self._bias, has_relu=True)
            return
        if batch * height * width >= 2 * channels:
            self._kernel = doubling_kernel(weight)
            return
        self._corners = nn.ModuleList(
            PackedConv(_corner(weight, *corner), self._bias, padding=(0, 0), has_relu=True)
            for corner in _CORNERS
        )

    def _by_corners(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        padded = F.pad(x, (1, 1, 1, 1))
        made = torch.empty(
            (batch, len(self._bias), 2 * height, 2 * width),
            dtype=x.dtype,
            device=x.device,
            memory_format=torch.channels_last,
        )
        for (row, column), corner in zip(_CORNERS, self._corners, strict=True):
            part = padded[:, :, row : row + height + 1, column : column + width + 1]
            made[:, :, row::2, column::2] = corner(
                part.contiguous(memory_format=torch.channels_last)
            )
        return made


def doubling_kernel(weight: Tensor) -> Tensor:
    """Of the transposed convolution (stride 2, padding 1) that is a doubling and a convolution.

    weight: C' C 3 3, of the convolution.  Returns C C' 4 4.
    """
    spread = _spreading().t().to(weight) @ weight.permute(1, 2, 3, 0).flatten(1, 2)
    return spread.unflatten(1, (4, 4)).permute(0, 3, 1, 2)


@cache
def _spreading() -> Tensor:
    """Where each of nine weights goes among sixteen: turned round, at both copies of a pixel."""
    with torch.inference_mode(mode=False):  # kept: a later training must be able to use it
        line = torch.tensor([[0.0, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 0]])
        return torch.kron(line, line)


def _corner(weight: Tensor, row: int, column: int) -> Tensor:
    """The 2 x 2 kernel for one corner, from the 3 x 3 one: what meets the same pixel is added."""
    for axis, side in ((2, row), (3, column)):
        first, second, third = weight.unbind(axis)
        pair = (first + second, third) if side else (first, second + third)
        weight = torch.stack(pair, dim=axis)
    return weight


def pays_by_mixtures(weight: Tensor, x: Tensor) -> bool:
    """Whether MixedConv is faster than PackedConv. weight: C' C 3 3.  x: B C H W."""
    is_large = min(weight.shape[:2]) >= _LEAST_CHANNELS
    return is_large and len(x) * x.shape[2] * x.shape[3] >= _LEAST_PLACES and can_pack(weight)
