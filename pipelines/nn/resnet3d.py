"""The basic block of the 3D ResNets that read videos."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.nn.norms import group_norm
from pipelines.nn.spectral_norm import SpectralConv3d
from pipelines.nn.time_convolutions import PlannedConv3d

Stride = tuple[int, int, int]


def conv3d(
    channels_in: int,
    channels_out: int,
    *,
    stride: Stride = (1, 1, 1),
    spectral: bool = False,
    planned: bool = False,
) -> nn.Conv3d:
    """A 3x3x3 convolution with padding 1 and no bias, with or without spectral norm.

    planned: see PlannedConv3d.
    """
    if planned and stride == (1, 1, 1) and not spectral:
        return PlannedConv3d(channels_in, channels_out, bias=False)
    if spectral:
        return SpectralConv3d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
    return nn.Conv3d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)


class ResidualBlock3d(nn.Module):
    """Two convolutions with group norm, added to a shortcut, then ReLU.

    The shortcut is the identity where the shapes allow it, and otherwise a 3x3x3 convolution (not
    the usual 1x1x1) with group norm.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        stride: Stride,
        spectral: bool = False,
        planned: bool = False,
    ) -> None:
        """stride: time, height, width.

        planned: faster on a CPU, but nothing may differentiate the gradient again.
        """
        super().__init__()
        make = partial(conv3d, spectral=spectral, planned=planned)
        self.conv1 = make(channels_in, channels_out, stride=stride)
        self.norm1 = group_norm(channels_out)
        self.conv2 = make(channels_out, channels_out)
        self.norm2 = group_norm(channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != (1, 1, 1) or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                make(channels_in, channels_out, stride=stride),
                group_norm(channels_out),
            )

    def forward(self, x: Tensor) -> Tensor:
        """x: B C T H W."""
        main = F.relu(self.norm1(self.conv1(x)), inplace=True)
        main = self.norm2(self.conv2(main))
        return F.relu(main + self.shortcut(x), inplace=True)
