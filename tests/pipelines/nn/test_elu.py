from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from pipelines.nn.elu import Elu, elu, fast_elu, joined_elu
from tests.pipelines.tensors import drawn

_EDGES = torch.tensor([0.0, -0.0, -1e-6, -200.0, 200.0, -torch.inf, torch.inf, torch.nan])


@pytest.mark.parametrize("learns", [True, False])
def test_values_are_those_of_the_library_at_the_edges_too(learns: bool) -> None:
    values = torch.cat([5 * drawn(1000), _EDGES]).requires_grad_(learns)
    with torch.set_grad_enabled(learns):
        torch.testing.assert_close(elu(values), F.elu(values), atol=2e-7, rtol=0, equal_nan=True)


def test_it_may_be_written_where_it_comes_from() -> None:
    values = 5 * drawn(1000)
    expected = fast_elu(values)
    found = fast_elu(values, out=values)
    assert found is values
    assert torch.equal(found, expected)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_a_joined_one_and_its_gradients_are_those_of_64_bits(order: torch.memory_format) -> None:
    whole = 5 * drawn(2, 7, 6, 5)
    wide = whole.double().requires_grad_()
    wanted = F.elu(wide)
    wanted.backward(whole.cos().double())
    parts = [
        each.contiguous(memory_format=order).requires_grad_() for each in whole.split([3, 4], dim=1)
    ]
    found = joined_elu(parts)
    found.backward(whole.cos())
    torch.testing.assert_close(found.double(), wanted, atol=2e-7, rtol=0)
    gradient = torch.cat([each.grad for each in parts], dim=1)
    torch.testing.assert_close(gradient.double(), wide.grad, atol=5e-7, rtol=0)


def test_it_can_be_differentiated_twice() -> None:
    values = (5 * drawn(20)).double().requires_grad_()
    assert torch.autograd.gradcheck(Elu(), values)
    assert torch.autograd.gradgradcheck(Elu(), values)


def test_half_precision_keeps_its_small_digits() -> None:
    values = -torch.logspace(-4, 0, 50).bfloat16()
    assert torch.equal(elu(values), F.elu(values))
