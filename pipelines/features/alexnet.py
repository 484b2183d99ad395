"""The convolutional part of AlexNet (Krizhevsky, 2014), as a source of feature maps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS = (64, 192, 384, 256, 256)
"""Channels of the five feature maps."""


class _Row(NamedTuple):
    """torchvision_index: where torchvision's `features` has this convolution."""

    torchvision_index: int
    kernel: int
    stride: int
    padding: int
    has_pool_before: bool


_ROWS = (
    _Row(0, 11, 4, 2, False),
    _Row(3, 5, 1, 2, True),
    _Row(6, 3, 1, 1, True),
    _Row(8, 3, 1, 1, False),
    _Row(10, 3, 1, 1, False),
)
TORCHVISION_INDICES = tuple(row.torchvision_index for row in _ROWS)
"""Of the convolutions, in torchvision's `features`."""
_POSITION = {row.torchvision_index: number for number, row in enumerate(_ROWS)}


class AlexNet(nn.Module):
    """Five convolutions; two of them look at maps that were halved before."""

    def __init__(self) -> None:
        super().__init__()
        widths = zip((3, *CHANNELS), CHANNELS, _ROWS, strict=False)
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, row.kernel, row.stride, row.padding)
            for before, after, row in widths
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """The maps after each ReLU. images: N 3 H W, 32 px or more.  Returns N C h w each."""
        maps, x = [], images
        for conv, row in zip(self.convs, _ROWS, strict=True):
            if row.has_pool_before:
                x = F.max_pool2d(x, 3, stride=2)
            x = F.relu(conv(x))
            maps.append(x)
        return maps


def alexnet_key(index: int, leaf: str) -> str:
    """Our name for `features.<index>.<leaf>` of torchvision's AlexNet."""
    return f"convs.{_POSITION[index]}.{leaf}"


def alexnet_state(torchvision_state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict from torchvision's; its classifier is left out."""
    state = {}
    for key, value in torchvision_state.items():
        part, _, rest = key.partition(".")
        if part == "features":
            index, _, leaf = rest.partition(".")
            state[alexnet_key(int(index), leaf)] = value
    return state
