from __future__ import annotations

import pytest
import torch
from torch import nn

from pipelines.nn import packed_convolution, packed_layers
from pipelines.nn.elu import Elu
from pipelines.nn.packed_layers import fast_tanh, pack


def network(channels_in: int, channels_out: int) -> nn.Module:
    """Every layer that is replaced, and some that are not."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, padding=1),
        nn.InstanceNorm2d(channels_out),
        Elu(),
        nn.Conv2d(channels_out, channels_out, 3, stride=2, padding=1),
        nn.GroupNorm(4, channels_out),
        nn.ConvTranspose2d(channels_out, channels_in, 3, 2, 1, 1),
        nn.ReLU(),
        nn.Conv2d(channels_in, 3, 3, padding=1),
    )
    return layers.eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("batch", "height", "width"), [(1, 16, 16), (1, 32, 24), (9, 8, 8), (2, 10, 14)]
)
@pytest.mark.parametrize("mixes", [True, False])
def test_packed_layers_give_the_same_maps_again_and_again(batch, height, width, mixes):
    plain, packed = network(40, 64), pack(network(40, 64), mixes=mixes)
    assert {type(each).__name__ for each in packed} >= {"PackedDoubling", "PackedElu"}
    for seed in range(2):  # weights are prepared for the first
        torch.manual_seed(seed)
        maps = torch.randn(batch, 40, height, width)
        with torch.inference_mode():
            assert torch.allclose(packed(maps), plain(maps), atol=2e-5)


@pytest.mark.parametrize(("batch", "size"), [(1, 8), (1, 7), (3, 2), (1, 34), (16, 16)])
def test_a_convolution_by_mixtures_is_the_convolution_at_any_size_and_batch(batch, size):
    torch.manual_seed(0)
    plain = nn.Conv2d(48, 33, 3, padding=1)
    packed = packed_layers.MixedConv(plain.weight, plain.bias)
    with torch.inference_mode():
        for count in (batch, 1, 2 * batch):
            maps = torch.randn(count, 48, size, size)
            assert torch.allclose(packed(maps), plain(maps), atol=3e-5)


def test_both_sizes_of_tiles_are_used_by_how_many_places_there_are():
    conv = nn.Conv2d(32, 32, 3, padding=1)
    with torch.inference_mode():
        for size, expected in ((16, packed_layers.TWO), (32, packed_layers.FOUR)):
            packed = packed_layers.MixedConv(conv.weight, conv.bias)
            packed(torch.randn(1, 32, size, size))
            assert packed._tile is expected


def test_without_the_kernels_for_packed_weights_the_numbers_are_the_same(monkeypatch):
    monkeypatch.setattr(packed_layers, "_can_pack", lambda weight: False)
    monkeypatch.setattr(packed_convolution, "can_pack", lambda weight: False)
    plain, packed = network(32, 32), pack(network(32, 32))
    maps = torch.randn(1, 32, 16, 16)
    with torch.inference_mode():
        assert torch.allclose(packed(maps), plain(maps), atol=2e-5)


def test_narrow_layers_and_norms_with_weights_stay_as_they_are():
    narrow = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.InstanceNorm2d(8, affine=True))
    assert [type(each) for each in pack(narrow)] == [nn.Conv2d, nn.InstanceNorm2d]
    other = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1, padding_mode="reflect"))
    assert type(pack(other)[0]) is nn.Conv2d


def test_the_fast_tanh_is_one():
    values = torch.linspace(-20, 20, 1001)
    assert torch.allclose(fast_tanh(values.clone()), torch.tanh(values), atol=1e-6)
