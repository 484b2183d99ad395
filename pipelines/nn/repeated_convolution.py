"""A convolution that one training step applies again and again, with gradients: the same numbers up
to rounding, in half the time on a CPU.

A recurrent cell convolves a map of every time step with the same weight. Mixing that weight once
for all of them lets every product be one of mixtures (Winograd, 1980), and its gradient, which is a
product as large as itself, is taken of all time steps at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from pipelines.nn.packed_layers import FOUR, MixedConv, mixed
from pipelines.nn.products import linear, pays

_LEAST_WEIGHTS, _LEAST_CHANNELS = 500_000, 256
"""With smaller weights mixing takes as long as it saves."""
_LEAST_TILES, _TILES_AT_ONCE = 64, 640
"""Squares of results that keep the kernels busy, in a call and in the weight's gradient; with more
of them at once their mixtures leave the caches.
"""


class RepeatedConv:
    """A 3 x 3 convolution, stride 1, padding 1, without bias, of as many maps as come.

    Made anew in every step: until its gradient is taken the weight must not change. That gradient
    cannot be differentiated again.
    """

    def __init__(self, weight: Tensor) -> None:
        """weight: C' C 3 3."""
        self._weight, self._shared = weight, _Shared(weight.detach())
        self._handle: Tensor | None = None

    def finish(self) -> None:
        """Free what further maps would need: there are no more."""
        self._shared.finish()

    def __call__(self, x: Tensor) -> Tensor:
        """x: B C H W.  Returns B C' H W, channels last where it is done by mixtures."""
        if not pays_repeated(self._weight, x):
            return F.conv2d(x, self._weight, padding=1)
        if self._handle is None:
            self._handle = _Gathered.apply(self._weight, self._shared)
        made: Tensor = _Repeated.apply(x, self._handle, self._shared)
        return made


def pays_repeated(weight: Tensor, x: Tensor) -> bool:
    """Whether mixtures were measured to be faster. weight: C' C 3 3.  x: B C H W, one of many."""
    tiles = len(x) * (x.shape[2] // FOUR.size) * (x.shape[3] // FOUR.size)
    return (
        weight.shape[1] >= _LEAST_CHANNELS
        and weight.numel() >= _LEAST_WEIGHTS
        and tiles >= _LEAST_TILES
        and x.dtype == weight.dtype
        and pays(x.new_empty((_LEAST_TILES, 0)), weight)
    )


class _Shared:
    """What the calls of one convolution have in common.

    Nothing here leads to the handle: it would keep itself, and all maps, from being freed.
    """

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight
        self._there: MixedConv | None = None
        self._back: MixedConv | None = None
        self._pairs: list[tuple[Tensor, Tensor]] = []

    def there(self, x: Tensor) -> Tensor:
        """The convolution itself."""
        if self._there is None:
            self._there = MixedConv(self._weight)
        made: Tensor = self._there(x)
        return made

    def finish(self) -> None:
        """Forget the mixtures of the weight."""
        self._there = None

    def back(self, gradient: Tensor) -> Tensor:
        """From the gradient of the result to that of the map."""
        if self._back is None:
            self._back = MixedConv(self._weight.flip(2, 3).transpose(0, 1))
        made: Tensor = self._back(gradient)
        return made

    def note(self, x: Tensor, gradient: Tensor) -> None:
        """Keep what the gradient of the weight is made of."""
        self._pairs.append((x, gradient))

    def weight_gradient(self) -> Tensor:
        """Of all calls that were noted, C' C 3 3."""
        self._back = None
        pairs, self._pairs = self._pairs, []
        return gradient_by_mixtures(pairs, self._weight.shape)


class _Gathered(torch.autograd.Function):
    """Stands for the weight in every call: its own gradient is taken when theirs have been."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, shared: _Shared) -> Tensor:
        ctx.shared = shared
        return weight.new_zeros(())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _: Tensor) -> tuple[Tensor, None]:
        return ctx.shared.weight_gradient(), None


class _Repeated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, handle: Tensor, shared: _Shared) -> Tensor:
        ctx.shared = shared
        x = x.contiguous(memory_format=torch.channels_last)
        ctx.save_for_backward(x)
        return shared.there(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x,) = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        wants_x, wants_weight, _ = ctx.needs_input_grad
        if wants_weight:
            ctx.shared.note(x, gradient)
        nothing = gradient.new_zeros(()) if wants_weight else None
        return ctx.shared.back(gradient) if wants_x else None, nothing, None


def gradient_by_mixtures(pairs: list[tuple[Tensor, Tensor]], size: Sequence[int]) -> Tensor:
    """The gradient of a convolution's weight from its maps and the gradients of its results.

    pairs: B C H W and B C' H W each; they are used up.  size: C' C 3 3.
    """
    like = pairs[0][0]
    total = like.new_zeros((len(FOUR.taps) ** 2, size[0], size[1]))
    while pairs:
        num = max(1, _TILES_AT_ONCE * FOUR.size**2 // pairs[-1][0][:, 0].numel())
        some, pairs[-num:] = pairs[-num:], []
        x, gradient = (torch.cat(each) for each in zip(*some, strict=True))
        for made, maps, results in zip(total, mixed(x, FOUR), _spread(gradient), strict=True):
            made += linear(results.t(), maps.t().contiguous(), None)
    taps = torch.tensor(FOUR.taps).to(like)
    both = torch.einsum("vj,ui->vuij", taps, taps).flatten(2).flatten(0, 1)
    return (both.t() @ total.flatten(1)).view(3, 3, *size[:2]).permute(2, 3, 0, 1)


def _spread(results: Tensor) -> Tensor:
    """What each product counts in each result, turned round. results: B C H W.  Returns P R C."""
    maps = results.permute(0, 2, 3, 1)
    down, right = (-length % FOUR.size for length in maps.shape[1:3])
    if down or right:
        maps = F.pad(maps, (0, 0, 0, right, 0, down))
    return _spread_along(_spread_along(maps, 1), 3).flatten(0, 1).flatten(1, 3)


def _spread_along(x: Tensor, dim: int) -> Tensor:
    """Along a side, with the products as a first dimension."""
    first, second, third, fourth = x.unflatten(dim, (-1, FOUR.size)).unbind(dim + 1)
    made = x.new_empty((len(FOUR.taps), *first.shape))
    made[0], made[5] = first, fourth
    even, odd = first + third, second + fourth
    torch.add(even, odd, out=made[1])
    torch.sub(even, odd, out=made[2])
    torch.add(first, third, alpha=4, out=even)
    torch.add(second, fourth, alpha=4, out=odd)
    torch.add(even, odd, alpha=2, out=made[3])
    torch.sub(even, odd, alpha=2, out=made[4])
    return made
