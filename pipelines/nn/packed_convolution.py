"""Convolutions by oneDNN with weights that are laid out once, and what follows them in one step.

torch's own convolution lays its weights out at each call, which for small maps takes longer than to
convolve, and its products of matrices leave half of the vector units of some processors idle. These
operators are the ones that torch's compiler puts in place of both; they need no compiler.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_ONE_GROUP = 1
_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def is_available() -> bool:
    """Whether this build of torch has the operators."""
    return (
        torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise_")
        and hasattr(_layouts(), "mkldnn_reorder_conv3d_weight")
    )


def can_pack(weight: Tensor) -> bool:
    """Whether a convolution with this weight, C' C k k, can be done by them."""
    return (
        weight.device.type == "cpu"
        and weight.dtype in (torch.float32, torch.bfloat16)
        and is_available()
    )


class PackedConvolution:
    """A convolution of images (B C H W) or videos (B C T H W) on a CPU, for inference.

    The layout of weights that is best for the first input is kept for all.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, stride: Sequence[int]) -> None:
        """weight: C' C k k (k), for which can_pack; bias: C'. Both must not change any more."""
        self._weight, self._stride = weight.detach(), list(stride)
        self._bias = None if bias is None else bias.detach()
        self._packed: Tensor | None = None

    def __call__(self, x: Tensor, padding: Sequence[int], *, activation: str = "none") -> Tensor:
        """x: of the weight's type.  padding: zeros on both sides of each axis.

        activation: none or relu.
        """
        x = x.contiguous(memory_format=_FORMATS[x.dim()])
        found: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, *self._arguments(x, padding), activation, [], ""
        )
        return found

    def add_to(
        self, total: Tensor, x: Tensor, padding: Sequence[int], *, activation: str = "none"
    ) -> None:
        """Add the convolution of x to a tensor, channels last; then the activation, in place."""
        x = x.contiguous(memory_format=_FORMATS[x.dim()])
        after = None if activation == "none" else activation
        torch.ops.mkldnn._convolution_pointwise_.binary(
            total, x, *self._arguments(x, padding), "add", 1.0, after, [], None
        )

    def _arguments(self, x: Tensor, padding: Sequence[int]) -> list[Any]:
        """What both operators take after the input: weight, bias, and how to convolve."""
        how = [list(padding), self._stride, [1] * len(self._stride), _ONE_GROUP]
        if self._packed is None:
            lay_out = getattr(_layouts(), f"mkldnn_reorder_conv{x.dim() - 2}d_weight")
            self._packed = lay_out(self._weight.to_mkldnn(), *how, list(x.shape))
            self._weight = self._weight.new_empty(0)  # once in memory is enough
        return [self._packed, self._bias, *how]


def _layouts() -> Any:
    return torch._C._nn


class PackedConv(nn.Module):
    """A convolution of images with stride 1, then ReLU if asked for; where it can, a packed one."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None = None,
        *,
        padding: tuple[int, int] = (1, 1),
        has_relu: bool = False,
    ) -> None:
        """weight: C' C h w.  bias: C'.  Both must not change any more."""
        super().__init__()
        self._padding, self._has_relu = padding, has_relu
        weight = weight.detach().contiguous(memory_format=torch.channels_last)
        self._bias = None if bias is None else bias.detach()
        self._packed: PackedConvolution | None = None
        if can_pack(weight):
            self._packed = PackedConvolution(weight, self._bias, stride=(1, 1))
        else:
            self._weight = weight

    def forward(self, x: Tensor) -> Tensor:
        """x: B C H W.  Returns B C' H' W', channels last where it is packed."""
        if self._packed is not None:
            return self._packed(x, self._padding, activation="relu" if self._has_relu else "none")
        made = F.conv2d(x, self._weight, self._bias, padding=self._padding)
        return F.relu(made) if self._has_relu else made
