"""The correlation layer: how alike is each place of one map to the places around it in another.

Two places are compared only when they lie a multiple of the stride apart, so the maps fall into
stride x stride lattices that never meet. On a lattice, the products of one row with the 2r + 1 rows
around it are one matrix product, and the wanted displacements are diagonals of its result.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_FLOAT_BYTES = 4


class Correlation(nn.Module):
    """Mean product over channels of one map and another, displaced by up to 20 pixels each way.

    max_displacement: in pixels of the maps, in steps of `stride`: r = max_displacement // stride.
    pad_px: rows and columns of zeros around both maps before the centres are chosen; with the
    published value, the same as max_displacement, every place of the map is a centre.
    output_stride: step between centres.  chunk_mb: upper limit for the products held at one time.
    """

    def __init__(
        self,
        *,
        max_displacement: int = 20,
        stride: int = 2,
        pad_px: int = 20,
        output_stride: int = 1,
        chunk_mb: float = 32.0,
    ) -> None:
        super().__init__()
        self.max_displacement, self.stride = max_displacement, stride
        self.pad_px, self.output_stride = pad_px, output_stride
        self.chunk_mb = chunk_mb

    @property
    def radius(self) -> int:
        """Displacements to each side."""
        return self.max_displacement // self.stride

    @property
    def channels(self) -> int:
        """Displacements in all: channels of the result."""
        return (2 * self.radius + 1) ** 2

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Compare each place of `first` with its surroundings in `second`.

        first, second: B C h w, any range.  Returns B (2r+1)^2 h' w' in float32, whatever the
        precision around it; channel (2r+1) i + j is the displacement (j - r, i - r) * stride, x
        then y. Places outside `second` are zero.
        """
        with torch.autocast(first.device.type, enabled=False):
            margin = self.pad_px - self.max_displacement
            first = F.pad(first.float(), (max(margin, 0),) * 4)
            second = F.pad(second.float(), (max(margin, 0),) * 4)
            volume = self._at_every_place(first, second)
            inner = slice(max(-margin, 0), None if margin >= 0 else margin)
            step = self.output_stride
            return volume[..., inner, inner][..., ::step, ::step]

    def _at_every_place(self, first: Tensor, second: Tensor) -> Tensor:
        batch, channels, height, width = first.shape
        lattices_first = _lattices(first / channels, self.stride)
        lattices_second = F.pad(
            _lattices(second, self.stride), (0, 0, 0, 0, self.radius, self.radius)
        )
        num, rows, columns, _ = lattices_first.shape
        span = 2 * self.radius + 1
        volume = first.new_zeros(num, rows, columns, span, span)
        for lattice in range(num):
            for start, stop in self._row_chunks(rows, columns):
                products = _row_products(
                    lattices_first[lattice, start:stop],
                    lattices_second[lattice, start : stop + span - 1],
                    span,
                )
                _keep_diagonals(volume[lattice, start:stop], products, self.radius)
        stride = self.stride
        volume = volume.view(batch, stride, stride, rows, columns, span * span)
        volume = volume.permute(0, 3, 1, 4, 2, 5).reshape(
            batch, rows * stride, columns * stride, span * span
        )
        return volume[:, :height, :width].permute(0, 3, 1, 2)

    def _row_chunks(self, rows: int, columns: int) -> Iterator[tuple[int, int]]:
        row_bytes = columns * columns * (2 * self.radius + 1) * _FLOAT_BYTES
        size = max(1, int(self.chunk_mb * 2**20 / row_bytes))
        for start in range(0, rows, size):
            yield start, min(start + size, rows)


def _lattices(x: Tensor, stride: int) -> Tensor:
    """B C h w -> B*stride^2, h/stride, w/stride, C: the places that can meet, channels last."""
    batch, channels, height, width = x.shape
    x = F.pad(x, (0, -width % stride, 0, -height % stride))
    x = x.view(batch, channels, x.shape[2] // stride, stride, x.shape[3] // stride, stride)
    x = x.permute(0, 3, 5, 2, 4, 1)
    return x.reshape(batch * stride * stride, *x.shape[3:])


def _row_products(first: Tensor, second: Tensor, span: int) -> Tensor:
    """All products of each row with the `span` rows around it.

    first: R w C.  second: R + span - 1 rows, w, C.  Returns R w span w': place in the row, row
    displacement, place in the other row.
    """
    rows, columns = first.shape[:2]
    windows = second.unfold(0, span, 1).permute(0, 3, 1, 2).flatten(1, 2)  # a view: rows follow on
    products = torch.bmm(first, windows.transpose(1, 2))
    return products.view(rows, columns, span, columns)


def _keep_diagonals(volume: Tensor, products: Tensor, radius: int) -> None:
    """Write the products of places that lie up to `radius` columns apart into R w span span."""
    columns = products.shape[1]
    for shift in range(max(-radius, 1 - columns), min(radius, columns - 1) + 1):
        diagonal = products.diagonal(offset=shift, dim1=1, dim2=3).transpose(1, 2)  # R w' span
        start = max(-shift, 0)
        volume[:, start : start + diagonal.shape[1], :, shift + radius] = diagonal
