"""The same networks for sampling alone: fewer passes over memory, fewer products.

A batch norm that follows a convolution is a part of it once its statistics stand still. And a 3 x 3
convolution of an image of which every pixel was doubled reads the same few pixels again and again:
for each of the four places in such a square it is a 2 x 2 convolution of the small image.
"""

from __future__ import annotations

from copy import deepcopy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipelines.fomm.blocks import ResidualBlock, SameBlock, UpBlock

_Network = TypeVar("_Network", bound=nn.Module)


def for_sampling(network: _Network) -> _Network:
    """A copy of a network in eval mode that gives the same, but for rounding, and cannot learn."""
    folded = deepcopy(network).eval().requires_grad_(False)
    for module in list(folded.modules()):
        if isinstance(module, SameBlock):
            module.conv = fuse_conv_bn_eval(module.conv, module.norm)
            module.norm = nn.Identity()
        elif isinstance(module, ResidualBlock):
            module.conv1 = fuse_conv_bn_eval(module.conv1, module.norm2)
            module.norm2 = nn.Identity()
    for module in list(folded.modules()):
        for name, child in module.named_children():
            if isinstance(child, UpBlock):
                setattr(module, name, FoldedUpBlock(child.conv))
    return folded


class FoldedUpBlock(nn.Module):
    """UpBlock with its norm folded in: four 2 x 2 convolutions, one for each corner of a square."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        assert conv.bias is not None
        self.bias = nn.Parameter(conv.bias.detach(), requires_grad=False)
        corners = [
            _corner(conv.weight.detach(), row, column) for row in (0, 1) for column in (0, 1)
        ]
        self.weights = nn.Parameter(torch.stack(corners), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: B C H W; returns B C' 2H 2W."""
        batch, _, height, width = x.shape
        padded = F.pad(x, (1, 1, 1, 1))
        made = x.new_empty((batch, len(self.bias), 2 * height, 2 * width))
        for number, weight in enumerate(self.weights):
            row, column = divmod(number, 2)
            part = padded[:, :, row : row + height + 1, column : column + width + 1]
            made[:, :, row::2, column::2] = F.relu(F.conv2d(part, weight, self.bias))
        return made


def _corner(weight: Tensor, row: int, column: int) -> Tensor:
    """The 2 x 2 kernel for one corner, from the 3 x 3 one: what meets the same pixel is added."""
    for axis, side in ((2, row), (3, column)):
        first, second, third = weight.unbind(axis)
        pair = (first + second, third) if side else (first, second + third)
        weight = torch.stack(pair, dim=axis)
    return weight
