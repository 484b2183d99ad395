"""The same networks for sampling alone: fewer passes over memory, fewer products.

A batch norm that follows a convolution is a part of it once its statistics stand still. How the
convolutions are then done is in pipelines.nn.sampling_convolutions.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipelines.fomm.blocks import DownBlock, ResidualBlock, SameBlock, UpBlock
from pipelines.nn.packed_convolution import PackedConv
from pipelines.nn.sampling_convolutions import DoublingConv, SamplingConv
from pipelines.training.device import freed_memory_given_back

_Network = TypeVar("_Network", bound=nn.Module)


def for_sampling(network: _Network) -> _Network:
    """The network itself in eval mode: it gives the same, but for rounding, and cannot learn.

    It is changed block by block: weights are never there twice. It stays on its device and keeps
    what it works with channels last.
    """
    network.eval().requires_grad_(False)
    network.to(memory_format=torch.channels_last)
    _fold(network)
    return network


def _fold(network: nn.Module) -> None:
    """Change the blocks and convolutions below a module into those for sampling."""
    for name in [name for name, _ in network.named_children()]:
        child = getattr(network, name)
        with freed_memory_given_back():
            folded = _folded(child)
            if folded is not None:
                setattr(network, name, LaidOut(folded))
            del child
        if folded is None:
            _fold(getattr(network, name))


def _folded(layer: nn.Module) -> nn.Module | None:
    """What does the same in a sampling; None for what consists of further layers, or of none."""
    if isinstance(layer, UpBlock):
        conv = fuse_conv_bn_eval(layer.conv, layer.norm)
        return DoublingConv(conv.weight, conv.bias)
    if isinstance(layer, SameBlock):
        return FoldedSameBlock(layer)
    if isinstance(layer, ResidualBlock):
        return FoldedResidualBlock(layer)
    return _packed(layer) if isinstance(layer, nn.Conv2d) else None


class LaidOut(nn.Module):
    """A layer whose first pass, which lays its weights out, gives back the memory of the old."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self._is_laid_out = layer, False

    def forward(self, x: Tensor, num_parts: int = 1) -> Tensor:
        """x: B C H W.  num_parts: makes no difference here."""
        if self._is_laid_out:
            made: Tensor = self.layer(x)
            return made
        with freed_memory_given_back():
            made = self.layer(x)
        self._is_laid_out = True
        return made


class FoldedSameBlock(nn.Module):
    """SameBlock, or DownBlock with its mean, whose norm is a part of the convolution."""

    def __init__(self, block: SameBlock) -> None:
        super().__init__()
        conv = fuse_conv_bn_eval(block.conv, block.norm)
        is_plain = conv.kernel_size == (3, 3)
        self.conv = SamplingConv(conv, has_relu=True) if is_plain else _packed(conv, has_relu=True)
        self.halves = isinstance(block, DownBlock)

    def forward(self, x: Tensor, num_parts: int = 1) -> Tensor:
        """x: B C H W; returns B C' H W or B C' H/2 W/2. num_parts: makes no difference here."""
        made: Tensor = self.conv(x)
        return F.avg_pool2d(made, 2) if self.halves else made


class FoldedResidualBlock(nn.Module):
    """ResidualBlock whose second norm is a part of the first convolution."""

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        self.norm = block.norm1
        self.conv1 = SamplingConv(fuse_conv_bn_eval(block.conv1, block.norm2), has_relu=True)
        self.conv2 = SamplingConv(block.conv2)

    def forward(self, x: Tensor) -> Tensor:
        """x: B C H W; the same shape comes out."""
        made: Tensor = self.conv2(self.conv1(self.norm(x).relu_()))
        return made.add_(x)


def _packed(conv: nn.Conv2d, *, has_relu: bool = False) -> PackedConv:
    rows, columns = conv.padding
    padding = (int(rows), int(columns))
    return PackedConv(conv.weight, conv.bias, padding=padding, has_relu=has_relu)
