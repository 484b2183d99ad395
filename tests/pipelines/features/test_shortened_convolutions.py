"""Convolutions by tiles and by folding give what torch's own give, for any size."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from pipelines.features import tiled_convolution
from pipelines.features.folded_convolution import FoldedConvolution
from pipelines.features.i3d import Conv, same_padding
from pipelines.features.tiled_convolution import TiledConvolution
from pipelines.nn import packed_convolution
from tests.pipelines.tensors import drawn, largest_error

pytestmark = pytest.mark.skipif(
    not packed_convolution.is_available(), reason="this build of torch has no oneDNN operators"
)
_TOLERANCE = 3e-5
"""Of the largest value: sums of many values and their differences round more than products do."""


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("sizes", [(1, 1, 3), (4, 8, 6), (5, 9, 7), (8, 14, 9), (2, 3, 1)])
def test_a_tiled_convolution_is_the_plain_one_for_any_size(sizes: tuple[int, int, int]) -> None:
    weight, bias = drawn(7, 6, 3, 3, 3), drawn(7, seed=1)
    x = drawn(2, 6, *sizes, seed=2)
    found = TiledConvolution(weight, bias)(x)
    assert largest_error(found, F.conv3d(x, weight, bias, padding=1).relu()) < _TOLERANCE


def test_tiles_in_several_parts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, bias, x = drawn(7, 6, 3, 3, 3), drawn(7, seed=1), drawn(1, 6, 8, 26, 9, seed=2)
    whole = TiledConvolution(weight, bias)(x)
    monkeypatch.setattr(tiled_convolution, "_VALUES", 3 * 2 * 9 * 7)  # three rows of tiles of seven
    assert largest_error(TiledConvolution(weight, bias)(x), whole) < _TOLERANCE


@pytest.mark.parametrize("sizes", [(8, 12, 14), (9, 13, 11), (3, 8, 9), (6, 7, 8), (1, 1, 1)])
def test_a_folded_convolution_is_the_plain_one_for_any_size(sizes: tuple[int, int, int]) -> None:
    weight, bias = drawn(6, 3, 7, 7, 7), drawn(6, seed=1)
    x = drawn(2, 3, *sizes, seed=2)
    margins = [same_padding(size, 7, 2) for size in sizes]
    around = [each for margin in reversed(margins) for each in margin]
    wanted = F.conv3d(F.pad(x, around), weight, bias, stride=2).relu()
    assert largest_error(FoldedConvolution(weight, bias)(x, margins), wanted) < _TOLERANCE


def test_tiles_are_for_maps_that_fill_them() -> None:
    assert tiled_convolution.pays(8, 28, 28)
    assert tiled_convolution.pays(5, 28, 28)
    assert not tiled_convolution.pays(4, 14, 14)  # too few places for each weight
    assert not tiled_convolution.pays(2, 56, 56)  # of four frames only two are wanted


@pytest.mark.parametrize("kernel", [3, 7])
def test_a_packed_layer_suits_itself_to_each_size(kernel: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        stride = (2, 2, 2) if kernel == 7 else (1, 1, 1)
        layer = Conv(3 if kernel == 7 else 64, 64, (kernel,) * 3, stride=stride).eval()
    clips = [drawn(1, layer.conv.in_channels, *sizes) for sizes in ((8, 33, 64), (9, 5, 7))]
    plain = [layer(clip) for clip in clips]
    layer.pack()
    for clip, wanted in zip(clips * 2, plain * 2, strict=True):
        assert largest_error(layer(clip), wanted) < _TOLERANCE


def test_a_layer_in_double_precision_stays_as_it_is() -> None:
    layer = Conv(64, 64, (3, 3, 3)).double().eval()
    x = drawn(1, 64, 4, 8, 8).double()
    plain = layer(x)
    layer.pack()
    assert torch.equal(layer(x), plain)
