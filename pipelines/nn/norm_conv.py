"""Layers with weight normalisation and a gain and shift of their own (spec: behavior, 2.5)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.nn.full_precision import widened
from pipelines.nn.instance_norm import instance_norm
from pipelines.nn.packed_convolution import PackedConv
from pipelines.nn.packed_layers import MixedConv, Product
from pipelines.nn.products import linear
from pipelines.nn.strips import RowMixedConv
from pipelines.nn.whole_batch import channel_statistics

_EPS, _VARIANCE_EPS = 1e-12, 1e-10
_WIDE, _MIXED_PLACES = 32, 32**2
"""Channels from which on fewer products pay for the mixtures that they need."""
_PUBLISHED = {"conv.weight_g": "magnitude", "conv.weight_v": "direction", "conv.bias": "bias"}


class NormConv2d(nn.Module):
    """gain * (convolution with magnitude * direction / |direction|, plus bias) + shift."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, *, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        shape = (channels_out, channels_in, kernel, kernel)
        self.direction = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(channels_out))
        nn.init.kaiming_uniform_(self.direction, a=math.sqrt(5))
        bound = 1 / math.sqrt(channels_in * kernel**2)
        nn.init.uniform_(self.bias, -bound, bound)
        self.magnitude = nn.Parameter(_row_norms(self.direction.detach()))
        self.gain = nn.Parameter(torch.ones(channels_out))
        self.shift = nn.Parameter(torch.zeros(channels_out))
        self._kept: Callable[[Tensor], Tensor] | None = None

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the plain convolution that does the same."""
        scale = self.gain * self.magnitude / _row_norms(self.direction)
        return self.direction * scale[:, None, None, None], self.gain * self.bias + self.shift

    def forward(self, x: Tensor) -> Tensor:
        """x: B C H W."""
        if self._kept is not None:
            return self._kept(x)
        weight, bias = self.folded()
        return F.conv2d(x, weight, bias, self.stride, self.padding)

    def square_for(self, x: Tensor) -> Square | None:
        """What takes maps like x (B C H W) in strips: of a folded layer, where that is faster."""
        kept = self._kept
        return kept if isinstance(kept, Square) and kept.takes_strips(x) else None

    @torch.no_grad()
    def keep_folded(self) -> None:
        """Fold once and for all: for a network that learns no more and stays on its device.

        On a CPU the convolution is then one that only infers, fastest with channels last.
        """
        weight, bias = self.folded()
        # not a part of the network: it has no weights of its own
        object.__setattr__(self, "_kept", self._kernel(weight.detach(), bias.detach()))

    def _kernel(self, weight: Tensor, bias: Tensor) -> Callable[[Tensor], Tensor]:
        if weight.device.type == "cpu" and weight.dtype == torch.float32:
            kernel, is_plain = weight.shape[-1], self.stride == 1
            if kernel == 1 and is_plain and self.padding == 0:
                return Pointwise(weight, bias)
            if kernel == 3 and is_plain and self.padding == 1 and min(weight.shape[:2]) >= _WIDE:
                return Square(weight, bias)
            weight = weight.contiguous(memory_format=torch.channels_last)
        return lambda x: F.conv2d(x, weight, bias, self.stride, self.padding)


class Square:
    """A 3 x 3 convolution (padding 1) that only infers, in the way that suits the maps it gets."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """weight: C' C 3 3.  bias: C'."""
        self._arguments: tuple[Tensor, ...] = (weight, bias)
        self._conv: nn.Module | None = None
        self._strip_conv: nn.Module | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """x: B C H W.  Returns B C' H W, channels last."""
        if self._conv is None:
            is_small = x.shape[2] * x.shape[3] <= _MIXED_PLACES
            self._conv = (MixedConv if is_small else PackedConv)(*self._arguments)
        made: Tensor = self._conv(x)
        return made

    def takes_strips(self, x: Tensor) -> bool:
        """Whether a map, B C H W, is too large to stay near the core."""
        return x.shape[2] * x.shape[3] > _MIXED_PLACES

    def of_strip(self, x: Tensor) -> Tensor:
        """x: rows with one more above and below, B C R+2 W.  Returns B C' R W."""
        if self._strip_conv is None:
            weight, bias = self._arguments
            self._strip_conv = (
                RowMixedConv(weight, bias)
                if RowMixedConv.pays(weight)
                else PackedConv(weight, bias, padding=(0, 1))
            )
        made: Tensor = self._strip_conv(x)
        return made


