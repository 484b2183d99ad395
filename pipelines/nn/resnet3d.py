"""The basic block of the 3D ResNets that read videos."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.nn.norms import group_norm
from pipelines.nn.spectral_norm import SpectralConv3d

Stride = tuple[int, int, int]


def conv3d(
    channels_in: int, channels_out: int, *, stride: Stride = (1, 1, 1), spectral: bool = False
) -> nn.Conv3d:
    """A 3x3x3 convolution with padding 1 and no bias, with or without spectral norm."""
    if spectral:
        return SpectralConv3d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)
    return nn.Conv3d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False)


class ResidualBlock3d(nn.Module):
    """Two convolutions with group norm, added to a shortcut, then ReLU.

    The shortcut is the identity where the shapes allow it, and otherwise a 3x3x3 convolution (not
    the usual 1x1x1) with group norm.
    """

    def __init__(
        self, channels_in: int, channels_out: int, *, stride: Stride, spectral: bool = False
    ) -> None:
        """stride: time, height, width."""
        super().__init__()
        self.conv1 = conv3d(channels_in, channels_out, stride=stride, spectral=spectral)
        self.norm1 = group_norm(channels_out)
        self.conv2 = conv3d(channels_out, channels_out, spectral=spectral)
        self.norm2 = group_norm(channels_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != (1, 1, 1) or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                conv3d(channels_in, channels_out, stride=stride, spectral=spectral),
                group_norm(channels_out),
            )

    def forward(self, x: Tensor) -> Tensor:
        """x: B C T H W."""
        main = F.relu(self.norm1(self.conv1(x)), inplace=True)
        main = self.norm2(self.conv2(main))
        return F.relu(main + self.shortcut(x), inplace=True)
