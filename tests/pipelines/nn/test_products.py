"""Linear layers by oneDNN: the same numbers as torch's, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from pipelines.nn.norm_conv import NormConv2d, fold_for_inference
from pipelines.nn.products import Linear, linear, pays


def _numbers(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("size_in, size_out", [(256, 256), (51, 1024), (1024, 51)])
def test_a_large_product_and_its_gradients_are_those_of_torch(size_in: int, size_out: int) -> None:
    both = []
    for function in (linear, F.linear):
        # a part of something wider, as a half of a code is
        x = _numbers(64, 2 * size_in).requires_grad_()
        weight, bias = (
            _numbers(*shape).requires_grad_() for shape in ((size_out, size_in), (size_out,))
        )
        made = function(x.chunk(2, dim=1)[1], weight, bias)
        both.append((made, *torch.autograd.grad(made.square().mean(), (x, weight, bias))))
    for found, expected in zip(*both, strict=True):
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_small_products_and_other_numbers_are_left_to_torch() -> None:
    assert not pays(torch.zeros(2, 8), torch.zeros(8, 8))
    large = torch.zeros(64, 1024, dtype=torch.float64)
    assert not pays(large, torch.zeros(1024, 1024, dtype=torch.float64))
    layer = Linear(1024, 1024).double()
    assert torch.equal(layer(large), F.linear(large, layer.weight, layer.bias))


def test_weights_are_as_in_torch() -> None:
    assert set(Linear(4, 3).state_dict()) == {"weight", "bias"}


@pytest.mark.parametrize("size_px", [12, 40])
@pytest.mark.parametrize("kernel, stride", [(1, 1), (3, 1), (3, 2)])
@pytest.mark.parametrize("channels", [3, 48])
@torch.no_grad()
def test_a_folded_convolution_gives_the_same_numbers(
    size_px: int, kernel: int, stride: int, channels: int
) -> None:
    layer = NormConv2d(channels, 40, kernel, stride=stride, padding=kernel // 2)
    layer.gain.uniform_(0.5, 2)
    layer.shift.normal_()
    x = _numbers(2, channels, size_px, size_px)
    expected = layer(x)
    names = set(layer.state_dict())
    fold_for_inference(layer)
    for form in (x, x.contiguous(memory_format=torch.channels_last)):
        assert torch.allclose(layer(form), expected, rtol=1e-3, atol=1e-3)
    assert set(layer.state_dict()) == names
