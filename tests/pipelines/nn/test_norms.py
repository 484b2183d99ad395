"""Group norm and ActNorm, and what a stored ActNorm remembers."""

from __future__ import annotations

import pytest
import torch

from pipelines.nn.norms import ActNorm, group_norm, num_groups


@pytest.mark.parametrize(
    ("channels", "groups"), [(1, 1), (8, 8), (16, 16), (24, 12), (17, 1), (34, 2), (512, 16)]
)
def test_channels_fall_into_the_largest_number_of_equal_groups(channels, groups) -> None:
    assert num_groups(channels) == groups
    assert group_norm(channels).num_groups == groups


def test_group_norm_can_do_without_weights() -> None:
    assert list(group_norm(8, affine=False).parameters()) == []


@pytest.mark.parametrize("shape", [(64, 5), (8, 5, 7), (4, 5, 6, 6), (2, 5, 3, 6, 6)])
def test_the_first_batch_comes_out_standardised_and_sets_the_layer_for_good(shape) -> None:
    layer = ActNorm(5).train()
    first = layer(torch.randn(shape) * 3 + 2)
    values = first.transpose(0, 1).flatten(1)
    torch.testing.assert_close(values.mean(1), torch.zeros(5), atol=1e-4, rtol=0)
    torch.testing.assert_close(values.std(1), torch.ones(5), atol=1e-4, rtol=0)
    before = layer.loc.clone(), layer.scale.clone()
    layer(torch.randn(shape) * 9)
    assert torch.equal(layer.loc, before[0])
    assert torch.equal(layer.scale, before[1])


def test_a_layer_waits_for_training_unless_it_is_told_not_to() -> None:
    x = torch.randn(16, 5) + 4
    waiting, eager = ActNorm(5).eval(), ActNorm(5, initializes_in_eval=True).eval()
    assert torch.equal(waiting(x), x)
    assert not torch.equal(eager(x), x)
    assert (int(waiting.initialized), int(eager.initialized)) == (0, 1)


def test_a_loaded_layer_is_initialised_or_not_as_it_was_stored() -> None:
    source = ActNorm(5).train()
    source(torch.randn(16, 5) + 4)
    loaded = ActNorm(5).train()
    loaded.load_state_dict(source.state_dict())
    x = torch.randn(16, 5) * 7
    assert torch.equal(loaded(x), source(x))
    fresh = ActNorm(5).state_dict()
    loaded.load_state_dict(fresh)
    values = loaded(x)
    torch.testing.assert_close(values.std(0), torch.ones(5), atol=1e-4, rtol=0)


def test_the_inverse_undoes_the_layer_and_the_log_determinant_is_that_of_its_matrix() -> None:
    layer = ActNorm(5).train()
    x = torch.randn(32, 5) * 3 - 1
    torch.testing.assert_close(layer.inverse(layer(x)), x, atol=1e-4, rtol=1e-4)
    jacobian = torch.autograd.functional.jacobian(lambda each: layer(each[None])[0], x[0])
    torch.testing.assert_close(layer.log_det(), torch.linalg.slogdet(jacobian).logabsdet)


def test_one_value_has_no_spread_to_divide_by() -> None:
    layer = ActNorm(3).train()
    result = layer(torch.tensor([[1.0, 2.0, 3.0]]))
    assert torch.equal(result, torch.zeros(1, 3))
    assert torch.equal(layer.scale, torch.ones(3))