class Pointwise:
    """A 1 x 1 convolution that only infers: a product of what is at each place."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """weight: C' C 1 1.  bias: C'."""
        self._product = Product(weight[:, :, 0, 0], bias)

    def __call__(self, x: Tensor) -> Tensor:
        """x: B C H W.  Returns B C' H W, channels last."""
        places = x.permute(0, 2, 3, 1)
        made: Tensor = self._product(places.reshape(-1, x.shape[1]))
        return made.view(*places.shape[:3], -1).permute(0, 3, 1, 2)


def fold_for_inference(network: nn.Module) -> None:
    """Fold every NormConv2d of a network that learns no more, in place."""
    for module in network.modules():
        if isinstance(module, NormConv2d):
            module.keep_folded()


class L2NormConv2d(nn.Module):
    """gain * (convolution with weight / |weight|) + shift; no bias.

    looks_at_data: in training, gain and shift are set so that the batch at hand comes out
    standardised, instead of being learned: how such a network begins.
    """

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, *, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        self.weight = nn.Parameter(torch.randn(channels_out, channels_in, kernel, kernel) * 0.05)
        self.gain = nn.Parameter(torch.ones(channels_out))
        self.shift = nn.Parameter(torch.zeros(channels_out))
        self.looks_at_data = False

    def forward(self, x: Tensor) -> Tensor:
        """x: B C H W."""
        if self.looks_at_data and self.training:
            self._standardise(x)
        scale = self.gain / _row_norms(self.weight).clamp(min=_EPS)
        weight = self.weight * scale[:, None, None, None]
        return F.conv2d(x, weight, self.shift, self.stride, self.padding)

    @torch.no_grad()
    def _standardise(self, x: Tensor) -> None:
        norms = _row_norms(self.weight).clamp(min=_EPS)
        plain = F.conv2d(
            x, self.weight / norms[:, None, None, None], None, self.stride, self.padding
        )
        mean, spread, count = channel_statistics(widened(plain).transpose(0, 1).flatten(1))
        self.gain.copy_((spread / max(count - 1, 1) + _VARIANCE_EPS).rsqrt())
        self.shift.copy_(-mean * self.gain)


def look_at_data(network: nn.Module, is_on: bool) -> None:
    """Switch looks_at_data of every L2NormConv2d of a network."""
    for module in network.modules():
        if isinstance(module, L2NormConv2d):
            module.looks_at_data = is_on


class InstanceNormConv2d(nn.Conv2d):
    """A plain convolution, then mean 0 and variance 1 over the places of each channel."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, *, stride: int = 1, padding: int = 0
    ) -> None:
        super().__init__(channels_in, channels_out, kernel, stride=stride, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        """x: B C H W."""
        return instance_norm(super().forward(x))


class NormLinear(NormConv2d):
    """A NormConv2d on vectors; its weights have the shape of a 1 x 1 convolution."""

    def __init__(self, size_in: int, size_out: int) -> None:
        super().__init__(size_in, size_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x: B D."""
        weight, bias = self.folded()
        return linear(x, weight[:, :, 0, 0], bias)


def norm_entry(key: str, value: Tensor) -> tuple[str, Tensor]:
    """Our name and shape for a published entry of such a layer; others are unchanged."""
    for published, ours in _PUBLISHED.items():
        if key.endswith(published):
            flat = value.flatten() if ours == "magnitude" else value
            return key.removesuffix(published) + ours, flat
    stem, _, leaf = key.rpartition(".")
    if leaf in ("gamma", "beta"):
        return f"{stem}.{'gain' if leaf == 'gamma' else 'shift'}", value.flatten()
    return key, value


def _row_norms(weight: Tensor) -> Tensor:
    return weight.flatten(1).norm(dim=1)
