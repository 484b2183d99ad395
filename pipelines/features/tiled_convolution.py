"""Convolutions on a CPU with a quarter of the multiplications: minimal filtering of two axes.

As in short_convolution.py, but of tiles of four frames by four rows: along time and then along
height, values of polynomials take the place of frames and rows, and what is left is to convolve
along the width. The sums are products with small matrices, of frames and rows as they lie in
memory; a third axis would take as long to sum as it saves. Rounding errors are some 1e-5 of the
largest value.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipelines.features.short_convolution import plus_and_minus, sum_up
from pipelines.nn.packed_convolution import PackedConvolution

_SIZE = 4  # frames, and rows, of a tile of the result
_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5)
"""Where polynomials are evaluated, with three taps all but the last; also at infinity."""
_ONE = 1  # number of the point 1, whose product is part of all results with factor one
_FIRST_ODD = 5  # number of the first point whose opposite is not there
_VALUES = 2**18
"""So many of each product at once stay near the core, and are enough to convolve fast."""
_FEW_PLACES = 256
"""With fewer, bringing all the weights to the core takes as long as convolving."""


def pays(num_frames: int, height: int, width: int) -> bool:
    """Whether it is faster than other ways for results of this size, of 64 channels or more.

    It is not for small maps, or where half of the tiles' results are beyond the end.
    """
    places = -(-num_frames // _SIZE) * -(-height // _SIZE) * width
    return places >= _FEW_PLACES and 2 * num_frames * height * width > places * _SIZE**2


class TiledConvolution:
    """relu(conv3d(x)) with stride 1 and one zero in front, in time and in height.

    Behind are as many zeros as make the result as long as x.
    """

    def __init__(self, weight: Tensor, bias: Tensor, *, stride: int = 1, padding: int = 1) -> None:
        """weight: C' C k k w, k 3 or 4, float32, on the CPU; bias: C'. Neither may change any more.

        stride, padding: of the width.
        """
        self._filter = _filter(weight.shape[2])
        factors = self._filter.taps
        kernels = torch.einsum("ph,qt,octhw->pqocw", factors, factors, weight.detach().double())
        self._products = [
            [
                PackedConvolution(
                    kernel.float().unsqueeze(2),
                    bias if row == frame == _ONE else None,
                    stride=(1, stride),
                )
                for frame, kernel in enumerate(of_row)
            ]
            for row, of_row in enumerate(kernels)
        ]
        self._channels, self._padding = len(weight), (0, padding)
        self._width = (stride, 2 * padding - weight.shape[4])

    def __call__(self, x: Tensor) -> Tensor:
        """x: B C T H W, float32.  Returns B C' T H W', channels last."""
        num_frames, height = x.shape[2:4]
        stride, more = self._width
        groups, tiles = -(-num_frames // _SIZE), -(-height // _SIZE)
        width = (x.shape[4] + more) // stride + 1
        made = x.new_empty((len(x), groups, _SIZE, tiles, _SIZE, width, self._channels))
        clips = x.permute(0, 2, 3, 4, 1).contiguous()
        num_values = groups * tiles * width * self._channels
        at_once = -(-tiles // -(-num_values // _VALUES))
        for clip, results in zip(clips, made, strict=True):
            for start in range(0, tiles, at_once):
                first = min(start, tiles - at_once)  # as many each time: weights lie for that many
                seen = self._mixed_rows(self._mixed_frames(clip, groups, first, at_once), at_once)
                self._convolve(seen, results[:, :, first : first + at_once])
        made = made.relu_().flatten(3, 4).flatten(1, 2)[:, :num_frames, :height]
        return made.permute(0, 4, 1, 2, 3)

    def _mixed_frames(self, clip: Tensor, groups: int, first: int, tiles: int) -> Tensor:
        """clip: T H W C.  first, tiles: which.  Returns P G h* W C, with zeros for rows outside."""
        num_frames, height = clip.shape[:2]
        mix = self._filter.mix
        begin = first * _SIZE - 1
        end = begin + tiles * _SIZE + len(mix) - _SIZE
        mixed = clip.new_empty((len(mix), groups, end - begin, *clip.shape[2:]))
        rows = slice(max(begin, 0), min(end, height))
        there = slice(rows.start - begin, rows.stop - begin)
        mixed[:, :, : there.start], mixed[:, :, there.stop :] = 0, 0
        for group in range(groups):
            before = group * _SIZE - 1
            seen = slice(max(before, 0), min(before + len(mix), num_frames))
            known = mix[:, seen.start - before : seen.stop - before]
            frames = clip[seen, rows].flatten(1)
            torch.mm(known, frames, out=mixed[:, group, there].flatten(1))
        return mixed

    def _mixed_rows(self, mixed: Tensor, tiles: int) -> Tensor:
        """mixed: P G h* W C, of frames.  Returns P P G h W C, of rows and frames."""
        points, groups, _, width, channels = mixed.shape
        seen = mixed.new_empty((points, points, groups, tiles, width, channels))
        mix = self._filter.mix.expand(tiles, -1, -1)
        for frame in range(points):
            for group in range(groups):
                # tiles overlap: h P (W C)
                rows = mixed[frame, group].flatten(1).unfold(0, points, _SIZE).transpose(1, 2)
                torch.bmm(mix, rows, out=seen[:, frame, group].flatten(2).transpose(0, 1))
        return seen

    def _convolve(self, seen: Tensor, results: Tensor) -> None:
        """seen: P P G h W C.  results: G 4 h 4 W' C', filled here."""
        points = len(seen)
        groups, _, tiles, _, width, channels = results.shape
        made = seen.new_empty((points, _SIZE, groups, tiles, width, channels))
        for row in range(points):
            self._sum_frames(row, seen[row], made[row])
        unmix = self._filter.unmix.expand(tiles, -1, -1)
        for group in range(groups):
            for frame in range(_SIZE):
                sums = made[:, frame, group].flatten(2).transpose(0, 1)
                torch.bmm(unmix, sums, out=results[group, frame].flatten(2))

    def _sum_frames(self, row: int, seen: Tensor, made: Tensor) -> None:
        """What products give to frames. seen: P G h W C.  made: 4 G h W' C', filled here."""
        images = seen.permute(0, 1, 4, 2, 3).unbind()
        frames = made.permute(0, 1, 4, 2, 3).unbind()
        products = self._products[row]

        def product(number: int) -> Tensor:
            return products[number](images[number], self._padding)

        near = plus_and_minus(product(1), product(2))
        sum_up(near, plus_and_minus(product(3), product(4)), frames)
        for number in range(_FIRST_ODD, len(products) - 1):
            made_there = product(number)
            for power, frame in enumerate(frames):
                frame.add_(made_there, alpha=_POINTS[number] ** power)
        products[0].add_to(frames[0], images[0], self._padding)
        products[-1].add_to(frames[-1], images[-1], self._padding)


class _Filter(NamedTuple):
    """Four results of a filter, of P products: unmix (taps w * mix x).

    taps: P k, float64.  mix: P P.  unmix: 4 P.
    """

    taps: Tensor
    mix: Tensor
    unmix: Tensor


@cache
def _filter(num_taps: int) -> _Filter:
    """Of three or four taps; the first of them meets what is before the first result."""
    num = num_taps + _SIZE - 1
    points = _POINTS[: num - 1]
    taps, mix, unmix = np.zeros((num, num_taps)), np.zeros((num, num)), np.zeros((_SIZE, num))
    for row, point in enumerate(points):
        others = np.array([other for other in points if other != point])
        taps[row] = point ** np.arange(num_taps) / np.prod(point - others)
        mix[row, :-1] = np.poly(others)[::-1]
        unmix[:, row] = point ** np.arange(_SIZE)
    taps[-1, -1] = unmix[-1, -1] = 1
    mix[-1] = np.poly(points)[::-1]
    return _Filter(*(torch.from_numpy(taps), *(torch.from_numpy(m).float() for m in (mix, unmix))))
