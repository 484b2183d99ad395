"""Layers of a trained network as a CPU infers with them: the same numbers, up to rounding.

`pack` puts them in the place of torch's. Weights are brought into the order that the library's
kernels want once and not with every call, which for a map of few places and many channels takes
longer than the convolution. A square of results of a 3 x 3 convolution is made of fewer products of
mixtures than of taps (Winograd, 1980). Norms and activations take few passes.

Maps are B C H W as everywhere, with channels last in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipelines.nn.elu import Elu, fast_elu
from pipelines.nn.packed_convolution import PackedConv, can_pack

_LEAST_CHANNELS = 32
"""With fewer, mixing takes longer than it saves."""
_FEW_PLACES = 512
"""A map with more has its weights brought into order in no time compared with the rest."""
_ROWS = 64
"""So many keep the kernels busy, of the largest tiles too."""
_ROWS_AT_ONCE = 128
"""Of more, mixtures and products no longer stay near the core."""
_MOST_MIXED_BYTES = 60_000_000
"""More than that is read from memory in the time that larger tiles save."""


def pack(network: nn.Module, *, mixes: bool = True, is_brief: bool = False) -> nn.Module:
    """Replace the layers of a network in eval mode, without spectral norm, that gain by it.

    mixes: whether sums may be taken another way: convolutions by mixtures, norms in plain order.
    What is the same at most places then gets rounding errors of its own at each of them, and an
    instance norm of a map with little else in it blows these up.
    is_brief: of all that is computed it does so little that memory for mixed weights does not pay.
    """
    for name, child in network.named_children():
        replacement = _packed(child, mixes, is_brief)
        if replacement is None:
            pack(child, mixes=mixes, is_brief=is_brief)
        else:
            setattr(network, name, replacement)
    return network


def _packed(layer: nn.Module, mixes: bool, is_brief: bool) -> nn.Module | None:
    if isinstance(layer, Elu):
        return PackedElu()
    if isinstance(layer, nn.InstanceNorm2d) and mixes and not layer.affine:
        return None if layer.track_running_stats else PackedInstanceNorm(layer.eps)
    if type(layer) is nn.Conv2d and _is_wide(layer) and _is_plain(layer, stride=1):
        kind = ChosenConv if mixes and not is_brief else PackedConv
        return kind(layer.weight, layer.bias)
    if type(layer) is nn.ConvTranspose2d and _is_wide(layer) and _is_plain(layer, stride=2):
        return PackedDoubling(layer) if layer.output_padding == (1, 1) else None
    return None


def _is_wide(layer: nn.Conv2d | nn.ConvTranspose2d) -> bool:
    return min(layer.in_channels, layer.out_channels) >= _LEAST_CHANNELS


def _is_plain(layer: nn.Conv2d | nn.ConvTranspose2d, *, stride: int) -> bool:
    found = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    is_zero_padded = layer.padding_mode == "zeros"
    return (
        found == ((3, 3), (stride, stride), (1, 1), (1, 1)) and layer.groups == 1 and is_zero_padded
    )


class MixedConv(nn.Module):
    """A 3 x 3 convolution, stride 1, padding 1, by products of mixtures."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None = None, *, tile: Tile | None = None
    ) -> None:
        """weight: C' C 3 3.  bias: C'.  tile: None chooses the one that suits the first maps."""
        super().__init__()
        self._weight, self._num_results = weight.detach(), len(weight)
        self._bias = None if bias is None else bias.detach()
        self._asked = tile
        self._tile: Tile | None = None
        self._lines: list[list[Product]] = []

    def forward(self, x: Tensor) -> Tensor:
        """x: B C H W.  Returns B C' H W."""
        batch, _, height, width = x.shape
        tile = self._tile or self._prepare(x)
        down, right = (-(-length // tile.size) for length in (height, width))
        size = (batch, down, tile.size, right, tile.size, self._num_results)
        made = x.new_empty(size)
        num_clips = max(1, _ROWS_AT_ONCE // (down * right))
        for clips, results in zip(x.split(num_clips), made.split(num_clips), strict=True):
            self._convolve(clips, tile, out=results)
        return made.flatten(1, 2).flatten(2, 3)[:, :height, :width].permute(0, 3, 1, 2)

    def _prepare(self, x: Tensor) -> Tile:
        """Choose tiles that suit maps like these, and mix the weight for them."""
        tile = self._asked or (FOUR if num_tiles(x, FOUR) >= _ROWS else TWO)
        taps = torch.tensor(tile.taps).to(self._weight)
        for row in taps:  # one after the other: all of them at once take a lot of memory
            wide = torch.einsum("i,ocij->ocj", row, self._weight)
            self._lines.append([Product(wide @ column) for column in taps])
        # the product that counts once in each result of a tile can bring the bias along
        self._lines[1][1] = Product(self._lines[1][1].weight, self._bias)
        self._weight, self._tile = self._weight.new_empty(0), tile
        return tile

    def _convolve(self, x: Tensor, tile: Tile, *, out: Tensor) -> None:
        """x: B C H W.  out: B h size w size C', h x w tiles."""
        made = _unmixed_lines(tile, out)
        # line by line of a tile's products, so that what is made for one stays near the core
        for number, line in enumerate(_mixed_along(_padded(x, tile), 1, tile)):
            parts = _mixed_along(line, 2, tile).flatten(1, 3)
            products = [each(part) for each, part in zip(self._lines[number], parts, strict=True)]
            tile.unmix(products, made[:, number])
        _unmix_lines(made, tile, out=out)


def num_tiles(x: Tensor, tile: Tile) -> int:
    """How many cover the maps B C H W."""
    height, width = x.shape[2:]
    return len(x) * -(-height // tile.size) * -(-width // tile.size)


class ChosenConv(nn.Module):
    """A 3 x 3 convolution, stride 1, padding 1, by mixtures where that pays for the first maps."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """weight: C' C 3 3.  bias: C'."""
        super().__init__()
        self._arguments: tuple[Tensor, Tensor | None] | None = (weight.detach(), bias)
        self._chosen: nn.Module | None = None

    def forward(self, x: Tensor) -> Tensor:
        """x: B C H W.  Returns B C' H W."""
        if self._arguments is not None:
            weight, bias = self._arguments
            tile = best_tile(weight, x)
            is_plain = tile is None
            self._chosen = (
                PackedConv(weight, bias) if is_plain else MixedConv(weight, bias, tile=tile)
            )
            self._arguments = None
        assert self._chosen is not None
        made: Tensor = self._chosen(x)
        return made


def best_tile(weight: Tensor, x: Tensor) -> Tile | None:
    """That of the fastest MixedConv, None where a PackedConv is faster. weight: C' C 3 3.

    x: B C H W.
    """
    results, channels = weight.shape[:2]
    rows, wide = num_tiles(x, FOUR), results * channels / (results + channels)
    is_light = len(FOUR.taps) ** 2 * results * channels * weight.itemsize <= _MOST_MIXED_BYTES
    if not can_pack(weight):
        return FOUR
    # products per mixed channel, measured: few rows keep the kernels less busy
    if rows >= _ROWS and is_light and wide >= (60 if rows >= 2 * _ROWS else 80):
        return FOUR
    return TWO if wide >= 150 else None


class Tile(NamedTuple):
    """How `size` neighbouring results of 3 taps are made of `len(taps)` products.

    taps: each product's weight as a mixture of the three.
    mix: neighbours, from the one before the first result to the one after the last, and where to
    write the mixtures that meet these weights.
    unmix: the products, and where to write the results.
    """

    size: int
    taps: tuple[tuple[float, float, float], ...]
    mix: Callable[[Sequence[Tensor], Tensor], None]
    unmix: Callable[[Sequence[Tensor], Tensor], None]


def _mix_two(x: Sequence[Tensor], out: Tensor) -> None:
    torch.sub(x[0], x[2], out=out[0])
    torch.add(x[1], x[2], out=out[1])
    torch.sub(x[2], x[1], out=out[2])
    torch.sub(x[1], x[3], out=out[3])


def _unmix_two(x: Sequence[Tensor], out: Tensor) -> None:
    torch.add(x[0], x[1], out=out[0]).add_(x[2])
    torch.sub(x[1], x[2], out=out[1]).sub_(x[3])


def _mix_four(x: Sequence[Tensor], out: Tensor) -> None:
    torch.add(x[4], x[0], alpha=4, out=out[0]).sub_(x[2], alpha=5)
    even, odd = torch.sub(x[4], x[2], alpha=4), torch.sub(x[3], x[1], alpha=4)
    torch.add(even, odd, out=out[1])
    torch.sub(even, odd, out=out[2])
    torch.sub(x[4], x[2], out=even)
    torch.sub(x[3], x[1], out=odd)
    torch.add(even, odd, alpha=2, out=out[3])
    torch.sub(even, odd, alpha=2, out=out[4])
    torch.add(x[5], x[1], alpha=4, out=out[5]).sub_(x[3], alpha=5)


def _unmix_four(x: Sequence[Tensor], out: Tensor) -> None:
    even, odd, even_far, odd_far = x[1] + x[2], x[1] - x[2], x[3] + x[4], x[3] - x[4]
    torch.add(x[0], even, out=out[0]).add_(even_far)
    torch.add(odd, odd_far, alpha=2, out=out[1])
    torch.add(even, even_far, alpha=4, out=out[2])
    torch.add(x[5], odd, out=out[3]).add_(odd_far, alpha=8)


TWO = Tile(
    2, ((1, 0, 0), (1 / 2, 1 / 2, 1 / 2), (1 / 2, -1 / 2, 1 / 2), (0, 0, 1)), _mix_two, _unmix_two
)
FOUR = Tile(
    4,
    (
        (1 / 4, 0, 0),
        (-1 / 6, -1 / 6, -1 / 6),
        (-1 / 6, 1 / 6, -1 / 6),
        (1 / 24, 1 / 12, 1 / 6),
        (1 / 24, -1 / 12, 1 / 6),
        (0, 0, 1),
    ),
    _mix_four,
    _unmix_four,
)


def mixed(x: Tensor, tile: Tile) -> Tensor:
    """What meets the weights of each product. x: B C H W.  Returns P R C, R tiles."""
    tall = _mixed_along(_padded(x, tile), 1, tile)
    return _mixed_along(tall, 3, tile).flatten(0, 1).flatten(1, 3)


def _padded(x: Tensor, tile: Tile) -> Tensor:
    """B C H W to B H' W' C, whole tiles and what lies around them."""
    maps = x.permute(0, 2, 3, 1)
    down, right = (1 + -length % tile.size for length in maps.shape[1:3])
    return F.pad(maps, (0, 0, 1, right, 1, down))


def _mixed_along(x: Tensor, dim: int, tile: Tile) -> Tensor:
    """The mixtures along a side, as a first dimension."""
    before, last = (slice(None),) * dim, x.shape[dim] - 2 - tile.size
    neighbours = [
        x[(*before, slice(first, first + last + 1, tile.size))] for first in range(tile.size + 2)
    ]
    made = x.new_empty((len(tile.taps), *neighbours[0].shape))
    tile.mix(neighbours, made)
    return made


def unmix(products: Sequence[Tensor], tile: Tile, *, out: Tensor) -> None:
    """The results that products, R C' each, are made for. out: B h size w size C', h x w tiles."""
    count, made = len(tile.taps), _unmixed_lines(tile, out)
    for number in range(count):
        tile.unmix(products[number::count], made[:, number])
    _unmix_lines(made, tile, out=out)


def _unmixed_lines(tile: Tile, out: Tensor) -> Tensor:
    """Room for each line of the products of a tile, along which they are unmixed: size P R C'."""
    batch, down, _, right, _, channels = out.shape
    return out.new_empty((tile.size, len(tile.taps), batch * down * right, channels))


def _unmix_lines(made: Tensor, tile: Tile, *, out: Tensor) -> None:
    batch, down, _, right, _, channels = out.shape
    maps = made.view(*made.shape[:2], batch, down, right, channels)
    tile.unmix(maps.unbind(1), out.permute(2, 4, 0, 1, 3, 5))


class PackedDoubling(nn.Module):
    """The transposed 3 x 3 convolution that doubles height and width: one product, then sums."""

    def __init__(self, layer: nn.ConvTranspose2d) -> None:
        """layer: stride 2, padding 1, output padding 1."""
        super().__init__()
        self._layer: nn.ConvTranspose2d | None = layer
        self._product: Product | None = None
        self._bias = None if layer.bias is None else layer.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """x: B C H W.  Returns B C' 2H 2W."""
        if self._layer is not None:
            if x.shape[2] * x.shape[3] > _FEW_PLACES:  # the sums take as long as packing saves
                made: Tensor = self._layer(x)
                return made
            weight = self._layer.weight.detach()
            self._product = Product(weight.permute(2, 3, 1, 0).flatten(0, 2))
            self._layer = None  # once in memory is enough; the product is right for any map
        assert self._product is not None
        clips = [self._doubled(clip, self._product) for clip in x.split(1)]
        return clips[0] if len(clips) == 1 else torch.cat(clips)

    def _doubled(self, x: Tensor, product: Product) -> Tensor:
        batch, channels, height, width = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(-1, channels)
        taps = product(rows).view(batch, height, width, 3, 3, -1)
        made = taps.new_empty((batch, height, 2, width, 2, taps.shape[-1]))
        # along a side the even results have one tap, the odd ones one of each neighbour
        even, odd = made.select(2, 0), made.select(2, 1)
        self._add_columns(taps[:, :, :, 1], out=even)
        self._add_columns(taps[:, :, :, 2], out=odd)
        self._add_columns(taps[:, 1:, :, 0], out=odd[:, :-1], begins=False)
        return made.flatten(1, 2).flatten(2, 3).permute(0, 3, 1, 2)

    def _add_columns(self, taps: Tensor, *, out: Tensor, begins: bool = True) -> None:
        """taps: B H W 3 C.  out: B H W 2 C, which gets them, or has them added."""
        even, odd = out.unbind(3)
        if begins:
            for result, tap in ((even, 1), (odd, 2)):
                if self._bias is None:
                    result.copy_(taps[..., tap, :])
                else:
                    torch.add(taps[..., tap, :], self._bias, out=result)
        else:
            even += taps[..., 1, :]
            odd += taps[..., 2, :]
        odd[:, :, :-1] += taps[:, :, 1:, 0]


class Product(nn.Module):
    """Rows times a matrix that stays the same, R C -> R C'."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        """weight: C' C, kept until the first rows come.  bias: C'."""
        super().__init__()
        self.weight = weight.detach().contiguous()
        self._bias = None if bias is None else bias.detach()
        self._is_packed = False

    def forward(self, rows: Tensor) -> Tensor:
        """rows: R C."""
        if not self._is_packed and _can_pack(self.weight):
            # for as many rows as come first; any other number is as right, if not as fast
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight, len(rows))
            self._is_packed = True
        if self._is_packed:
            made: Tensor = torch.ops.mkldnn._linear_pointwise(
                rows, self.weight, self._bias, "none", [], ""
            )
            return made
        return F.linear(rows, self.weight, self._bias)


def _can_pack(weight: Tensor) -> bool:
    """Whether this build of torch has the kernels that take packed weights."""
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


class PackedInstanceNorm(nn.Module):
    """Mean 0 and variance 1 over the places of each channel."""

    def __init__(self, eps: float) -> None:
        super().__init__()
        self._eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """x: B C H W."""
        # the batch norm of a single clip is the same, and it alone leaves channels where they are
        made = [F.batch_norm(each, None, None, training=True, eps=self._eps) for each in x.split(1)]
        return made[0] if len(made) == 1 else torch.cat(made)


class PackedElu(nn.Module):
    """ELU in the place of what it is made of."""

    def forward(self, x: Tensor) -> Tensor:
        """x: any shape; used up."""
        return fast_elu(x, out=x)


def fast_tanh(x: Tensor) -> Tensor:
    """Of any shape, used up: the sigmoid is vectorised where tanh is not."""
    return x.mul_(2).sigmoid_().mul_(2).sub_(1)
