"""Layers with weight normalisation and a gain and shift of their own (spec: behavior, 2.5)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.nn.full_precision import widened
from pipelines.nn.whole_batch import channel_statistics

_EPS, _VARIANCE_EPS = 1e-12, 1e-10
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
        self._kept: tuple[Tensor, Tensor] | None = None

    def folded(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the plain convolution that does the same."""
        if self._kept is not None:
            return self._kept
        scale = self.gain * self.magnitude / _row_norms(self.direction)
        return self.direction * scale[:, None, None, None], self.gain * self.bias + self.shift

    def forward(self, x: Tensor) -> Tensor:
        """x: B C H W."""
        weight, bias = self.folded()
        return F.conv2d(x, weight, bias, self.stride, self.padding)

    def keep_folded(self) -> None:
        """Fold once and for all: for a network that learns no more and stays on its device."""
        self._kept = None
        with torch.no_grad():
            self._kept = self.folded()


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
        return F.instance_norm(super().forward(x))


class NormLinear(NormConv2d):
    """A NormConv2d on vectors; its weights have the shape of a 1 x 1 convolution."""

    def __init__(self, size_in: int, size_out: int) -> None:
        super().__init__(size_in, size_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """x: B D."""
        weight, bias = self.folded()
        return F.linear(x, weight[:, :, 0, 0], bias)


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
