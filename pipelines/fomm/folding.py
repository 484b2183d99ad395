"""The same networks for sampling alone: fewer passes over memory, fewer products.

A batch norm that follows a convolution is a part of it once its statistics stand still. How the
convolutions are then done is in pipelines.nn.sampling_convolutions.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipelines.fomm.blocks import DownBlock, ResidualBlock, SameBlock, UpBlock
from pipelines.nn.packed_convolution import PackedConv
from pipelines.nn.sampling_convolutions import DoublingConv, SamplingConv

_Network = TypeVar("_Network", bound=nn.Module)


def for_sampling(network: _Network) -> _Network:
    """A copy of a network in eval mode that gives the same, but for rounding, and cannot learn.

    It stays on the device where the network is, and keeps what it works with channels last.
    """
    folded = deepcopy(network).eval().requires_grad_(False)
    folded.to(memory_format=torch.channels_last)
    _fold(folded)
    return folded


def _fold(network: nn.Module) -> None:
    """Change the blocks and convolutions below a module into those for sampling."""
    for name, child in network.named_children():
        if isinstance(child, UpBlock):
            conv = fuse_conv_bn_eval(child.conv, child.norm)
            setattr(network, name, DoublingConv(conv.weight, conv.bias))
        elif isinstance(child, SameBlock):
            setattr(network, name, FoldedSameBlock(child))
        elif isinstance(child, ResidualBlock):
            setattr(network, name, FoldedResidualBlock(child))
        elif isinstance(child, nn.Conv2d):
            setattr(network, name, _packed(child))
        else:
            _fold(child)


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
