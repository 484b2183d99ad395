"""Large maps, a few rows at a time: the same numbers as all at once."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipelines.nn.norm_conv import NormConv2d, fold_for_inference
from pipelines.nn.strips import ROWS, strips
from pipelines.shape_pose.blocks import ResidualBlock, Upsample

_WIDTH = 48


def _numbers(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def _unlike(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, NormConv2d):
            nn.init.uniform_(layer.gain, 0.5, 2)
            nn.init.normal_(layer.shift)


@pytest.mark.parametrize("height", [ROWS, ROWS + 1, 3 * ROWS, 2 * ROWS + 6])
def test_strips_make_every_row_once_and_read_every_row_once(height: int) -> None:
    found = list(strips(height))
    made = [row for strip in found for row in range(height)[strip.rows]]
    read = [row for strip in found for row in range(height)[strip.reads]]
    assert made == read == list(range(height))
    for strip in found:
        assert strip.puts.stop - strip.puts.start == strip.reads.stop - strip.reads.start
        assert strip.puts.stop <= strip.num_rows


@pytest.mark.parametrize("height", [2 * ROWS, 2 * ROWS + 6])
@pytest.mark.parametrize("channels", [32, 64])
@pytest.mark.parametrize("has_beside", [False, True])
@torch.no_grad()
def test_a_folded_block_gives_the_same_numbers_of_a_large_map(
    height: int, channels: int, has_beside: bool
) -> None:
    block = ResidualBlock(channels, channels if has_beside else None)
    _unlike(block)
    x = _numbers(2, channels, height, _WIDTH)
    beside = x.flip(0) if has_beside else None
    expected = block(x, beside)
    fold_for_inference(block)
    kept = x.clone()
    for form in (x, x.contiguous(memory_format=torch.channels_last)):
        assert torch.allclose(block(form, beside), expected, rtol=1e-3, atol=1e-3)
        assert torch.equal(form, kept)
    used_up = block(x.clone(), beside, uses_up=True)
    assert torch.allclose(used_up, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("channels_in, channels_out", [(64, 32), (32, 8)])
@torch.no_grad()
def test_a_folded_upsampling_gives_the_same_numbers_of_a_large_map(
    channels_in: int, channels_out: int
) -> None:
    layer = Upsample(channels_in, channels_out)
    _unlike(layer)
    x = _numbers(2, channels_in, 2 * ROWS + 6, _WIDTH)
    expected = layer(x)
    fold_for_inference(layer)
    assert torch.allclose(layer(x), expected, rtol=1e-3, atol=1e-3)
