"""I3D's first convolution on a CPU: 7x7x7 with stride 2, a quarter of the multiplications.

Two frames and two rows, folded into channels, are one place of a convolution with four taps and
stride 1 in time and height, which tiled_convolution.py shortens.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from torch import Tensor
from torch.nn import functional as F

from pipelines.features.tiled_convolution import TiledConvolution

_FOLD = 2
_MARGIN = 2
"""Places that the kernel reaches back from where the first fold begins."""


class FoldedConvolution:
    """relu(conv3d(x)) with a 7x7x7 kernel and stride 2."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """weight: C' C 7 7 7, float32, on the CPU; bias: C'. Neither may change any more."""
        pairs = F.pad(weight.detach(), (0, 0, 0, 1, 0, 1))  # an eighth tap, which is nothing
        pairs = pairs.unflatten(3, (-1, _FOLD)).unflatten(2, (-1, _FOLD))
        folded = pairs.permute(0, 3, 5, 1, 2, 4, 6).flatten(1, 3)
        self._conv = TiledConvolution(folded, bias, stride=_FOLD, padding=0)

    def __call__(self, x: Tensor, margins: Sequence[tuple[int, int]]) -> Tensor:
        """x: B C T H W, float32.  margins: zeros in front of and behind each axis.

        In time and height they must be as many as make the result half as long, rounded up.
        Returns B C' T/2 H/2 W', channels last.
        """
        return self._conv(_folded(x, margins))


def _folded(x: Tensor, margins: Sequence[tuple[int, int]]) -> Tensor:
    """Returns B 4C T/2 H/2 W, the width with its margins, channels last."""
    batch, channels, num_frames, height, width = x.shape
    half = (-(-num_frames // _FOLD), -(-height // _FOLD))
    (late, _), (low, _), (left, behind) = margins
    late, low, right = late - _MARGIN, low - _MARGIN, left + width
    folded = x.new_zeros((batch, *half, right + behind, _FOLD, _FOLD, channels))
    for frame in range(num_frames):  # one after another, and channels apart, is the fastest copy
        pair, second = divmod(frame + late, _FOLD)
        for lower, channel in product(range(_FOLD), range(channels)):
            rows = x[:, channel, frame, (lower - low) % _FOLD :: _FOLD]
            first = int(lower < low)
            there = folded[:, pair, first : first + rows.shape[1], left:right]
            there[..., second, lower, channel] = rows
    return folded.flatten(4).permute(0, 4, 1, 2, 3)
