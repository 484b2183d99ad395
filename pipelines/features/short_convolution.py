"""Convolutions on a CPU with half the multiplications: Winograd's minimal filtering along time.

Four frames of the result need twelve products of a frame and a 3x3 kernel; six are enough when they
are of sums of frames (Winograd, 1980; Lavin & Gray, CVPR 2016). Such a product is the value of a
polynomial at a point, and both the sums that go in and those that come out are made of even and odd
parts, which points of opposite sign share. Along time alone the sums cost little, and rounding
stays near that of the plain convolution (some 1e-6 of the largest value).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.nn.packed_convolution import PackedConvolution

_GROUP = 4  # frames of the result that are made together
_PROFIT = 1.4  # the sums cost about two fifths of what convolving does
_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0)
"""Where the polynomials are evaluated; also at infinity."""
_ONE = 1  # number of the point 1, whose product is part of all frames with factor one

Frames = Sequence[Tensor]
"""Images B C H W, one after another."""


class ShortConvolution:
    """relu(conv3d(x)) with a 3x3x3 kernel, stride 1 and one zero all around."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """weight: C' C 3 3 3, float32, on the CPU; bias: C'. Both must not change any more."""
        self._channels = len(weight)
        kernels = _values(weight, _POINTS)
        self._products = [
            PackedConvolution(each, bias if number == _ONE else None, stride=(1, 1))
            for number, each in enumerate(kernels)
        ]

    @staticmethod
    def pays(num_frames: int) -> bool:
        """Whether it is faster than to convolve plainly, which never touches frames of zeros."""
        products = (len(_POINTS) + 1) * -(-num_frames // _GROUP)
        return _PROFIT * products <= 3 * num_frames - 2

    def __call__(self, x: Tensor) -> Tensor:
        """x: B C T H W, float32.  Returns B C' T H W, channels last."""
        num_frames, height, width = x.shape[2:]
        # a whole number of groups, channels last
        shape = (len(x), -(-num_frames // _GROUP) * _GROUP, height, width, self._channels)
        made = x.new_empty(shape).permute(0, 4, 1, 2, 3)
        behind = made.shape[2] - num_frames + 1
        frames = F.pad(x, (0, 0, 0, 0, 1, behind)).unbind(2)
        for start in range(0, made.shape[2], _GROUP):
            group = made[:, :, start : start + _GROUP].unbind(2)
            self._four_frames(frames[start : start + len(_POINTS) + 1], group)
        return made[:, :, :num_frames]

    def _four_frames(self, seen: Frames, made: Frames) -> None:
        """seen: six frames.  made: four, filled here."""
        odd, even = (torch.sub(seen[i + 2], seen[i], alpha=4) for i in (1, 2))
        near = plus_and_minus(self._product(1, even + odd), self._product(2, even.sub_(odd)))
        odd, even = (seen[i + 2] - seen[i] for i in (1, 2))
        high = self._product(3, torch.add(even, odd, alpha=2))
        far = plus_and_minus(high, self._product(4, even.sub_(odd, alpha=2)))
        sum_up(near, far, made)
        for number, frame in ((0, made[0]), (5, made[3])):
            offset = min(number, 1)
            first, middle, last = (seen[offset + i] for i in (0, 2, 4))
            outer = torch.sub(last, middle, alpha=5).add_(first, alpha=4)
            self._products[number].add_to(frame, outer, (1, 1), activation="relu")
        for frame in made[1:3]:
            frame.relu_()

    def _product(self, number: int, frame: Tensor) -> Tensor:
        return self._products[number](frame, (1, 1))


def plus_and_minus(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Sum and difference; the first tensor is used up."""
    return first + second, first.sub_(second)


def sum_up(near: tuple[Tensor, Tensor], far: tuple[Tensor, Tensor], made: Frames) -> None:
    """What the points 1, -1, 2, -2 give to four frames. near, far: sums and differences."""
    for number, frame in enumerate(made):
        torch.add(near[number % 2], far[number % 2], alpha=2**number, out=frame)


def _values(weight: Tensor, points: Sequence[float]) -> Tensor:
    """Kernels seen as polynomials in time, at each point and infinity, with the points' factors.

    weight: C' C t k k.  Returns P+1 C' C k k.
    """
    rows = []
    for point in points:
        factor = math.prod(point - other for other in points if other != point)
        rows.append([point**step / factor for step in range(weight.shape[2])])
    rows.append([0.0] * (weight.shape[2] - 1) + [1.0])
    factors = torch.tensor(rows, dtype=torch.float64)
    return torch.einsum("pt,oithw->poihw", factors, weight.detach().double()).float()
