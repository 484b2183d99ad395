"""Inception-v3 as FID has it: the graph that TensorFlow published in December 2015.

torchvision's network with other pools: the branches average without counting the border's zeros,
and the very last block takes a maximum instead (a slip of the original that FID is defined with).
Weights are those of pytorch-fid, whose names are torchvision's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.inception import (
    Inception3,
    InceptionA,
    InceptionC,
    InceptionE,
)

NUM_FEATURES = 2048
SIZE_PX = 299

_NUM_CLASSES = 1008
_STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3")
_MIDDLE = ("Conv2d_3b_1x1", "Conv2d_4a_3x3")
_BLOCKS = (
    *("Mixed_5b", "Mixed_5c", "Mixed_5d", "Mixed_6a", "Mixed_6b", "Mixed_6c", "Mixed_6d"),
    "Mixed_6e",
)
_LAST = ("Mixed_7a", "Mixed_7b", "Mixed_7c")
_UNUSED = ("AuxLogits.", "fc.")


class FidFeatures(NamedTuple):
    """Averages over places at four depths: N 64, N 192, N 768, N 2048; the last is FID's."""

    first_pool: Tensor
    second_pool: Tensor
    before_last: Tensor
    pooled: Tensor


class FidInception(nn.Module):
    """Images to features, frozen."""

    def __init__(self) -> None:
        super().__init__()
        whole = Inception3(num_classes=_NUM_CLASSES, aux_logits=False, init_weights=False)
        names = (*_STEM, *_MIDDLE, *_BLOCKS, *_LAST)
        self.layers = nn.ModuleDict({name: getattr(whole, name) for name in names})
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> FidFeatures:
        """images: N 3 H W, RGB in [0, 1], any size; resized without antialiasing, as published."""
        size = (SIZE_PX, SIZE_PX)
        x = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
        first = F.max_pool2d(self._run(2 * x - 1, _STEM), 3, stride=2)
        second = F.max_pool2d(self._run(first, _MIDDLE), 3, stride=2)
        before_last = self._run(second, _BLOCKS)
        last = self._run(before_last, _LAST)
        return FidFeatures(*(each.mean((2, 3)) for each in (first, second, before_last, last)))

    def _run(self, x: Tensor, names: tuple[str, ...]) -> Tensor:
        for name in names:
            layer = self.layers[name]
            branches = _BRANCHES.get(type(layer))
            pool = _maximum if name == "Mixed_7c" else _average
            x = layer(x) if branches is None else torch.cat(branches(layer, x, pool), dim=1)
        return x


def fid_inception_state(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our state dict from the published one; its classifier is left out."""
    return {
        f"layers.{name}": value for name, value in published.items() if not name.startswith(_UNUSED)
    }


Pool = Callable[[Tensor], Tensor]


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _maximum(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, stride=1, padding=1)


def _branches_of_a(block: Any, x: Tensor, pool: Pool) -> list[Tensor]:
    return [
        block.branch1x1(x),
        block.branch5x5_2(block.branch5x5_1(x)),
        block.branch3x3dbl_3(block.branch3x3dbl_2(block.branch3x3dbl_1(x))),
        block.branch_pool(pool(x)),
    ]


def _branches_of_c(block: Any, x: Tensor, pool: Pool) -> list[Tensor]:
    double = block.branch7x7dbl_1(x)
    for number in range(2, 6):
        double = getattr(block, f"branch7x7dbl_{number}")(double)
    return [
        block.branch1x1(x),
        block.branch7x7_3(block.branch7x7_2(block.branch7x7_1(x))),
        double,
        block.branch_pool(pool(x)),
    ]


def _branches_of_e(block: Any, x: Tensor, pool: Pool) -> list[Tensor]:
    single = block.branch3x3_1(x)
    double = block.branch3x3dbl_2(block.branch3x3dbl_1(x))
    return [
        block.branch1x1(x),
        block.branch3x3_2a(single),
        block.branch3x3_2b(single),
        block.branch3x3dbl_3a(double),
        block.branch3x3dbl_3b(double),
        block.branch_pool(pool(x)),
    ]


_BRANCHES: Mapping[type, Callable[[Any, Tensor, Pool], list[Tensor]]] = {
    InceptionA: _branches_of_a,
    InceptionC: _branches_of_c,
    InceptionE: _branches_of_e,
}
