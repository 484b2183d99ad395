"""Convolutions with gradients, in whichever form a CPU is fastest at: the same up to rounding.

The library's own are slow where a map is so small that bringing its many weights in order takes
longer than the products, and where every pixel of an image is there twice. Large maps of many
channels take a quarter of the products by mixtures (Winograd, 1980), in both gradients as well.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from pipelines.nn.packed_convolution import PackedConv
from pipelines.nn.packed_layers import FOUR, MixedConv, mixed, unmix
from pipelines.nn.products import linear, pays
from pipelines.nn.repeated_convolution import gradient_by_mixtures
from pipelines.nn.sampling_convolutions import doubling_kernel, pays_by_mixtures

_FEW_PLACES, _MANY_WEIGHTS = 512, 2_000_000
_LEAST_PLACES = 256
"""Of a small image, from which on a transposed convolution is faster than doubling it."""

_LEAST_CHANNELS, _MIXED_PLACES = 128, 4096
"""From here on mixing the weights too, anew in every step, takes less than it saves."""

_TILES_AT_ONCE = 256
"""Of more, mixtures and products no longer stay near the core."""

_MOST_MIXED = 1_200_000
"""Weights, whose mixtures take four times their memory, both ways: larger ones gain little."""
_TAPS = [(row, column) for row in range(3) for column in range(3)]


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A convolution of stride 1 that keeps the size. x: B C H W.  weight: C' C k k."""
    places = len(x) * x.shape[2] * x.shape[3]
    is_small = places <= _FEW_PLACES and weight.numel() >= _MANY_WEIGHTS
    if is_small and _is_measured(x, weight):
        return _as_product(x, weight, bias)
    if places >= _MIXED_PLACES and _can_mix(x, weight):
        made: Tensor = _Mixed.apply(x, weight, bias)
        return made
    return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)


def doubled_and_convolved(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Each pixel twice, then a convolution. x: B C H W.  weight: C' C 3 3.  Returns B C' 2H 2W.

    Together they are a transposed convolution, with four products for nine.
    """
    places = len(x) * x.shape[2] * x.shape[3]
    if places < _LEAST_PLACES or not _is_measured(x, weight):
        return convolved(F.interpolate(x, scale_factor=2, mode="nearest"), weight, bias)
    return F.conv_transpose2d(x, doubling_kernel(weight), bias, stride=2, padding=1)


def convolved_by_both(
    first: nn.Module, second: nn.Module | None, x: Tensor
) -> tuple[Tensor, Tensor | None]:
    """What two convolutions of the same shape make of an image, None for one that is not there.

    As one convolution: few channels result, and the image is then read once.
    """
    if second is None:
        return first(x), None
    if not (isinstance(first, nn.Conv2d) and isinstance(second, nn.Conv2d)):
        return first(x), second(x)
    assert first.bias is not None and second.bias is not None
    weight = torch.cat([first.weight, second.weight])
    made = F.conv2d(x, weight, torch.cat([first.bias, second.bias]), padding=first.padding)
    mine, its = made.split([first.out_channels, second.out_channels], dim=1)
    return mine, its


class FrozenConv(nn.Module):
    """A 3 x 3 convolution (padding 1) whose weights never change, with a gradient to its input.

    The gradient is such a convolution too, with the kernel turned round.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self._weight, self._bias = conv.weight.detach(), conv.bias
        self._there: nn.Module | None = None
        self._back: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        """x: B C H W.  Returns B C' H W, in the precision of the weights."""
        x = x.to(self._weight.dtype)
        made: Tensor = _Frozen.apply(x, self) if x.requires_grad else self.there(x)
        return made

    def there(self, x: Tensor) -> Tensor:
        """The convolution itself."""
        if self._there is None:
            self._there = _frozen(self._weight, self._bias, x)
        made: Tensor = self._there(x)
        return made

    def back(self, gradient: Tensor) -> Tensor:
        """From the gradient of the result to that of the input."""
        if self._back is None:
            self._back = _frozen(self._weight.flip(2, 3).transpose(0, 1), None, gradient)
            self._weight = self._weight.new_empty(0)  # both forms of it are there by now
        made: Tensor = self._back(gradient)
        return made


class _Frozen(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, conv: FrozenConv) -> Tensor:
        ctx.conv = conv
        return conv.there(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.conv.back(gradient), None


def _frozen(weight: Tensor, bias: Tensor | None, x: Tensor) -> nn.Module:
    """A convolution for images like x."""
    if pays_by_mixtures(weight, x) and weight.numel() <= _MOST_MIXED:
        return MixedConv(weight, bias)
    return PackedConv(weight, bias)


def _as_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """By one product of matrices: weights whose channels lie last are read as they lie."""
    height, width = x.shape[2:]
    maps = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    taps = [maps[:, row : row + height, column : column + width] for row, column in _TAPS]
    places = torch.cat(taps, dim=3)
    made = linear(places.flatten(0, 2), weight.permute(0, 2, 3, 1).flatten(1), bias)
    return made.unflatten(0, (len(x), height, width)).permute(0, 3, 1, 2)


class _Mixed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return _by_mixtures(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        back = weight.flip(2, 3).transpose(0, 1)
        pairs = list(zip(x.split(1), gradient.split(1), strict=True))
        return (
            _by_mixtures(gradient, back, None) if wants_x else None,
            gradient_by_mixtures(pairs, weight.shape) if wants_weight else None,
            gradient.sum((0, 2, 3)) if wants_bias else None,
        )


def _by_mixtures(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """As MixedConv, whose weights are brought into order for many calls, for a single one."""
    taps = torch.tensor(FOUR.taps).to(weight)
    weights = torch.einsum("ui,vj,ocij->vuoc", taps, taps, weight).flatten(0, 1)
    # the product that counts once in each result of a tile can bring the bias along
    biases: list[Tensor | None] = [None] * len(weights)
    biases[len(taps) + 1] = bias
    height, width = x.shape[2:]
    down, right = (-(-length // FOUR.size) for length in (height, width))
    made = x.new_empty((len(x), down, FOUR.size, right, FOUR.size, len(weight)))
    num_clips = max(1, _TILES_AT_ONCE // (down * right))
    for clips, results in zip(x.split(num_clips), made.split(num_clips), strict=True):
        products = zip(mixed(clips, FOUR), weights, biases, strict=True)
        unmix([linear(*each) for each in products], FOUR, out=results)
    return made.flatten(1, 2).flatten(2, 3)[:, :height, :width].permute(0, 3, 1, 2)


def _can_mix(x: Tensor, weight: Tensor) -> bool:
    """Whether _Mixed was measured to be faster for maps of many places."""
    tiles = (x.shape[2] // FOUR.size) * (x.shape[3] // FOUR.size)
    return (
        _is_measured(x, weight)
        and min(weight.shape[:2]) >= _LEAST_CHANNELS
        and weight.numel() <= _MOST_MIXED
        and x.dtype == weight.dtype
        and pays(x.new_empty((tiles, 0)), weight[:, :, 0, 0])
    )


def _is_measured(x: Tensor, weight: Tensor) -> bool:
    """Whether the other forms were measured for it: on a CPU, not in 16 bits."""
    is_plain = x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")
    return is_plain and weight.shape[2:] == (3, 3)
