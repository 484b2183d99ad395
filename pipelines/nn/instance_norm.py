"""Instance norm with the right gradient for a batch of one.

The library's own is wrong, by as much as the gradient is large, where a single image's gradient
comes in with channels last (torch 2.15 on a CPU). The batch norm of a single image is the same norm
and knows both orders.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def instance_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, *, eps: float = 1e-5
) -> Tensor:
    """Mean 0 and variance 1 over the places of each channel of each image.

    x: B C H W.  weight, bias: C, applied afterwards.
    """
    if len(x) == 1:
        return F.batch_norm(x, None, None, weight, bias, training=True, eps=eps)
    return F.instance_norm(x, weight=weight, bias=bias, eps=eps)


class InstanceNorm2d(nn.InstanceNorm2d):
    """nn.InstanceNorm2d of what is seen, never of running statistics."""

    def __init__(self, channels: int, *, affine: bool = False) -> None:
        super().__init__(channels, affine=affine)

    def forward(self, x: Tensor) -> Tensor:
        """x: B C H W."""
        return instance_norm(x, self.weight, self.bias, eps=self.eps)
