"""Maps a few rows at a time, so that what is made on the way to a result stays near the core."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipelines.nn.packed_convolution import PackedConv
from pipelines.nn.packed_layers import FOUR

ROWS = 32
"""Of a result at a time: of 256 x 256 x 32 numbers a megabyte."""

_FEWEST_WEIGHTS = 64 * 64
"""Of a tap: from here on half the products outweigh the mixing of rows."""


class Strip(NamedTuple):
    """Some rows of a result of 3 x 3 taps.

    rows: where they are.  reads: those that they are made of and the strip above is not.
    puts: where these lie among the rows of the strip, which has one more above and below.
    """

    rows: slice
    reads: slice
    puts: slice

    @property
    def num_rows(self) -> int:
        """Rows of the strip, with the one above and the one below."""
        return self.rows.stop - self.rows.start + 2


def strips(height: int) -> Iterator[Strip]:
    """All strips of a map, from above. Around the map rows are 0.

    The first two rows of a strip are the last two of the strip above.
    """
    for first in range(0, height, ROWS):
        last = min(first + ROWS, height)
        reads = slice(first + 1 if first else 0, min(last + 1, height))
        puts = slice(reads.start - first + 1, reads.stop - first + 1)
        yield Strip(slice(first, last), reads, puts)


class RowMixedConv(nn.Module):
    """A 3 x 3 convolution of strips by 1 x 3 convolutions of mixtures of rows: six for twelve.

    Rows lie beside each other in memory, so that mixing them takes little time even where there
    are few channels; it is also nearer to the plain sum than mixing in both directions.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        """weight: C' C 3 3.  bias: C'."""
        super().__init__()
        taps = torch.tensor(FOUR.taps).to(weight)
        weights = torch.einsum("vi,ocij->vocj", taps, weight.detach()).unsqueeze(3)
        # the product that counts once in each result can bring the bias along
        self._convs = nn.ModuleList(
            PackedConv(each, bias if number == 1 else None, padding=(0, 1))
            for number, each in enumerate(weights)
        )
        self._plain = PackedConv(weight, bias, padding=(0, 1))
        self._num_results = len(bias)

    @staticmethod
    def pays(weight: Tensor) -> bool:
        """Whether it is faster than a plain convolution. weight: C' C 3 3."""
        return weight.shape[0] * weight.shape[1] >= _FEWEST_WEIGHTS

    def forward(self, x: Tensor) -> Tensor:
        """x: rows with one more above and below, B C R+2 W.  Returns B C' R W."""
        batch, channels, height, width = x.shape
        num_tiles, rest = divmod(height - 2, FOUR.size)
        if rest:
            plain: Tensor = self._plain(x)
            return plain
        last = FOUR.size * (num_tiles - 1) + 1
        rows = x.permute(0, 2, 3, 1)
        neighbours = [rows[:, i : i + last : FOUR.size] for i in range(FOUR.size + 2)]
        mixed = x.new_empty((len(self._convs), batch, num_tiles, width, channels))
        FOUR.mix(neighbours, mixed)
        pairs = zip(self._convs, mixed, strict=True)
        products = [conv(each.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) for conv, each in pairs]
        made = x.new_empty((batch, num_tiles, FOUR.size, width, self._num_results))
        FOUR.unmix(products, made.permute(2, 0, 1, 3, 4))
        return made.flatten(1, 2).permute(0, 3, 1, 2)
