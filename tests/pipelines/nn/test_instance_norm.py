from __future__ import annotations

import pytest
import torch
from torch import nn

from pipelines.nn.instance_norm import InstanceNorm2d


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("order_of_gradient", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("affine", [False, True])
def test_values_and_gradients_are_those_of_64_bits(
    batch: int, order: torch.memory_format, order_of_gradient: torch.memory_format, affine: bool
) -> None:
    torch.manual_seed(0)
    x, gradient = torch.randn(2, batch, 8, 6, 5).unbind()
    norm = InstanceNorm2d(8, affine=affine)
    wanted_norm = nn.InstanceNorm2d(8, affine=affine).double()
    if affine:
        weights = {"weight": torch.randn(8), "bias": torch.randn(8)}
        norm.load_state_dict(weights)
        wanted_norm.load_state_dict(weights)
    wide = x.double().requires_grad_()
    wanted = wanted_norm(wide)
    wanted.backward(gradient.double())
    x = x.contiguous(memory_format=order).requires_grad_()
    found = norm(x)
    found.backward(gradient.contiguous(memory_format=order_of_gradient))
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(x.grad.double(), wide.grad, rtol=1e-5, atol=1e-5)
